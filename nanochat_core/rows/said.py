"""What a report says of the rows of a run: whether the file is as it was, and its review in a few sentences."""

from nanochat_core.config import FinetuneConfig
from nanochat_core.data.tokens.plan import validation_places
from nanochat_core.evaluation.questions import load_questions
from nanochat_core.report.facts import has_its_data, said_of_data
from nanochat_core.rows.doctor import examine
from nanochat_core.rows.findings import KINDS, where
from nanochat_core.rows.of_run import Told, told_by
from nanochat_core.rows.row import faults_left_out, lines_of, read_rows
from nanochat_core.runs.run import Run
from nanochat_core.runs.snapshot import data_path

_WORST = 5
"""Findings that are told in full."""


def said_of_rows(run: Run) -> list[str]:
    """What a check finds in a run's data, and then its review: how many findings of each kind, the gravest in full."""
    said, settings = said_of_data(run), run.record().get("settings", {})
    if not has_its_data(run):
        return said
    try:
        asked = load_questions(settings["questions_path"]) if settings.get("questions_path") else []
    except ValueError as error:  # moved since, or changed: the rest of the report is as good
        said, asked = [*said, str(error)], []
    path = data_path(run)
    rows, faults = read_rows(path)
    try:
        told = told_by(run, rows, lines_of(path, rows))
    except ValueError as error:  # a run of before there were records of rows
        told = Told([], [str(error)])
    validating = told.validating
    if validating is None:
        split = (settings.get(name, getattr(FinetuneConfig, name)) for name in ("val_split", "split", "seed"))
        validating = validation_places(len(rows), *split).tolist()
    found = examine(rows, path.name, validating, asked, told.findings, [*faults_left_out(faults), *told.notes])
    counted = ", ".join(f"{KINDS[kind]}: {number}" for kind, number in found.counts.items())
    worst = [f"{where(one.lines)}: {one.reason}" for one in found.findings[:_WORST]]
    return [*said, f"Its review: {counted or 'nothing to look at'}.", *found.notes, *worst]
