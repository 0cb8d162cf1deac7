"""What a check of a data file found: problems with line numbers, a verdict, and both as text for a person."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from nanochat_core.show.markup import card, note, table
from nanochat_core.system.words import plural

SHOWN_IN_FULL = 20
"""Problems that a summary spells out; the others are counted by kind."""

MAX_LISTED = 10_000
"""Problems of one kind that are kept; a file with a million faulty lines must not fill the memory with them."""


class Fault(NamedTuple):
    """A problem before the line is known. `level` is "error" or "warning"; `message` and `fix` are full sentences."""

    level: str
    kind: str
    message: str
    fix: str
    can_fix: bool = False
    """Whether --fix does it, as the repair itself has said."""
    once: bool = False
    """Whether it is listed once for the whole file, with the number of its rows."""


class Unusable(ValueError):
    """A file of which nothing can be used: what is the matter with it and what to do, both full sentences."""

    def __init__(self, message: str, fix: str):
        super().__init__(message, fix)
        self.message, self.fix = message, fix

    def __str__(self) -> str:
        return f"{self.message} {self.fix}"


REPAIR = "`check FILE --fix NEW.jsonl` does it for you."


@dataclass(frozen=True)
class Problem:
    """Something wrong (error) or worth knowing (warning) on one line, counted from 1."""

    line: int
    level: str
    message: str
    fix: str
    kind: str

    def __str__(self) -> str:
        mark = "" if self.level == "error" else " (warning)"
        return f"Line {self.line}{mark}: {self.message} {self.fix}"


@dataclass(frozen=True)
class Report:
    """Result of `check`. `conversations` counts the faultless ones."""

    path: str = field(repr=False)
    verdict: str
    """accept, accept_with_warning or reject."""
    conversations: int
    problems: tuple[Problem, ...]
    """In the order of the lines; beyond MAX_LISTED of a kind, one entry says how many more there are."""
    counts: dict[str, int] = field(default_factory=dict)
    """How many problems there are of each kind, the unlisted ones too."""
    notes: tuple[str, ...] = ()
    """Sentences about the check itself, such as that the lengths could not be checked."""

    def to_dict(self) -> dict[str, Any]:
        """What `check --json` prints."""
        listed = [
            {"line": problem.line, "level": problem.level, "message": problem.message, "fix": problem.fix}
            for problem in self.problems
        ]
        return {"verdict": self.verdict, "conversations": self.conversations, "problems": listed}

    def _repr_html_(self) -> str:
        kind = {"accept": "good", "accept_with_warning": "warn", "reject": "bad"}[self.verdict]
        first = _first_of(self.problems)
        more = _and_more(first, self.counts)
        rows = [(str(problem.line), problem.level, problem.message, problem.fix) for problem in first]
        return card(
            "Check of the data",
            note(self._head(Path(self.path).name), kind),
            *(note(text) for text in self.notes),
            table(("Line", "Level", "What", "Remedy"), rows) if rows else "",
            note(more) if more else "",
        )

    def summary(self) -> str:
        """Text for a person: the verdict, the first problems in full (faults before warnings), the rest in numbers."""
        lines = [self._head(self.path), *(f"Note: {note}" for note in self.notes)]
        return "\n".join(lines + listing(self.problems, self.counts))

    def _head(self, name: str) -> str:
        words = {"accept": "accepted", "accept_with_warning": "accepted, with warnings", "reject": "rejected"}
        end = " Nothing is trained on a file with a fault." if self.verdict == "reject" else ""
        return f"{name}: {words[self.verdict]} ({plural(self.conversations, 'faultless conversation')}).{end}"


class Lines:
    """How often something is so, and on which lines: the first of them, or a big file would fill the memory."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[int | str] = []

    def add(self, line: int | str) -> None:
        """Count once more, on this line, or at a place that is called otherwise."""
        self.count += 1
        if len(self.first) < SHOWN_IN_FULL and line not in self.first[-1:]:
            self.first.append(line)

    def text(self, noun: str = "time") -> str:
        """`3 times (lines 1, 4, 7)`, or `3 times (records 1, 2, 3)` where they share a line."""
        what = "record" if any(isinstance(line, str) for line in self.first) else "line"
        shown = ", ".join(str(line).removeprefix("record ") for line in self.first)
        more = f" and {self.count - len(self.first):,} more" if self.count > len(self.first) > 1 else ""
        return f"{plural(self.count, noun)} ({what}{'s' if len(self.first) > 1 else ''} {shown}{more})"


class Problems:
    """Collects problems while a file is read, and keeps no more of each kind than MAX_LISTED."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.has_errors = False
        self._kept: list[Problem] = []
        self._first_unlisted: dict[str, Problem] = {}
        self._once: dict[tuple[str, str], tuple[Problem, Lines]] = {}

    def add(self, line: int, fault: Fault) -> None:
        """Count a fault, and list it while there are few of its kind."""
        self.has_errors |= fault.level == "error"
        fix = f"{fault.fix} {REPAIR}" if fault.can_fix else fault.fix
        problem = Problem(line, fault.level, fault.message, fix, fault.kind)
        if fault.once:
            self._add_once(problem)
            return
        self.counts[fault.kind] += 1
        if self.counts[fault.kind] <= MAX_LISTED:
            self._kept.append(problem)
        else:
            self._first_unlisted.setdefault(fault.kind, problem)

    def withdraw_promises(self) -> None:
        """No fault says that --fix does it: nothing of the file can be repaired, so that nothing would be written."""
        self._kept = [replace(problem, fix=problem.fix.removesuffix(f" {REPAIR}")) for problem in self._kept]

    def _add_once(self, problem: Problem) -> None:
        seen = self._once.setdefault((problem.kind, problem.message), (problem, Lines()))
        seen[1].add(problem.line)
        self.counts[problem.kind] += seen[1].count == 1

    def listed(self) -> tuple[Problem, ...]:
        """The kept problems by line, and one entry for each kind of which there are more."""
        more = []
        for kind, first in self._first_unlisted.items():
            message = f"From here on there are {self.counts[kind] - MAX_LISTED:,} more of this kind: {first.message}"
            more.append(Problem(first.line, first.level, message, first.fix, kind))
        for first, lines in self._once.values():
            several = f" So in {lines.text('row')}." if lines.count > 1 else ""
            more.append(replace(first, message=first.message + several))
        return tuple(sorted(self._kept + more, key=lambda problem: problem.line))

    def report(self, path: str, conversations: int, notes: Iterable[str] = ()) -> Report:
        """The report on everything that was added."""
        verdict = "reject" if self.has_errors else "accept_with_warning" if self.counts else "accept"
        return Report(path, verdict, conversations, self.listed(), dict(self.counts), tuple(notes))


def listing(problems: tuple[Problem, ...], counts: dict[str, int]) -> list[str]:
    """One line of text for each of the first problems, faults before warnings, and one that counts the others."""
    first = _first_of(problems)
    more = _and_more(first, counts)
    return [f"  {problem}" for problem in first] + ([f"  {more}"] if more else [])


def _first_of(problems: tuple[Problem, ...]) -> list[Problem]:
    return sorted(problems, key=lambda problem: problem.level != "error")[:SHOWN_IN_FULL]


def _and_more(first: list[Problem], counts: dict[str, int]) -> str:
    """A sentence about those that are not among the first; empty when there are none."""
    rest = Counter(counts) - Counter(problem.kind for problem in first)
    kinds = ", ".join(f"{count:,} x {kind.replace('_', ' ')}" for kind, count in rest.most_common())
    return f"And {rest.total():,} more: {kinds}." if rest else ""
