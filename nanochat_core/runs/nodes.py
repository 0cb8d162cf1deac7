"""Several machines for one run: which of them this is, where they meet, and the command that is typed on each.

The words are torchrun's. Every machine has its own copy of the program, the base model and the data; the folder of the
runs (models/finetuned) is one that all of them see, and the first process of the first machine alone writes to it.
"""

import json
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace

from nanochat_core.config import PATH_SETTINGS, FinetuneConfig
from nanochat_core.runs.as_code import joined, named_settings
from nanochat_core.system.foreign_requests import is_loopback

PORT = 29400
"""torchrun's own."""
MOST_NODES = 4096
JOIN_SECONDS = 1800
"""How long the machines wait for each other, at the start and after one was lost."""

NODE_VARIABLE = "NANOCHAT_STUDIO_NODE"
"""Environment variable of a process that trains: the number of its machine, where there are several."""
START_VARIABLE = "NANOCHAT_STUDIO_START"
"""And a name for this start of all ranks, which no earlier one had."""
MEETING_VARIABLE = "NANOCHAT_STUDIO_MEETING"
"""And HOST:PORT at which they meet."""
PATHS_VARIABLE = "NANOCHAT_STUDIO_PATHS"
"""And where the files of the settings lie on its machine."""

_ENDPOINT = re.compile(r"(?P<host>[\w.-]+|\[[0-9a-fA-F:.]+\])(?::(?P<port>\d{1,5}))?")


@dataclass(frozen=True)
class Nodes:
    """This machine among those of a run. ValueError for what cannot be."""

    count: int
    rank: int = 0
    """0 is the first machine, at whose address all of them meet."""
    endpoint: str = ""
    """HOST or HOST:PORT of the first machine, as the others reach it."""
    max_restarts: int = 0
    """How often the run starts again by itself from its last checkpoint when a process or a machine was lost."""

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MOST_NODES:
            raise ValueError(f"--nnodes is {self.count}: give the number of machines, from 1 to {MOST_NODES:,}.")
        if not 0 <= self.rank < self.count:
            raise ValueError(
                f"--node_rank is {self.rank}: give 0 on the first of {self.count} machines, up to {self.count - 1} on "
                "the last."
            )
        if self.max_restarts < 0:
            raise ValueError(f"--max_restarts is {self.max_restarts}: it must be 0 or more.")
        if self.count > 1 and not self.endpoint:
            raise ValueError(
                f"Where shall the machines meet? Give the address of the first one: --rdzv_endpoint HOST:{PORT}."
            )
        found = _ENDPOINT.fullmatch(self.endpoint) if self.endpoint else None
        if self.endpoint and (found is None or not 0 < int(found["port"] or PORT) < 1 << 16):
            raise ValueError(f"--rdzv_endpoint is '{self.endpoint}': it must be HOST:PORT, such as 10.0.0.1:{PORT}.")

    @property
    def is_alone(self) -> bool:
        return self.count == 1

    @property
    def host(self) -> str:
        """The first machine's address."""
        found = _ENDPOINT.fullmatch(self.endpoint)
        return found["host"].strip("[]") if found else "127.0.0.1"

    @property
    def port(self) -> int:
        """Where it listens; 0, for a single machine, takes a free port."""
        found = _ENDPOINT.fullmatch(self.endpoint)
        return int(found["port"] or PORT) if found else 0

    @property
    def is_here(self) -> bool:
        """Whether all of it happens on this machine, as a trial does: nothing is offered to the network then."""
        return self.is_alone or is_loopback(self.host)

    def flags(self) -> dict[str, object]:
        """The command's flags that say this."""
        flags: dict[str, object] = {}
        if not self.is_alone:
            flags = {"nnodes": self.count, "node_rank": self.rank, "rdzv_endpoint": f"{self.endpoint}"}
        return {**flags, "max_restarts": self.max_restarts} if self.max_restarts else flags

    def variables(self, config: FinetuneConfig) -> dict[str, str]:
        """What the processes on this machine find in their environment; nothing where it is the only one."""
        if self.is_alone:
            return {}
        # What was not given stays what the run was made with: a resume names only what it changes.
        settings = config.with_absolute_paths().to_dict()
        paths = {name: settings[name] for name in PATH_SETTINGS if settings[name]}
        meeting = f"{self.host}:{self.port}"
        return {NODE_VARIABLE: str(self.rank), MEETING_VARIABLE: meeting, PATHS_VARIABLE: json.dumps(paths)}


def node_of(environment: Mapping[str, str]) -> int | None:
    """The number of the machine of a process that trains; None where there is one alone."""
    number = environment.get(NODE_VARIABLE)
    return None if number is None else int(number)


def rank_of(environment: Mapping[str, str]) -> int:
    """The number of a process that trains among all of them, those of the first machine first; 0 without torchrun."""
    node = node_of(environment)
    if node is None:
        return int(environment.get("RANK", "0"))
    # Torchrun numbers machines by their addresses: its first rank would be anywhere.
    return node * int(environment["LOCAL_WORLD_SIZE"]) + int(environment["LOCAL_RANK"])


def with_paths_here(config: FinetuneConfig) -> FinetuneConfig:
    """The settings of a run with the paths that its files have on this machine."""
    return replace(config, **json.loads(os.environ.get(PATHS_VARIABLE, "{}")))


def restarts_left() -> int:
    """How often torchrun would start the processes of this machine again; 0 without torchrun."""
    most, done = (int(os.environ.get(f"TORCHELASTIC_{name}", "0")) for name in ("MAX_RESTARTS", "RESTART_COUNT"))
    return max(0, most - done)


def host_name() -> str:
    """What people call this machine."""
    return socket.gethostname()


def node_command(config: FinetuneConfig, nproc: int, nodes: Nodes) -> str:
    """What to type on this one of the machines, in a shell."""
    words = ["python", "-m", "nanochat_core", "finetune"]
    return joined([*words, "--nproc", str(nproc)], {**nodes.flags(), **named_settings(config)})


def node_commands(config: FinetuneConfig, nproc: int, count: int, endpoint: str, max_restarts: int) -> list[str]:
    """What to type on each of the machines, the first one's first."""
    return [node_command(config, nproc, Nodes(count, rank, endpoint, max_restarts)) for rank in range(count)]
