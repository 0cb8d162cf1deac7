"""Files that are no JSON lines at all are called by their name."""

import bz2
import gzip
import io
import lzma
import zipfile

import pytest

from nanochat_core.data.conversations import check
from nanochat_core.data.file_kinds import foreign_kind, wide_encoding
from tests.support.samples import GOOD


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return buffer.getvalue()


FILES = {
    "gzip": gzip.compress(GOOD.encode()),
    "bzip2": bz2.compress(GOOD.encode()),
    "xz": lzma.compress(GOOD.encode()),
    "zstd": b"\x28\xb5\x2f\xfd\x04",
    "zip archive": zipped("data.jsonl"),
    "xlsx": zipped("[Content_Types].xml", "xl/workbook.xml"),
    "docx": zipped("[Content_Types].xml", "word/document.xml"),
    "PyTorch checkpoint": zipped("archive/data.pkl"),
    "tar": b"data.jsonl".ljust(257, b"\0") + b"ustar\x0000" + bytes(247),
    "Parquet": b"PAR1\x15\x04",
    "SQLite": b"SQLite format 3\x00",
    "PDF": b"%PDF-1.7\n",
    "PNG": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    "JPEG": b"\xff\xd8\xff\xe0\0\x10JFIF",
    "old Word": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
    "RTF": b"{\\rtf1\\ansi hello}",
    "binary file": bytes(range(32)) * 4,
    "HTML or XML": b"<!DOCTYPE html><html><body>hello</body></html>",
    "CSV": b"prompt;completion\nhow are you;fine\n",
    "UTF-16": GOOD.encode("utf-16"),
    "UTF-32": GOOD.encode("utf-32"),
}


@pytest.mark.parametrize("name", FILES)
def test_the_kind_is_named_once_and_the_file_rejected(tmp_path, name):
    path = tmp_path / "data.jsonl"
    path.write_bytes(FILES[name])
    report = check(path)
    assert report.verdict == "reject"
    assert [problem.line for problem in report.problems] == [1]
    assert name in report.problems[0].message
    assert report.problems[0].fix


def test_a_spreadsheet_is_to_be_saved_as_what_it_can_be_saved_as():
    fault = foreign_kind(FILES["xlsx"])
    assert fault is not None
    assert "CSV" in fault.fix


@pytest.mark.parametrize(
    "text", [GOOD, "\ufeff" + GOOD, "hello", "", "a, b", "caf\xe9 " * 50, "{\n", "[", GOOD + "\0\n"]
)
def test_text_in_utf_8_is_left_to_the_parser(text):
    assert foreign_kind(text.encode()) is None


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [("utf-16-le", "utf-16-le"), ("utf-16-be", "utf-16-be"), ("utf-8", None), ("latin-1", None)],
)
def test_utf_16_is_known_without_a_mark(encoding, expected):
    assert wide_encoding(GOOD.encode(encoding)) == expected
