"""Fetch nanochat models from the Hugging Face Hub: once, verified, and never half seen."""

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import filelock
from huggingface_hub import HfApi, get_hf_file_metadata, hf_hub_download, hf_hub_url
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import tqdm

from nanochat_core.download_record import DownloadRecord
from nanochat_core.files import sha256_of, sync_folder
from nanochat_core.hub_errors import told_plainly
from nanochat_core.hub_files import RemoteFile, choose, tag_of
from nanochat_core.paths import SOURCE_FOLDERS, pretrained_dir
from nanochat_core.run_tags import check_tag

Progress = Callable[[int, int, str], Any]
"""Called with (bytes done, bytes in all, name of the file), from any thread."""

_SPARE_BYTES = 200_000_000  # a disk filled to the last byte stops more than the download
_REPO = re.compile(r"[\w.-]+/[\w.-]+")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def download(
    repo: str = "karpathy/nanochat-d32",
    tag: str | None = None,
    source: str | None = None,
    on_progress: Progress | None = None,
) -> Path:
    """Fetch the newest checkpoint of `repo` and its tokenizer into models/pretrained; returns the checkpoint's folder.

    tag: the name to keep it under (default: from the repository's name, nanochat-d32 gives d32). source: its stage
    (base, mid, sft, rl), where the repository does not tell. on_progress replaces the terminal's progress bar.
    What is here already, whole and verified, is not fetched again; when that is all, no request is made.
    Raises ValueError with the remedy for everything that can go wrong on the way. Nothing is loaded or run.
    """
    if not _REPO.fullmatch(repo):
        raise ValueError(f"'{repo}' is no repository of the hub. Write owner/name, such as karpathy/nanochat-d32.")
    if source is not None and source not in SOURCE_FOLDERS:
        raise ValueError(f"source is '{source}': use one of {', '.join(SOURCE_FOLDERS)}.")
    tag = check_tag(tag or tag_of(repo))
    if present := _present(repo, tag, source):
        return present
    root = pretrained_dir()
    with told_plainly(repo, root), _alone(root) as incoming:
        commit, files = _listing(repo)
        selection = choose(files, repo, source)
        folder = root / SOURCE_FOLDERS[selection.stage] / tag
        record = DownloadRecord(folder, repo, commit)
        targets = {file: folder / file.name for file in selection.checkpoint}
        tokenizer_dir = _tokenizer_dir(root, folder, selection.tokenizer[0])
        targets |= {file: tokenizer_dir / file.name for file in selection.tokenizer}
        ordered = [(file, targets[file]) for file in selection.files]  # the description last: it makes the model whole
        missing = [(file, target) for file, target in ordered if not _is_here(file, target)]
        _check_space(root, sum(file.size for file, _ in missing))
        with _reporting(missing, on_progress) as report:
            for file, target in missing:
                _fetch(repo, commit, file, target, incoming, report)
        record.write({target: file.sha256 for file, target in ordered})
    return folder


def _present(repo: str, tag: str, source: str | None) -> Path | None:
    """The folder of an earlier complete download, by its record alone."""
    stages = [source] if source else ["sft", "rl", "mid", "base"]
    folders = [pretrained_dir() / SOURCE_FOLDERS[stage] / tag for stage in stages]
    return next((folder for folder in folders if DownloadRecord.is_complete(folder, repo)), None)


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[Path]:
    """The folder in which files arrive, for one download at a time. What a killed one left there is removed."""
    root.mkdir(parents=True, exist_ok=True)
    incoming = root / ".incoming"
    try:
        with filelock.FileLock(root / ".incoming.lock", timeout=0):
            shutil.rmtree(incoming, ignore_errors=True)
            incoming.mkdir()
            try:
                yield incoming
            finally:
                shutil.rmtree(incoming, ignore_errors=True)
    except filelock.Timeout as error:
        raise ValueError(f"Another download into {root} is running. Wait until it has ended.") from error


def _listing(repo: str) -> tuple[str, list[RemoteFile]]:
    """(commit, files of it): everything is taken from one commit, also when the repository changes meanwhile."""
    api = HfApi()
    commit = api.model_info(repo, revision="main").sha
    entries = api.list_repo_tree(repo, revision=commit, recursive=True)
    return commit, [
        RemoteFile(entry.path, entry.size, entry.lfs.sha256 if entry.lfs else None)
        for entry in entries
        if isinstance(entry, RepoFile)
    ]


