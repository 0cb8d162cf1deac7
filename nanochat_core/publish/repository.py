"""A model's repository on the hub, to write to: made private unless told otherwise, changed in one commit at a time.

A file there, `nanochat_studio.json`, lists what was published. Nothing else in the repository is ever touched.
"""

import contextlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError
from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

from nanochat_core.hub.files import check_repo, files_at, git_sha1
from nanochat_core.system.files import write_json

RECORD = "nanochat_studio.json"
CARD = "README.md"
_OF_THE_HUB = {".gitattributes"}  # which it makes itself in every new repository


@dataclass(frozen=True)
class Repository:
    """One repository as it was found or made."""

    name: str
    is_private: bool
    published: dict[str, str]
    """What was published from here earlier and is still there: path -> git's name of the card's content, else ""."""
    edited_card: bool = False
    """Its card was changed by somebody since; it is then left as it is."""

    def send(self, folder: Path, facts: dict[str, Any], message: str) -> str:
        """Make the repository hold the files of `folder`, in one commit, and `facts` in its record.

        What an earlier publication left and `folder` no longer has is removed; in the history it stays.
        Returns the commit's address.
        """
        # A change to the card on the hub is noticed by git's name of it; of other files their path is enough.
        names = {path: git_sha1((folder / path).read_bytes()) if path == CARD else "" for path in _paths(folder)}
        write_json(folder / RECORD, {**facts, "files": names})
        paths = [path for path in [*names, RECORD] if not (path == CARD and self.edited_card)]
        added = [CommitOperationAdd(path, folder / path) for path in paths]
        old = set(self.published) - set(names) - {RECORD, CARD}
        operations: list[CommitOperationAdd | CommitOperationDelete] = [
            *added,
            *(CommitOperationDelete(path, is_folder=False) for path in sorted(old)),
        ]
        with _bars_for_people():
            return HfApi().create_commit(self.name, operations, commit_message=message).commit_url


def open_repository(name: str, model: str, public: bool = False) -> Repository:
    """The repository called `name` for `model`, made when there is none: private, unless `public`.

    ValueError when it is public and should not be, or holds another model or what was not published from here.
    The hub's own errors come as they are.
    """
    check_repo(name)
    api = HfApi()
    try:
        info = api.repo_info(name, revision="main")
    except RepositoryNotFoundError:
        api.create_repo(name, private=not public)
        return Repository(name, is_private=not public, published={})
    if not info.private and not public:
        raise ValueError(
            f"The repository {name} is public: everybody could read the model. Publish to a new name, which is made "
            "private, or say --public."
        )
    commit = str(info.sha)
    present = {file.path: file.git_sha1 for file in files_at(api, name, commit)}
    owner, record = _read_record(name, commit) if RECORD in present else (model, {})
    if owner != model:
        raise ValueError(f"The repository {name} holds another model, {owner}. Choose a new name for {model}.")
    foreign = sorted(set(present) - set(record) - _OF_THE_HUB - {RECORD})
    if foreign and not record:
        raise ValueError(
            f"The repository {name} holds files that were not published from here ({', '.join(foreign[:3])}). "
            "Choose a new name: nothing is ever overwritten."
        )
    edited = CARD in present and present[CARD] != record.get(CARD)
    return Repository(name, bool(info.private), {path: record[path] for path in record if path in present}, edited)


def _read_record(name: str, commit: str) -> tuple[str, dict[str, str]]:
    """(the model that was published, its files as of `Repository.published`); empty when somebody edited the record."""
    try:
        with _bars_for_people():
            content = json.loads(Path(hf_hub_download(name, RECORD, revision=commit)).read_bytes())
        return str(content["model"]), {str(path): str(digest) for path, digest in content["files"].items()}
    except (ValueError, KeyError, AttributeError, TypeError, EntryNotFoundError):
        return "unknown", {}


@contextlib.contextmanager
def _bars_for_people() -> Iterator[None]:
    """The client's progress bars in a terminal, and none in a log file."""
    if sys.stderr.isatty() or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


def _paths(folder: Path) -> list[str]:
    """Every file below `folder`, but for the record, by its path there."""
    files = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in files if path != RECORD)
