"""Says what a file is when it is not a text file of JSON lines: compressed, a spreadsheet, UTF-16, HTML and so on."""

import re

from nanochat_core.data.report import Fault

HEAD_BYTES = 65_536
"""How much of the beginning is looked at."""

REPAIR = "`check FILE --fix NEW.jsonl` does it for you."

_MAGIC = (
    (b"\x1f\x8b", "a gzip-compressed file"),
    (b"BZh", "a bzip2-compressed file"),
    (b"\xfd7zXZ\x00", "an xz-compressed file"),
    (b"\x28\xb5\x2f\xfd", "a zstd-compressed file"),
    (b"\x04\x22\x4d\x18", "an lz4-compressed file"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"PAR1", "a Parquet table"),
    (b"ARROW1", "an Arrow table"),
    (b"\xff\xff\xff\xff", "an Arrow table or another binary file"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"%PDF-", "a PDF document"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Word, Excel or PowerPoint document"),
    (b"{\\rtf", "an RTF document"),
    (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"GGUF", "a GGUF model"),
    (b"\x7fELF", "a program"),
)
_ZIPPED = (
    (b"xl/", "an Excel spreadsheet (xlsx)"),
    (b"word/", "a Word document (docx)"),
    (b"ppt/", "a PowerPoint presentation (pptx)"),
    (b"opendocument.spreadsheet", "an OpenDocument spreadsheet (ods)"),
    (b"opendocument.text", "an OpenDocument text (odt)"),
    (b"epub+zip", "an EPUB book"),
    (b".pkl", "a PyTorch checkpoint"),
)
_BYTE_ORDER_MARKS = (  # the mark of utf-32-le begins with that of utf-16-le
    (b"\xff\xfe\0\0", "utf-32-le"),
    (b"\0\0\xfe\xff", "utf-32-be"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
)
_MARKUP = re.compile(rb"\s*<(!doctype|html|\?xml|svg)", re.IGNORECASE)
_COLUMNS = {
    *("prompt", "completion", "instruction", "input", "output", "question", "answer", "response", "messages"),
    *("user", "assistant", "role", "content", "text", "system", "conversation", "conversations"),
}
_UNPACK = "Unpack it and check the text file inside."
_EXPORT = "Export the data as a UTF-8 text file with one JSON object a line; data/README.md shows one."


TABLE = "table"
"""Kind of the fault of a file that is a table with a header, CSV or TSV."""


def foreign_kind(head: bytes) -> Fault | None:
    """The fault of a file whose beginning `head` shows that it is no JSON text in UTF-8; None for one that may be."""
    if encoding := wide_encoding(head):
        message = f"This file is saved as {encoding[:6].upper()}, not as UTF-8."
        return Fault("error", "not_utf8", message, f"Save it again as UTF-8; {REPAIR}")
    name = _binary_kind(head)
    if name:
        packed = "compressed" in name or "archive" in name
        message = f"This is {name}, not a text file of conversations."
        return Fault("error", "not_a_text_file", message, _UNPACK if packed else _EXPORT)
    if _MARKUP.match(head):
        return Fault("error", "not_json_lines", "This is an HTML or XML page, not a file of JSON lines.", _EXPORT)
    if columns := _table_columns(head):
        message = f"This is a table (CSV) with the columns {', '.join(columns[:6])}, not a file of JSON lines."
        fix = (
            'Write each row as {"prompt": "...", "completion": "..."} on a line of its own; '
            "`check FILE --fix NEW.jsonl` turns those into conversations."
        )
        return Fault("error", TABLE, message, fix)
    return None


def wide_encoding(head: bytes) -> str | None:
    """utf-16-le, utf-16-be, utf-32-le or utf-32-be when a byte order mark or the pattern of zero bytes is sure."""
    for mark, name in _BYTE_ORDER_MARKS:
        if head.startswith(mark):
            return name
    # JSON begins with a bracket or blank: ASCII, so that in UTF-16 its other byte is zero.
    text_start = rb"[\x09\x0a\x0d \[{\"]"
    if re.match(text_start + rb"\0[^\0]", head):
        return "utf-16-le"
    if re.match(rb"\0" + text_start + rb"\0[^\0]", head):
        return "utf-16-be"
    return None


def _binary_kind(head: bytes) -> str | None:
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    if head.startswith(b"PK\x03\x04"):
        return next((name for mark, name in _ZIPPED if mark in head), "a zip archive")
    if head[257:262] == b"ustar":
        return "a tar archive"
    if head[4:8] == b"ftyp" or head.startswith((b"ID3", b"OggS", b"RIFF")):
        return "a sound or video file"
    return "a binary file" if _looks_binary(head) else None


def _looks_binary(head: bytes) -> bool:
    """More than a tenth of control characters: never so in text, nearly always so in binary data."""
    controls = bytes(code for code in range(32) if code not in b"\t\n\r\f\x1b")
    return len(head) - len(head.translate(None, controls)) > len(head) / 10


def _table_columns(head: bytes) -> list[str]:
    """The column names of a CSV or TSV file, or [] when the first line is none of a known kind."""
    first = head.lstrip(b"\xef\xbb\xbf").split(b"\n", 1)[0].strip()
    if not first.isascii() or first[:1] in (b"{", b"["):
        return []
    for separator in (",", ";", "\t"):
        names = [name.strip(' "') for name in first.decode("ascii").split(separator)]
        if len(names) > 1 and len(_COLUMNS.intersection(map(str.lower, names))) > 1:
            return names
    return []
