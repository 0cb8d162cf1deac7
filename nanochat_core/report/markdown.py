"""A report as Markdown. What a model or a person wrote is text in it: it makes no heading, link, HTML or table."""

import re
from collections.abc import Sequence

from nanochat_core.report.blocks import Block, Chart, Code, Document, Heading, Text
from nanochat_core.show.palette import Series

_POINTS = 12
"""A chart is a table here, of so many of its points."""
_ACTIVE = re.compile(r"([\\`*_\[\]<>#!|~$&@]|:(?=//)|(?<=www)\.|^[-+=](?= )|(?<=^\d)[.)](?= ))")
"""What could begin markup, an address that becomes a link by itself, or a list."""


def to_markdown(document: Document) -> str:
    """The file's text."""
    head = f"# {_text(document.title)}\n\nReport of {document.made}, by nanochat studio"
    return "\n\n".join([head, *blocks_to_markdown(document.blocks)]) + "\n"


def blocks_to_markdown(blocks: Sequence[Block]) -> list[str]:
    """Each block as Markdown."""
    return [_block(block) for block in blocks]


def _block(block: Block) -> str:
    if isinstance(block, Heading):
        return f"## {_text(block.text)}"
    if isinstance(block, Text):
        return f"**{_text(block.text)}**" if block.kind else _text(block.text)
    if isinstance(block, Code):
        fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", block.text)), 3)
        return f"{fence}{block.language}\n{block.text}\n{fence}"
    if isinstance(block, Chart):
        return _points(block)
    title = f"{_text(block.folded)}:\n\n" if block.folded else ""
    return title + _table(block.head, block.rows)


def _points(chart: Chart) -> str:
    """Every line's values at some steps, those of the validations: of the training the newest since the step before."""
    lines = [one for one in chart.series if one.points and one.style != "faint"]
    if not lines:
        return "Nothing was measured yet."
    validations = [one for one in lines if one.best] or lines[:1]
    steps = sorted({x for one in validations for x, _ in one.points})
    most = _POINTS * len(validations)
    if len(steps) > most:
        steps = [steps[round(place * (len(steps) - 1) / (most - 1))] for place in range(most)]
    spans = zip([-1.0, *steps], steps)
    rows = [[f"{step:g}", *(_at(one, before, step) for one in lines)] for before, step in spans]
    return _table(["step", *(one.name for one in lines)], rows)


def _at(line: Series, before: float, step: float) -> str:
    is_measured_then = line.best or line.apart
    known = [y for x, y in line.points if before < x <= step and (x == step or not is_measured_then)]
    return f"{known[-1]:.4f}" if known else ""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    written = [[cell if number == 1 else _cell(cell) for cell in line] for number, line in enumerate(lines)]
    return "\n".join("| " + " | ".join(line) + " |" for line in written)


def _cell(text: str) -> str:
    return " ".join(_text(str(text)).split())


def _text(text: str) -> str:
    return _ACTIVE.sub(r"\\\1", text)
