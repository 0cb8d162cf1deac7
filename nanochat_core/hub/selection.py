"""Which files of a repository on the hub make a nanochat model, and where each belongs on the disk."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from nanochat_core.hub.files import RemoteFile

_WEIGHTS = re.compile(r"model_(\d{6,})\.pt")
_STAGE_WORD = re.compile(r"(?:^|[-_.])(?:chat)?(base|mid|sft|rl)(?:_checkpoints)?(?=$|[-_.])", re.IGNORECASE)


@dataclass(frozen=True)
class Selection:
    """The files of one checkpoint."""

    stage: str
    """base, mid, sft or rl."""
    tokenizer: tuple[RemoteFile, ...]
    """tokenizer.pkl, and token_bytes.pt where there is one."""
    checkpoint: tuple[RemoteFile, ...]
    """Weights, then the description: in this order, so that the description completes the model."""

    @property
    def files(self) -> tuple[RemoteFile, ...]:
        return (*self.tokenizer, *self.checkpoint)


def tag_of(repo: str) -> str:
    """The tag under which a repository's model is kept: karpathy/nanochat-d32 gives d32."""
    name = repo.rpartition("/")[2]
    return re.sub(r"^nanochat[-_.]", "", name, flags=re.IGNORECASE) or name


def choose(files: Iterable[RemoteFile], repo: str, source: str | None = None) -> Selection:
    """The newest complete checkpoint among `files`, which may lie in any folder, and the tokenizer closest to it.

    source: the stage wanted (base, mid, sft, rl); without it the most trained one that a folder's name tells
    (chatsft_checkpoints, sft), or else the repository's (nanochat-d20-mid), or else sft. Names such as model_best.pt
    are passed over.
    Raises ValueError that says what is missing.
    """
    by_path = {file.path: file for file in files}
    found = [pair for file in by_path.values() if (pair := _checkpoint(file, by_path, repo, source))]
    tokenizers = [path for path in by_path if PurePosixPath(path).name == "tokenizer.pkl"]
    missing = [] if tokenizers else ["tokenizer.pkl"]
    if not found:
        missing += ["model_<step>.pt and meta_<step>.json of the same step"]
    if missing:
        of_stage = f" (of stage {source})" if source else ""
        raise ValueError(
            f"The repository {repo} is no nanochat model: it lacks {' and '.join(missing)}{of_stage}. "
            "Choose a repository with nanochat's own files, such as karpathy/nanochat-d32."
        )
    stage, weights, meta = max(found, key=_preference)
    folder = PurePosixPath(weights.path).parent
    pickle = PurePosixPath(max(tokenizers, key=lambda path: _closeness(folder, PurePosixPath(path))))
    token_bytes = by_path.get(str(pickle.parent / "token_bytes.pt"))
    tokenizer = (by_path[str(pickle)], *([token_bytes] if token_bytes else []))
    return Selection(stage, tokenizer, (weights, meta))


def _checkpoint(
    file: RemoteFile, by_path: dict[str, RemoteFile], repo: str, source: str | None
) -> tuple[str, RemoteFile, RemoteFile] | None:
    """(stage, weights, meta) when `file` holds the weights of a complete checkpoint of the stage wanted."""
    match = _WEIGHTS.fullmatch(file.name)
    folder = PurePosixPath(file.path).parent
    meta = by_path.get(str(folder / f"meta_{match[1]}.json")) if match else None
    stated = _stage_in(*reversed(folder.parts))
    if meta is None or (source and stated not in (None, source)):
        return None
    return stated or source or _stage_in(repo.rpartition("/")[2]) or "sft", file, meta


def _stage_in(*names: str) -> str | None:
    """The stage that the first of `names` to name one names: sft for chatsft_checkpoints, sft or d20-sft."""
    return next((match[1].lower() for name in names if (match := _STAGE_WORD.search(name))), None)


def _preference(found: tuple[str, RemoteFile, RemoteFile]) -> tuple[int, int, int]:
    stage, weights, _ = found
    step = int(weights.name.removeprefix("model_").removesuffix(".pt"))
    return ["base", "mid", "rl", "sft"].index(stage), step, -len(weights.path)


def _closeness(folder: PurePosixPath, tokenizer: PurePosixPath) -> tuple[int, bool, int]:
    """By the leading folders that a tokenizer has in common with `folder`, then by nanochat's name for its place."""
    parent = tokenizer.parent
    common = len(PurePosixPath(os.path.commonpath([folder, parent])).parts)
    return common, parent.name == "tokenizer", -len(parent.parts)
