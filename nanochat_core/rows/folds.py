"""How well each answer fits its question, judged by small models that have not been trained on that row.

The rows are dealt to K folds. For each, the starter is trained on the others and then asked how likely every held-out
answer is after its own question, and after other questions of the data. An answer that is no likelier after its own one
does not belong there: so a difficult answer, whose loss is high wherever it stands, is told from a wrong one.
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nanochat_core.checkpoint.checksums import digest
from nanochat_core.compute.devices import choose_device
from nanochat_core.compute.ranks import Ranks
from nanochat_core.config import FinetuneConfig
from nanochat_core.data.conversations import load_conversations
from nanochat_core.data.tokens.cache import tokenized
from nanochat_core.data.tokens.plan import Examples
from nanochat_core.data.training_data import TrainingData
from nanochat_core.evaluation.meter import Moment
from nanochat_core.model.batch import pack
from nanochat_core.model.gpt import GPT
from nanochat_core.paths import find_file
from nanochat_core.rows.doctor import Report
from nanochat_core.rows.kept_folds import KeptFolds, digest_of, keep_folds, same_folds
from nanochat_core.rows.losses import FoldLosses
from nanochat_core.rows.neighbours import Answered, Around
from nanochat_core.rows.row import lines_of, read_rows, text_of
from nanochat_core.runs.presets import with_preset
from nanochat_core.runs.run import Run
from nanochat_core.system.files import sha256_of
from nanochat_core.system.words import plural
from nanochat_core.tokenizer.rendering import Example
from nanochat_core.tokenizer.tokenizer import Tokenizer
from nanochat_core.training.setup import Setup, base_files, set_up

ELSEWHERE, RIVALS = 4, 3
"""Other questions that each answer is tried with, and answers of the likest rows that are tried in its place."""
EPOCHS, MOST_STEPS = 4, 300
"""Of each fold's training: enough to learn what many rows say, too little to learn what one does."""
_BATCH = 32
_TRAINING = 3
"""Times the work of reading an answer that training with it is."""


@dataclass(frozen=True)
class _Part:
    """One answer of a row: the messages up to it."""

    row: int
    messages: list[dict[str, Any]]

    @property
    def answer(self) -> dict[str, Any]:
        return self.messages[-1]

    @property
    def said(self) -> str:
        return text_of(self.answer["content"])

    @property
    def prompt(self) -> str:
        return text_of(self.messages[-2]["content"])


@dataclass(frozen=True)
class _Answers:
    """All answers of the file, and what those of rows with like questions are."""

    parts: list[_Part]
    around: Around

    @classmethod
    def of(cls, conversations: Sequence[dict[str, Any]]) -> "_Answers":
        parts = _parts(conversations)
        return cls(parts, Around([Answered(part.row, part.prompt, part.said) for part in parts]))

    def unknown(self) -> FoldLosses:
        """Nothing of any answer but whether like rows answer alike."""
        losses = FoldLosses.empty(np.array([part.row for part in self.parts]))
        losses.doubt[:] = [self.around.doubt(place) for place in range(len(self.parts))]
        return losses


