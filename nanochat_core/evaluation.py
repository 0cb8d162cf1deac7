"""Scoring a model on questions with known answers: greedy replies, each compared exactly or by what it contains."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nanochat_core.engine import Engine
from nanochat_core.markup import card, escape, facts, table
from nanochat_core.model import GPT
from nanochat_core.reply import Reply, Text
from nanochat_core.tokenizer import Tokenizer

MATCHES = ("exact", "contains")
WRONG_SHOWN = 20


@dataclass(frozen=True)
class Question:
    """Messages that end with the user's, and what answers them."""

    messages: list[dict]
    expected: list[str]
    """Any one of these counts."""
    match: str = "contains"
    """exact: the whole reply is it; contains: it stands in the reply as whole words. Case and blanks do not count."""
    task: str = "questions"
    skill: str = ""
    """A finer name within the task, where there is one."""

    def answered_by(self, reply: str) -> bool:
        """Whether `reply` is right."""
        given = _plain(reply)
        if self.match == "exact":
            return any(given == _plain(text) for text in self.expected)
        return any(_contains(given, _plain(text)) for text in self.expected)


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


def load_questions(path: str | Path) -> list[Question]:
    """Read a questions file, JSONL: {"question" or "messages", "expected": [...], "match", "task"} a line.

    Raises ValueError with the file, the line and the remedy when it is missing, empty or malformed.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise ValueError(f"The questions file {path} cannot be read: {error.strerror}. Check its name.") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"The questions file {path} is not UTF-8 text. Save it as UTF-8.") from error
    questions = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            questions.append(_question(json.loads(line)))
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"{path}, line {number}: {error}. Each line is an object such as "
                '{"question": "When do you open?", "expected": ["7 am"], "match": "contains"}.'
            ) from error
    if not questions:
        raise ValueError(f"The questions file {path} has no questions. Put at least one in it, one on each line.")
    return questions


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


def _question(fields: Any) -> Question:
    if not isinstance(fields, dict):
        raise ValueError("it holds no object")
    messages = fields.get("messages")
    if messages is None:
        if not isinstance(fields.get("question"), str) or not fields["question"].strip():
            raise ValueError('it has neither a "question" text nor "messages"')
        messages = [{"role": "user", "content": fields["question"]}]
    _check_messages(messages)
    expected = fields.get("expected")
    expected = [expected] if isinstance(expected, str) else expected
    if not isinstance(expected, list) or not expected or not all(isinstance(t, str) and t.strip() for t in expected):
        raise ValueError('"expected" must be a list of texts, none of them empty')
    match = fields.get("match", "contains")
    if match not in MATCHES:
        raise ValueError(f'"match" is {match!r}; it must be exact or contains')
    return Question(messages, expected, match, str(fields.get("task", "questions")), str(fields.get("skill", "")))


def _check_messages(messages: Any) -> None:
    if not isinstance(messages, list) or not messages or not all(isinstance(message, dict) for message in messages):
        raise ValueError('"messages" must be a list of messages')
    if messages[-1].get("role") != "user" or not isinstance(messages[-1].get("content"), str):
        raise ValueError('"messages" must end with a message of the user')


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _contains(reply: str, expected: str) -> bool:
    """Whole words only: 7 does not stand in 17."""
    before = r"(?<!\w)" if expected[0].isalnum() else ""
    after = r"(?!\w)" if expected[-1].isalnum() else ""
    return re.search(before + re.escape(expected) + after, reply) is not None
