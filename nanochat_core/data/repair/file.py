"""`check --fix`: writes a repaired copy of a data file, and says what it did and what it could not do."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from nanochat_core.data.file_kinds import foreign_kind
from nanochat_core.data.json_faults import TOO_DEEP, read_json, read_several, repeated_keys
from nanochat_core.data.length import LengthCheck
from nanochat_core.data.line import SEVERAL, Messages, array_of_conversations, decode, judge_line, to_line, write_data
from nanochat_core.data.reader import BOM, MAX_PIECE_BYTES, Piece, head_of, layout, open_data, pieces
from nanochat_core.data.repair.encoding import as_utf8
from nanochat_core.data.repair.rules import repair_conversation
from nanochat_core.data.report import SHOWN_IN_FULL, Fault, Problem, Problems, listing
from nanochat_core.data.rules import nests_too_deeply, texts
from nanochat_core.system.words import plural
from nanochat_core.tokenizer.tokenizer import MAX_RUN


@dataclass(frozen=True)
class FixReport:
    """What `fix_file` did."""

    path: str
    out: str
    written: int
    """Conversations in the new file, which passes `check`."""
    left_out: int
    """Lines or conversations that no rule could repair; they are not in the new file."""
    done: tuple[str, ...]
    """What was changed, in sentences with line numbers."""
    problems: tuple[Problem, ...]
    """Why the left out ones could not be repaired."""
    counts: dict[str, int]
    """How many of those problems there are of each kind."""

    def summary(self) -> str:
        """Text for a person."""
        lines = [f"Wrote {plural(self.written, 'conversation')} to {self.out}."]
        lines += self.done
        if not self.done and not self.left_out:
            lines.append("Nothing had to be repaired.")
        if self.left_out:
            lines.append(f"LEFT OUT, because no rule repairs them: {plural(self.left_out, 'line or conversation')}.")
            lines += listing(self.problems, self.counts)
        return "\n".join(lines)


def fix_file(path: str | Path, out: str | Path) -> FixReport:
    """Write a copy of `path` to `out` in which all that rules can repair is repaired; the copy passes `check`.

    ValueError when `out` exists already, when `path` cannot be read, and when nothing in it can be used; then
    nothing is written.
    """
    path, out = Path(path), Path(out)
    if path.exists() and out.exists() and out.samefile(path):
        raise ValueError(f"{out} is the file itself. Give the repaired copy a new name: nothing is ever overwritten.")
    check_new(out)
    with open_data(path) as original:
        repair = _Repair(str(path))
        with as_utf8(original, head_of(original)) as (file, done):
            if fault := foreign_kind(head_of(file)):
                raise ValueError(f"{path} cannot be repaired: {fault.message} {fault.fix}")
            write_data(out, lambda target: repair.write(file, target))
    return repair.report(out, done)


def repair_pieces(name: str, found: Iterable[Piece], out: Path) -> FixReport:
    """As `fix_file`, for pieces from elsewhere than a file; `name` is what they are called in sentences."""
    check_new(out)
    repair = _Repair(name)
    write_data(out, lambda target: repair.write_pieces(found, target))
    return repair.report(out, [])


def check_new(out: Path) -> None:
    """ValueError when `out` exists already, or cannot because its folder does not."""
    if out.exists() or out.is_symlink():
        raise ValueError(f"{out} exists already. Give the new file another name: nothing is ever overwritten.")
    if not out.parent.is_dir():
        raise ValueError(f"There is no folder {out.parent}. Make it first, or choose another place.")


class _Lines:
    """How often something was done, and on which lines: the first of them, or a big file would fill the memory."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[int] = []

    def add(self, line: int) -> None:
        self.count += 1
        if len(self.first) < SHOWN_IN_FULL:
            self.first.append(line)

    def __str__(self) -> str:
        more = f" and {self.count - len(self.first):,} more" if self.count > len(self.first) else ""
        noun = "line" if self.count == 1 else "lines"
        return f"{plural(self.count, 'time')} ({noun} {', '.join(map(str, self.first))}{more})"


