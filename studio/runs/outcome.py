"""What a run has gained and lost, in one sentence: from what it was asked before and after, and its losses."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nanochat_core.evaluation.today import in_both, replies_in, snapshot, unasked
from nanochat_core.runs import curves
from nanochat_core.runs.run import Run
from nanochat_core.system.words import plural


@dataclass(frozen=True)
class Outcome:
    """The figures of the sentence; None for what was not measured."""

    questions: int = 0
    """How many were asked before and after."""
    learnt: int | None = None
    """Questions that only the tuned model answers."""
    lost: int | None = None
    """Questions that only the base answered."""
    kept: float | None = None
    """Old skills after, as a share of those before."""
    losses: tuple[float, float] | None = None
    """Validation loss before the first step, and the best one."""
    unasked: tuple[str, ...] = ()
    """Questions that were added or reworded after the run was asked."""

    def sentence(self) -> str:
        """Such as "26 learnt, 0 lost of 30 questions; 98% of the old skills kept; loss 8.91 → 0.33"."""
        parts = []
        if self.learnt is not None and self.lost is not None:
            parts.append(f"{self.learnt} learnt, {self.lost} lost of {plural(self.questions, 'question')}")
        if self.kept is not None:
            parts.append(f"{self.kept:.0%} of the old skills kept")
        if self.losses is not None:
            parts.append(f"loss {_short(self.losses[0])} → {_short(self.losses[1])}")
        if self.unasked:
            are = "have" if len(self.unasked) > 1 else "has"
            parts.append(f"{plural(len(self.unasked), 'new or reworded question')} {are} no reply yet: ask in Evaluate")
        return "; ".join(parts)


def outcome_of(run: Run) -> Outcome:
    """Read the run's directory. Its replies are judged by the questions as they are today."""
    before, after = (snapshot(run, name) for name in ("before", "after"))
    new, old = (_both(before.get(kind), after.get(kind)) for kind in ("new", "old"))
    return Outcome(*_flips(*new), _kept(*old), _losses(run), tuple(unasked(*new)))


def _both(before: Any, after: Any) -> tuple[Any, Any]:
    """Of what both have a reply to. Runs of before have counts alone."""
    return in_both(before, after) if replies_in(before) and replies_in(after) else (before, after)


def _flips(before: Any, after: Any) -> tuple[int, int | None, int | None]:
    verdicts = [_verdicts(one) for one in (before, after)]
    if not verdicts[0] or len(verdicts[0]) != len(verdicts[1]):
        return 0, None, None
    pairs = list(zip(*verdicts))
    return len(pairs), pairs.count((False, True)), pairs.count((True, False))


def _verdicts(result: Any) -> list[bool]:
    answers = result.get("answers") if isinstance(result, Mapping) else None
    return [answer.get("correct") is True for answer in answers or [] if isinstance(answer, Mapping)]


def _kept(before: Any, after: Any) -> float | None:
    if not isinstance(before, Mapping) or not isinstance(after, Mapping) or not before.get("correct"):
        return None
    return float(after.get("correct", 0)) / float(before["correct"])


def _losses(run: Run) -> tuple[float, float] | None:
    measured = [loss for _, loss in curves.points(curves.rows(run), "val_loss")]
    return (measured[0], min(measured)) if len(measured) > 1 else None


def _short(loss: float) -> str:
    return f"{loss:.1f}" if loss >= 5 else f"{loss:.2f}"
