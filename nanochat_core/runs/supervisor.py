"""The process that stands for a run: runs torchrun in itself, passes "save and stop" on, and tells why a run died."""

import argparse
import os
import signal
import sys
from dataclasses import replace
from types import FrameType
from typing import TYPE_CHECKING

from nanochat_core.runs.claiming import claimed
from nanochat_core.runs.failures import CLOSING_SECONDS, Failure, explain, last_exception, root_cause
from nanochat_core.runs.run import Run
from nanochat_core.runs.stopping import announce_launcher
from nanochat_core.system import processes
from nanochat_core.system.files import emptied, now

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

WORKER_MODULE = "nanochat_core.training.worker"
_SEE_LOG = "The whole message is in the run's log.txt."


class _EndedBeforeTraining(BaseException):
    """A stop came while there was nothing to save."""


def main(arguments: list[str] | None = None) -> int:
    """Supervise one run until it is over. Returns 0 when it finished or stopped, 1 when it failed."""
    parser = argparse.ArgumentParser(prog="python -m nanochat_core.runs.supervisor")
    parser.add_argument("tag")
    parser.add_argument("--nproc", type=int, default=1)
    parser.add_argument("--worker", default=WORKER_MODULE, help="module that trains the run")
    options = parser.parse_args(arguments)
    return supervise(Run.open(options.tag), options.nproc, options.worker)


def supervise(run: Run, nproc: int, worker: str = WORKER_MODULE) -> int:
    """Train `run` in `nproc` processes of `python -m <worker> TAG` and wait for them."""
    _pass_signals_on(run)
    _stand_for(run, nproc)
    announce_launcher()
    print(f"--- {now()}: {nproc} process{'es' if nproc > 1 else ''} of {worker} for run {run.tag}", flush=True)
    try:
        run.write_status(state="starting")
        failures = _torchrun(run, nproc, worker)
    except _EndedBeforeTraining:
        run.write_status(state="stopped", eta_seconds=None)
        return 0
    except Exception as error:
        run.write_status(state="failed", error=f"The training could not be started: {error}", remedy=_SEE_LOG)
        raise
    finally:
        processes.kill(processes.tree(processes.identity())[1:])
    return _last_word(run, failures)


def _stand_for(run: Run, nproc: int) -> None:
    """Make sure that launch.json names this process, also when the one that started it was killed before it did."""
    with claimed(run):
        who = run.launcher()
        if who is None or who.pid != os.getpid():
            me = processes.identity().to_dict()
            run.write_launch(**me, command=sys.orig_argv, nproc=nproc, detached=True, started=now())


def _pass_signals_on(run: Run) -> None:
    """SIGTERM and SIGINT mean "save and stop", which the stop file tells to every rank at once."""

    def ask(number: int, frame: FrameType | None) -> None:
        if not run.has_begun():
            signal.signal(number, signal.SIG_IGN)  # a second request must not break off the clean-up
            raise _EndedBeforeTraining
        run.request_stop()

    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGINT, ask)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a closed terminal ends nothing


def _torchrun(run: Run, nproc: int, worker: str) -> list[Failure]:
    """Start the ranks through torchrun on a free port of this machine; how they failed, empty when none did."""
    # Here, not above: the handlers and the state must be in place before these seconds of loading.
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    _close_quickly()
    with emptied(run.path / ".ranks") as folder:  # the ranks leave their exceptions there
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=nproc,
            rdzv_backend="c10d",
            rdzv_endpoint="127.0.0.1:0",
            local_addr="127.0.0.1",
            run_id=run.tag,
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=str(folder)),
            signals_to_handle="SIGQUIT",  # the others are ours
        )
        try:
            elastic_launch(config, sys.executable)("-u", "-m", worker, run.tag)
        except ChildFailedError as error:
            return [
                Failure(rank, failure.exitcode, _message(failure), failure.timestamp)
                for rank, failure in error.failures.items()
            ]
    return []


def _close_quickly() -> None:
    """Let torchrun end the other ranks soon after one has died, instead of after its 30 s.

    They hang in a collective operation with the dead one and can save nothing, while a person waits for the reason.
    """
    from torch.distributed.elastic.multiprocessing.api import PContext

    close = PContext.close

    def close_quickly(context: PContext, death_sig: signal.Signals | None = None, timeout: int = 30) -> None:
        close(context, death_sig, min(timeout, CLOSING_SECONDS))

    PContext.close = close_quickly  # type: ignore[method-assign,assignment]  # torchrun has no setting for it


def _message(failure: "ProcessFailure") -> str:
    """The exception that the rank reported, empty when it reported none (its text is then about the exit status)."""
    reported = failure.error_file_data.get("message", "")
    text = reported.get("message", "") if isinstance(reported, dict) else str(reported)
    return "" if text == "<NONE>" else text


def _last_word(run: Run, failures: list[Failure]) -> int:
    """Write why the run failed, unless rank 0 has said how it ended. Returns the exit status."""
    status = run.status()
    if status.state in ("finished", "stopped"):  # a rank that stumbles on its way out has not spoilt the result
        return 0
    if not failures:
        if status.state != "failed":
            run.write_status(
                state="failed", eta_seconds=None, error="The training ended without a result.", remedy=_SEE_LOG
            )
        return 1
    cause = root_cause(failures)
    if status.state == "failed" and status.error and cause.rank == 0 and (cause.exitcode > 0 or cause.message):
        return 1  # the trainer knows better why it gave up
    if cause.exitcode > 0 and not cause.message:
        cause = replace(cause, message=last_exception(run.log_tail(200)))
    why = explain(cause, run.tag, run.settings())
    run.write_status(**why.to_status(cause.rank))
    print(f"--- {now()}: failed. {why.error} {why.remedy}", flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
