"""What is known of a run: its data, what it cost, and how its answers and losses compare with another model's."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nanochat_core.data.conversations import check
from nanochat_core.evaluation.proof import data_proof, flips_of, questions_proof, tasks_proof
from nanochat_core.evaluation.results import results
from nanochat_core.evaluation.today import in_both, snapshot, unasked
from nanochat_core.paths import steps
from nanochat_core.runs import curves, metrics
from nanochat_core.runs.base import base_step
from nanochat_core.runs.run import Run
from nanochat_core.system.files import sha256_of
from nanochat_core.system.words import duration, size, without_paths

KINDS = {"new": "Questions about the data", "old": "Skills of before"}
"""What a run is asked before and after, as its snapshots call it."""


@dataclass(frozen=True)
class Asked:
    """One set of questions and what two models answered: this one and the one it is compared with."""

    title: str
    this: dict[str, Any]
    other: dict[str, Any]
    """Both of the same questions, those that both have a reply to."""

    @property
    def unasked(self) -> list[str]:
        """The questions of the file that one of the two has no reply to yet."""
        return unasked(self.this, self.other)

    @property
    def as_then(self) -> str:
        """Why the verdicts are not today's; "" where they are."""
        return str(self.this.get("as_then") or self.other.get("as_then") or "")

    @property
    def proof(self) -> dict[str, Any]:
        """As of `questions_proof`."""
        return questions_proof(self.this, self.other)

    def flipped(self, kind: str) -> list[tuple[str, str, str, str]]:
        """(question, expected, the other's reply, this one's) of those that are learnt or lost."""
        found = flips_of(self.this, self.other)
        numbers = found.learnt if kind == "learnt" else found.lost
        pairs = [(self.this["answers"][number - 1], self.other["answers"][number - 1]) for number in numbers]
        return [(a["question"], " or ".join(a["expected"]), b["reply"], a["reply"]) for a, b in pairs]


def asked_around(run: Run) -> list[Asked]:
    """The run's own questions, after its training and before."""
    return list(_same(snapshot(run, "after"), snapshot(run, "before")))


def asked_both(run: Run, other: Run) -> list[Asked]:
    """The questions that both runs were asked after their training."""
    return list(_same(snapshot(run, "after"), snapshot(other, "after")))


def _same(this: dict[str, Any], other: dict[str, Any]) -> Iterator[Asked]:
    for kind, title in KINDS.items():
        if (asked := _asked(title, this.get(kind), other.get(kind))) is not None:
            yield asked


def _asked(title: str, this: Any, other: Any) -> Asked | None:
    """The two side by side; None when nothing can be said of them."""
    if not all(isinstance(one, dict) and (one.get("answers") or one.get("unasked")) for one in (this, other)):
        return None
    try:
        found = Asked(title, *in_both(this, other))
        flips_of(found.this, found.other)
    except (ValueError, LookupError, TypeError):
        return None
    return found if found.this["answers"] or found.unasked else None


@dataclass(frozen=True)
class Measured:
    """A model whose results are in the report."""

    name: str
    step: int | None
    """Results of this step count before all others; None: the newest."""
    is_only: bool = False
    """Whether results of other steps count for nothing."""

    def results(self, kind: str, key: Callable[[dict[str, Any]], str]) -> dict[str, dict[str, Any]]:
        """The result that counts, by what it was asked, the `key` of a result; the newest last."""
        found: dict[str, dict[str, Any]] = {}
        for is_chosen in (False, True):
            for result in reversed(results(self.name, kind)):  # the newest last
                if (result.get("step") == self.step) is is_chosen and (is_chosen or not self.is_only):
                    asked = key(result)
                    found.pop(asked, None)
                    found[asked] = result
        return found


def ended(run: Run) -> Measured:
    """A run's model as its training left it."""
    return Measured(f"finetuned/{run.tag}", max(steps(run.path), default=None))


def began(run: Run) -> Measured:
    """The model that a run was trained from."""
    step = base_step(run)
    return Measured(str(run.record().get("base_model", "the base")), step, is_only=step is not None)


def _steps(this: dict[str, Any], other: dict[str, Any]) -> str:
    return f"step {this.get('step')} beside step {other.get('step')}"


def _of_questions(result: dict[str, Any]) -> str:
    """A longer reply has more chances to be right: those of one length are compared."""
    return f"{result.get('file_sha256')} {result.get('asked', {}).get('max_tokens')}"


def _of_data(result: dict[str, Any]) -> str:
    """The file, and how far its conversations were read."""
    return f"{result.get('file_sha256')} {result.get('conversations', {}).get('bytes')}"


def asked_later(this: Measured, other: Measured) -> list[Asked]:
    """The files of questions that both models were asked by an evaluation, the newest result of each."""
    ours, theirs = (one.results("questions", _of_questions) for one in (this, other))
    # Of a file that both were asked in several ways, the newest.
    pairs = {str(ours[key].get("file_sha256")): (ours[key], theirs[key]) for key in ours if key in theirs}.values()
    found = [_asked(f"{Path(a['file']).name}, {_steps(a, b)}", a, b) for a, b in pairs]
    return [one for one in found if one is not None]


