"""Turns a data file in another encoding, or with old line ends, into UTF-8 with LF, when it is sure what it is."""

import codecs
import contextlib
import io
import re
import tempfile
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from nanochat_core.data.file_kinds import wide_encoding
from nanochat_core.data.report import Unusable
from nanochat_core.system.words import quoted

_CHUNK_BYTES = 1 << 20
_SEQUENCE = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
_HIGH_RUN = re.compile(rb"[\x80-\xff]+")
_WESTERN = set("àâäáãåæçèéêëìíîïñòóôöõøœùúûüÿßÀÂÄÁÃÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÖÕØŒÙÚÛÜŸ“”„‘’‚–—…•€£§°«»¡¿©®™·×\xa0")
"""What Western European text has beyond ASCII. Other encodings give other characters, or long runs of these."""


class _Survey(NamedTuple):
    is_utf8: bool
    is_western: bool
    example: str
    """A few characters around the first one that is not ASCII, as Windows-1252."""
    has_old_line_ends: bool


@contextlib.contextmanager
def as_utf8(file: BinaryIO, head: bytes) -> Iterator[tuple[BinaryIO, list[str]]]:
    """(a file in UTF-8 with LF or CR LF, what was done in sentences); the same file when nothing had to be done.

    A file that is not UTF-8 and not surely anything else stays as it is. Unusable when UTF-16 text is damaged.
    """
    encoding, done = _plan(file, head)
    if not done:
        yield file, done
        return
    with tempfile.TemporaryFile() as result:
        try:
            _transcode(file, result, encoding)
        except UnicodeDecodeError as error:
            remedy = "Save it again as UTF-8 with the program that made it."
            raise Unusable(f"{file.name} is damaged: it is not whole {_name(encoding)} text.", remedy) from error
        yield result, done


def _plan(file: BinaryIO, head: bytes) -> tuple[str, list[str]]:
    """(the encoding to read the file in, sentences that say what is done); no sentences, nothing to do."""
    if encoding := wide_encoding(head):
        return encoding, [f"Converted the file from {_name(encoding)} to UTF-8."]
    survey = _look_through(file)
    done = []
    if survey.is_western and not survey.is_utf8:
        example = quoted(survey.example)
        done.append(f"Converted the file from Windows-1252 to UTF-8. See whether this is right: {example}.")
    if survey.has_old_line_ends:
        done.append("Put line feeds for lone carriage returns; lines are counted after that.")
    return "cp1252" if survey.is_western and not survey.is_utf8 else "utf-8", done


def _name(encoding: str) -> str:
    return encoding[:6].upper()


def _transcode(file: BinaryIO, result: BinaryIO, encoding: str) -> None:
    """Bytes that are not UTF-8 pass unchanged (surrogateescape): the lines that hold them are left out later."""
    file.seek(0)
    errors = "surrogateescape" if encoding == "utf-8" else "strict"
    text = io.TextIOWrapper(file, encoding=encoding, errors=errors, newline=None)  # None: CR and CR LF become LF
    try:
        while chunk := text.read(_CHUNK_BYTES):
            at_start = result.tell() == 0
            result.write((chunk.removeprefix("\ufeff") if at_start else chunk).encode("utf-8", errors))
    finally:
        text.detach()  # else it would close the file


def _look_through(file: BinaryIO) -> _Survey:
    """One pass over the bytes."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    is_utf8, is_western, example = True, True, ""
    lone, feeds, tail = 0, 0, b""
    file.seek(0)
    while chunk := file.read(_CHUNK_BYTES):
        window = tail + chunk  # a sequence or a CR LF may lie across the border of two chunks
        is_utf8 = is_utf8 and _decodes(decoder, chunk)
        if is_western and not chunk.isascii():
            is_western = _looks_western(window)
            example = example or _example(window)
        lone += chunk.count(b"\r") - chunk.count(b"\r\n") - (tail[-1:] == b"\r" and chunk[:1] == b"\n")
        feeds += chunk.count(b"\n")
        tail = window[-3:]
    return _Survey(is_utf8 and _decodes(decoder, b"", final=True), is_western, example, lone > feeds)


def _decodes(decoder: codecs.IncrementalDecoder, chunk: bytes, final: bool = False) -> bool:
    try:
        decoder.decode(chunk, final)
    except UnicodeDecodeError:
        return False
    return True


def _looks_western(data: bytes) -> bool:
    """No UTF-8 sequence in it, and only short runs of characters that Western text has."""
    if _SEQUENCE.search(data):
        return False
    runs = [run[0].decode("cp1252", errors="replace") for run in _HIGH_RUN.finditer(data)]
    return all(len(run) <= 3 and _WESTERN.issuperset(run) for run in runs)


def _example(data: bytes) -> str:
    first = _HIGH_RUN.search(data)
    if first is None:
        return ""
    around = data[max(0, first.start() - 12) : first.end() + 12]
    return around.decode("cp1252", errors="replace")
