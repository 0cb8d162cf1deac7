"""What a run trains on and validates with: the file checked, rendered, split, and said in sentences."""

from dataclasses import dataclass

from nanochat_core.batches import Example, render, split
from nanochat_core.config import FinetuneConfig
from nanochat_core.conversations import load_conversations
from nanochat_core.tokenizer import Tokenizer


@dataclass(frozen=True)
class TrainingData:
    """The examples of a run."""

    train: list[Example]
    validation: list[Example]
    replay: list[Example]
    conversations: list[dict]
    """The file's conversations; an example's `index` points into them."""
    notes: list[str]
    """What a person should know of it, as sentences."""


def load_training_data(config: FinetuneConfig, tokenizer: Tokenizer, ranks: int = 1) -> TrainingData:
    """Read, check, render and split `config.data_path`, and the replay set.

    Conversations whose trained part lies wholly beyond max_seq_len teach nothing; they are left out, and
    counted in the notes. ValueError when the file has faults, or when fewer than two conversations, or fewer
    training conversations than `ranks`, are left.
    """
    conversations = load_conversations(config.data_path, tokenizer, config.max_seq_len)
    examples = render(conversations, tokenizer, config.max_seq_len)
    useful = [example for example in examples if example.supervised]
    notes = _notes_on_length(examples, config.max_seq_len)
    if not useful:
        raise ValueError(
            f"None of the {len(examples)} conversations in {config.data_path} has anything to learn within "
            f"{config.max_seq_len} tokens. Raise max_seq_len, or shorten the text before the first answer."
        )
    train, validation = split(useful, config.val_split)
    if len(train) < ranks:
        raise ValueError(
            f"There are {len(train)} conversations to train on, fewer than the {ranks} processes. "
            f"Use at most {len(train)} processes, or add conversations to {config.data_path}."
        )
    notes.insert(0, _note_on_split(len(conversations), train, validation))
    replay = []
    if config.replay_ratio > 0:
        general = load_conversations(config.replay_path, tokenizer, config.max_seq_len)
        replay = [example for example in render(general, tokenizer, config.max_seq_len) if example.supervised]
        notes.append(
            f"Replay: {round(len(train) * config.replay_ratio)} of {len(replay)} general conversations are mixed "
            "into every epoch, so that old skills stay."
        )
    return TrainingData(train, validation, replay, conversations, notes)


def _note_on_split(count: int, train: list[Example], validation: list[Example]) -> str:
    tokens = sum(example.inputs for example in train)
    learned = sum(example.supervised for example in train)
    return (
        f"{count} conversations: {len(train)} to train on, and the last {len(validation)} of the file to validate "
        f"with. An epoch has {tokens:,} tokens, {learned:,} of them trained on."
    )


def _notes_on_length(examples: list[Example], max_seq_len: int) -> list[str]:
    cut = sum(example.cut for example in examples)
    useless = sum(not example.supervised for example in examples)
    notes = []
    if cut:
        notes.append(f"{cut} conversations are longer than {max_seq_len} tokens (max_seq_len); their ends are cut off.")
    if useless:
        notes.append(f"{useless} conversations have nothing to learn within {max_seq_len} tokens and are left out.")
    return notes
