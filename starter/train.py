"""Train the starter from nothing on fresh generated conversations, with Muon and AdamW, to one weight file.

Every conversation is seen once. The learning rate warms up, stays, and falls to zero over the last part.
"""

import argparse
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from nanochat_core.checkpoint.reading import read_weights
from nanochat_core.config import FinetuneConfig
from nanochat_core.model.batch import Batch, pack
from nanochat_core.model.gpt import GPT, GPTConfig
from nanochat_core.system.files import write_atomically, write_json
from nanochat_core.tokenizer.rendering import Example, render
from nanochat_core.tokenizer.tokenizer import Tokenizer
from nanochat_core.training.optimizers import build_optimizers, set_learning_rates
from starter.generate import conversation

FOLDER = Path(__file__).parent
SHAPE = GPTConfig(sequence_len=1024, vocab_size=4096, n_layer=4, n_head=4, n_kv_head=4, n_embd=256)
RATES = {"matrix_lr": 0.02, "embedding_lr": 0.2, "unembedding_lr": 0.004}
WARMUP_STEPS, DECAY_PART = 40, 0.45
BATCH_TOKENS, POOL = 4096, 1024
"""Tokens of one optimizer step; conversations that are sorted by length together."""
CONTEXT = 512
TOKENS = 16_000_000
"""Length of the training."""


def batches(tokenizer: Tokenizer, seed: int) -> Iterator[Batch]:
    """Endless batches of like length, so that attention's rectangles hold little padding."""
    order = torch.Generator().manual_seed(seed)
    first = seed * 10_000_000
    while True:
        examples = render([conversation(first + index) for index in range(POOL)], tokenizer, CONTEXT)
        first += POOL
        rows = _filled(sorted(examples, key=lambda example: example.inputs))
        for index in torch.randperm(len(rows), generator=order).tolist():
            yield pack(rows[index])


def _filled(examples: list[Example]) -> list[list[Example]]:
    rows: list[list[Example]] = [[]]
    for example in examples:
        if sum(other.inputs for other in rows[-1]) + example.inputs > BATCH_TOKENS:
            rows.append([])
        rows[-1].append(example)
    return rows


def rate(progress: float, step: int, decay_part: float = DECAY_PART) -> float:
    """Factor on every learning rate at `progress` (0 to 1) of the training."""
    return min(1.0, (step + 1) / WARMUP_STEPS, max(0.0, (1.0 - progress) / decay_part))


def save(model: GPT, folder: Path, step: int, notes: dict) -> None:
    """Weights in bfloat16 and the meta file, in nanochat's layout."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().to(torch.bfloat16).clone() for name, tensor in model.state_dict().items()}
    write_atomically(folder / f"model_{step:06d}.pt", lambda file: torch.save(weights, file))
    write_json(folder / f"meta_{step:06d}.json", {"step": step, "model_config": model.config.to_meta(), **notes})


class Log:
    """One JSON object a line, printed as well."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_text("")

    def write(self, **values) -> None:
        line = json.dumps(values)
        print(line, flush=True)
        with self.path.open("a") as file:
            file.write(line + "\n")


def train(  # noqa: PLR0913  all but the first two are options
    folder: Path,
    tokens: int,
    seed: int = 1,
    minutes: float = math.inf,
    save_every: int | None = None,
    weights: Path | None = None,
    peak: float = 1.0,
) -> int:
    """Train until `minutes` have passed or `tokens` are through, whichever comes first; returns the number of steps.

    With a limit of tokens alone the weights depend on the seed only (and on the machine's arithmetic).
    """
    tokenizer = Tokenizer.from_directory(FOLDER)
    model = GPT(SHAPE, compute_dtype=torch.bfloat16).init_weights(seed)
    if weights:
        model.load_state_dict({name: tensor.float() for name, tensor in read_weights(weights).items()})
    optimizers = build_optimizers(model, FinetuneConfig(data_path="generated", **RATES))
    log = Log(folder / "train_log.jsonl")
    log.write(seed=seed, parameters=sum(p.numel() for p in model.parameters()), torch=torch.__version__, **RATES)
    start, seen, supervised, step = time.monotonic(), 0, 0, 0
    recent: list[float] = []
    for step, batch in enumerate(batches(tokenizer, seed)):
        progress = max(seen / tokens, (time.monotonic() - start) / (60 * minutes))
        if progress >= 1.0:
            break
        count = int((batch.targets != -1).sum())
        multiplier = rate(progress, step, 1.0 if weights else DECAY_PART) * peak
        set_learning_rates(optimizers, multiplier)
        loss = model.loss_sum(batch.ids, batch.targets, batch.lengths) / count
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        recent.append(float(loss.detach()))
        assert math.isfinite(recent[-1]), f"the loss is {recent[-1]} at step {step}"
        seen, supervised = seen + batch.ids.numel(), supervised + count
        if (step + 1) % 20 == 0:
            elapsed = time.monotonic() - start
            log.write(
                step=step + 1, loss=round(sum(recent) / len(recent), 4), tokens=seen, supervised=supervised,
                lr=round(multiplier, 4), seconds=round(elapsed, 1), tokens_per_s=round(seen / elapsed),
            )  # fmt: skip
            recent = []
        if save_every and (step + 1) % save_every == 0:
            save(model, folder, step + 1, {"tokens": seen})
    notes = {"name": "starter (5M, practice only)", "tokens": seen, "supervised_tokens": supervised, "seed": seed}
    save(model, folder, step, notes)
    log.write(finished=True, step=step, tokens=seen, supervised=supervised)
    return step


def main() -> None:
    parser = argparse.ArgumentParser(description="train the starter into a folder")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument("--tokens", type=int, default=TOKENS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--weights", type=Path, help="go on from these, with the rates falling from the start")
    parser.add_argument("--peak", type=float, default=1.0, help="factor on all rates")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    train(options.folder, options.tokens, options.seed, options.minutes, 400, options.weights, options.peak)


if __name__ == "__main__":
    main()
