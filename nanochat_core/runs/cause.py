"""Why a rank failed, told to those on other machines, who would wait for it in vain.

On one machine torchrun ends the other ranks at once. Those of other machines wait in a collective operation until its
time is out, half an hour, unless the network tells them that their peer is gone; and then they do not know why. So a
rank that fails leaves a word in the table by which the machines meet, at which every rank looks while it trains.
"""

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from nanochat_core.runs.failures import CLOSING_SECONDS, FailedElsewhere, Failure, is_lost_peer, root_cause
from nanochat_core.runs.nodes import MEETING_VARIABLE, START_VARIABLE, node_of, rank_of, restarts_left
from nanochat_core.runs.torchrun import table_at

LOOK_SECONDS = 0.5
GRACE_SECONDS = 3.0
"""How long a rank may go on that has learned of a failure: it may be the same one, about to be said by itself."""

_WORD = "failed"
_TABLE_SECONDS = 10.0
_FIRST_IS_GONE = "connection closed: the first machine has left the run"


@contextlib.contextmanager
def cause_shared(report: Callable[[BaseException], Any]) -> Iterator[None]:
    """For a rank, which does its work in the block: its exception is told, and that of a rank elsewhere ends it.

    report: tells torchrun the exception with which this process is about to end. FailedElsewhere, instead of what a
    lost peer brings about, where another rank has said why it failed. Nothing of it happens on a single machine.
    """
    if node_of(os.environ) is None:
        yield
        return
    over = threading.Event()
    threading.Thread(target=_watch, args=(report, over), name="cause", daemon=True).start()
    try:
        yield
    except Exception as error:
        over.set()
        message = f"{type(error).__name__}: {error}"
        if isinstance(error, ValueError) or not is_lost_peer(message):
            with contextlib.suppress(Exception):  # what went wrong here is told in any case
                _tell(_table(), Failure(rank_of(os.environ), 1, message))
        elif restarts_left() == 0 and (cause := _awaited()) is not None:
            raise FailedElsewhere(cause) from error
        raise
    finally:
        over.set()


def tell_for_the_dead(failures: list[Failure]) -> None:
    """For what stands for the ranks of a machine: tell how they failed, where they could not do so themselves."""
    cause = root_cause(failures)
    if START_VARIABLE in os.environ and not is_lost_peer(cause.message):
        with contextlib.suppress(Exception):  # the first machine has left already
            _tell(_table(), cause)


def _table() -> Any:
    """On the first machine, where torchrun's own for the ranks need not be; none finds a word from before a restart."""
    host, _, port = os.environ[MEETING_VARIABLE].rpartition(":")
    return table_at(host, int(port), os.environ[START_VARIABLE], _TABLE_SECONDS)


def _tell(table: Any, failure: Failure) -> None:
    """The first word stays: what follows are consequences."""
    word = {"rank": failure.rank, "exitcode": failure.exitcode, "message": failure.message}
    table.compare_set(_WORD, "", json.dumps(word))


def _told(table: Any) -> Failure | None:
    return Failure(**json.loads(table.get(_WORD))) if table.check([_WORD]) else None


def _awaited() -> Failure | None:
    """Why the peer is gone. What stands for a process that died in silence says so when its machine is cleared."""
    limit = time.monotonic() + CLOSING_SECONDS + GRACE_SECONDS
    with contextlib.suppress(Exception):  # the table is gone with the first machine
        table = _table()
        while time.monotonic() < limit:
            if (cause := _told(table)) is not None:
                return cause
            time.sleep(LOOK_SECONDS / 5)
    return None


def _watch(report: Callable[[BaseException], Any], over: threading.Event) -> None:
    """End this process when a rank has failed, though it may hang in a collective operation."""
    error: Exception | None = None
    try:
        table = _table()
        while error is None and not over.wait(LOOK_SECONDS):
            if (cause := _told(table)) is not None:
                error = FailedElsewhere(cause)
    except Exception:  # noqa: BLE001 - torch has several for a lost connection
        error = ConnectionError(_FIRST_IS_GONE)
    if error is None or over.wait(GRACE_SECONDS):
        return
    report(error)
    print(f"Ended by what happened on another machine: {error}", flush=True)
    os._exit(1)
