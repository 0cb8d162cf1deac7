"""What the app and a process that holds a model say to each other: typed messages, one line of JSON each.

Without torch, because the app has none. What a reply consists of are the engine's own events.
"""

from dataclasses import dataclass
from typing import Any

from nanochat_core.engine.reply import EVENTS, Done, Event
from nanochat_core.training.needs import Needs

Key = tuple[str, int]
"""(NAME, step), which no other model has."""

# Requests


@dataclass(frozen=True)
class Load:
    """Hold this model from now on. Progress, then Loaded."""

    name: str
    step: int | None = None
    device: str = "auto"
    dtype: str | None = None
    """One of loading.DTYPES, or fastest.AUTO; None for what suits the model and the device."""


@dataclass(frozen=True)
class Generate:
    """Reply to a conversation. Events, the last one Done."""

    messages: list[dict[str, Any]]
    settings: dict[str, Any]
    """max_tokens, temperature, top_k, seed, as Engine.events takes them."""


@dataclass(frozen=True)
class Measure:
    """Try a few training steps. Progress, then Needs, or Done where it was stopped."""

    config: dict[str, Any]
    """Of a FinetuneConfig."""


@dataclass(frozen=True)
class Evaluate:
    """Measure models, one after the other, and keep the results. Progress, then Evaluated, or Done where it stopped."""

    models: list[Key]
    wanted: dict[str, Any]
    """Of an evaluation.measuring.Wanted."""


@dataclass(frozen=True)
class Fold:
    """Judge the rows of a run's data by models that have not seen them, and keep that with the run.

    Progress, then Evaluated, or Done where it stopped.
    """

    run: str
    """Its tag."""
    data: str
    """The file as it is now."""
    folds: int


@dataclass(frozen=True)
class Stop:
    """End the request of the same number, be it waiting or under way."""


Request = Load | Generate | Measure | Evaluate | Fold | Stop

# Answers


@dataclass(frozen=True)
class Progress:
    """How far it is, 0 to 1, and what it is doing."""

    fraction: float
    text: str


@dataclass(frozen=True)
class Loaded:
    """A model that is in memory."""

    name: str
    step: int
    parameters: int
    device: str
    dtype: str
    automatic: str
    """The dtype that it is in when none is asked for."""
    context: int
    """Tokens."""
    seconds: float
    """How long the loading took."""
    device_bytes: int
    """Memory of the GPU, 0 without one."""
    fastest: str | None = None
    """The dtype that this machine writes replies with the fastest, where that was asked for."""

    @property
    def key(self) -> Key:
        """What it was loaded by."""
        return self.name, self.step


@dataclass(frozen=True)
class Evaluated:
    """All results are there, in the files that evaluation.results and rows.kept_folds find."""

    seconds: float


@dataclass(frozen=True)
class Failure:
    """The request came to nothing, and why, as a sentence."""

    text: str


Answer = Progress | Event | Loaded | Needs | Evaluated | Failure

LAST = (Done, Loaded, Needs, Evaluated, Failure)
"""One of these ends a request."""

_KINDS: dict[str, type[Any]] = {
    "load": Load,
    "generate": Generate,
    "measure": Measure,
    "evaluate": Evaluate,
    "fold": Fold,
    "stop": Stop,
    "progress": Progress,
    "loaded": Loaded,
    "needs": Needs,
    "evaluated": Evaluated,
    "failure": Failure,
    **EVENTS,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


def to_json(message: Request | Answer) -> dict[str, Any]:
    """The message as plain values."""
    return {"kind": _NAMES[type(message)], **vars(message)}


def from_json(values: dict[str, Any]) -> Any:
    """The message, a Request or an Answer, that `to_json` made `values` of."""
    fields = dict(values)
    return _KINDS[fields.pop("kind")](**fields)
