"""What this machine remembers of a remote run: where it is trained (launch.json) and how far we have followed it."""

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from nanochat_core.runs.stopping import SAVE_SECONDS
from nanochat_core.system.files import read_json, write_json

STOP_SECONDS = 1.5 * SAVE_SECONDS
"""What a job needs from a stop to its end, and may be silent for: what it saves it must also send."""


@dataclass(frozen=True)
class RemoteLaunch:
    """The part of a remote run's launch.json by which its job is found. `kind` is "job"."""

    repo: str
    """The private repository that code, data and state go through: owner/name."""
    namespace: str
    """Who pays."""
    flavor: str
    image: str
    timeout_seconds: int
    nproc: int
    attempt: int
    """1 for the first job of the run, one more with each resume."""
    label: str
    """Finds the job when we were killed before its id was known."""
    submitted: float
    """Seconds since 1970."""
    push_seconds: float
    """Between two pushes of the job."""
    poll_seconds: float
    """Between two looks of ours."""
    price_per_hour: float | None = None
    """Of all machines together."""
    nodes: int = 1
    """Machines, each with a job of its own; the first one's is followed, and the others end with it."""
    job: str | None = None
    """The job's id."""
    url: str | None = None
    kind: str = "job"
    detached: bool = True

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "RemoteLaunch":
        """From launch.json. ValueError when it is not a remote run's, or was edited into something else."""
        known = {item.name for item in fields(cls)}
        try:
            return cls(**{key: value for key, value in values.items() if key in known})
        except TypeError as error:
            raise ValueError(f"launch.json is not that of a run on the hub ({error}). Put its content back.") from error

    def to_dict(self) -> dict[str, Any]:
        """As JSON keeps it."""
        return asdict(self)


@dataclass
class RemoteState:
    """How far we have followed. Replaced in the file after each step, so that a kill repeats one step at most."""

    entries: int = 0
    """Entries of the attempt's journal that are in our files."""
    metrics_bytes: int = 0
    """Size of metrics.jsonl with these entries; whatever is beyond was not finished, and is cut off."""
    log_bytes: int = 0
    stop_sent: float | None = None
    """When our request to stop reached the repository."""
    is_cancelled: bool = False
    """We have cancelled the job."""
    last_status: dict[str, Any] | None = None
    """The job's last word, held back until its checkpoint is here."""
    stage: str | None = None
    """The job's stage as the hub last stated it."""
    heard: float | None = None
    """When an entry of the journal last came, in seconds since 1970."""
    looked: float | None = None
    """When the hub was last reached."""

    @classmethod
    def read(cls, path: Path) -> "RemoteState":
        """From its file; as at the beginning when there is none."""
        known = {item.name for item in fields(cls)}
        return cls(**{key: value for key, value in read_json(path).items() if key in known})

    def write(self, path: Path) -> None:
        """Replace the file at `path`."""
        write_json(path, asdict(self))
