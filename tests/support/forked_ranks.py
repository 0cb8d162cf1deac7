"""Ranks as forks of the present process, over gloo: no start of Python and torch for each."""

import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from nanochat_core.compute.ranks import Ranks


def on_ranks(world: int, folder: Path, work: Callable[[Ranks], Any]) -> list[Any]:
    """What `work` returns on each of `world` ranks. AssertionError when one of them fails."""
    folder.mkdir(parents=True)
    children = []
    for rank in range(world):
        if (pid := os.fork()) == 0:
            os._exit(_work(rank, world, folder, work))
        children.append(pid)
    failed = [rank for rank, pid in enumerate(children) if os.waitpid(pid, 0)[1] != 0]
    assert not failed, (folder / f"{failed[0]}.txt").read_text()
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(world)]


def _work(rank: int, world: int, folder: Path, work: Callable[[Ranks], Any]) -> int:
    try:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        torch.set_num_threads(1)  # the threads of the parent are not in its fork
        if world > 1:
            dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
        torch.save(work(Ranks(rank, world, torch.device("cpu"))), folder / f"{rank}.pt")
    except BaseException:  # noqa: BLE001 - it is told by the parent
        (folder / f"{rank}.txt").write_text(traceback.format_exc())
        return 1
    return 0
