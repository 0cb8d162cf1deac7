"""Training data: a JSONL file -> checked conversations -> a JSONL file.

`check` and `load_conversations` read the file in one pass and by the same rules: nothing is ever trained silently
on part of a file. README.md in data/ describes the format for the person who writes it.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from nanochat_core.conversation_length import LengthCheck
from nanochat_core.data_lines import Messages, array_fault, judge_line, to_line, write_data
from nanochat_core.data_reader import BOM, MAX_PIECE_BYTES, Piece, head_of, layout, open_data, pieces
from nanochat_core.data_report import Fault, Problem, Problems, Report, plural
from nanochat_core.file_kinds import REPAIR, foreign_kind
from nanochat_core.tokenizer import Tokenizer

__all__ = ["Problem", "Report", "check", "load_conversations", "save_conversations"]


def check(path: str | Path, tokenizer: Tokenizer | None = None, max_seq_len: int = 2048) -> Report:
    """Everything that is wrong with a data file, or worth knowing, with line numbers; reads it without keeping it.

    Lengths are counted with `tokenizer`, or else with that of the model that would be finetuned. ValueError only
    when the file cannot be opened: missing, a folder, not readable.
    """
    return _read(path, tokenizer, max_seq_len, lambda conversation: None)


def load_conversations(
    path: str | Path, tokenizer: Tokenizer | None = None, max_seq_len: int = 2048
) -> list[dict[str, Any]]:
    """The conversations of a file as {"messages": [{"role", "content"}, ...]}, other keys left out.

    ValueError with the report's summary when the file is rejected.
    """
    conversations: list[dict[str, Any]] = []
    report = _read(path, tokenizer, max_seq_len, conversations.append)
    if report.verdict == "reject":
        raise ValueError(report.summary())
    return conversations


def save_conversations(path: str | Path, conversations: Iterable[dict[str, Any] | list[Any]]) -> None:
    """Write conversations as JSONL in UTF-8, all or nothing. Drafts may be saved: it is `check` that judges.

    ValueError names the first that is no conversation at all, or says why the file cannot be written.
    """

    def write(file: BinaryIO) -> None:
        for number, conversation in enumerate(conversations, 1):
            if not isinstance(conversation, dict | list):
                raise ValueError(
                    f"Conversation {number} cannot be saved: give a dict with messages, or a list of them."
                )
            try:
                file.write(to_line(conversation))
            except (ValueError, TypeError, RecursionError) as error:
                raise ValueError(f"Conversation {number} cannot be saved: {error}. Its texts must be text.") from error

    write_data(Path(path), write)


def _read(
    path: str | Path, tokenizer: Tokenizer | None, max_seq_len: int, keep: Callable[[dict[str, Any]], Any]
) -> Report:
    """One pass over the file; `keep` gets each faultless conversation."""
    problems, lengths = Problems(), LengthCheck(tokenizer, max_seq_len)
    repeats, conversations = _Repeats(), 0
    with open_data(path) as file:
        for line, messages, size in _judged(file, problems):
            if fault := lengths.fault(messages, size):
                problems.add(line, fault)
            if fault is None or fault.level != "error":
                conversations += 1
                repeats.note(line, messages)
                keep({"messages": messages})
    if not conversations and not problems.has_errors:
        fix = "Write one conversation on each line; data/README.md shows how."
        problems.add(1, Fault("error", "no_conversations", "The file holds no conversation.", fix))
    for line, first in repeats.found():
        message = f"This conversation is the same as the one on line {first}."
        problems.add(
            line, Fault("warning", "repeated_conversation", message, "Remove it unless it should count twice.")
        )
    return problems.report(str(path), conversations, lengths.notes)


def _judged(file: BinaryIO, problems: Problems) -> Iterator[tuple[int, Messages, int]]:
    """(line, messages, bytes of the JSON) of each conversation that follows the rules; faults go to `problems`."""
    head = head_of(file)
    if fault := foreign_kind(head):
        problems.add(1, fault)
        return
    how, marks = layout(head), _LineMarks()
    if how.is_array:
        problems.add(1, array_fault())
    elif how.is_spread:
        message = "The conversations are spread over several lines."
        problems.add(1, Fault("error", "spread_over_lines", message, f"Write each on one line; {REPAIR}"))
    for piece in pieces(file, how):
        if piece.data is None:
            problems.add(piece.line, _too_large(how.is_spread))
        elif data := marks.strip(piece):
            judged, faults, offset = judge_line(data, piece.column)
            for fault in faults:
                problems.add(piece.line + offset, fault)
            for messages in judged:
                yield piece.line, messages, len(data)
    for line, fault in marks.warnings():
        problems.add(line, fault)


class _LineMarks:
    """Takes line ends and byte order marks off the lines, skips empty lines, and remembers how many there were."""

    def __init__(self) -> None:
        self.lines = 0
        self._first: dict[str, int] = {}
        self._count = {"bom": 0, "crlf": 0, "empty": 0, "empty at the end": 0}

    def strip(self, piece: Piece) -> bytes:
        """The line without its end; b"" for an empty one."""
        data = piece.data
        self.lines += 1
        if data.endswith(b"\r\n"):
            self._note("crlf", piece.line)
        if data.startswith(BOM):
            data = data.removeprefix(BOM)
            self._note("bom", piece.line)
        data = data.rstrip(b" \t\r\n")
        if data:
            self._count["empty"] += self._count["empty at the end"]
            self._count["empty at the end"] = 0
        else:
            self._note("empty at the end", piece.line)
        return data

    def _note(self, name: str, line: int) -> None:
        self._first.setdefault(name, line)
        self._count[name] += 1

    def warnings(self) -> Iterator[tuple[int, Fault]]:
        """(first line, warning) of each kind that was seen; empty lines at the end of the file are nobody's concern."""
        count = self._count
        if count["bom"]:
            message = "The file begins with a byte order mark (BOM); it is skipped."
            if self._first["bom"] > 1 or count["bom"] > 1:
                message = (
                    f"{plural(count['bom'], 'line')} with a byte order mark (BOM) at the beginning; it is skipped."
                )
            yield self._first["bom"], Fault("warning", "bom", message, f"Save the file as UTF-8 without BOM; {REPAIR}")
        if count["crlf"]:
            message = (
                f"{count['crlf']:,} of {plural(self.lines, 'line')} end with CR LF, as on Windows; that is harmless."
            )
            yield self._first["crlf"], Fault("warning", "crlf", message, f"Save the file with LF line ends; {REPAIR}")
        if count["empty"]:
            message = f"{plural(count['empty'], 'line')} before the last conversation: empty, and skipped."
            first = self._first["empty at the end"]
            yield first, Fault("warning", "empty_line", message, "Remove them if nothing is missing there.")


