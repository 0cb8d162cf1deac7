"""What is known of two models without asking them: each kept reply, judged by the questions as they are now."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nanochat_core.evaluation.pairs import Flips, flips
from nanochat_core.evaluation.questions import Question
from nanochat_core.evaluation.results import all_replies
from nanochat_core.evaluation.scores import EvalResult, grade
from nanochat_core.paths import steps
from nanochat_core.runs.base import base_step
from nanochat_core.runs.run import Run
from nanochat_core.system.files import read_json
from studio.models.choices import Key

Replies = Mapping[str, str]
"""Question.key, or for results of before there were keys the question's text -> reply."""


@dataclass(frozen=True)
class Pair:
    """Two models on those of the questions that both were asked."""

    asked: list[int]
    """Their numbers in the file, from 1."""
    total: int
    """How many the file has."""
    this: EvalResult
    other: EvalResult

    @property
    def flips(self) -> Flips:
        """By place in `asked`, from 1."""
        return flips(*([answer.correct for answer in one.answers] for one in (self.this, self.other)))

    @property
    def missing(self) -> int:
        """Questions that one of the two was not asked yet."""
        return self.total - len(self.asked)


def pair(questions: Sequence[Question], this: Key, other: Key) -> Pair:
    """What is known of both."""
    known = [replies_of(key) for key in (this, other)]
    found = [[_reply(question, replies) for replies in known] for question in questions]
    both = [place for place, replies in enumerate(found) if None not in replies]
    asked = [questions[place] for place in both]
    graded = [grade(asked, [found[place][side] or "" for place in both]) for side in (0, 1)]
    return Pair([place + 1 for place in both], len(questions), *graded)


def replies_of(key: Key) -> dict[str, str]:
    """Everything that this checkpoint has answered: in an evaluation, or before or after a run's training."""
    return {**_of_training(*key), **all_replies(*key)}


def _of_training(name: str, step: int) -> dict[str, str]:
    found: dict[str, str] = {}
    for run in reversed(Run.list()):
        is_last = name == f"finetuned/{run.tag}" and step == max(steps(run.path), default=None)
        if is_last or (name == run.record().get("base_model") and step == base_step(run)):
            snapshot = read_json(run.evals_dir / ("after.json" if is_last else "before.json"))
            for kind in ("new", "old"):
                found |= _answers(snapshot.get(kind))
    return found


def _answers(result: Any) -> dict[str, str]:
    answers = result.get("answers") if isinstance(result, Mapping) else None
    return {
        str(answer.get("key") or answer.get("question")): str(answer.get("reply", ""))
        for answer in answers or []
        if isinstance(answer, Mapping)
    }


def _reply(question: Question, replies: Replies) -> str | None:
    by_key = replies.get(question.key)
    is_plain = len(question.messages) == 1 and not question.turns
    return replies.get(question.asked) if by_key is None and is_plain else by_key
