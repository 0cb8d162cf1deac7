"""What a report consists of, whichever form it is written in."""

from collections.abc import Sequence
from dataclasses import dataclass

from nanochat_core.show.palette import Series


@dataclass(frozen=True)
class Heading:
    """The title of a part."""

    text: str


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str
    kind: str = ""
    """good, warn or bad where it is a verdict."""


@dataclass(frozen=True)
class Table:
    """Rows under a head; a head of empty texts is not shown."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    folded: str = ""
    """Where it is long: what stands for it until it is opened."""


@dataclass(frozen=True)
class Chart:
    """Losses over steps, and the distance from the base."""

    series: Sequence[Series]


@dataclass(frozen=True)
class Code:
    """What is typed."""

    language: str
    text: str


Block = Heading | Text | Table | Chart | Code


@dataclass(frozen=True)
class Document:
    """A whole report."""

    title: str
    made: str
    """When, in words."""
    blocks: Sequence[Block]
