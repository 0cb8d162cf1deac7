"""What was downloaded and verified, kept beside a checkpoint, so that a second call need not ask the hub."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanochat_core.paths import pretrained_dir
from nanochat_core.system.files import read_json, sha256_of, write_json

_NAME = "download.json"


@dataclass(frozen=True)
class DownloadRecord:
    """One checkpoint's download: its folder, where it is from, and at which commit."""

    folder: Path
    repo: str
    commit: str

    def write(self, files: dict[Path, str | None]) -> None:
        """Note that `files` (absolute, under models/pretrained) are here; each with its SHA-256 where it is known."""
        entries = {path.relative_to(pretrained_dir()).as_posix(): _facts(path, known) for path, known in files.items()}
        write_json(self.folder / _NAME, {"repo": self.repo, "commit": self.commit, "files": entries})

    @staticmethod
    def is_complete(folder: Path, repo: str) -> bool:
        """True when `repo` was downloaded into `folder` and every file of it is still as it was verified."""
        try:
            values = read_json(folder / _NAME)
            entries = values["files"].items() if values["repo"] == repo else []
            return bool(entries) and all(_is_as_verified(pretrained_dir() / path, facts) for path, facts in entries)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):  # none, or edited: ask the hub
            return False

    @staticmethod
    def owner_of(folder: Path) -> str | None:
        """The repository whose model lies in `folder`; None when it was not downloaded, or the record was edited."""
        repo = read_json(folder / _NAME).get("repo")
        return repo if isinstance(repo, str) else None


def _facts(path: Path, sha256: str | None) -> dict[str, Any]:
    status = path.stat()
    return {"size": status.st_size, "modified": status.st_mtime_ns, "sha256": sha256 or sha256_of(path)}


def _is_as_verified(path: Path, facts: dict[str, Any]) -> bool:
    """By size and time of change; a file that was copied here has another time, and is read to be sure."""
    if not path.is_file() or path.stat().st_size != facts["size"]:
        return False
    return path.stat().st_mtime_ns == facts["modified"] or sha256_of(path) == facts["sha256"]
