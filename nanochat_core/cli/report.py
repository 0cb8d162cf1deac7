"""`report`: a run, or two, as a page to attach to a decision, in HTML or Markdown."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from nanochat_core.cli.terminal import parse, say
from nanochat_core.evaluation.questions import load_questions
from nanochat_core.report.facts import has_its_data, said_of_data
from nanochat_core.report.writing import write_report
from nanochat_core.rows.findings import KINDS, where
from nanochat_core.rows.review import review
from nanochat_core.runs.run import Run

_WORST = 5
"""Findings that are told in full."""


@dataclass(frozen=True)
class ReportCommand:
    """Write what a run learnt, what it cost and how to repeat it into one file that opens anywhere."""

    out: tyro.conf.Positional[Path]
    """The file to write: its ending, .html or .md, says which form."""
    run: str
    """Tag of the run."""
    compare: str | None = None
    """Tag of a second run; without it the run is compared with its base."""


def run(arguments: list[str]) -> int:
    """Write the report. Returns the exit status."""
    options = parse(ReportCommand, arguments, "report")
    say(f"Written: {write_report(options.run, options.compare, options.out, _reviewed)}")
    return 0


def _reviewed(run: Run) -> list[str]:
    """What a check finds in a run's data, and then its review: how many findings of each kind, the gravest in full."""
    said = said_of_data(run)
    if not has_its_data(run):
        return said
    try:
        config = run.settings()
    except ValueError:  # the run that it started from is gone, which the end of the report says
        return said
    questions = [config.questions_path] if config.questions_path else []
    try:
        for path in questions:
            load_questions(path)
    except ValueError as error:  # moved since, or changed: the rest of the report is as good
        said, questions = [*said, str(error)], []
    try:
        found = review(config.data_path, run.tag, questions=questions)
    except ValueError as error:  # a run of before there were records of rows
        said, found = [*said, str(error)], review(config.data_path, questions=questions)
    counted = ", ".join(f"{KINDS[kind]}: {number}" for kind, number in found.counts.items())
    worst = [f"{where(one.lines)}: {one.reason}" for one in found.findings[:_WORST]]
    return [*said, f"Its review: {counted or 'nothing to look at'}.", *found.notes, *worst]
