"""Which dataset a run was trained on: one that was renamed since, or brought into data/, is known by its content."""

from functools import lru_cache
from pathlib import Path

from nanochat_core.runs.run import Run
from nanochat_core.runs.snapshot import data_key, data_path
from nanochat_core.system.files import sha256_of
from studio.datasets.files import Dataset, list_datasets, versions


def find_dataset_of(run: Run) -> Dataset | None:
    """The dataset of its path, or else one that has, or before a save had, the content that it was trained on."""
    datasets = list_datasets()
    path, sha256 = data_path(run), data_key(run)
    of_path = next((dataset for dataset in datasets if dataset.path == path), None)
    if of_path is not None or not sha256:
        return of_path
    return next((dataset for dataset in datasets if _has_held(dataset.path, sha256)), None)


def dataset_of(run: Run) -> Dataset:
    """As `find_dataset_of`. ValueError, with what helps, when it is none of those that can be opened."""
    found = find_dataset_of(run)
    if found is not None:
        return found
    path = data_path(run)
    if path.is_file():
        raise ValueError(
            f"Run {run.tag} was trained on {path}, which is not among the datasets here. Upload it in Data: it is "
            "known by its content."
        )
    remedy = "Upload it"
    if run.data_file.is_file():
        remedy = f"Unpack the copy that the run has kept, {run.data_file}, and upload it"
    raise ValueError(
        f"The dataset {path.name} of run {run.tag} is not there any more. {remedy} in Data: it is known by its content."
    )


def _has_held(path: Path, sha256: str) -> bool:
    if any(sha256.startswith(version.short_sha) for version in versions(path)):
        return True
    facts = path.stat()
    return _sha256(path, facts.st_size, facts.st_mtime_ns) == sha256


@lru_cache(maxsize=256)
def _sha256(path: Path, size: int, changed: int) -> str:
    return sha256_of(path)
