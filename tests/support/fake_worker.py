"""A stand-in for the training process: what it does is the word in FAKE_WORKER. It needs no torch, so it starts fast.

count           rank 0 counts 3 steps and finishes
wait            every rank waits for the stop file; rank 0 then "saves" and writes stopped
stubborn        as wait, but SIGTERM is ignored and orphans only stop by force
fail:MESSAGE    rank 0 waits; the last rank fails with that exception
say:SENTENCE    rank 0 writes that it failed with that sentence, then fails
silent          ends without a last word
slow            never gets to train
"""

import json
import os
import signal
import sys
import time

from nanochat_core.runs.run import Run
from nanochat_core.runs.stopping import launcher_from_environment, watch_launcher


def main() -> None:
    run = Run.open(sys.argv[1])
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    mode, _, text = os.environ["FAKE_WORKER"].partition(":")
    if mode == "slow":
        time.sleep(60)
    if mode == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    gone = []
    watch_launcher(launcher_from_environment(), lambda: gone.append(True), run.path, grace_seconds=0.5)
    (run.path / f"rank{rank}").write_text(json.dumps({"pid": os.getpid(), "cwd": os.getcwd(), **os.environ}))
    if rank == 0:
        run.write_status(state="running", step=0, steps=3)
    if mode == "fail" and rank == world - 1:
        report_failure(text)
    if mode == "say":
        run.write_status(state="failed", error=text, remedy="Do it.")
        report_failure("ValueError: something else")
    if mode == "count" and rank == 0:
        for step in (1, 2, 3):
            run.write_status(step=step)
            run.append_metrics({"step": step, "train_loss": 1.0 / step})
        print("counted", flush=True)
        run.write_status(state="finished")
    if mode in ("count", "silent"):
        return
    while not run.stop_requested() and not (gone and mode != "stubborn"):
        time.sleep(0.02)
    if rank == 0:
        (run.path / "saved").touch()
        if not gone:
            run.write_status(state="stopped")


def report_failure(text: str) -> None:
    """As torch.distributed.elastic's @record does."""
    with open(os.environ["TORCHELASTIC_ERROR_FILE"], "w") as file:
        json.dump({"message": {"message": text, "extraInfo": {"timestamp": str(int(time.time()))}}}, file)
    sys.exit(1)


if __name__ == "__main__":
    main()
