"""`report`: a run, or two, as a page to attach to a decision, in HTML or Markdown."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from nanochat_core.cli.terminal import parse, say
from nanochat_core.report.writing import write_report
from nanochat_core.rows.said import said_of_rows


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
    say(f"Written: {write_report(options.run, options.compare, options.out, said_of_rows)}")
    return 0
