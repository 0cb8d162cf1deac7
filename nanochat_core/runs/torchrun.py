"""The ranks of one machine under torchrun, in this process: started, started again, and how they failed."""

import contextlib
import os
import signal
import sys
import tempfile
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nanochat_core.runs.failures import CLOSING_SECONDS, Failure, told_cause
from nanochat_core.runs.nodes import JOIN_SECONDS, START_VARIABLE, Nodes
from nanochat_core.runs.run import Run
from nanochat_core.system.files import emptied
from nanochat_core.system.words import duration

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure


_TABLE_SECONDS = 120
_PARTING_SECONDS = 60
"""How long a machine that leaves an ended run waits for the others to leave, too."""


class _Over(Exception):
    """The run has ended: its ranks are not started again."""


class NotTogether(RuntimeError):
    """The machines of a run have not come together, or one of them has left for good."""

    def __init__(self, sentence: str, remedy: str):
        super().__init__(sentence)
        self.remedy = remedy


def torchrun(run: Run, nproc: int, worker: str, nodes: Nodes) -> list[Failure]:
    """Start `nproc` ranks through torchrun and wait for them; how they failed, empty when none did.

    On a free port of this machine, or together with the other machines at their endpoint. NotTogether when they do not
    come.
    """
    # Here, not above: the signal handlers and the state must be in place before these seconds of loading.
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    _close_quickly()
    _start_together()
    _end_together(run)
    with _folder_for_exceptions(run, nodes) as folder:
        config = LaunchConfig(
            min_nodes=nodes.count,
            max_nodes=nodes.count,
            nproc_per_node=nproc,
            rdzv_backend="c10d",
            rdzv_endpoint=f"{nodes.host}:{nodes.port}",
            rdzv_configs={} if nodes.is_alone else {"is_host": nodes.rank == 0, "join_timeout": JOIN_SECONDS},
            local_addr=nodes.host if nodes.rank == 0 or nodes.is_here else None,
            run_id=run.tag,
            max_restarts=nodes.max_restarts,
            logs_specs=DefaultLogsSpecs(log_dir=str(folder)),
            signals_to_handle="SIGQUIT",  # the others are ours
        )
        try:
            elastic_launch(config, sys.executable)("-u", "-m", worker, run.tag)
        except _Over:
            return []
        except ChildFailedError as error:
            first = nodes.rank * nproc  # torchrun counts the machines in an order of its own
            return [
                told_cause(Failure(first + failure.local_rank, failure.exitcode, _message(failure), failure.timestamp))
                for failure in error.failures.values()
            ]
        except RendezvousError as error:
            raise NotTogether(
                f"The {nodes.count} machines have not come together within {duration(JOIN_SECONDS)} at "
                f"{nodes.host}:{nodes.port} ({type(error).__name__}).",
                "Look whether each can reach that address, then type the command again on all of them, with --resume "
                "where there is a checkpoint.",
            ) from error
    return []


def table_at(host: str, port: int, name: str, seconds: float = _TABLE_SECONDS) -> Any:
    """The part called `name` of the table of texts by which torchrun's machines and ranks meet (a torch Store)."""
    from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]  # public, says its documentation

    return PrefixStore(name, TCPStore(host, port, is_master=False, timeout=timedelta(seconds=seconds)))


@contextlib.contextmanager
def _folder_for_exceptions(run: Run, nodes: Nodes) -> Iterator[Path]:
    """Where the ranks leave their exceptions; in the run's folder only what is of the first machine."""
    if nodes.rank == 0:
        with emptied(run.path / ".ranks") as folder:
            yield folder
    else:
        with tempfile.TemporaryDirectory() as name:
            yield Path(name)


def _close_quickly() -> None:
    """Let torchrun end the other ranks soon after one has died, instead of after its 30 s.

    They hang in a collective operation with the dead one and can save nothing, while a person waits for the reason.
    """
    from torch.distributed.elastic.multiprocessing.api import PContext

    close = PContext.close

    def close_quickly(context: PContext, death_sig: signal.Signals | None = None, timeout: int = 30) -> None:
        close(context, death_sig, min(timeout, CLOSING_SECONDS))

    PContext.close = close_quickly  # type: ignore[method-assign,assignment]  # torchrun has no setting for it


def _start_together() -> None:
    """Let all machines count the same restarts, and give each start of all ranks a name of its own.

    Torchrun counts on a machine what failed there, and the ranks of several find each other in a table under that
    number: where one machine counts 1 and the other 0, a rank waits for what lies under another number, or finds there
    the addresses of ranks that are gone.
    """
    from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent

    start = LocalElasticAgent._start_workers

    def start_together(agent: LocalElasticAgent, group: Any) -> dict[int, Any]:
        if group.group_world_size > 1:
            # The table of this meeting of the machines: the next one has another.
            table, most = group.store, group.spec.max_restarts
            table.set(f"restarts/{group.group_rank}", str(most - agent._remaining_restarts))
            counts = [int(table.get(f"restarts/{rank}")) for rank in range(group.group_world_size)]
            agent._remaining_restarts = most - max(counts)
            if group.group_rank == 0:
                table.set("start", uuid.uuid4().hex)
            os.environ[START_VARIABLE] = table.get("start").decode()
        return start(agent, group)

    LocalElasticAgent._start_workers = start_together  # type: ignore[method-assign]  # nor for this


def _end_together(run: Run) -> None:
    """Start no ranks again once the run has ended.

    A rank that stumbles on its way out makes torchrun start those of its machine again, and they would wait half an
    hour for ranks that have left, while the first machine waits for this one.
    """
    from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent

    restart = LocalElasticAgent._restart_workers

    def restart_if_it_goes_on(agent: LocalElasticAgent, group: Any) -> None:
        if not run.has_ended():
            restart(agent, group)
            return
        agent._stop_workers(group)
        agent._exit_barrier_timeout = _PARTING_SECONDS
        agent._exit_barrier()
        raise _Over

    LocalElasticAgent._restart_workers = restart_if_it_goes_on  # type: ignore[method-assign]  # nor for this


def _message(failure: "ProcessFailure") -> str:
    """The exception that the rank reported, empty when it reported none (its text is then about the exit status)."""
    reported = failure.error_file_data.get("message", "")
    text = reported.get("message", "") if isinstance(reported, dict) else str(reported)
    return "" if text == "<NONE>" else text
