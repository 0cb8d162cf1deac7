"""What the doctor says of rows: each finding is a sentence with its evidence, and all of them are one review."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from nanochat_core.show.markup import card, note, table
from nanochat_core.system.words import plural, printable

KINDS = {
    "contradiction": "Same question, another answer",
    "suspicious": "Contradicts the rest, or noise",
    "leak": "Stands in the questions file too",
    "split_duplicate": "Trained and validated with",
    "empty": "Empty answer",
    "cut": "Answer is cut off",
    "near_duplicate": "Says the same twice",
    "not_learnt": "Was not learnt",
    "odd": "Unlike the rest",
    "nothing_new": "Teaches nothing new",
}
"""Every kind of finding, the gravest first, in a few words."""

_WEIGHTS = dict(zip(KINDS, (1.0, 0.95, 0.9, 0.8, 0.8, 0.75, 0.5, 0.6, 0.4, 0.2), strict=True))
"""What a score of 1 of each kind is worth among all findings."""
SHOWN = 30
"""Findings that a summary spells out."""


@dataclass(frozen=True)
class Finding:
    """Something to decide about one row or some."""

    kind: str
    """One of KINDS."""
    lines: tuple[int, ...]
    """Lines of the data file, from 1; the row in question first where it is one."""
    reason: str
    """A full sentence with the evidence."""
    score: float
    """0 to 1: how suspicious, comparable between the kinds."""


def finding(kind: str, lines: Iterable[int], reason: str, strength: float = 1.0) -> Finding:
    """A finding of this strength, 0 to 1, within its kind."""
    return Finding(kind, tuple(lines), reason, round(_WEIGHTS[kind] * min(1.0, max(0.0, strength)), 4))


@dataclass(frozen=True)
class Review:
    """All findings, the most suspicious first."""

    path: str
    rows: int
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()
    """What could not be looked at, and how it was done, as sentences."""
    counts: dict[str, int] = field(init=False)
    """Findings of each kind."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "counts", dict(Counter(one.kind for one in self.findings)))

    def to_dict(self) -> dict[str, Any]:
        """What `review --json` prints."""
        return {"findings": [{**asdict(one), "lines": list(one.lines)} for one in self.findings]}

    def summary(self) -> str:
        """Text for a person: the first findings, and how many there are of each kind."""
        lines = [self._head(), *(f"Note: {text}" for text in self.notes)]
        lines += [f"  {self._where(one)} ({one.kind.replace('_', ' ')}): {one.reason}" for one in self.findings[:SHOWN]]
        if len(self.findings) > SHOWN:
            lines.append(f"  And {len(self.findings) - SHOWN:,} more; --json lists them all.")
        return "\n".join(lines)

    def _head(self) -> str:
        if not self.findings:
            return f"{self.path}: {plural(self.rows, 'row')}, and nothing to look at."
        kinds = ", ".join(f"{self.counts[kind]:,} x {kind.replace('_', ' ')}" for kind in KINDS if kind in self.counts)
        return f"{self.path}: {plural(len(self.findings), 'finding')} in {plural(self.rows, 'row')}: {kinds}."

    def _where(self, one: Finding) -> str:
        return where(one.lines)

    def _repr_html_(self) -> str:
        rows = [(self._where(one), KINDS[one.kind], one.reason) for one in self.findings[:SHOWN]]
        more = len(self.findings) - SHOWN
        return card(
            "Review of the data",
            note(self._head(), "warn" if self.findings else "good"),
            *(note(text) for text in self.notes),
            table(("Where", "What", "Why"), rows) if rows else "",
            note(f"And {more:,} more in .findings.") if more > 0 else "",
        )


def ranked(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The most suspicious first; of equal ones those that come first in the file."""
    return tuple(sorted(findings, key=lambda one: (-one.score, one.lines)))


def where(lines: Iterable[int], most: int = 6) -> str:
    """`Line 3`, `Lines 3 and 8`, `Lines 3, 8, 9 and 12 more`."""
    shown = [f"{line:,}" for line in lines]
    if len(shown) == 1:
        return f"Line {shown[0]}"
    if len(shown) > most:
        return f"Lines {', '.join(shown[:most])} and {len(shown) - most:,} more"
    return f"Lines {', '.join(shown[:-1])} and {shown[-1]}"


def excerpt(text: str, most: int = 80) -> str:
    """A foreign text in quotes, on one line; of a long one the beginning and the end.

    Long questions often begin with the same instruction, and the ends tell them apart.
    """
    flat = printable(" ".join(text.split()))
    if len(flat) <= most:
        return f"“{flat}”"
    end = most // 2 - 2
    return f"“{flat[: most - end - 3].rstrip()} … {flat[-end:].lstrip()}”"