@dataclass(frozen=True)
class Read:
    """The same conversations read, or the same tasks done, by two models."""

    title: str
    proof: dict[str, Any]
    """As of `data_proof` or `tasks_proof`."""


def read_later(this: Measured, other: Measured) -> list[Read]:
    """The files of conversations on which both models were measured."""
    ours, theirs = (one.results("data", _of_data) for one in (this, other))
    found = {}
    for key in ours:
        try:
            if key in theirs:
                a, b = ours[key], theirs[key]
                found[a["file_sha256"]] = Read(f"{Path(a['file']).name}, {_steps(a, b)}", data_proof(a, b))
        except (ValueError, LookupError, TypeError):  # kept by another version
            continue
    return [*found.values()]


def tasks_later(this: Measured, other: Measured) -> Read | None:
    """The newest tasks that both models did; None without."""
    ours, theirs = (one.results("tasks", lambda result: str(result.get("asked"))) for one in (this, other))
    shared = [key for key in ours if key in theirs]
    if not shared:
        return None
    a, b = ours[shared[-1]], theirs[shared[-1]]
    return Read(_steps(a, b), tasks_proof(a, b))


def distance(run: Run) -> float | None:
    """The newest kl_from_base, nats per token; None while there is that of the base itself alone."""
    points = curves.points(curves.rows(run), "kl_from_base")
    return points[-1][1] if points and points[-1][0] > 0 else None


_OVER = {"failed": "failed", "stopped": "was stopped", "interrupted": "was interrupted"}


def unfinished(run: Run) -> str:
    """How far a run is that has not trained to its end, and why, in sentences; "" for one that has."""
    status = run.status()
    if status.state == "finished":
        return ""
    done = f"step {status.step:,} of {status.steps:,}" if status.steps else "its first step"
    how = f"{_OVER[status.state]} at" if status.state in _OVER else f"is not over ({status.state}): it is at"
    why = f" {status.error}" if status.state == "failed" and status.error else ""
    saved = max(steps(run.path), default=None)
    model = f"its model is that of step {saved:,}" if saved is not None else "it has saved no model"
    return f"Run {run.tag} {how} {done}, and {model}.{without_paths(why)}"


def losses(run: Run) -> dict[str, tuple[float, float]]:
    """val_loss and val_bpb at the first validation and at the last."""
    found = {}
    for name in ("val_loss", "val_bpb"):
        points = curves.points(curves.rows(run), name)
        if len(points) > 1:
            found[name] = (points[0][1], points[-1][1])
    return found


def cost(run: Run) -> dict[str, str]:
    """What the training took, in words, as far as it is known."""
    rows, status = curves.rows(run), run.status()
    told = {"Time": duration(metrics.seconds(run.metrics_file))}
    if energy := status.more.get("energy_joules"):
        told["Energy"] = f"{energy / 3600:,.2g} Wh, {status.more.get('energy_of', 'as the device measured it')}"
    if tokens := curves.last(rows, "tokens"):
        told["Trained tokens"] = f"{tokens:,.0f}"
    speeds = [value for _, value in curves.points(rows, "tokens_per_s")]
    if speeds:
        told["Speed"] = f"{sorted(speeds)[len(speeds) // 2]:,.0f} tokens per second"
    memory = [value for _, value in curves.points(rows, "memory_bytes")]
    if memory:
        told["Memory at its peak"] = size(max(memory))
    where = ", ".join(str(value) for value in (status.device, status.dtype) if value)
    return {**told, **({"Device": where} if where else {})}


def is_better(proof: dict[str, Any]) -> str:
    """good, bad, or nothing where chance is not excluded."""
    if proof.get("p", 1.0) >= 0.05 or math.isnan(proof.get("p", math.nan)):
        return ""
    if "learnt" in proof:
        return "good" if len(proof["learnt"]) > len(proof["lost"]) else "bad"
    return "good" if proof["difference"] < 0 else "bad"


def has_its_data(run: Run) -> bool:
    """Whether the file that the run was trained on is there, unchanged."""
    data = run.record().get("data", {})
    path = Path(str(data.get("path", "")))
    return path.is_file() and sha256_of(path) == data.get("sha256")


def said_of_data(run: Run) -> list[str]:
    """What a check finds in the data now, in sentences; that it is gone or has changed, where it is so."""
    data = run.record().get("data", {})
    path = Path(str(data.get("path", "")))
    if not path.is_file():
        return ["The file is no longer where it was, so nothing more can be said of it."]
    if not has_its_data(run):
        return ["The file has changed since the training, so nothing is said of it here."]
    return replace(check(path), path=path.name).summary().splitlines()
