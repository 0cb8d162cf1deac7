"""The files of a repository on the hub: listed as the hub states them, and fetched verified, all or nothing."""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from huggingface_hub import HfApi
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import tqdm

from nanochat_core.system.files import sha256_of, sync_folder

_REPO = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)


@dataclass(frozen=True)
class RemoteFile:
    """A file as the hub states it."""

    path: str
    """Path inside the repository, with forward slashes."""
    size: int
    """Bytes."""
    sha256: str | None = None
    """SHA-256 of the content; stated for large files (LFS) only."""
    git_sha1: str | None = None
    """git's name of the content; stated for all files, but for large ones it is that of a pointer to them."""

    @property
    def name(self) -> str:
        """The last part of the path."""
        return PurePosixPath(self.path).name


def check_repo(repo: str) -> None:
    """ValueError when `repo` cannot be the name of a repository."""
    if not _REPO.fullmatch(repo):
        raise ValueError(f"'{repo}' is no repository of the hub. Write owner/name, such as karpathy/nanochat-d32.")


def files_at(
    api: HfApi, repo: str, revision: str, repo_type: str = "model", folder: str = "", recursive: bool = True
) -> list[RemoteFile]:
    """The files of a commit or branch in `folder`, and below it when `recursive`. Raises what the client raises."""
    entries = api.list_repo_tree(repo, folder or None, revision=revision, recursive=recursive, repo_type=repo_type)
    return [
        RemoteFile(entry.path, entry.size, entry.lfs.sha256 if entry.lfs else None, entry.blob_id)
        for entry in entries
        if isinstance(entry, RepoFile)
    ]


def fetch(  # noqa: PLR0913  what is fetched, from where, to where
    api: HfApi,
    repo: str,
    file: RemoteFile,
    target: Path,
    revision: str,
    incoming: Path,
    bar: type[tqdm] | None = None,
) -> None:
    """Fetch a file into `incoming` (on the disk of `target`), verify it, and only then move it in place.

    bar: what the client shows progress with. ValueError when it arrives damaged; else what the client raises.
    """
    arrived = Path(api.hf_hub_download(repo, file.path, revision=revision, local_dir=incoming, tqdm_class=bar))
    if not is_same(file, arrived):
        raise ValueError(
            f"{file.path} of {repo} arrived damaged: it is not what the hub states ({file.sha256 or file.git_sha1}). "
            "It was removed; repeat this, and if it happens again, over another network."
        )
    with open(arrived, "rb+") as content:
        os.fsync(content.fileno())
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(arrived, target)
    sync_folder(target.parent)


def is_same(file: RemoteFile, path: Path) -> bool:
    """True when `path` holds that file. False where the hub states no digest: it is fetched again to be sure."""
    if not path.is_file() or path.stat().st_size != file.size:
        return False
    if file.sha256:
        return sha256_of(path) == file.sha256
    content = path.read_bytes()
    plain = hashlib.sha1(content, usedforsecurity=False).hexdigest()  # what some mirrors state in place of git's
    return file.git_sha1 in (git_sha1(content), plain)


def git_sha1(content: bytes) -> str:
    """git's name of a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
