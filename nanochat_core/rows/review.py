"""The review of a data file: what the doctor says of it alone, of it with a run's record, and with folds of its own."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nanochat_core.config import FinetuneConfig
from nanochat_core.data.tokens.plan import validation_places
from nanochat_core.evaluation.questions import Question, load_questions
from nanochat_core.rows.doctor import Report, examine
from nanochat_core.rows.findings import Finding, Review
from nanochat_core.rows.losses import findings_of_folds
from nanochat_core.rows.of_run import told_by
from nanochat_core.rows.record import record_of
from nanochat_core.rows.row import faults_left_out, lines_of, read_rows
from nanochat_core.runs.run import Run


def review(
    data: str | Path,
    run: str | None = None,
    folds: int = 0,
    questions: str | Path | Sequence[str | Path] = (),
    report: Report = lambda fraction, text: None,
) -> Review:
    """Which rows of a data file to look at, the most suspicious first.

    run: tag of a run that was trained on this file; its record tells which rows it could not learn, and which taught
    it nothing, and folds that it has kept which do not fit the others. folds: train so many models of the starter on
    parts of the file, in minutes, so that each row is judged by one that never saw it; a run keeps what they find, and
    nothing is computed twice. questions: files of questions that the rows should not hold. report: called with (how
    much is done, 0 to 1; a sentence). ValueError when a file cannot be used.
    """
    paths = [questions] if isinstance(questions, str | Path) else list(questions)
    asked: list[Question] = [question for path in paths for question in load_questions(path)]
    report(0.0, "Reading the data")
    rows, faults = read_rows(data)
    if faults and not rows:
        raise ValueError(f"{data} has no faultless conversation to review: `check` says what is wrong with it.")
    notes = faults_left_out(faults)
    opened = Run.open(run) if run is not None else None
    if opened is not None and folds:
        record_of(opened, lines_of(data, rows))  # before minutes are spent: a run of other data is a mistake
    share = 0.9 if folds else 0.0
    more: list[Finding] = []
    if folds:
        from nanochat_core.rows.folds import fold_losses  # noqa: PLC0415  torch, which no other part of it needs

        losses = fold_losses(data, folds, lambda fraction, text: report(share * fraction, text), run=opened)
        more = [*findings_of_folds(rows, losses)]
    validating: Sequence[int] | None = None
    if opened is not None:
        told = told_by(opened, rows, lines_of(data, rows), folds)
        more, validating = told.findings, told.validating
        notes += told.notes
    if validating is None:
        config = FinetuneConfig(data_path=str(data))
        validating = validation_places(len(rows), config.val_split, config.split, config.seed).tolist()
    rest: Callable[[float, str], Any] = lambda fraction, text: report(share + (1 - share) * fraction, text)  # noqa: E731
    found = examine(rows, str(data), validating, asked, more, notes, rest)
    report(1.0, "Done")
    return found
