"""The review of a data file: what the doctor says of it alone, of it with a run's record, and with folds of its own."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nanochat_core.config import FinetuneConfig
from nanochat_core.data.reader import open_data
from nanochat_core.data.tokens.plan import validation_places
from nanochat_core.evaluation.questions import Question, load_questions
from nanochat_core.rows.doctor import Report, examine
from nanochat_core.rows.findings import Finding, Review
from nanochat_core.rows.losses import findings_of_folds, findings_of_run
from nanochat_core.rows.record import record_of
from nanochat_core.rows.row import Row, read_rows
from nanochat_core.runs.run import Run
from nanochat_core.system.words import plural


def review(
    data: str | Path,
    run: str | None = None,
    folds: int = 0,
    questions: str | Path | Sequence[str | Path] = (),
    report: Report = lambda fraction, text: None,
) -> Review:
    """Which rows of a data file to look at, the most suspicious first.

    run: tag of a run that was trained on this file; its record tells which rows it could not learn, and which taught
    it nothing. folds: train so many models of the starter on parts of the file, in minutes, so that each row is judged
    by one that never saw it. questions: files of questions that the rows should not hold. report: called with (how much
    is done, 0 to 1; a sentence). ValueError when a file cannot be used.
    """
    paths = [questions] if isinstance(questions, str | Path) else list(questions)
    asked: list[Question] = [question for path in paths for question in load_questions(path)]
    report(0.0, "Reading the data")
    rows, faults = read_rows(data)
    if faults and not rows:
        raise ValueError(f"{data} has no faultless conversation to review: `check` says what is wrong with it.")
    notes = [f"{plural(faults, 'line')} with a fault left out: `check` says more."] if faults else []
    more: list[Finding] = []
    if run is not None:
        record = record_of(Run.open(run), _lines(data, rows))
        more += findings_of_run(rows, record.losses)
        notes += record.notes
        validating = record.validating
    else:
        config = FinetuneConfig(data_path=str(data))
        validating = validation_places(len(rows), config.val_split, config.split, config.seed).tolist()
    share = 0.9 if folds else 0.0
    if folds:
        from nanochat_core.rows.folds import fold_losses  # noqa: PLC0415  torch, which no other part of it needs

        losses = fold_losses(data, folds, lambda fraction, text: report(share * fraction, text))
        more += findings_of_folds(rows, losses)
    rest: Callable[[float, str], Any] = lambda fraction, text: report(share + (1 - share) * fraction, text)  # noqa: E731
    found = examine(rows, str(data), validating, asked, more, notes, rest)
    report(1.0, "Done")
    return found


def _lines(data: str | Path, rows: Sequence[Row]) -> list[bytes]:
    """The line of each row."""
    with open_data(data) as file:
        lines = file.read().split(b"\n")
    return [lines[row.line - 1] for row in rows]
