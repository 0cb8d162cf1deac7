"""What a run will do, counted before it starts: rows, tokens, cuts, steps, disk space. Needs no torch."""

import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nanochat_core.config import FinetuneConfig
from nanochat_core.data.chunk import FACTS
from nanochat_core.data.tokens.cache import tokenized
from nanochat_core.data.tokens.plan import validation_places
from nanochat_core.data.training_data import notes_on_data
from nanochat_core.paths import ModelFiles, find_model, finetuned_dir, whole_model
from nanochat_core.runs.launcher import room_needed
from nanochat_core.tokenizer.tokenizer import Tokenizer

_KEPT = 6
_WEIGHTS_AT_ONCE = 7
"""While saving: best, last and the one being written, and twice the resume state, which is about two models."""


@dataclass(frozen=True)
class Estimate:
    """The counts of a run."""

    conversations: int
    train: int
    validation: int
    replayed: int
    """General conversations mixed into an epoch."""
    cut: int
    """Conversations that are longer than max_seq_len."""
    notes: list[str]
    """What the training itself will say of the data before it starts."""
    tokens_per_epoch: int
    trained_per_epoch: int
    steps_per_epoch: int
    steps: int
    longest: list[int]
    """Tokens of the conversations that make the largest step."""
    disk_needed: int
    """Bytes, at most, while a checkpoint is being replaced."""
    disk_free: int

    @property
    def warnings(self) -> list[str]:
        """What a person should look at before the start, as sentences."""
        found = list(self.notes)
        if self.disk_needed > self.disk_free:
            found.append(
                f"The disk has {self.disk_free / 1e9:.1f} GB free, and the run may need {self.disk_needed / 1e9:.1f} "
                "GB while it saves. Free some space first, or set NANOCHAT_STUDIO_HOME to a folder on another disk."
            )
        return found


def what_is_counted(config: FinetuneConfig) -> tuple[object, ...]:
    """All that the long part of the counting depends on: the files, whose tokens, and how many of each conversation."""
    replay = config.replay_path if config.replay_ratio else None
    return config.data_path, replay, config.base_name, config.base_source, config.model_step, config.max_seq_len


def estimate(config: FinetuneConfig, go_on: Callable[[], None] = lambda: None) -> Estimate:
    """Count what `config` will train on. ValueError, as the training itself would, when the file has faults.

    go_on: called now and then; what it raises ends the counting.
    """
    base = find_model(config.base_name, config.model_step, config.base_source)
    every, notes = _counted(config.data_path, base.tokenizer_dir, config.max_seq_len, go_on)
    useful = every[every["supervised"] > 0]
    if len(useful) < 2:
        raise ValueError(
            f"{Path(config.data_path).name} has {len(useful)} conversations to learn from, and training needs at "
            "least 2: one to train on and one to validate with. Add conversations in the Data tab."
        )
    validation = validation_places(len(useful), config.val_split, config.split, config.seed)
    train = np.delete(useful, validation)
    replay = _replay(config, base.tokenizer_dir, go_on)
    replayed = round(len(train) * config.replay_ratio) if len(replay) else 0
    steps_per_epoch = -(-(len(train) + replayed) // config.target_examples_per_step)
    return Estimate(
        conversations=len(every),
        train=len(train),
        validation=len(validation),
        replayed=replayed,
        cut=int(every["cut"].sum()),
        notes=notes,
        tokens_per_epoch=int(_inputs(train).sum()) + _mean_of(_inputs(replay), replayed),
        trained_per_epoch=int(train["supervised"].sum(dtype=int)) + _mean_of(replay["supervised"], replayed),
        steps_per_epoch=steps_per_epoch,
        steps=config.num_iterations if config.num_iterations > 0 else config.num_epochs * steps_per_epoch,
        longest=_longest(config, train, replay),
        disk_needed=_disk_needed(config, base),
        disk_free=_free_space(),
    )


def _disk_needed(config: FinetuneConfig, base: ModelFiles) -> int:
    if config.method == "lora":
        return room_needed(config, base)
    return _WEIGHTS_AT_ONCE * whole_model(base).weights.stat().st_size


def _inputs(facts: np.ndarray) -> np.ndarray:
    """Tokens through the model of each: all but the last."""
    return facts["tokens"].astype(np.int64) - 1


def _longest(config: FinetuneConfig, train: np.ndarray, replay: np.ndarray) -> list[int]:
    lengths = np.sort(np.concatenate([_inputs(train), _inputs(replay)]))[::-1]
    return lengths[: config.target_examples_per_step].tolist()


def _mean_of(values: np.ndarray, count: int) -> int:
    """What `count` of `values` come to, when which of them differs from epoch to epoch."""
    return round(float(values.mean()) * count) if len(values) else 0


def _replay(config: FinetuneConfig, tokenizer_dir: Path, go_on: Callable[[], None]) -> np.ndarray:
    if config.replay_path is None or config.replay_ratio == 0:
        return np.empty(0, FACTS)
    facts, _ = _counted(config.replay_path, tokenizer_dir, config.max_seq_len, go_on)
    return facts[facts["supervised"] > 0]


_cache: dict[tuple[object, ...], tuple[np.ndarray, list[str]]] = {}
_lock = threading.Lock()


def _counted(
    path: str, tokenizer_dir: Path, max_seq_len: int, go_on: Callable[[], None]
) -> tuple[np.ndarray, list[str]]:
    """(FACTS of every conversation of the file, what there is to say of it), remembered until the file changes.

    A large file is tokenized here and now, and the training finds it in the cache.
    """
    try:
        stat = Path(path).stat()
    except OSError as error:
        raise ValueError(f"The file {path} cannot be read ({error.strerror}). Choose another dataset.") from error
    key = (str(path), stat.st_mtime_ns, stat.st_size, str(tokenizer_dir), max_seq_len)
    with _lock:
        if key not in _cache:
            go_on()  # another page's count may have taken long
            tokenizer = Tokenizer.from_directory(tokenizer_dir)
            counted = tokenized(path, tokenizer, max_seq_len, progress=lambda done, size: go_on())
            while len(_cache) >= _KEPT:
                del _cache[next(iter(_cache))]
            _cache[key] = counted.facts, notes_on_data(counted, path, max_seq_len)
        return _cache[key]


def _free_space() -> int:
    folder = finetuned_dir()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