def fold_losses(path: str | Path, folds: int, report: Report, seed: int = 42, run: Run | None = None) -> FoldLosses:
    """Train `folds` models on the file's rows, and take the losses of each row's answers by the one that never saw it.

    report: called with (how much is done, 0 to 1; a sentence); what it raises ends the work. run: keeps each fold that
    is done, and what any run has kept of the same is not computed again. ValueError when the file is rejected, or too
    short.
    """
    config = with_preset(data_path=str(path), model_tag="starter", replay_path="", replay_ratio=0.0, seed=seed)
    conversations = load_conversations(path, max_seq_len=config.max_seq_len)
    count = len(conversations)
    if not 2 <= folds <= count // 2:
        remedy = f"Take from 2 to {count // 2} folds" if count >= 4 else "Folds need 4 rows or more: add some"
        raise ValueError(f"{folds} folds cannot be done with {plural(count, 'row')} of {path}. {remedy}.")
    steps = EPOCHS * -(-(count - count // folds) // config.target_examples_per_step)
    config = replace(config, num_iterations=min(steps, MOST_STEPS))
    fold_of = np.arange(count) % folds
    np.random.default_rng(seed).shuffle(fold_of)
    answers = _Answers.of(conversations)
    kept = _kept(config, folds, answers, run)
    work = _Work(report, folds)
    for fold in range(folds):
        if fold in kept.done:
            continue
        held = [place for place, part in enumerate(answers.parts) if fold_of[part.row] == fold]
        examples = config.num_iterations * config.target_examples_per_step
        work.begin(fold, (2 + ELSEWHERE + RIVALS) * len(held) + _TRAINING * examples)
        setup = _setup(config, fold_of == fold)
        _judge(kept.losses, setup, config, held, answers, work)
        kept = replace(kept, done=(*kept.done, fold))
        if run is not None:
            keep_folds(run, kept)
    report(1.0, "All folds are done")
    return kept.losses


def _kept(config: FinetuneConfig, folds: int, answers: _Answers, run: Run | None) -> KeptFolds:
    """What is known already."""
    path = config.data_path
    asked = {
        "data": sha256_of(find_file(path)),
        "folds": folds,
        "seed": config.seed,
        "base": digest(base_files(config).weights),
        "recipe": [EPOCHS, MOST_STEPS, ELSEWHERE, RIVALS],
    }
    found = same_folds(run, asked) if run is not None else None
    if found is None:
        rows, _ = read_rows(path)
        found = KeptFolds(asked, tuple(map(digest_of, lines_of(path, rows))), answers.unknown())
    elif run is not None:
        keep_folds(run, found)  # another run of the same data may have them
    return found


def _judge(
    found: FoldLosses,
    setup: Setup,
    config: FinetuneConfig,
    held: Sequence[int],
    answers: _Answers,
    work: "_Work",
) -> None:
    """Train on what is not held out, and note all losses of the answers that are."""
    parts = answers.parts
    own = [_example(parts[place].messages, setup.tokenizer, config) for place in held]
    unseen = f"{len(held)} answers that it has not seen"
    found.base[held] = _nats(setup, own, work.telling("the starter as it is"))
    _train(setup, work)
    found.own[held] = _nats(setup, own, work.telling(unseen))
    draw = random.Random(f"{config.seed}:{work.fold}")
    others = [part for place in held for part in _with_other_questions(parts[place], parts, draw)]
    elsewhere = _nats_of(setup, config, others, work.telling(f"{unseen}, after other questions"))
    found.elsewhere[held] = elsewhere.reshape(-1, ELSEWHERE).mean(axis=1)
    _take_rivals(found, setup, config, held, answers, work.telling("other answers in their place"))


class _Work:
    """Tells how far all folds are, and how long they still take: a piece of work is an answer that is read."""

    def __init__(self, report: Report, folds: int):
        self.fold = 0
        self._report, self._folds = report, folds
        self._pieces, self._done = 1, 0
        self._began: tuple[float, float] | None = None
        """When it began, and how much was done by then."""

    def begin(self, fold: int, pieces: int) -> None:
        self.fold, self._pieces, self._done = fold, pieces, 0
        self.tell("reading the starter")

    def telling(self, doing: str) -> Callable[[int], None]:
        return lambda done: self.tell(doing, done)

    def tell(self, doing: str, done: int = 0) -> None:
        self._done += done
        share = (self.fold + min(1.0, self._done / self._pieces)) / self._folds
        self._began = self._began or (time.monotonic(), share)
        began, first = self._began
        left = (time.monotonic() - began) * (1 - share) / (share - first) if share > first else None
        self._report(share, str(Moment(share, f"Fold {self.fold + 1} of {self._folds}: {doing}", left)))


def _parts(conversations: Sequence[dict[str, Any]]) -> list[_Part]:
    return [
        _Part(row, conversation["messages"][: place + 1])
        for row, conversation in enumerate(conversations)
        for place, message in enumerate(conversation["messages"])
        if message["role"] == "assistant" and message.get("train", True)
    ]


def _with_other_questions(part: _Part, parts: Sequence[_Part], draw: random.Random) -> list[_Part]:
    """The part's answer after ELSEWHERE questions that are answered otherwise, as far as there are such."""
    drawn = [draw.choice(parts) for _ in range(8 * ELSEWHERE)]
    others = [other for other in drawn if other.answer != part.answer] or [part]
    return [_Part(part.row, [*others[place % len(others)].messages[:-1], part.answer]) for place in range(ELSEWHERE)]


def _take_rivals(
    found: FoldLosses,
    setup: Setup,
    config: FinetuneConfig,
    held: Sequence[int],
    answers: _Answers,
    beat: Callable[[int], None],
) -> None:
    """Note of each held-out part the rival that the model finds likeliest after its question."""
    parts = answers.parts
    tried = [(place, rival) for place in held for rival in answers.around.rivals(place, RIVALS)]
    asked = [_Part(0, [*parts[place].messages[:-1], parts[rival].answer]) for place, rival in tried]
    for (place, rival), loss in zip(tried, _nats_of(setup, config, asked, beat).tolist()):
        if not loss >= found.rival[place]:  # also while there is none
            found.rival[place], found.rival_row[place] = loss, parts[rival].row


def _setup(config: FinetuneConfig, is_held: np.ndarray) -> Setup:
    def load(tokenizer: Tokenizer) -> TrainingData:
        examples = Examples(tokenized(config.data_path, tokenizer, config.max_seq_len), tokenizer)
        held = is_held[examples.rows]
        train, validation = (examples.picked(np.flatnonzero(which)) for which in (~held, held))
        return TrainingData(train, validation, [], [], [])

    ranks = Ranks(0, 1, choose_device(config.device_type))
    return set_up(config, ranks, base_files(config), load, verified=False)


def _train(setup: Setup, work: _Work) -> None:
    for step, examples in enumerate(islice(setup.plan.steps_from(0), setup.steps)):
        work.tell(f"step {step + 1} of {setup.steps}", _TRAINING * len(examples))
        setup.training_step.take(step, examples)


def _nats_of(setup: Setup, config: FinetuneConfig, parts: Sequence[_Part], beat: Callable[[int], None]) -> np.ndarray:
    return _nats(setup, [_example(part.messages, setup.tokenizer, config) for part in parts], beat)


def _example(messages: list[dict[str, Any]], tokenizer: Tokenizer, config: FinetuneConfig) -> Example:
    """Only the last answer counts; of what is too long the beginning is left out, not the answer."""
    ids, mask = (np.array(values) for values in tokenizer.render_conversation(messages, max_tokens=1 << 62))
    begin = int(np.flatnonzero(ids == tokenizer.special("<|assistant_start|>"))[-1])
    mask = mask.astype(bool)
    mask[: begin + 1] = False
    first = max(0, min(len(ids) - config.max_seq_len, begin - 1))
    kept = slice(first, first + config.max_seq_len)
    return Example(ids[kept].astype(np.int32), mask[kept], 0)


@torch.no_grad()
def _nats(setup: Setup, examples: Sequence[Example], beat: Callable[[int], None]) -> np.ndarray:
    """float64 (N,): mean nats of each example's supervised tokens. beat: told how many more are done."""
    model: GPT = setup.model
    model.eval()
    found = np.full(len(examples), np.nan)
    order = sorted(range(len(examples)), key=lambda place: examples[place].inputs)
    for start in range(0, len(order), _BATCH):
        places = order[start : start + _BATCH]
        beat(len(places))
        batch = pack([examples[place] for place in places]).to(setup.ranks.device)
        nats = model.token_nats(batch.ids, batch.targets, batch.lengths)[0].double().cpu().numpy()
        ends = np.cumsum([examples[place].supervised for place in places])
        for place, end in zip(places, ends):
            size = examples[place].supervised
            found[place] = nats[end - size : end].mean() if size else np.nan
    return found
