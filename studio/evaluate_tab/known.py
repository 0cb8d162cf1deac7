"""What is known of two models without asking them: each kept reply, judged by the questions as they are now."""

from collections.abc import Sequence
from dataclasses import dataclass

from nanochat_core.evaluation.pairs import Flips, flips
from nanochat_core.evaluation.questions import Question
from nanochat_core.evaluation.results import all_replies
from nanochat_core.evaluation.scores import EvalResult, grade
from nanochat_core.evaluation.today import replies_in, reply_to
from nanochat_core.paths import steps
from nanochat_core.runs.base import base_step
from nanochat_core.runs.run import Run
from nanochat_core.system.files import read_json
from studio.models.choices import Key


@dataclass(frozen=True)
class Pair:
    """Two models on those of the questions that both were asked."""

    asked: list[int]
    """Their numbers in the file, from 1."""
    total: int
    """How many the file has."""
    this: EvalResult
    other: EvalResult
    unasked: list[str]
    """The texts of the others, which one of the two was not asked yet."""

    @property
    def flips(self) -> Flips:
        """By place in `asked`, from 1."""
        return flips(*([answer.correct for answer in one.answers] for one in (self.this, self.other)))

    @property
    def missing(self) -> int:
        """How many those are."""
        return len(self.unasked)


def pair(questions: Sequence[Question], one: Key, two: Key) -> Pair:
    """What is known of two models."""
    known = [replies_of(key) for key in (one, two)]
    found = [[reply_to(question, replies) for replies in known] for question in questions]
    both = [place for place, replies in enumerate(found) if None not in replies]
    asked = [questions[place] for place in both]
    this, other = (grade(asked, [found[place][side] or "" for place in both]) for side in (0, 1))
    unasked = [question.asked for question, replies in zip(questions, found) if None in replies]
    return Pair([place + 1 for place in both], len(questions), this, other, unasked)


def replies_of(key: Key) -> dict[str, str]:
    """Everything that this checkpoint has answered: in an evaluation, or before or after a run's training."""
    return {**_of_training(*key), **all_replies(*key)}


def _of_training(name: str, step: int) -> dict[str, str]:
    found: dict[str, str] = {}
    for run in reversed(Run.list()):
        is_last = name == f"finetuned/{run.tag}" and step == max(steps(run.path), default=None)
        if is_last or (name == run.record().get("base_model") and step == base_step(run)):
            kept = read_json(run.evals_dir / ("after.json" if is_last else "before.json"))
            for kind in ("new", "old"):
                found |= replies_in(kept.get(kind))
    return found
