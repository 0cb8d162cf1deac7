"""`check --fix`: writes a repaired copy of a data file, and says what it did and what it could not do."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from nanochat_core.data.length import LengthCheck
from nanochat_core.data.line import Messages, judge_line, write_data
from nanochat_core.data.reader import BOM, MAX_PIECE_BYTES, Piece, open_data
from nanochat_core.data.records import Records, records_of
from nanochat_core.data.repair.line import needs_repair, repairs
from nanochat_core.data.report import Fault, Lines, Problem, Problems, Unusable, listing
from nanochat_core.data.rules import texts
from nanochat_core.system.files import check_new
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
    with open_data(path) as original, records_of(original, str(path)) as records:
        repair = _Repair(str(path))
        write_data(out, lambda target: repair.write(records, target))
    return repair.report(out, records.done)


def repair_pieces(name: str, found: Iterable[Piece], out: Path) -> FixReport:
    """As `fix_file`, for pieces from elsewhere than a file; `name` is what they are called in sentences."""
    check_new(out)
    repair = _Repair(name)
    write_data(out, lambda target: repair.write_pieces(found, target))
    return repair.report(out, [])


def refusals(file: BinaryIO, name: str) -> list[tuple[int, Fault]]:
    """Why nothing of an opened file could be repaired, with the lines: the first reasons; [] when something can."""
    repair = _Repair(name)
    try:
        with records_of(file, name) as records:
            if any(True for piece in records.pieces for _ in repair.lines_of(piece)):
                return []
            is_converted = bool(records.done)
    except Unusable as error:
        return [(1, Fault("error", "cannot_be_repaired", error.message, error.fix))]
    found = []
    for one in repair.problems.listed():
        fault = Fault(one.level, one.kind, one.message, one.fix)
        if is_converted:  # with other line ends, perhaps: the lines are not those of the file
            fault = fault._replace(message=f"Line {one.line} of the file as UTF-8: {one.message}")
        found.append((1 if is_converted else one.line, fault))
    return found[:_REASONS] or [(1, Fault("error", "no_conversations", "It holds no conversation.", "Add some."))]


_REASONS = 5
"""Reasons that are given where nothing can be repaired."""


class _Repair:
    """Reads pieces, repairs them, writes what has become faultless, and keeps account of everything."""

    def __init__(self, name: str):
        self.name = name
        self.changes: dict[str, Lines] = {}
        self.problems = Problems()
        self.written = 0
        self.left_out = 0
        self._lengths = LengthCheck(None, MAX_RUN)

    def write(self, records: Records, target: BinaryIO) -> None:
        for what in records.notes:
            self._note(what, 1)
        self.write_pieces(records.pieces, target)

    def write_pieces(self, found: Iterable[Piece], target: BinaryIO) -> None:
        for piece in found:
            for line in self.lines_of(piece):
                target.write(line)
                self.written += 1
        if not self.written:
            first = next(iter(self.problems.listed()), "It holds no conversation.")
            raise ValueError(f"Nothing in {self.name} can be repaired, and nothing was written. {first}")

    def report(self, out: Path, done: list[str]) -> FixReport:
        done = done + [f"{what[0].upper()}{what[1:]}: {lines.text()}." for what, lines in self.changes.items()]
        problems, counts = self.problems.listed(), dict(self.problems.counts)
        return FixReport(self.name, str(out), self.written, self.left_out, tuple(done), problems, counts)

    def lines_of(self, piece: Piece) -> Iterator[bytes]:
        """The lines to write for one piece of the file: usually one."""
        if piece.data is None:
            message = f"It is longer than {MAX_PIECE_BYTES >> 20} MiB; in an array, what follows it was not read."
            self._leave_out(piece, piece.fault or Fault("error", "too_large", message, "Split it."))
            return
        data = self._clean(piece)
        if not data:
            return
        judged, faults, offset = judge_line(data, piece.column)
        if not needs_repair(faults) and b"\n" not in data and b"\r" not in data:
            if self._is_usable(piece, judged[0]):
                yield data + b"\n"  # as the person wrote it: other keys, spaces and all
            return
        found, notes = repairs(data)
        is_faultless = len(judged) == 1 and not any(fault.level == "error" for fault in faults)
        if is_faultless and b"\n" not in data and b"\r" not in data and any(one.line is None for one in found):
            if self._is_usable(piece, judged[0]):  # what stands beside it has no place in it: it is named by `check`
                yield data + b"\n"
            return
        if not found:
            self._leave_out(piece._replace(line=piece.line + offset), *faults)
        for note in notes:
            self._note(note.text, piece.place)
        for one in found:
            if one.line is None:
                self._leave_out(piece, *one.faults)
            elif self._is_usable(piece, one.messages):
                for note in one.notes:
                    self._note(note.text, piece.place)
                yield one.line + b"\n"

    def _clean(self, piece: Piece) -> bytes:
        data = piece.data
        assert data is not None
        if data.endswith(b"\r\n"):
            self._note("put LF line ends for CR LF", piece.place)
        if data.startswith(BOM):
            data = data.removeprefix(BOM)
            self._note("removed a byte order mark (BOM)", piece.place)
        data = data.rstrip(b" \t\r\n")
        if not data:
            self._note("removed an empty line", piece.line)
        return data

    def _is_usable(self, piece: Piece, messages: Messages) -> bool:
        """False, and left out, when the tokenizer would refuse it."""
        if all(len(text) <= MAX_RUN for text in texts(messages)):
            return True
        fault = self._lengths.fault(messages, MAX_RUN + 1)
        if fault is None or fault.level != "error":
            return True
        self._leave_out(piece, fault)
        return False

    def _note(self, what: str, line: int | str) -> None:
        self.changes.setdefault(what, Lines()).add(line)

    def _leave_out(self, piece: Piece, *faults: Fault) -> None:
        self.left_out += 1
        where = f"Record {piece.record:,} of the array: " if piece.record else ""
        for fault in faults:
            if fault.level == "error":
                self.problems.add(piece.line, fault._replace(message=where + fault.message, can_fix=False))
