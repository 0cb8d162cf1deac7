"""The real worker of a run, of which machine FAILING fails in its third step as FAILS says: an exception, or killed.

With HANGS=1 the other one hangs meanwhile, as in a collective operation that does not learn that its peer is gone.
"""

import os
import signal
import time
from pathlib import Path

from nanochat_core.training import worker
from nanochat_core.training.step import TrainingStep

_accumulate = TrainingStep.accumulate
_steps = []


def failing_accumulate(step, examples):
    _steps.append(None)
    if len(_steps) == 3 and os.environ["NANOCHAT_STUDIO_NODE"] == os.environ["FAILING"]:
        Path(os.environ["NANOCHAT_STUDIO_HOME"], "failed_at").write_text(str(time.time()))
        if os.environ["FAILS"] == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        raise ValueError(os.environ["FAILS"])
    if len(_steps) == 3 and os.environ["HANGS"] == "1":
        time.sleep(3600)
    return _accumulate(step, examples)


TrainingStep.accumulate = failing_accumulate

if __name__ == "__main__":
    worker.main()
