"""Where a Space keeps what its owner makes: a mounted storage bucket when there is one, else the disk it loses."""

import os
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path

HOME = "NANOCHAT_STUDIO_HOME"
BUCKET = Path("/data")
"""Where the README says to mount a bucket."""

LOST = (
    "Everything made here is lost when this Space restarts or sleeps: it has no storage of its own. "
    "Create a storage bucket, attach it to this Space at /data in the Space's settings, and restart the Space; "
    "until then download what you want to keep."
)
READ_ONLY = (
    "Something is mounted at /data, but it cannot be written to, so everything made here is lost when this Space "
    "restarts. Attach the bucket with write access, and restart the Space."
)


@dataclass(frozen=True)
class SpaceHome:
    """The folder for models, runs, data and chats."""

    folder: Path | None
    """None: the project's own folder, on the container's disk."""
    warning: str = ""
    """What the owner must know of it, as sentences; "" when it is safe."""


def find_home(environment: Mapping[str, str], bucket: Path = BUCKET) -> SpaceHome:
    """The home folder of a Space: NANOCHAT_STUDIO_HOME, the bucket mounted at `bucket`, or nothing that lasts."""
    if chosen := environment.get(HOME):
        folder = Path(chosen)
        return SpaceHome(folder, "" if _is_on_a_volume(folder) else LOST)
    if not os.path.ismount(bucket):
        return SpaceHome(None, LOST)
    return SpaceHome(bucket) if os.access(bucket, os.W_OK) else SpaceHome(None, READ_ONLY)


def settle(environment: MutableMapping[str, str] = os.environ, bucket: Path = BUCKET) -> SpaceHome:
    """Make the found folder the home of this process."""
    found = find_home(environment, bucket)
    if found.folder is not None:
        environment[HOME] = str(found.folder)
    return found


def _is_on_a_volume(folder: Path) -> bool:
    """Whether a folder, or one that it lies in, is a mount of its own and not the container's disk."""
    folder = folder.expanduser().resolve()
    return any(os.path.ismount(parent) for parent in (folder, *folder.parents) if parent != Path(folder.anchor))
