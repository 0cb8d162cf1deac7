"""Scoring a model on questions with known answers: greedy replies, each compared exactly or by what it contains."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from nanochat_core.engine.engine import Engine
from nanochat_core.engine.reply import Reply, Text
from nanochat_core.evaluation.questions import Question
from nanochat_core.model.gpt import GPT
from nanochat_core.show.markup import card, escape, facts, table
from nanochat_core.tokenizer.tokenizer import Tokenizer

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
        return _scores([(answer.skill or answer.task, answer.correct) for answer in self.answers])


def evaluate(model: GPT, tokenizer: Tokenizer, questions: Sequence[Question], max_tokens: int = 64) -> EvalResult:
    """Ask every question and compare the greedy replies of at most `max_tokens` tokens, tool calls included.

    Raises ValueError for a question that is longer than the model's context.
    """
    engine = Engine(model, tokenizer)
    prompts = [tokenizer.render_prompt(question.messages) for question in questions]
    replies = [visible_text(ids, tokenizer) for ids in engine.generate_batch(prompts, max_tokens, temperature=0.0)]
    answers = [
        Answer(
            question.task,
            str(question.messages[-1]["content"]),
            question.expected,
            reply,
            question.answered_by(reply),
            question.skill,
        )
        for question, reply in zip(questions, replies, strict=True)
    ]
    tasks = _scores([(answer.task, answer.correct) for answer in answers])
    return EvalResult(sum(answer.correct for answer in answers), len(answers), tasks, answers)


def visible_text(ids: Sequence[int], tokenizer: Tokenizer) -> str:
    """What a person sees of a generated reply: no tool calls, no tool outputs."""
    reply = Reply(tokenizer)
    events = [event for token in ids for event in reply.add(token)] + reply.finish()
    return "".join(event.text for event in events if isinstance(event, Text))


def _scores(verdicts: list[tuple[str, bool]]) -> dict[str, Score]:
    names = dict.fromkeys(name for name, _ in verdicts)
    return {
        name: Score(
            sum(correct for other, correct in verdicts if other == name), sum(other == name for other, _ in verdicts)
        )
        for name in names
    }
