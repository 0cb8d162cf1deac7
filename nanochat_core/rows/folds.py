"""How well each answer fits its question, judged by small models that have not been trained on that row.

The rows are dealt to K folds. For each, the starter is trained on the others and then asked how likely every held-out
answer is after its own question, and after other questions of the data. An answer that is no likelier after its own one
does not belong there: so a difficult answer, whose loss is high wherever it stands, is told from a wrong one.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nanochat_core.compute.devices import choose_device
from nanochat_core.compute.ranks import Ranks
from nanochat_core.config import FinetuneConfig
from nanochat_core.data.conversations import load_conversations
from nanochat_core.data.tokens.cache import tokenized
from nanochat_core.data.tokens.plan import Examples
from nanochat_core.data.training_data import TrainingData
from nanochat_core.model.batch import pack
from nanochat_core.model.gpt import GPT
from nanochat_core.rows.doctor import Report
from nanochat_core.rows.losses import FoldLosses
from nanochat_core.rows.neighbours import Answered, Around
from nanochat_core.rows.row import text_of
from nanochat_core.runs.presets import with_preset
from nanochat_core.tokenizer.rendering import Example
from nanochat_core.tokenizer.tokenizer import Tokenizer
from nanochat_core.training.setup import Setup, base_files, set_up

ELSEWHERE, RIVALS = 4, 3
"""Other questions that each answer is tried with, and answers of the likest rows that are tried in its place."""
EPOCHS, MOST_STEPS = 4, 300
"""Of each fold's training: enough to learn what many rows say, too little to learn what one does."""
_BATCH = 32


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


def fold_losses(path: str | Path, folds: int, report: Report, seed: int = 42) -> FoldLosses:
    """Train `folds` models on the file's rows, and take the losses of each row's answers by the one that never saw it.

    report: called with (how much is done, 0 to 1; a sentence). ValueError when the file is rejected, or too short.
    """
    config = with_preset(data_path=str(path), model_tag="starter", replay_path="", replay_ratio=0.0, seed=seed)
    conversations = load_conversations(path, max_seq_len=config.max_seq_len)
    count = len(conversations)
    if not 2 <= folds <= count // 2:
        raise ValueError(
            f"--folds {folds} cannot be done with {count} rows: give from 2 to {max(2, count // 2)} folds, and "
            "enough rows."
        )
    steps = EPOCHS * -(-(count - count // folds) // config.target_examples_per_step)
    config = replace(config, num_iterations=min(steps, MOST_STEPS))
    fold_of = np.arange(count) % folds
    np.random.default_rng(seed).shuffle(fold_of)
    parts = _parts(conversations)
    found = FoldLosses.empty(np.array([part.row for part in parts]))
    around = Around([Answered(part.row, part.prompt, part.said) for part in parts])
    found.doubt[:] = [around.doubt(place) for place in range(len(parts))]
    for fold in range(folds):
        held = [place for place, part in enumerate(parts) if fold_of[part.row] == fold]
        report(fold / folds, f"Fold {fold + 1} of {folds}: reading the starter")
        setup = _setup(config, fold_of == fold)
        own = [_example(parts[place].messages, setup.tokenizer, config) for place in held]
        found.base[held] = _nats(setup, own)
        _train(setup, fold, folds, report)
        report((fold + 0.9) / folds, f"Fold {fold + 1} of {folds}: {len(held)} answers that it has not seen")
        found.own[held] = _nats(setup, own)
        draw = random.Random(f"{seed}:{fold}")
        others = [part for place in held for part in _with_other_questions(parts[place], parts, draw)]
        found.elsewhere[held] = _nats_of(setup, config, others).reshape(-1, ELSEWHERE).mean(axis=1)
        _take_rivals(found, setup, config, held, parts, around)
    report(1.0, "All folds are done")
    return found


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
    parts: Sequence[_Part],
    around: Around,
) -> None:
    """Note of each held-out part the rival that the model finds likeliest after its question."""
    tried = [(place, rival) for place in held for rival in around.rivals(place, RIVALS)]
    asked = [_Part(0, [*parts[place].messages[:-1], parts[rival].answer]) for place, rival in tried]
    for (place, rival), loss in zip(tried, _nats_of(setup, config, asked).tolist()):
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


def _train(setup: Setup, fold: int, folds: int, report: Report) -> None:
    for step, examples in enumerate(islice(setup.plan.steps_from(0), setup.steps)):
        share = (fold + 0.1 + 0.8 * step / setup.steps) / folds
        report(share, f"Fold {fold + 1} of {folds}: step {step + 1} of {setup.steps}")
        setup.training_step.take(step, examples)


def _nats_of(setup: Setup, config: FinetuneConfig, parts: Sequence[_Part]) -> np.ndarray:
    return _nats(setup, [_example(part.messages, setup.tokenizer, config) for part in parts])


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
def _nats(setup: Setup, examples: Sequence[Example]) -> np.ndarray:
    """float64 (N,): mean nats of each example's supervised tokens."""
    model: GPT = setup.model
    model.eval()
    found = np.full(len(examples), np.nan)
    order = sorted(range(len(examples)), key=lambda place: examples[place].inputs)
    for start in range(0, len(order), _BATCH):
        places = order[start : start + _BATCH]
        batch = pack([examples[place] for place in places]).to(setup.ranks.device)
        nats = model.token_nats(batch.ids, batch.targets, batch.lengths)[0].double().cpu().numpy()
        ends = np.cumsum([examples[place].supervised for place in places])
        for place, end in zip(places, ends):
            size = examples[place].supervised
            found[place] = nats[end - size : end].mean() if size else np.nan
    return found
