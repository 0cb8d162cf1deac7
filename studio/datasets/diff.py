"""What changed between two versions of a dataset, line by line, and which version a run was trained on."""

import difflib
import html
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanochat_core.runs.run import Run
from nanochat_core.system.words import plural
from studio.datasets.files import Version

SHOWN = 40
"""Changed lines that are drawn."""
_CHARACTERS = 600


@dataclass(frozen=True)
class Difference:
    """Lines that only one of two versions has, in the order of that version."""

    removed: list[bytes]
    added: list[bytes]

    @property
    def sentence(self) -> str:
        if not self.removed and not self.added:
            return "The two hold the same conversations."
        return f"{plural(len(self.added), 'line')} added, {plural(len(self.removed), 'line')} removed or changed."


def difference(old: Iterable[bytes], new: Iterable[bytes]) -> Difference:
    """By content, wherever the lines stand: moving a conversation is no change. Quick for large files."""
    old, new = list(old), list(new)
    return Difference(_beyond(old, Counter(new)), _beyond(new, Counter(old)))


def _beyond(lines: list[bytes], other: Counter[Any]) -> list[bytes]:
    """The lines that occur more often here than in `other`."""
    left = Counter(other)
    found = []
    for line in lines:
        if left[line] > 0:
            left[line] -= 1
        else:
            found.append(line)
    return found


def file_lines(path: Path) -> list[bytes]:
    """The lines that are not empty, without their ends."""
    return [line for raw in path.read_bytes().split(b"\n") if (line := raw.rstrip(b" \t\r"))]


def difference_html(found: Difference) -> str:
    """Escaped: each line that went and each that came, side by side where the one became the other."""
    pairs = list(_paired(found))
    drawn = "".join(_pair_html(old, new) for old, new in pairs[:SHOWN])
    more = f'<div class="note">And {plural(len(pairs) - SHOWN, "line")} more.</div>' if len(pairs) > SHOWN else ""
    return f'<div class="note">{html.escape(found.sentence)}</div><div class="diff">{drawn}</div>{more}'


def _paired(found: Difference) -> Iterable[tuple[bytes | None, bytes | None]]:
    """Changed lines as (old, new); lines that only went or came with None on the other side."""
    waiting = list(found.added)
    for old in found.removed:
        near = difflib.get_close_matches(_text(old), map(_text, waiting[:SHOWN]), n=1, cutoff=0.5)
        if near and len(found.removed) <= SHOWN:
            place = next(place for place, line in enumerate(waiting) if _text(line) == near[0])
            yield old, waiting.pop(place)
        else:
            yield old, None
    yield from ((None, line) for line in waiting)


def _pair_html(old: bytes | None, new: bytes | None) -> str:
    gone = f'<div class="gone"><span class="sr">removed: </span>− {_shown(old)}</div>' if old is not None else ""
    came = f'<div class="came"><span class="sr">added: </span>+ {_shown(new)}</div>' if new is not None else ""
    return f'<div class="change">{gone}{came}</div>'


def _text(line: bytes) -> str:
    return line[:_CHARACTERS].decode("utf-8", "replace")


def _shown(line: bytes) -> str:
    return html.escape(_text(line)) + ("…" if len(line) > _CHARACTERS else "")


@dataclass(frozen=True)
class TrainedVersion:
    """A version of a dataset that can be compared with: an earlier one, or the one that a run has seen."""

    path: Path
    label: str


def comparable(path: Path | None, sha: str | None, kept: list[Version]) -> list[TrainedVersion]:
    """What an opened dataset can be compared with: the versions that runs were trained on first, then the others."""
    runs = _runs_by_sha()
    found = []
    if path is not None and sha is not None and path.exists():
        found.append(TrainedVersion(path, f"On disk now{_trained(runs, sha)}"))
    found += [TrainedVersion(version.path, f"{version.label}{_trained(runs, version.short_sha)}") for version in kept]
    return sorted(found, key=lambda version: "trained" not in version.label)


def _trained(runs: dict[str, list[str]], sha: str) -> str:
    tags = [tag for known, tags in runs.items() if known.startswith(sha) for tag in tags]
    return f" · trained: {', '.join(tags[:3])}" if tags else ""


def _runs_by_sha() -> dict[str, list[str]]:
    """The tags of the runs for each data file's SHA-256, newest first."""
    found: dict[str, list[str]] = {}
    for run in sorted(Run.list(), key=lambda run: run.record().get("created", ""), reverse=True):
        if sha := run.record().get("data", {}).get("sha256"):
            found.setdefault(sha, []).append(run.tag)
    return found
