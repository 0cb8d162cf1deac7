"""What state a run is in, from what its trainer last wrote and whether its process still lives."""

import shlex
from dataclasses import dataclass, field, fields
from typing import Any

from nanochat_core.system.processes import ProcessIdentity
from nanochat_core.system.words import duration

STATES = ("queued", "starting", "running", "stopping", "stalled", "finished", "stopped", "failed", "interrupted")
NOTHING_WRONG: dict[str, None] = dict.fromkeys(("error", "remedy", "is_mistake", "retry", "rank", "warning"))
"""Written before a run starts or resumes: how it failed before holds no longer."""
LAST_WORDS = ("finished", "stopped", "failed")
"""States in which a run says itself that it is over."""
LIVE_STATES = ("starting", "running", "stopping", "stalled")
STALLED_SECONDS = 300.0
"""A run without a sign of life for so long, and for STALLED_STEPS of its steps, is stalled."""
STALLED_STEPS = 30.0
"""A validation takes as long as about ten steps, and shows nothing while it goes on."""


@dataclass(frozen=True)
class RunStatus:
    """A moment of a run. Numbers are None until they are known."""

    state: str = "queued"
    """One of STATES."""
    step: int = 0
    """Optimizer steps done, of `steps`."""
    steps: int = 0
    epoch: float = 0.0
    heartbeat: float | None = None
    """When the trainer last wrote, in seconds since 1970."""
    beat: float | None = None
    """The same by the clock that runs since the boot and that no one sets."""
    eta_seconds: float | None = None
    error: str | None = None
    """What went wrong, as one plain sentence."""
    remedy: str | None = None
    """What to do about it, as one plain sentence."""
    is_mistake: bool | None = None
    """True when what went wrong was a person's mistake, such as a path that is not there."""
    retry: dict[str, Any] | None = None
    """The settings (and nproc, the number of processes) with which a failed run is likely to succeed."""
    rank: int | None = None
    """Which process failed first."""
    doing: str | None = None
    """What keeps a run busy that has not begun to train, as one plain sentence."""
    device: str | None = None
    """What each process computes on: cuda, mps or cpu."""
    seconds_per_step: float | None = None
    """How long its steps have taken, on average."""
    warning: str | None = None
    """What is likely to be wrong with a training that goes on, and what to do about it, in plain sentences."""
    dtype: str | None = None
    """What it computes in, such as bfloat16."""
    memory: str | None = None
    """Its memory mode, such as plain."""
    stage: str | None = None
    """The stage of the job that trains the run elsewhere, as the hub last stated it."""
    trouble: str | None = None
    """What keeps this machine from following that job, as one plain sentence."""
    restarts: int | None = None
    """How often a run that may start again by itself has done so; None for one that may not."""
    nodes: list[str] | None = None
    """The names of the machines that have joined, the first one's first; None where there is one alone."""
    nodes_wanted: int | None = None
    """Of how many machines."""
    best_step: int | None = None
    best_val_loss: float | None = None
    train_loss: float | None = None
    val_loss: float | None = None
    more: dict[str, Any] = field(default_factory=dict)
    """Whatever else the trainer wrote."""

    @property
    def is_over(self) -> bool:
        """True when nothing will change by itself any more."""
        return self.state in (*LAST_WORDS, "interrupted")


@dataclass(frozen=True)
class StopReport:
    """What a stop reached."""

    state: str
    """State of the run afterwards."""
    killed: tuple[ProcessIdentity, ...] = ()
    """Processes that had to be ended by force."""
    alive: tuple[ProcessIdentity, ...] = ()
    """Processes that are still there."""


@dataclass(frozen=True)
class Silence:
    """How long a living run has shown no sign of life."""

    seconds: float
    rank: int | None = None
    """The process that has not finished its part of the present step while others have; None when none stands out."""


def derive(
    written: dict[str, Any],
    *,
    launched: bool,
    alive: bool,
    stop_requested: bool,
    tag: str,
    silence: Silence | None = None,
) -> RunStatus:
    """The status of run `tag` from the written file and what the system knows of its process.

    written: content of status.json, empty when there is none. launched: a process was recorded. alive: it still runs.
    silence: for one that runs, if it is known.
    """
    known = {item.name for item in fields(RunStatus)} - {"more"}
    values = {key: value for key, value in written.items() if key in known}
    more = {key: value for key, value in written.items() if key not in known}
    state = values.get("state")
    state = state if state in STATES else "queued"
    if (state in LIVE_STATES or (state == "queued" and launched)) and not alive:
        values["error"] = "The run's process ended without saying why: it was killed, or the machine went down."
        values["remedy"] = (
            f"Resume from its last checkpoint with `python -m nanochat_core runs resume {shlex.quote(tag)}`."
        )
        values["eta_seconds"] = None
        state = "interrupted"
    elif state in LIVE_STATES and stop_requested:
        state, values["eta_seconds"] = "stopping", None
    elif state == "running" and silence and silence.seconds > stalled_after(values.get("seconds_per_step")):
        state, values["eta_seconds"], values["rank"] = "stalled", None, silence.rank
        who = "" if silence.rank is None else f" Process {silence.rank} (rank {silence.rank}) holds it up."
        values["error"] = f"There has been no sign of life for {duration(silence.seconds)}.{who}"
        values["remedy"] = (
            f"Stop it, which ends it by force if need be, and resume from its last checkpoint: "
            f"`python -m nanochat_core runs stop {shlex.quote(tag)}`, then `runs resume {shlex.quote(tag)}`."
        )
    return RunStatus(**{**values, "state": state}, more=more)


def stalled_after(seconds_per_step: float | None) -> float:
    """After how many seconds without a sign of life a run is stalled."""
    return max(STALLED_SECONDS, STALLED_STEPS * (seconds_per_step or 0.0))
