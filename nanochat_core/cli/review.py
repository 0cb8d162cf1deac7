"""`review`: which rows of a data file contradict, repeat, leak or do not teach, the most suspicious first."""

import sys
from dataclasses import dataclass

import tyro

from nanochat_core.cli.terminal import parse, say, say_json, tell
from nanochat_core.rows.review import review


@dataclass(frozen=True)
class ReviewCommand:
    """Find the rows to look at: contradictions, repetitions, leaks, cut, empty and odd answers, and what a run says."""

    data: tyro.conf.Positional[str]
    """The JSONL file."""
    run: str | None = None
    """Tag of a run that was trained on it: which rows it could not learn, and which taught it nothing new."""
    folds: int = 0
    """Train so many small models on parts of the file, so that each row is judged by one that never saw it."""
    questions: tuple[str, ...] = ()
    """Files of questions that the rows should not hold."""
    json: bool = False
    """Print all findings as JSON."""


def run(arguments: list[str]) -> int:
    """Review a file. Returns the exit status."""
    options = parse(ReviewCommand, arguments, "review")
    progress = _Progress() if options.folds else lambda fraction, text: None
    found = review(options.data, options.run, options.folds, options.questions, progress)
    if options.json:
        say_json(found.to_dict())
        for note in found.notes:
            tell(note)
    else:
        say(found.summary())
    return 0


class _Progress:
    """Says on standard error how far the folds are, at every twentieth."""

    def __init__(self) -> None:
        self._said = -1

    def __call__(self, fraction: float, text: str) -> None:
        if int(20 * fraction) > self._said:
            self._said = int(20 * fraction)
            tell(f"{fraction:.0%} {text}")
            sys.stderr.flush()
