"""`trace`: which rows taught this? Where the words of a reply stand in what a run was trained on."""

from dataclasses import dataclass

import tyro

from nanochat_core.cli.terminal import parse, say, say_json, tell
from nanochat_core.rows.trace import trace


@dataclass(frozen=True)
class TraceCommand:
    """Find the stretches of a reply that stand word for word in the rows that a run was trained on."""

    reply: tyro.conf.Positional[str]
    """The text of a reply."""
    run: str
    """Tag of the run."""
    question: str = ""
    """What it answers: rows with a like question then come first."""
    json: bool = False
    """Print the spans as JSON, the longest first."""


def run(arguments: list[str]) -> int:
    """Trace a reply. Returns the exit status."""
    options = parse(TraceCommand, arguments, "trace")
    found = trace(options.run, options.reply, options.question, tell)
    if options.json:
        say_json(found.to_dict())
    else:
        say(found.summary())
    return 0
