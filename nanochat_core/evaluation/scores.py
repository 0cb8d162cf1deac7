"""Replies marked right or wrong, and counted. Without torch, so that a reply once given can be judged anew anywhere."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from nanochat_core.evaluation.questions import Question
from nanochat_core.show.markup import card, escape, facts, table

WRONG_SHOWN = 20


@dataclass(frozen=True)
class Score:
    """How many of how many questions were answered."""

    correct: int
    total: int

    @property
    def accuracy(self) -> float:
        """0 to 1."""
        return self.correct / self.total if self.total else 0.0


@dataclass(frozen=True)
class Answer:
    """One reply and its verdict."""

    task: str
    question: str
    """The last message of the user."""
    expected: list[str]
    reply: str
    correct: bool
    skill: str = ""
    note: str = ""
    """Why the reply could not be judged; empty where it could."""
    key: str = ""
    """`Question.key`."""


@dataclass(frozen=True)
class EvalResult:
    """What a model answered, in the questions' order."""

    correct: int
    total: int
    tasks: dict[str, Score]
    answers: list[Answer] = field(repr=False)

    @property
    def accuracy(self) -> float:
        """0 to 1."""
        return self.correct / self.total if self.total else 0.0

    def _repr_html_(self) -> str:
        wrong = [answer for answer in self.answers if not answer.correct]
        rows = [(answer.question, " or ".join(answer.expected), answer.reply) for answer in wrong[:WRONG_SHOWN]]
        title = f"Wrong answers ({len(wrong):,})"
        if len(wrong) > len(rows):
            title += f", the first {len(rows)}"
        listing = table(("Question", "Expected", "Reply"), rows)
        return card(
            f"{self.correct} of {self.total} questions answered ({100 * self.accuracy:.0f}%)",
            facts({name: f"{score.correct} of {score.total}" for name, score in self.tasks.items()}),
            f"<details><summary>{escape(title)}</summary>{listing}</details>" if rows else "",
        )

    def by_skill(self) -> dict[str, Score]:
        """The scores of the finer names, where the questions have them."""
        return counted((answer.skill or answer.task, answer.correct) for answer in self.answers)


def grade(questions: Sequence[Question], replies: Sequence[str]) -> EvalResult:
    """The verdict on each question's reply, counted."""
    answers = [_answer(question, reply) for question, reply in zip(questions, replies, strict=True)]
    tasks = counted((answer.task, answer.correct) for answer in answers)
    return EvalResult(sum(answer.correct for answer in answers), len(answers), tasks, answers)


def _answer(question: Question, reply: str) -> Answer:
    verdict, is_plain = question.judge(reply), not question.more and question.match in ("contains", "exact")
    return Answer(
        task=question.task,
        question=question.asked,
        expected=question.expected if is_plain else [question.wanted],
        reply=reply,
        correct=verdict.right,
        skill=question.skill,
        note=verdict.note,
        key=question.key,
    )


def counted(verdicts: Iterable[tuple[str, bool]]) -> dict[str, Score]:
    """The score under each name, in the order in which the names come."""
    right: dict[str, list[bool]] = {}
    for name, correct in verdicts:
        right.setdefault(name, []).append(correct)
    return {name: Score(sum(verdicts), len(verdicts)) for name, verdicts in right.items()}
