"""Fetch nanochat models from the Hugging Face Hub: once, verified, and never half seen."""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.utils import tqdm

from nanochat_core.hub.errors import downloading, told_plainly
from nanochat_core.hub.files import RemoteFile, check_repo, fetch, files_at, is_same
from nanochat_core.hub.record import DownloadRecord
from nanochat_core.hub.selection import Selection, choose, tag_of
from nanochat_core.paths import SOURCE_FOLDERS, pretrained_dir, steps
from nanochat_core.system.files import workspace
from nanochat_core.system.folder_names import check_tag
from nanochat_core.system.words import printable

Report = Callable[[int, int], Any]
"""Called with (bytes done, bytes in all), from any thread."""

_SPARE_BYTES = 200_000_000  # a disk filled to the last byte stops more than the download
_STAGES = ("sft", "rl", "mid", "base")


@dataclass(frozen=True)
class RepositorySize:
    """What a download would take, known before it begins."""

    repo: str
    stage: str
    """base, mid, sft or rl."""
    files: tuple[tuple[str, int], ...]
    """(path in the repository, bytes) of each file that is needed; other files there are not fetched."""

    @property
    def total_bytes(self) -> int:
        return sum(size for _, size in self.files)

    def summary(self) -> str:
        """A line for each file, and the sum."""
        lines = [f"{printable(path)}  {size / 1e6:,.1f} MB" for path, size in self.files]
        return "\n".join([*lines, f"In all {self.total_bytes / 1e6:,.1f} MB from {self.repo}."])


def repository_size(repo: str = "karpathy/nanochat-d32", source: str | None = None) -> RepositorySize:
    """Which files of `repo` a download takes, and their sizes. Asks the hub; fetches nothing.

    Raises ValueError as `download` does.
    """
    check_repo(repo)
    _check_source(source)
    with told_plainly(downloading(repo, pretrained_dir())):
        selection = choose(_listing(repo)[1], repo, source)
    return RepositorySize(repo, selection.stage, tuple((file.path, file.size) for file in selection.files))


def download(
    repo: str = "karpathy/nanochat-d32",
    tag: str | None = None,
    source: str | None = None,
    report: Report | None = None,
) -> Path:
    """Fetch the newest checkpoint of `repo` and its tokenizer into models/pretrained; returns the checkpoint's folder.

    tag: the name to keep it under (default: from the repository's name, nanochat-d32 gives d32). source: its stage
    (base, mid, sft, rl), where the repository does not tell. report replaces the terminal's list of sizes and bar.
    What is here already, whole and verified, is not fetched again; when that is all, no request is made.
    Raises ValueError with the remedy for everything that can go wrong on the way. Nothing is loaded or run.
    """
    check_repo(repo)
    _check_source(source)
    tag = check_tag(tag or tag_of(repo))
    if present := _present(repo, tag, source):
        return present
    root = pretrained_dir()
    busy = f"Another download into {root} is running. Wait until it has ended."
    with told_plainly(downloading(repo, root)), workspace(root / ".incoming", busy) as incoming:
        commit, files = _listing(repo)
        selection = choose(files, repo, source)
        folder = root / SOURCE_FOLDERS[selection.stage] / tag
        targets = _targets(root, folder, selection)
        _refuse_another_model(folder, repo, targets)
        missing = {file: target for file, target in targets.items() if not is_same(file, target)}
        _check_space(root, sum(file.size for file in missing))
        with _reporting(repo, list(missing), report) as progress:
            for file, target in missing.items():
                fetch(HfApi(), repo, file, target, commit, incoming, _bar_for(progress))
        DownloadRecord(folder, repo, commit).write({target: file.sha256 for file, target in targets.items()})
    return folder


def _listing(repo: str) -> tuple[str, list[RemoteFile]]:
    """(commit, files of it): everything is taken from one commit, also when the repository changes meanwhile."""
    api = HfApi()
    commit = str(api.repo_info(repo, revision="main").sha)
    return commit, files_at(api, repo, commit)


def _check_source(source: str | None) -> None:
    if source is not None and source not in SOURCE_FOLDERS:
        raise ValueError(f"source is '{source}': use one of {', '.join(SOURCE_FOLDERS)}.")


def _present(repo: str, tag: str, source: str | None) -> Path | None:
    """The folder of an earlier complete download, by its record alone."""
    folders = [pretrained_dir() / SOURCE_FOLDERS[stage] / tag for stage in ([source] if source else _STAGES)]
    return next((folder for folder in folders if DownloadRecord.is_complete(folder, repo)), None)


def _targets(root: Path, folder: Path, selection: Selection) -> dict[RemoteFile, Path]:
    """Where each file belongs. In the order of fetching: the description last, as it makes the model whole.

    The tokenizer goes to nanochat's shared folder, unless another model's is there: then beside its own model.
    """
    shared = root / "tokenizer"
    pickle = selection.tokenizer[0]
    is_free = not (shared / pickle.name).exists() or is_same(pickle, shared / pickle.name)
    tokenizer_dir = shared if is_free else folder / "tokenizer"
    places = {file: tokenizer_dir / file.name for file in selection.tokenizer}
    return places | {file: folder / file.name for file in selection.checkpoint}


def _refuse_another_model(folder: Path, repo: str, targets: dict[RemoteFile, Path]) -> None:
    """ValueError when `folder` holds a model from elsewhere, which must not be overwritten nor mixed with this one."""
    owner = DownloadRecord.owner_of(folder)
    if owner == repo:
        return
    ours = {target.name for file, target in targets.items() if is_same(file, target)}
    if owner is not None or any(f"model_{step:06d}.pt" not in ours for step in steps(folder)):
        raise ValueError(
            f"{folder} holds another model already{f' ({owner})' if owner else ''}. Give this one another name: "
            f"--tag {folder.name}-2."
        )


def _check_space(root: Path, needed: int) -> None:
    free = shutil.disk_usage(root).free
    if needed + _SPARE_BYTES > free:
        raise ValueError(
            f"The download needs {needed / 1e9:.2f} GB and the disk with {root} has {free / 1e9:.2f} GB free. "
            "Free some space, or set NANOCHAT_STUDIO_HOME to a folder on a larger disk."
        )


@contextlib.contextmanager
def _reporting(repo: str, missing: list[RemoteFile], report: Report | None) -> Iterator[Callable[[int], None]]:
    """A function that takes more bytes: it feeds the callback, or else the terminal's bar, below a list of sizes."""
    total = sum(file.size for file in missing)
    done = 0
    with contextlib.ExitStack() as stack:
        if report is None:
            print(RepositorySize(repo, "", tuple((file.path, file.size) for file in missing)).summary(), flush=True)
            bar = stack.enter_context(tqdm(total=total, unit="B", unit_scale=True, desc="Downloading", disable=None))
        else:
            report(0, total)

        def progress(more: int) -> None:
            nonlocal done
            done += more  # less than nothing when the connection broke and a file starts over
            if report is None:
                bar.update(more)
            else:
                report(min(done, total), total)

        yield progress


def _bar_for(progress: Callable[[int], None]) -> type[tqdm]:
    """What the client takes for a progress bar: shows nothing itself and passes the bytes on."""

    class Bar(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "disable": True})

        def update(self, n: float | None = 1) -> None:
            progress(int(n or 0))

        def update_transfer(self, n: float) -> None:
            """Bytes on the wire, which the client may count beside those on the disk."""

    return Bar
