"""What several machines of a run do beside torchrun: wait for the first, say that they are there, and why they left."""

import contextlib
import signal
import socket
import threading
import time
from collections.abc import Iterator
from types import FrameType

from nanochat_core.paths import finetuned_dir
from nanochat_core.runs.cause import tell_for_the_dead
from nanochat_core.runs.failures import explain, root_cause
from nanochat_core.runs.nodes import JOIN_SECONDS, Nodes, host_name
from nanochat_core.runs.run import Run
from nanochat_core.runs.stopping import announce_launcher
from nanochat_core.runs.torchrun import NotTogether, table_at, torchrun
from nanochat_core.system import processes
from nanochat_core.system.files import now

LOST_MACHINE = "A process on another machine of the run was lost, and no restart is left."
_LOOK_SECONDS = 0.5
_JOINED = "nanochat-studio"


def resume_together(tag: str) -> str:
    """The remedy where the machines have lost each other."""
    return (
        f"What happened there stands in that machine's terminal. Run '{tag}' resumes from its last checkpoint when the "
        "command is typed again on all machines, with --resume; --max_restarts N lets it start again by itself."
    )


def attend(tag: str, nproc: int, nodes: Nodes, worker: str) -> int:
    """The processes of a further machine, until the run is over; its exit status. Writes nothing to the run's folder.

    A signal asks the whole run to save and stop, as it does on the first machine.
    """
    run = Run(tag, finetuned_dir() / tag)
    _pass_signals_on(run)
    announce_launcher()
    print(f"--- {now()}: machine {nodes.rank} of {nodes.count} for run {tag}, {nproc} processes", flush=True)
    try:
        _wait_for_the_first(nodes)
        _say_that_we_are_here(nodes)
        failures = torchrun(run, nproc, worker, nodes)
    except NotTogether as error:
        print(f"--- {now()}: failed. {error} {error.remedy}", flush=True)
        return 1
    finally:
        processes.kill(processes.tree(processes.identity())[1:])
    if not failures:
        print(f"--- {now()}: this machine's part is over.", flush=True)
        return 0
    tell_for_the_dead(failures)
    why = explain(root_cause(failures), tag, run.settings())
    print(f"--- {now()}: failed. {why.error} {why.remedy}", flush=True)
    return 1


def _pass_signals_on(run: Run) -> None:
    def ask(number: int, frame: FrameType | None) -> None:
        if not run.path.is_dir() or not run.has_begun():
            raise SystemExit(1)
        run.request_stop()

    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGINT, ask)


def _wait_for_the_first(nodes: Nodes) -> None:
    """Return when the first machine listens. NotTogether when it does not within JOIN_SECONDS."""
    limit, said = time.monotonic() + JOIN_SECONDS, False
    while True:
        with contextlib.suppress(OSError), socket.create_connection((nodes.host, nodes.port), timeout=5):
            return
        if time.monotonic() > limit:
            raise NotTogether(
                f"The first machine does not answer at {nodes.host}:{nodes.port}.",
                "Start the run there (--node_rank 0), and look whether this machine can reach that address.",
            )
        if not said:
            print(f"Waiting for the first machine at {nodes.host}:{nodes.port} ...", flush=True)
            said = True
        time.sleep(_LOOK_SECONDS)


def _say_that_we_are_here(nodes: Nodes) -> None:
    table_at(nodes.host, nodes.port, _JOINED).set(str(nodes.rank), host_name())


@contextlib.contextmanager
def watched_joins(run: Run, nodes: Nodes) -> Iterator[None]:
    """Within it, the run's status says which machines have come, until all are there: then the trainer says it."""
    over = threading.Event()
    if not nodes.is_alone:
        threading.Thread(target=_note_joins, args=(run, nodes, over), name="joins", daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _note_joins(run: Run, nodes: Nodes, over: threading.Event) -> None:
    store, known = None, [host_name()]
    while len(known) < nodes.count and not over.wait(_LOOK_SECONDS):
        with contextlib.suppress(Exception):  # no table yet, or no longer: whoever needs it says so
            store = store or table_at(nodes.host, nodes.port, _JOINED)
            ranks = [str(rank) for rank in range(1, nodes.count) if store.check([str(rank)])]
            present = [host_name(), *(store.get(rank).decode() for rank in ranks)]
            if present != known:
                known = present
                run.write_status(nodes=known, doing=_missing(nodes, known))
        if len(known) == 1:
            run.write_status(nodes=known, doing=_missing(nodes, known))


def _missing(nodes: Nodes, known: list[str]) -> str | None:
    left = nodes.count - len(known)
    return f"Waiting for {left} of {nodes.count} machines to join at {nodes.endpoint}." if left else None
