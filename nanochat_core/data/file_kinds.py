"""Says what a file is when it is not a text file of JSON lines: compressed, a spreadsheet, UTF-16, HTML and so on."""

import re
from dataclasses import dataclass

from nanochat_core.data.formats.columns import columns_read
from nanochat_core.data.formats.table import columns_of, late_names, table_fault
from nanochat_core.data.report import Fault

HEAD_BYTES = 65_536
"""How much of the beginning is looked at."""

_PACKED = (
    (b"\x1f\x8b", "a gzip-compressed file"),
    (b"BZh", "a bzip2-compressed file"),
    (b"\xfd7zXZ\x00", "an xz-compressed file"),
    (b"\x28\xb5\x2f\xfd", "a zstd-compressed file"),
    (b"\x04\x22\x4d\x18", "an lz4-compressed file"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
)
_MAGIC = (
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
_SHEETS = (
    (b"xl/", "an Excel spreadsheet (xlsx)"),
    (b"opendocument.spreadsheet", "an OpenDocument spreadsheet (ods)"),
)
_ZIPPED = (
    (b"word/", "a Word document (docx)"),
    (b"ppt/", "a PowerPoint presentation (pptx)"),
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
_SPEAKER = re.compile(  # [01/02/2024, 10:00:01] Ann: or 10:01 - Ann: or Ann:
    rb"(\[?\d{1,4}[./-]\d{1,2}[./-]\d{1,4},? )?\[?(\d{1,2}:\d{2}(:\d{2})?( ?[AaPp]\.? ?[Mm]\.?)?\]?[ -]{1,3})?"
    rb"([^\W\d]|[\xc3-\xf4][\x80-\xbf])[^:]{0,60}: "
)
_SPACES_OF_PHONES = (b"\xe2\x80\x8e", b""), (b"\xe2\x80\xaf", b" "), (b"\xc2\xa0", b" ")
"""What telephones write between date and name: a mark of the direction of writing, narrow blanks."""
_CHAT_LINES = 20
"""Lines that are looked at; most of a chat's lines begin with who speaks."""
_UNPACK = "Unpack it and check the text file inside."
_SAVE_AS_CSV = "Save the sheet as CSV (UTF-8), with the columns prompt and completion, or question and answer."
_EXPORT = "Export the data as a UTF-8 text file with one JSON object a line; data/README.md shows one."


def foreign_kind(head: bytes) -> Fault | None:
    """The fault of a file whose beginning `head` shows that it is no JSON text in UTF-8; None for one that may be."""
    if encoding := wide_encoding(head):
        message = f"This file is saved as {encoding[:6].upper()}, not as UTF-8."
        return Fault("error", "not_utf8", message, "Save it again as UTF-8.", can_fix=True)
    if binary := _binary_kind(head):
        message = f"This is {binary.name}, not a text file of conversations."
        return Fault("error", "not_a_text_file", message, binary.fix)
    if _MARKUP.match(head):
        return Fault("error", "not_json_lines", "This is an HTML or XML page, not a file of JSON lines.", _EXPORT)
    if _is_chat(head):
        message = "This is a plain text (chat) file, not a file of JSON lines."
        return Fault("error", "plain_text", message, _CHAT)
    columns = columns_of(head)
    if not columns_read(columns) and (fault := late_names(head)):
        return fault
    if columns:
        return table_fault(columns)
    if _is_prose(head):
        return Fault("error", "plain_text", "This is a plain text file, not a file of JSON lines.", _PROSE)
    return None


_CHAT = (
    "It does not say what is a question and what an answer: put them into a table with the columns prompt and "
    "completion and save it as CSV, or write each exchange as a line of JSON; data/README.md shows both."
)


_PROSE = (
    "A conversation needs a question and an answer: write each as a line of JSON, or put them into a table with the "
    "columns prompt and completion and save it as CSV; data/README.md shows both."
)


def _is_prose(head: bytes) -> bool:
    """Whether no line looks like JSON, and most are of three words or more."""
    lines = [line.strip() for line in head.removeprefix(b"\xef\xbb\xbf").splitlines() if line.strip()]
    if len(lines) < 2 or any(line[:1] in b'{}[]"' or b'":' in line or b"{" in line for line in lines):
        return False
    return 2 * sum(len(line.split()) > 2 for line in lines) > len(lines)


def _is_chat(head: bytes) -> bool:
    """Whether two lines in three begin with a time or a name and who speaks, as in the export of a chat."""
    for unseen, plain in _SPACES_OF_PHONES:
        head = head.replace(unseen, plain)
    lines = [line.strip() for line in head.removeprefix(b"\xef\xbb\xbf").splitlines()[:_CHAT_LINES] if line.strip()]
    if len(lines) < 2 or any(line[:1] in b"{" or line.startswith((b"[{", b'["', b"[[")) for line in lines):
        return False
    return 3 * sum(_SPEAKER.match(line) is not None for line in lines) >= 2 * len(lines)


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


@dataclass(frozen=True)
class _Binary:
    """A kind of file that is no text."""

    name: str
    fix: str


def _binary_kind(head: bytes) -> _Binary | None:
    for kinds, fix in ((_PACKED, _UNPACK), (_MAGIC, _EXPORT)):
        for magic, name in kinds:
            if head.startswith(magic):
                return _Binary(name, fix)
    if head.startswith(b"PK\x03\x04"):
        inside = (
            (name, fix)
            for kinds, fix in ((_SHEETS, _SAVE_AS_CSV), (_ZIPPED, _EXPORT))
            for mark, name in kinds
            if mark in head
        )
        return _Binary(*next(inside, ("a zip archive", _UNPACK)))
    if head[257:262] == b"ustar":
        return _Binary("a tar archive", _UNPACK)
    if head[4:8] == b"ftyp" or head.startswith((b"ID3", b"OggS", b"RIFF")):
        return _Binary("a sound or video file", _EXPORT)
    return _Binary("a binary file", _EXPORT) if _looks_binary(head) else None


def _looks_binary(head: bytes) -> bool:
    """More than a tenth of control characters: never so in text, nearly always so in binary data."""
    controls = bytes(code for code in range(32) if code not in b"\t\n\r\f\x1b")
    return len(head) - len(head.translate(None, controls)) > len(head) / 10