def _tokenizer_dir(root: Path, folder: Path, tokenizer: RemoteFile) -> Path:
    """nanochat's shared tokenizer folder, unless another model's tokenizer is in it already: then the model's own."""
    shared = root / "tokenizer"
    is_free = not (shared / tokenizer.name).exists() or _is_here(tokenizer, shared / tokenizer.name)
    return shared if is_free else folder / "tokenizer"


def _is_here(file: RemoteFile, target: Path) -> bool:
    """True when `target` is that file. Without a stated SHA-256 (small files) it is fetched again to be sure."""
    if file.sha256 is None or not target.is_file() or target.stat().st_size != file.size:
        return False
    return sha256_of(target) == file.sha256


def _check_space(root: Path, needed: int) -> None:
    free = shutil.disk_usage(root).free
    if needed + _SPARE_BYTES > free:
        raise ValueError(
            f"The download needs {needed / 1e9:.2f} GB and the disk with {root} has {free / 1e9:.2f} GB free. "
            "Free some space, or set NANOCHAT_STUDIO_HOME to a folder on a larger disk."
        )


def _fetch(
    repo: str, commit: str, file: RemoteFile, target: Path, incoming: Path, report: Callable[[int, str], None]
) -> None:
    """Fetch one file beside the models, verify it, and only then move it in place."""
    arrived = Path(
        hf_hub_download(repo, file.path, revision=commit, local_dir=incoming, tqdm_class=_bar_for(file, report))
    )
    _verify(repo, commit, file, arrived)
    with open(arrived, "rb+") as content:
        os.fsync(content.fileno())
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(arrived, target)
    sync_folder(target.parent)


def _verify(repo: str, commit: str, file: RemoteFile, path: Path) -> None:
    """Compare with the size and the digest that the hub states: SHA-256 for large files, git's own for small ones."""
    stated = file.sha256 or (get_hf_file_metadata(hf_hub_url(repo, file.path, revision=commit)).etag or "")
    is_right = path.stat().st_size == file.size
    if _SHA256.fullmatch(stated):
        is_right = is_right and sha256_of(path) == stated
    elif is_right and re.fullmatch(r"[0-9a-f]{40}", stated):
        is_right = stated in _sha1_digests(path)
    if not is_right:
        raise ValueError(
            f"{file.path} of {repo} arrived damaged: it is not what the hub states ({stated or file.size}). "
            "It was removed; repeat the download, and if it happens again, over another network."
        )


def _sha1_digests(path: Path) -> list[str]:
    """git's name of the content, which the hub states for small files, and the plain digest, as some mirrors do."""
    content = path.read_bytes()
    forms = (b"blob %d\0" % len(content) + content, content)
    return [hashlib.sha1(form, usedforsecurity=False).hexdigest() for form in forms]


@contextlib.contextmanager
def _reporting(
    missing: list[tuple[RemoteFile, Path]], on_progress: Progress | None
) -> Iterator[Callable[[int, str], None]]:
    """A function that takes (more bytes, name): it feeds the callback, or else the terminal's bar."""
    total = sum(file.size for file, _ in missing)
    done = 0
    with contextlib.ExitStack() as stack:
        if on_progress is None:
            for file, _ in missing:
                print(f"{file.path}  {file.size / 1e6:,.1f} MB", flush=True)
            bar = stack.enter_context(tqdm(total=total, unit="B", unit_scale=True, desc="Downloading", disable=None))

        def report(more: int, name: str) -> None:
            nonlocal done
            done += more  # less than nothing when the connection broke and a file begins anew
            if on_progress is None:
                bar.update(more)
            else:
                on_progress(min(done, total), total, name)

        yield report


def _bar_for(file: RemoteFile, report: Callable[[int, str], None]) -> type[tqdm]:
    """What the client takes for a progress bar: shows nothing itself and reports the bytes."""

    class Bar(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "disable": True})

        def update(self, n: float | None = 1) -> None:
            report(int(n or 0), file.name)

        def update_transfer(self, n: float) -> None:
            """Bytes on the wire, which the client may count beside those on the disk."""

    return Bar
