"""A row of a data file as the doctor reads it: its line, and each answer with what was said before it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanochat_core.data.chunk import Block, Wanted
from nanochat_core.data.line import judge_line
from nanochat_core.data.reader import open_data
from nanochat_core.data.survey import Progress, survey
from nanochat_core.system.words import plural

Messages = Sequence[dict[str, Any]]
_ANY_LENGTH = 1 << 40


@dataclass(frozen=True)
class Turn:
    """A question and its answer."""

    before: str
    """System prompt and earlier turns, one a line; "" for the first question without a system prompt."""
    prompt: str
    answer: str
    """Calls of the calculator included, as they are written."""


@dataclass(frozen=True)
class Row:
    """A conversation."""

    line: int
    """Its line in the file, from 1."""
    turns: tuple[Turn, ...]
    """Those whose answer is trained."""

    @property
    def prompt(self) -> str:
        """All that a person says in it."""
        return "\n".join(turn.prompt for turn in self.turns)

    @property
    def answer(self) -> str:
        """All that the model learns of it."""
        return "\n".join(turn.answer for turn in self.turns)


def row_of(line: int, messages: Messages) -> Row:
    """The row of messages that have passed the rules."""
    turns: list[Turn] = []
    before: list[str] = []
    prompt = ""
    for message in messages:
        text = text_of(message["content"])
        if message["role"] == "user":
            prompt = text
        elif message["role"] == "assistant":
            if message.get("train", True):
                turns.append(Turn("\n".join(before), prompt, text))
            before += [prompt, text]
        else:
            before.append(text)
    return Row(line, tuple(turns))


def text_of(content: str | Sequence[dict[str, str]]) -> str:
    """A message's text. Of parts, one after the other, without what the calculator answered: it is not learnt."""
    if isinstance(content, str):
        return content
    return " ".join(part["text"] for part in content if part["type"] != "python_output")


def read_rows(path: str | Path, progress: Progress | None = None) -> tuple[list[Row], int]:
    """(the faultless rows of a data file, how many lines or records have a fault).

    progress: called with bytes done and bytes of the file. ValueError when the file cannot be opened.
    """
    rows: list[Row] = []

    def take(block: Block) -> None:
        rows.extend(row_of(line, messages) for line, messages in zip(block.lines, block.kept))

    report = survey(path, Wanted(None, _ANY_LENGTH, keep=True), take, progress)
    return rows, sum(problem.level == "error" for problem in report.problems)


def faults_left_out(faults: int) -> list[str]:
    """The note that so many lines were left out; none for none."""
    return [f"{plural(faults, 'line')} with a fault left out: `check` says more."] if faults else []


def lines_of(path: str | Path, rows: Iterable[Row]) -> list[bytes]:
    """The line of each of a file's rows, as it stands there."""
    with open_data(path) as file:
        lines = file.read().split(b"\n")
    return [lines[row.line - 1] for row in rows]


def rows_of_lines(lines: Iterable[tuple[int, bytes]]) -> list[Row]:
    """The faultless ones among lines of JSON with their numbers, such as those of a file that is being edited."""
    judged = ((line, judge_line(data)[0]) for line, data in lines)
    return [row_of(line, found[0]) for line, found in judged if len(found) == 1]
