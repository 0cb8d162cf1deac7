"""The process that stands for a run: runs torchrun in itself, passes "save and stop" on, and tells why a run died."""

import argparse
import contextlib
import os
import signal
import sys
from dataclasses import replace
from types import FrameType

from nanochat_core.runs.claiming import claimed
from nanochat_core.runs.failures import Failure, explain, is_lost_peer, last_exception, root_cause
from nanochat_core.runs.machines import LOST_MACHINE, attend, resume_together, watched_joins
from nanochat_core.runs.nodes import Nodes
from nanochat_core.runs.run import Run
from nanochat_core.runs.stopping import announce_launcher
from nanochat_core.runs.torchrun import NotTogether, torchrun
from nanochat_core.system import processes
from nanochat_core.system.files import now

WORKER_MODULE = "nanochat_core.training.worker"
_SEE_LOG = "The whole message is in the run's log.txt."


class _EndedBeforeTraining(BaseException):
    """A stop came while there was nothing to save."""


def main(arguments: list[str] | None = None) -> int:
    """Supervise one run until it is over. Returns 0 when it finished or stopped, 1 when it failed."""
    parser = argparse.ArgumentParser(prog="python -m nanochat_core.runs.supervisor")
    parser.add_argument("tag")
    parser.add_argument("--nproc", type=int, default=1)
    parser.add_argument("--nnodes", type=int, default=1)
    parser.add_argument("--node_rank", type=int, default=0)
    parser.add_argument("--rdzv_endpoint", default="")
    parser.add_argument("--max_restarts", type=int, default=0)
    parser.add_argument("--worker", default=WORKER_MODULE, help="module that trains the run")
    options = parser.parse_args(arguments)
    nodes = Nodes(options.nnodes, options.node_rank, options.rdzv_endpoint, options.max_restarts)
    if nodes.rank > 0:
        return attend(options.tag, options.nproc, nodes, options.worker)
    return supervise(Run.open(options.tag), options.nproc, options.worker, nodes)


def supervise(run: Run, nproc: int, worker: str, nodes: Nodes) -> int:
    """Train `run` in `nproc` processes of `python -m <worker> TAG` and wait for them. For the first machine."""
    _pass_signals_on(run)
    _stand_for(run, nproc)
    announce_launcher()
    print(f"--- {now()}: {nproc} process{'es' if nproc > 1 else ''} of {worker} for run {run.tag}", flush=True)
    try:
        run.write_status(state="starting")
        with watched_joins(run, nodes):
            failures = torchrun(run, nproc, worker, nodes)
    except _EndedBeforeTraining:
        run.write_status(state="stopped", eta_seconds=None)
        resume = f"python -m nanochat_core runs resume {run.quoted}"
        print(f"Stopped before the training began. Resume it: {resume}", flush=True)
        return 0
    except NotTogether as error:
        run.write_status(state="failed", eta_seconds=None, error=str(error), remedy=error.remedy)
        print(f"--- {now()}: failed. {error} {error.remedy}", flush=True)
        return 1
    except Exception as error:
        run.write_status(state="failed", error=f"The training could not be started: {error}", remedy=_SEE_LOG)
        raise
    finally:
        processes.kill(processes.tree(processes.identity())[1:])
        with contextlib.suppress(OSError):  # of a trainer that was ended before it could remove it
            run.unpacked_data_file.unlink(missing_ok=True)
    return _last_word(run, failures, nodes)


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


def _last_word(run: Run, failures: list[Failure], nodes: Nodes) -> int:
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
    if not nodes.is_alone and all(is_lost_peer(failure.message) for failure in failures):
        run.write_status(state="failed", eta_seconds=None, error=LOST_MACHINE, remedy=resume_together(run.tag))
        print(f"--- {now()}: failed. {LOST_MACHINE} {resume_together(run.tag)}", flush=True)
        return 1
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
