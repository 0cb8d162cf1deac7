"""Holds a run of `make finetune` to what the README promises: `python -m tests.check_main_job TAG`."""

import json
import sys

from nanochat_core import Run


def main(tag: str) -> None:
    """Print the run's figures; exit with the first promise that does not hold."""
    run = Run.open(tag)
    losses = run.metrics()["val_loss"].dropna().tolist()
    before, after = (json.loads((run.evals_dir / f"{name}.json").read_text()) for name in ("before", "after"))
    new, kept = after["new"]["correct"], after["old"]["correct"] / before["old"]["correct"]
    print(f"validation loss {losses[0]:.2f} -> {losses[-1]:.2f}, new {new} of 30, old skills kept {kept:.0%}")
    promises = {
        "the run finishes": run.status().state == "finished",
        "the validation loss falls": losses[-1] < losses[0],
        "no question is answered before": before["new"]["correct"] == 0,
        "at least 22 of 30 questions are answered after": after["new"]["total"] == 30 and new >= 22,
        "at least 85% of the old skills stay": kept >= 0.85,
    }
    broken = [promise for promise, holds in promises.items() if not holds]
    if broken:
        sys.exit(f"Broken: {broken[0]}.")


if __name__ == "__main__":
    main(sys.argv[1])
