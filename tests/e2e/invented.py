"""Runs that nobody trained: directories as a training leaves them, so that pictures and tests need not wait."""

import json
import math
import time
from typing import Any

from nanochat_core.config import FinetuneConfig
from nanochat_core.runs.launcher import create_run
from nanochat_core.runs.presets import with_preset
from nanochat_core.runs.run import Run
from tests.e2e.real_app import ROOT

EXAMPLE = ROOT / "data" / "example_data.jsonl"


def invent_run(tag: str, state: str = "finished", steps: int = 120, done: int | None = None, **settings: Any) -> Run:
    """A run of `done` of `steps` steps in `state`, with falling losses, a log and scores."""
    done = steps if done is None else done
    config: FinetuneConfig = with_preset(
        **{"data_path": str(EXAMPLE), "model_tag": "starter", "output_tag": tag, **settings}
    )
    run = create_run(config)
    began, best, best_step = time.time() - done * 1.3, math.inf, 0
    for step in range(done + 1):
        falling = 0.6 + 2.4 * math.exp(-step / (20 + 300 * config.init_lr_frac))
        place = {"step": step, "epoch": step / 14, "tokens": step * 1650, "time": began + step * 1.3}
        if step:
            wobble = 0.12 * math.sin(step * 2.1) + 0.08 * math.sin(step * 0.37 + len(tag))
            speed = {"tokens_per_s": 1270.0 + 40 * math.sin(step), "memory_bytes": 734_000_000}
            run.append_metrics({**place, "train_loss": falling + wobble, "lr_mult": 1 - step / steps, **speed})
        if step % 10 == 0 or step == done:
            loss = falling + 0.15 + (step / 260) ** 2
            if loss < best:
                best, best_step = loss, step
            run.append_metrics({**place, "val_loss": loss, "best_val_loss": best})
    run.log_file.write_text(
        "Base model starter: 5,242,880 parameters, cpu, float32.\n"
        + "".join(f"step {step} of {steps}\n" for step in range(done + 1))
    )
    run.write_status(state=state, step=done, steps=steps, epoch=done / 14, val_loss=loss, best_val_loss=best)
    run.write_status(device="cpu", dtype="float32", best_step=best_step, eta_seconds=(steps - done) * 1.3)
    run.evals_dir.mkdir()
    for name, correct in (("before", 0), ("after", 26)):
        replies = [["What are the opening hours of the bakery?", f"An invented reply {name} the training."]]
        scores = {"new": {"correct": correct, "total": 30}, "old": {"correct": 460, "total": 500}}
        (run.evals_dir / f"{name}.json").write_text(json.dumps({"replies": replies, **scores}))
    return run