class _Repeats:
    """Finds equal conversations by a 64-bit hash of each: 16 bytes a conversation."""

    def __init__(self) -> None:
        self._hashes, self._lines = array("q"), array("q")

    def note(self, line: int, messages: Messages) -> None:
        self._hashes.append(hash(tuple([(message["role"], _hashable(message["content"])) for message in messages])))
        self._lines.append(line)

    def found(self) -> Iterator[tuple[int, int]]:
        """(line of a repetition, line of the first such conversation), ascending."""
        hashes = np.array(self._hashes, dtype=np.int64)
        _, first, which = np.unique(hashes, return_index=True, return_inverse=True)
        first_of = first[which]
        for position in np.flatnonzero(first_of != np.arange(len(hashes))):
            yield self._lines[position], self._lines[first_of[position]]


def _hashable(content: Any) -> Any:
    return content if isinstance(content, str) else tuple([(part["type"], part["text"]) for part in content])


def _too_large(is_spread: bool) -> Fault:
    what = "conversation" if is_spread else "line"
    rest = " The rest of the file was not read." if is_spread else ""
    message = f"This {what} is longer than {MAX_PIECE_BYTES >> 20} MiB.{rest}"
    return Fault("error", "too_large", message, "Split it: a model reads a few thousand words at a time.")
