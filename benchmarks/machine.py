"""What this machine can do at most: its rate of matrix products and of reading memory, measured in the same run."""

import mmap
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch

READ_BYTES = 1 << 30
GEMM_SIZE = 1536


def cpu_seconds(work: Callable[[], object]) -> float:
    """Seconds of processor time of `work`, over all threads of this process: other programs do not count."""
    before = time.process_time()
    work()
    return time.process_time() - before


def now() -> float:
    """Seconds: of processor time where torch has one thread, so that other programs do not count; else of a wall clock.

    Several threads wait for each other, which a program that lets them spin would pay for twice.
    """
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def seconds(work: Callable[[], object]) -> float:
    """How long `work` takes by `now`."""
    before = now()
    work()
    return now() - before


def gemm_rate(dtype: torch.dtype, tries: int = 5, size: int = GEMM_SIZE) -> float:
    """FLOP/s for each second of processor time of a square product in `dtype`: the best of `tries`.

    In fp32 the best of torch's two libraries for it, whichever is selected now.
    """
    a, b = (torch.randn(size, size).to(dtype) for _ in range(2))
    out = torch.empty(size, size, dtype=dtype)
    selected, found = torch.get_float32_matmul_precision(), []
    for precision in ("highest", "medium") if dtype == torch.float32 else (selected,):
        torch.set_float32_matmul_precision(precision)
        torch.mm(a, b, out=out)
        found += [cpu_seconds(lambda: torch.mm(a, b, out=out)) for _ in range(tries)]
    torch.set_float32_matmul_precision(selected)
    return 2 * size**3 / min(found)


def read_bandwidth(huge_pages: bool = True, tries: int = 5, size: int = READ_BYTES) -> float:
    """Bytes read for each second of processor time from a block far larger than the caches: the best of `tries`."""
    block = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if huge_pages and hasattr(mmap, "MADV_HUGEPAGE"):
        block.madvise(mmap.MADV_HUGEPAGE)
    values = torch.frombuffer(block, dtype=torch.int64).fill_(1)
    # The sum of integers is bound by memory; that of floats, in torch, by its order of additions.
    return size / min(cpu_seconds(values.sum) for _ in range(tries + 1))


def describe() -> str:
    """The machine in a line: processor, cores in use, memory, torch, threads."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = {line.split(":")[1].strip() for line in lines if line.startswith("model name")}
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    threads = torch.get_num_threads()
    return (
        f"{', '.join(names) or platform.processor() or platform.machine()}, {len(os.sched_getaffinity(0))} cores, "
        f"{memory:.0f} GB, torch {torch.__version__}, {threads} thread{'s' if threads > 1 else ''}"
    )