class _Repair:
    """Reads pieces, repairs them, writes what has become faultless, and keeps account of everything."""

    def __init__(self, name: str):
        self.name = name
        self.changes: dict[str, _Lines] = {}
        self.problems = Problems()
        self.written = 0
        self.left_out = 0
        self._lengths = LengthCheck(None, MAX_RUN)

    def write(self, file: BinaryIO, target: BinaryIO) -> None:
        how = layout(head := head_of(file))
        if how.is_spread and head.startswith(BOM):
            self._note("removed a byte order mark (BOM)", 1)
        if how.is_array:
            self._note("turned a JSON array into one conversation a line", 1)
        self.write_pieces(pieces(file, how), target)

    def write_pieces(self, found: Iterable[Piece], target: BinaryIO) -> None:
        for piece in found:
            for line in self._repaired(piece):
                target.write(line)
                self.written += 1
        if not self.written:
            first = next(iter(self.problems.listed()), "It holds no conversation.")
            raise ValueError(f"Nothing in {self.name} can be repaired, and nothing was written. {first}")

    def report(self, out: Path, done: list[str]) -> FixReport:
        done = done + [f"{what[0].upper()}{what[1:]}: {lines}." for what, lines in self.changes.items()]
        problems, counts = self.problems.listed(), dict(self.problems.counts)
        return FixReport(self.name, str(out), self.written, self.left_out, tuple(done), problems, counts)

    def _repaired(self, piece: Piece) -> Iterator[bytes]:
        """The lines to write for one piece of the file: usually one."""
        if piece.data is None:
            message = f"It is longer than {MAX_PIECE_BYTES >> 20} MiB; in an array, what follows it was not read."
            self._leave_out(piece.line, Fault("error", "too_large", message, "Split it."))
            return
        data = self._clean(piece)
        if not data:
            return
        judged, faults, offset = judge_line(data, piece.column)
        if not any(fault.level == "error" for fault in faults) and b"\n" not in data and b"\r" not in data:
            if self._is_usable(piece.line, judged[0]):
                yield data + b"\n"  # as the person wrote it: other keys, spaces and all
            return
        values = self._values(piece.line, data)
        if not values:
            self._leave_out(piece.line + offset, *faults)
        for value in values:
            yield from self._repaired_value(piece.line, value)

    def _clean(self, piece: Piece) -> bytes:
        data = piece.data
        if data.endswith(b"\r\n"):
            self._note("put LF line ends for CR LF", piece.line)
        if data.startswith(BOM):
            data = data.removeprefix(BOM)
            self._note("removed a byte order mark (BOM)", piece.line)
        data = data.rstrip(b" \t\r\n")
        if not data:
            self._note("removed an empty line", piece.line)
        return data

    def _values(self, line: int, data: bytes) -> list[Any]:
        """The JSON values of a piece that is not fine as it is; [] when it cannot be read."""
        text, fault = decode(data)
        if fault:
            return []
        value, fault, _ = read_json(text)
        if fault is None:
            if nests_too_deeply(value) if isinstance(value, dict | list) else False:
                return []
            if "\n" in text or "\r" in text:
                self._note("put a conversation that was spread over lines on one line", line)
            self._note_repeated_keys(line, text)
            if inner := array_of_conversations(value):
                self._note("put the conversations of an array on lines of their own", line)
            return inner or [value]
        if fault.kind not in SEVERAL:
            return []
        values = read_several(text)
        self._note_repeated_keys(line, text)
        one = "removed a comma after the end of an object"
        self._note(one if len(values) == 1 else "put objects that shared a line on lines of their own", line)
        return values

    def _note_repeated_keys(self, line: int, text: str) -> None:
        if repeated_keys(text):
            self._note("DROPPED the first of two equal keys in one object; the last one counts", line)

    def _repaired_value(self, line: int, value: Any) -> Iterator[bytes]:
        if isinstance(value, dict | list) and nests_too_deeply(value):
            self._leave_out(line, TOO_DEEP)
            return
        notes: dict[str, None] = {}
        try:
            data = to_line(repair_conversation(value, lambda what: notes.setdefault(what)))
        except ValueError as error:
            self._leave_out(line, Fault("error", "cannot_be_repaired", str(error), "Correct it by hand."))
            return
        judged, faults, _ = judge_line(data.rstrip(b"\n"))
        if not judged or any(fault.level == "error" for fault in faults):
            self._leave_out(line, *faults)
        elif self._is_usable(line, judged[0]):
            for what in notes:
                self._note(what, line)
            yield data

    def _is_usable(self, line: int, messages: Messages) -> bool:
        """False, and left out, when the tokenizer would refuse it."""
        if all(len(text) <= MAX_RUN for text in texts(messages)):
            return True
        fault = self._lengths.fault(messages, MAX_RUN + 1)
        if fault is None or fault.level != "error":
            return True
        self._leave_out(line, fault)
        return False

    def _note(self, what: str, line: int) -> None:
        self.changes.setdefault(what, _Lines()).add(line)

    def _leave_out(self, line: int, *faults: Fault) -> None:
        self.left_out += 1
        for fault in faults:
            if fault.level == "error":
                self.problems.add(line, fault)
