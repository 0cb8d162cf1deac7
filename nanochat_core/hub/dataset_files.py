"""Which files of a dataset's repository belong to a split: by its card's configurations, or else by their names."""

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Any

from nanochat_core.hub.files import RemoteFile

ENDINGS = (".parquet", ".jsonl", ".ndjson", ".json")
"""What can be read. The first kind that a repository has is taken: the others are the same rows again, or no rows."""

_WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_NO_DATA = ("dataset_infos.json", "dataset_info.json", "state.json", "config.json", "metadata.json")


def choose_files(
    repo: str, files: Sequence[RemoteFile], configs: Any, split: str = "train", config: str | None = None
) -> list[RemoteFile]:
    """The files of `split`, in order of their names.

    configs: the `configs` of the dataset's card, None when it has none. config: which one of them; None: its default.
    Raises ValueError that names what there is.
    """
    data = [file for file in files if file.path.endswith(ENDINGS) and file.name not in _NO_DATA]
    if not data:
        endings = ", ".join(sorted({PurePosixPath(file.path).suffix or file.name for file in files})) or "no files"
        raise ValueError(
            f"The dataset {repo} has no parquet or JSONL files (it has {endings}). Choose a dataset that has, or "
            "export this one as JSONL."
        )
    splits = _declared(repo, data, configs, config) or _by_name(repo, data, config)
    if split not in splits:
        raise ValueError(
            f"The dataset {repo} has no split '{split}'. It has {', '.join(splits)}: choose one with --split."
        )
    return splits[split]


def _declared(repo: str, data: list[RemoteFile], configs: Any, config: str | None) -> dict[str, list[RemoteFile]]:
    """Files by split as the card declares them; empty when it declares none that are here."""
    tables = [table for table in configs if isinstance(table, dict)] if isinstance(configs, list) else []
    by_name = {str(table.get("config_name", "default")): table for table in tables}
    if not by_name:
        return {}
    if config is None:
        marked = [name for name, table in by_name.items() if table.get("default") is True]
        only = list(by_name) if len(by_name) == 1 else []
        config = next(iter([*marked, *only, *(name for name in by_name if name == "default")]), None)
    if config not in by_name:
        what = "several configurations" if config is None else f"no configuration '{config}'"
        raise ValueError(f"The dataset {repo} has {what}: choose one with --config, of {', '.join(by_name)}.")
    patterns = _patterns(by_name[config].get("data_files"))
    if patterns is None:
        raise ValueError(
            f"The card of the dataset {repo} describes its files in a form that cannot be read (data_files of the "
            f"configuration '{config}'). Tell its owner, or download a file of it and import that."
        )
    splits = {
        split: [file for file in data if any(_matches(file.path, pattern) for pattern in wanted)]
        for split, wanted in patterns.items()
    }
    return {split: _of_one_kind(found) for split, found in splits.items() if found}


def _patterns(data_files: Any) -> dict[str, list[str]] | None:
    """Patterns of paths by split, from the forms in which a card may write them; None for any other form."""
    if isinstance(data_files, dict):
        entries = list(data_files.items())
    else:
        entries = [_entry(entry) for entry in (data_files if isinstance(data_files, list) else [data_files])]
    found: dict[str, list[str]] = {}
    for split, paths in entries if data_files is not None else []:
        listed = paths if isinstance(paths, list) else [paths]
        if not all(isinstance(path, str) for path in listed):
            return None
        found.setdefault(str(split or "train"), []).extend(listed)
    return found


def _entry(entry: Any) -> tuple[Any, Any]:
    """(split, paths) of one entry of a list; a pattern alone is for training."""
    return (entry.get("split"), entry.get("path")) if isinstance(entry, dict) else (None, entry)


def _matches(path: str, pattern: str) -> bool:
    """A pattern of a card: `**` stands for folders, none too."""
    return fnmatchcase(path, pattern) or ("**/" in pattern and fnmatchcase(path, pattern.replace("**/", "")))


def _by_name(repo: str, data: list[RemoteFile], config: str | None) -> dict[str, list[RemoteFile]]:
    """Files by the split that their names tell; all are for training when none tells."""
    if config is not None:
        data = [file for file in data if config in PurePosixPath(file.path).parts[:-1]]
        if not data:
            raise ValueError(
                f"The dataset {repo} has no folder '{config}' with data. Correct --config, or leave it out."
            )
    splits: dict[str, list[RemoteFile]] = {}
    for file in _of_one_kind(data):
        words = re.split(r"[^a-z]+", file.path.lower())
        told = next((split for split, names in _WORDS.items() if set(names) & set(words)), None)
        splits.setdefault(told or "", []).append(file)
    unnamed = splits.pop("", [])
    return splits or {"train": unnamed}


def _of_one_kind(files: list[RemoteFile]) -> list[RemoteFile]:
    kind = next((ending for ending in ENDINGS if any(file.path.endswith(ending) for file in files)), "")
    return sorted((file for file in files if file.path.endswith(kind)), key=lambda file: file.path)
