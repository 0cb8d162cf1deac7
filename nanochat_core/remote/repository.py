"""The private repository through which a remote run and this machine talk: commits, listings, verified files.

A repository, not a storage bucket: a commit is all or nothing, so a checkpoint arrives together with the metrics that
lead to it, and the hub states the digest of every file. Buckets are written by the client through Xet only.

    code/                     nanochat_core and the practice model's files, as the job imports them
    record.json               the run's config.json, with paths relative to home/
    home/                     the job's home folder: data, base model, and the run's checkpoints as they are made
    journal/<attempt>/        what has happened since the entry before: metrics, log and status; never changed
    requests/<attempt>/stop   asks the job to save and stop
"""

import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import EntryNotFoundError

from nanochat_core.hub.files import RemoteFile, fetch, files_at
from nanochat_core.runs.run import ROWS

_ENTRIES_A_FOLDER = 100  # a listing must stay small in a run of days


@dataclass(frozen=True)
class RemoteRepo:
    """One repository. Every method makes requests and raises what the client raises."""

    api: HfApi
    name: str
    """owner/name."""

    def create(self) -> None:
        """Make the repository, private. It must not exist yet."""
        self.api.create_repo(self.name, private=True, exist_ok=False)

    def delete(self) -> None:
        """Delete the repository with everything in it."""
        self.api.delete_repo(self.name)

    def commit(self, files: Mapping[str, Path | bytes], message: str, removed: Iterable[str] = ()) -> None:
        """Add or replace `files` (path in the repository -> content) and delete `removed`, all or nothing."""
        added = [CommitOperationAdd(path, str(it) if isinstance(it, Path) else it) for path, it in files.items()]
        operations: list[CommitOperationAdd | CommitOperationDelete] = [
            *added,
            *(CommitOperationDelete(path, is_folder=False) for path in removed),
        ]
        self.api.create_commit(self.name, operations, commit_message=message)

    def forget_history(self) -> None:
        """Make one commit of all: deleted checkpoints would stay in the history, and count against the storage."""
        self.api.super_squash_history(self.name)

    def head(self) -> str:
        """The commit that `main` is at."""
        return str(self.api.repo_info(self.name, revision="main").sha)

    def list(self, folder: str, revision: str = "main", recursive: bool = False) -> list[RemoteFile]:
        """The files in `folder`; empty when there is no such folder."""
        try:
            return files_at(self.api, self.name, revision, folder=folder, recursive=recursive)
        except EntryNotFoundError:
            return []

    def fetch(self, file: RemoteFile, target: Path, revision: str = "main") -> None:
        """Put the file's content at `target`, verified and all or nothing. ValueError when it arrives damaged."""
        target.parent.mkdir(parents=True, exist_ok=True)
        incoming = target.parent / f".incoming-{os.getpid()}"
        try:
            fetch(self.api, self.name, file, target, revision, incoming)
        finally:
            shutil.rmtree(incoming, ignore_errors=True)


def journal_path(attempt: int, number: int) -> str:
    """Where the entry `number` (from 1) of the job `attempt` (from 1) lies."""
    return f"{journal_folder(attempt, number)}/{number:06d}.json"


def journal_folder(attempt: int, number: int) -> str:
    """The folder of that entry, which holds a hundred of them."""
    return f"journal/{attempt:04d}/{number // _ENTRIES_A_FOLDER:04d}"


def stop_path(attempt: int) -> str:
    """Where a request to save and stop lies."""
    return f"requests/{attempt:04d}/stop"


def run_folder(tag: str) -> str:
    """Where the run's files lie, below the job's home folder."""
    return f"home/models/finetuned/{tag}"


def is_checkpoint_file(path: PurePosixPath) -> bool:
    """True for what a run directory holds beside its journal: checkpoints, tokenizer, resume state, evaluations, ROWS.

    path: relative to the run's folder.
    """
    name = path.name
    if name.startswith("."):
        return False
    if path.parent.name in ("resume", "evals"):
        return name.endswith((".pt", ".json"))
    if path.parent.name.startswith("adapter_"):
        return name.startswith("adapter_")
    fixed = ("tokenizer.pkl", "token_bytes.pt", ROWS)
    return path.parent == PurePosixPath(".") and (
        name in fixed or (name.startswith("model_") and not name.endswith(".tmp")) or name.startswith("meta_")
    )
