"""What a skill yields: one exchange of question and answer, and what counts as a right answer."""

from dataclasses import dataclass

Content = str | list[dict]


@dataclass(frozen=True)
class Exchange:
    """`turns` are (user, assistant) pairs; the last answer must be, or contain, one of the `expected` texts."""

    turns: tuple[tuple[str, Content], ...]
    expected: tuple[str, ...]
    match: str = "exact"
    system: str = ""
    alone: bool = False  # its system message governs every answer, so no other exchange may follow
    opening: tuple[tuple[str, Content], ...] = ()  # turns that other exchanges may follow before `turns`


def one(question: str, answer: Content, *expected: str, match: str = "exact", system: str = "") -> Exchange:
    """An exchange of a single turn; with no `expected`, the answer itself is expected."""
    return Exchange(((question, answer),), expected or (visible(answer),), match, system)


def by_tool(expression: str, output: str, text: str) -> list[dict]:
    """An answer that first asks the calculator."""
    return [
        {"type": "python", "text": expression},
        {"type": "python_output", "text": output},
        {"type": "text", "text": text},
    ]


def visible(content: Content) -> str:
    """The text of an answer that a person reads: tool calls and their outputs are left out."""
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content if part["type"] == "text")
