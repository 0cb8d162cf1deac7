"""The data doctor: everything that can be said of rows from their texts, and from the losses that a training has had.

Without torch, so that the app asks it at every click.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from nanochat_core.evaluation.questions import Question
from nanochat_core.rows.alike import Alike
from nanochat_core.rows.findings import Finding, Review, ranked
from nanochat_core.rows.looks import look_at
from nanochat_core.rows.row import Row
from nanochat_core.system.words import plural

Report = Callable[[float, str], Any]
"""Called with (how much is done, 0 to 1, and what is being done)."""


def examine(  # noqa: PLR0913  all but the rows are options
    rows: Sequence[Row],
    path: str = "data",
    validating: Iterable[int] = (),
    questions: Sequence[Question] = (),
    more: Iterable[Finding] = (),
    notes: Iterable[str] = (),
    report: Report = lambda fraction, text: None,
) -> Review:
    """The review of `rows`.

    validating: places among the rows of those that validate. more: what the losses say. notes: sentences of it.
    """
    report(0.0, "Comparing the questions")
    alike = Alike(rows, validating, questions)
    findings = [*alike.findings()]
    report(0.7, "Looking at the answers")
    findings += look_at(rows)
    findings += more
    said = [*notes]
    if alike.open_questions:
        said.append(
            f"{plural(alike.open_questions, 'question')} with many different answers: taken for ones that have no "
            "single answer, such as a wish for a story."
        )
    return Review(path, len(rows), ranked(findings), tuple(said))
