"""What a run will do, counted before it starts: rows, tokens, cuts, steps, disk space. Needs no torch."""

import shutil
import threading
from dataclasses import dataclass
from pathlib import Path

from nanochat_core.config import FinetuneConfig
from nanochat_core.conversations import load_conversations
from nanochat_core.paths import find_model, finetuned_dir
from nanochat_core.tokenizer import Tokenizer

_KEPT = 6
_WEIGHTS_AT_ONCE = 7
"""While saving: best, last and the one being written, and twice the resume state, which is about two models."""


@dataclass(frozen=True)
class Lengths:
    """One conversation as the model sees it."""

    inputs: int
    """Tokens through the model."""
    supervised: int
    """Tokens that are learned."""
    cut: bool


@dataclass(frozen=True)
class Estimate:
    """The counts of a run."""

    conversations: int
    train: int
    validation: int
    replayed: int
    """General conversations mixed into an epoch."""
    cut: int
    useless: int
    """Conversations with nothing to learn within max_seq_len."""
    tokens_per_epoch: int
    trained_per_epoch: int
    steps_per_epoch: int
    steps: int
    disk_needed: int
    """Bytes, at most, while a checkpoint is being replaced."""
    disk_free: int

    @property
    def warnings(self) -> list[str]:
        """What a person should look at before the start, as sentences."""
        found = []
        if self.cut:
            found.append(f"{self.cut} conversations are longer than max_seq_len; their ends are cut off.")
        if self.useless:
            found.append(f"{self.useless} conversations have nothing to learn within max_seq_len and are left out.")
        if self.disk_needed > self.disk_free:
            found.append(
                f"The disk has {self.disk_free / 1e9:.1f} GB free, and the run may need {self.disk_needed / 1e9:.1f} "
                "GB while it saves. Free some space first, or set NANOCHAT_STUDIO_HOME to a folder on another disk."
            )
        return found


def estimate(config: FinetuneConfig) -> Estimate:
    """Count what `config` will train on. ValueError, as the training itself would, when the file has faults."""
    base = find_model(config.base_name, config.model_step, config.base_source)
    every = _lengths(config.data_path, base.tokenizer_dir, config.max_seq_len)
    useful = [one for one in every if one.supervised]
    if len(useful) < 2:
        raise ValueError(
            f"{Path(config.data_path).name} has {len(useful)} conversations to learn from, and training needs at "
            "least 2: one to train on and one to validate with. Add conversations in the Data tab."
        )
    validation = min(max(1, round(len(useful) * config.val_split)), len(useful) - 1)
    train = useful[:-validation]
    replay = _replay(config, base.tokenizer_dir)
    replayed = round(len(train) * config.replay_ratio) if replay else 0
    steps_per_epoch = -(-(len(train) + replayed) // config.target_examples_per_step)
    return Estimate(
        conversations=len(every),
        train=len(train),
        validation=validation,
        replayed=replayed,
        cut=sum(one.cut for one in every),
        useless=len(every) - len(useful),
        tokens_per_epoch=sum(one.inputs for one in train) + _mean_of([one.inputs for one in replay], replayed),
        trained_per_epoch=sum(one.supervised for one in train) + _mean_of([one.supervised for one in replay], replayed),
        steps_per_epoch=steps_per_epoch,
        steps=config.num_iterations if config.num_iterations > 0 else config.num_epochs * steps_per_epoch,
        disk_needed=_WEIGHTS_AT_ONCE * base.weights.stat().st_size,
        disk_free=_free_space(),
    )


def _mean_of(values: list[int], count: int) -> int:
    """What `count` of `values` come to, when which of them differs from epoch to epoch."""
    return round(sum(values) / len(values) * count) if values else 0


def _replay(config: FinetuneConfig, tokenizer_dir: Path) -> list[Lengths]:
    if config.replay_ratio == 0:
        return []
    return [one for one in _lengths(config.replay_path, tokenizer_dir, config.max_seq_len) if one.supervised]


_cache: dict[tuple, list[Lengths]] = {}
_lock = threading.Lock()


def _lengths(path: str, tokenizer_dir: Path, max_seq_len: int) -> list[Lengths]:
    """Lengths of every conversation of the file; remembered until the file changes, for all browsers."""
    try:
        stat = Path(path).stat()
    except OSError as error:
        raise ValueError(f"The file {path} cannot be read ({error.strerror}). Choose another dataset.") from error
    key = (str(path), stat.st_mtime_ns, stat.st_size, str(tokenizer_dir), max_seq_len)
    with _lock:
        if key not in _cache:
            counted = _count(path, Tokenizer.from_directory(tokenizer_dir), max_seq_len)
            while len(_cache) >= _KEPT:
                del _cache[next(iter(_cache))]
            _cache[key] = counted
        return _cache[key]


def _count(path: str, tokenizer: Tokenizer, max_seq_len: int) -> list[Lengths]:
    """As nanochat_core.batches.render does, keeping the lengths only."""
    counted = []
    for conversation in load_conversations(path, tokenizer, max_seq_len):
        ids, mask = tokenizer.render_conversation(conversation, max_tokens=max_seq_len + 1)
        kept = mask[:max_seq_len]
        counted.append(Lengths(len(kept) - 1, sum(kept[1:]), len(ids) > max_seq_len))
    return counted


def _free_space() -> int:
    folder = finetuned_dir()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
