"""Ways to say things, kept as plain text in wordings/: sections of one wording a line, a part of them held out."""

from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent / "wordings"


class Wordings(NamedTuple):
    """Ways to say one thing: those the model is trained on and those kept for the evaluation."""

    trained: tuple[str, ...]
    held_out: tuple[str, ...]

    def filled(self, **values: object) -> "Wordings":
        """The same with slots such as {n} filled in."""
        return Wordings(*(tuple(line.format(**values) for line in lines) for lines in self))


def read_wordings(name: str) -> dict[str, Wordings]:
    """The sections of wordings/<name>.txt by title: "# title", then one wording a line; "* " begins a held-out one."""
    sections: dict[str, tuple[list[str], list[str]]] = {}
    for line in (FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("# "):
            trained, held_out = sections.setdefault(line[2:], ([], []))
        elif line.startswith("* "):
            held_out.append(line[2:])
        elif line:
            trained.append(line)
    return {title: Wordings(tuple(trained), tuple(held_out)) for title, (trained, held_out) in sections.items()}
