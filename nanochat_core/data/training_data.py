"""What a run trains on and validates with: the file checked, tokenized, split, and said in sentences."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np

from nanochat_core.config import FinetuneConfig
from nanochat_core.data.chunk import LineMarks
from nanochat_core.data.line import judge_line
from nanochat_core.data.reader import MAX_PIECE_BYTES, open_data
from nanochat_core.data.survey import Progress
from nanochat_core.data.tokens.cache import tokenized
from nanochat_core.data.tokens.file import TokenFile
from nanochat_core.data.tokens.plan import Examples, split
from nanochat_core.data.tokens.rejected import count_of, rejected_answers
from nanochat_core.system.words import plural
from nanochat_core.tokenizer.rendering import Example
from nanochat_core.tokenizer.tokenizer import Tokenizer

_NOTE_SECONDS, _SAY_SECONDS = 1.0, 10.0


class Conversations(Sequence[dict[str, Any]]):
    """The conversations of a file of lines, each read when it is asked for."""

    def __init__(self, path: str | Path, lines: np.ndarray):
        """lines: the byte at which the line of each conversation begins."""
        self._path, self._lines = path, lines

    def __len__(self) -> int:
        return len(self._lines)

    @overload
    def __getitem__(self, number: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, number: slice) -> "Conversations": ...
    def __getitem__(self, number: int | slice) -> "dict[str, Any] | Conversations":
        """ValueError when the file has changed meanwhile, so far as that shows."""
        if isinstance(number, slice):
            return Conversations(self._path, self._lines[number])
        with open_data(self._path) as file:
            file.seek(int(self._lines[number]))
            judged, _, _ = judge_line(LineMarks().strip(1, file.readline(MAX_PIECE_BYTES)))
        if len(judged) != 1:
            raise ValueError(f"{self._path} has changed while it was in use. Put the old content back, or start again.")
        return {"messages": judged[0]}


class Reading:
    """Says now and then how much of a large file has been read."""

    def __init__(self, say: Callable[[str], Any], note: Callable[..., Any] | None = None):
        """note: gets the sentence as `doing`."""
        self._say, self._note = say, note or (lambda doing: None)
        self._last_said = self._last_noted = time.monotonic()

    def __call__(self, done: int, size: int) -> None:
        """Note, and say now and then, that `done` bytes of `size` are read."""
        now = time.monotonic()
        text = f"Checking and tokenizing the data: {done / size:.0%} of {size / 1e6:,.0f} MB."
        if now - self._last_noted > _NOTE_SECONDS:
            self._note(doing=text)
            self._last_noted = now
        if now - self._last_said > _SAY_SECONDS:
            self._say(text)
            self._last_said = now


@dataclass(frozen=True)
class TrainingData:
    """The examples of a run."""

    train: Examples
    validation: Examples
    replay: Examples | list[Example]
    conversations: Sequence[dict[str, Any]]
    """The file's conversations; an example's `index` points into them."""
    notes: list[str]
    """What a person should know of it, as sentences."""

    def lengths(self) -> list[int]:
        """Tokens (Example.inputs) of every conversation that may be trained on: each epoch replays other ones."""
        others = self.replay
        more = others.inputs.tolist() if isinstance(others, Examples) else [one.inputs for one in others]
        return [*self.train.inputs.tolist(), *more]


def load_training_data(
    config: FinetuneConfig,
    tokenizer: Tokenizer,
    ranks: int = 1,
    say: Callable[[str], Any] = lambda text: None,
    reading: Progress | None = None,
) -> TrainingData:
    """Check, tokenize and split `config.data_path`, and the replay set; of a large file that was used before, find it.

    Conversations whose trained part lies wholly beyond max_seq_len teach nothing; they are left out, and
    counted in the notes. ValueError when the file has faults, or when fewer than two conversations, or fewer
    training conversations than `ranks`, are left.
    """
    length = config.max_seq_len
    tokens = tokenized(config.data_path, tokenizer, length, say, reading)
    useful = Examples(tokens, tokenizer)
    notes = notes_on_data(tokens, config.data_path, length)
    if not len(useful):
        raise ValueError(
            f"None of the {len(tokens)} conversations in {config.data_path} has anything to learn within "
            f"{length} tokens. Raise max_seq_len, or shorten the text before the first answer."
        )
    train, validation = split(useful, config.val_split, config.split, config.seed)
    if len(train) < ranks:
        raise ValueError(
            f"There are {len(train)} conversations to train on, fewer than the {ranks} processes. "
            f"Use at most {len(train)} processes, or add conversations to {config.data_path}."
        )
    notes.insert(0, note_on_split(len(tokens), train, validation, config.split))
    if config.learn_from_corrections:
        rejected, left_out = rejected_answers(config.data_path, tokens, tokenizer, length)
        train = train.with_rejected(rejected)
        notes.append(_note_on_corrections(config.data_path, train, left_out))
    replay: Examples | list[Example] = []
    if config.replay_path and config.replay_ratio > 0:
        replay = Examples(tokenized(config.replay_path, tokenizer, length, say, reading), tokenizer)
        if not len(replay):
            raise ValueError(
                f"Nothing in {config.replay_path} can be replayed: none of its conversations has an answer within "
                f"{length} tokens. Raise max_seq_len, or give another replay_path."
            )
        notes.append(
            f"Replay: {round(len(train) * config.replay_ratio)} of {len(replay)} general conversations are mixed "
            "into every epoch, so that old skills stay."
        )
    return TrainingData(train, validation, replay, Conversations(config.data_path, tokens.facts["line"]), notes)


def _note_on_corrections(path: str, train: Examples, left_out: int) -> str:
    """How many there are. ValueError when there is none to train on."""
    count = count_of(train.rejected, train.rows)
    if not count:
        elsewhere = count_of(train.rejected, np.array(list(train.rejected), np.int64))
        why = (
            f"all {elsewhere} in {path} belong to conversations that validate"
            if elsewhere
            else f"none of the {left_out} in {path} fits max_seq_len"
            if left_out
            else f'no answer in {path} has a "rejected" one beside it'
        )
        raise ValueError(
            f"There is no correction to learn from: {why}. Correct replies in the Chat tab or import preference "
            "pairs (chosen and rejected), or turn learn_from_corrections off."
        )
    note = (
        f"{plural(count, 'answer')} with a rejected one beside it: the model learns to say the former, and to prefer "
        "it to the latter (DPO)."
    )
    return note + (f" {plural(left_out, 'pair')} longer than max_seq_len: trained without." if left_out else "")


_NAMED = 8
"""Conversations of the validation that are named, so that a person can look at them."""


def note_on_split(count: int, train: Examples, validation: Examples, how: str) -> str:
    """What trains and what validates."""
    if how == "tail":
        which = f"the last {len(validation)} of the file to validate with"
    else:
        named = ", ".join(str(row + 1) for row in validation.rows[:_NAMED].tolist())
        more = " and so on" if len(validation) > _NAMED else ""
        words = "spread over the file by the seed" if len(validation) > 1 else "drawn by the seed"
        which = f"{len(validation)} to validate with, {words} (number {named}{more})"
    return (
        f"{count} conversations: {len(train)} to train on, and {which}. An epoch has {train.inputs.sum():,} tokens, "
        f"{train.supervised.sum():,} of them trained tokens."
    )


def notes_on_data(tokens: TokenFile, path: str | Path, max_seq_len: int) -> list[str]:
    """What a person should know before a training on the file, as sentences: for a run's log, and for the app."""
    cut, useless = int(tokens.facts["cut"].sum()), int((tokens.facts["supervised"] == 0).sum())
    notes = []
    if cut:
        notes.append(f"{cut} conversations are longer than {max_seq_len} tokens (max_seq_len); their ends are cut off.")
    if useless:
        notes.append(f"{useless} conversations have nothing to learn within {max_seq_len} tokens and are left out.")
    if marked := len(tokens.untrained):
        notes.append(f"{plural(marked, 'answer')} marked as not to be trained: read, and not learned.")
    if warnings := {kind: count for kind, count in tokens.warnings.items() if kind not in _SAID_ELSEWHERE}:
        said = ", ".join(f"{count:,} x {kind.replace('_', ' ')}" for kind, count in warnings.items())
        notes.append(f"Worth a look in {Path(path).name}: {said}. `check` says where and what to do.")
    return notes


_SAID_ELSEWHERE = ("too_long", "nothing_to_learn", "bom", "crlf", "empty_line")
"""Warnings that are harmless, or have a sentence of their own."""
