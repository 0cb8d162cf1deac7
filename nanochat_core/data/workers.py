"""Processes that read blocks of a large data file at the same time: as many as there are cores, gone with their parent.

They are started as programs of their own (`python -m nanochat_core.data.workers`), not through multiprocessing: that
would run the person's own script again where it has no `if __name__ == "__main__"`, or copy a process that has threads.
"""

import contextlib
import gc
import logging
import os
import pickle
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue

from nanochat_core.data.chunk import Block, BlockReader, Wanted
from nanochat_core.data.reader import LineBlock
from nanochat_core.native.build import library
from nanochat_core.system.spawn import spawn

BYTES_A_WORKER = 16 << 20
"""So much of a file is worth a process: it takes half a second to read, and the process a third of one to start."""
_MOST = 32
"""Each needs about 70 MB of memory."""


def useful_workers(size: int) -> int:
    """How many processes to read a file of `size` bytes with besides this one; 0 to read it in this one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = min(cores, size // BYTES_A_WORKER, _MOST)
    return workers if workers > 1 else 0


def read_in_workers(blocks: Iterable[LineBlock], wanted: Wanted, count: int) -> Iterator[tuple[int, Block]]:
    """(byte of the file where it ends, what it holds) of each block, in their order.

    Few blocks are under way at a time. ValueError when a worker ends before its time. To be closed, which ends them.
    """
    if wanted.tokenizer is None or wanted.tokenizer.has_known_pattern:
        library("tokenize")  # built, or said that it cannot be, here and once
    waiting: deque[tuple[int, Future[Block]]] = deque()
    with contextlib.ExitStack() as stack:
        pool = ThreadPoolExecutor(count, "data-worker")  # its threads only wait for the processes
        stack.callback(pool.shutdown, cancel_futures=True)
        idle: SimpleQueue[_Worker] = SimpleQueue()
        for _ in range(count):
            worker = _Worker(wanted)
            stack.callback(worker.end)
            idle.put(worker)
        for lines in blocks:
            waiting.append((lines.at + len(lines.data or b""), pool.submit(_read, idle, lines)))
            if len(waiting) >= 2 * count:
                end, future = waiting.popleft()
                yield end, future.result()
        for end, future in waiting:
            yield end, future.result()


class _Worker:
    """One process, spoken to through its standard input and output."""

    def __init__(self, wanted: Wanted):
        variables = {
            "PYTHONHASHSEED": "0",  # equal conversations must have the same hash in all workers
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        self._process = spawn(
            [sys.executable, "-m", "nanochat_core.data.workers"],
            variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        self._greeting: Wanted | None = wanted

    def read(self, lines: LineBlock) -> Block:
        try:
            if self._greeting is not None:
                pickle.dump(self._greeting, self._stdin)
                self._greeting = None
            pickle.dump(lines, self._stdin)
            self._stdin.flush()
            return pickle.load(self._stdout)
        except (OSError, EOFError, ValueError, pickle.UnpicklingError) as error:
            raise ValueError(
                f"A process that reads the data (pid {self._process.pid}) ended too early, exit status "
                f"{self._process.wait()}. If the memory ran out, close other programs; then start again."
            ) from error

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._stdin, self._stdout):
            with contextlib.suppress(OSError):  # what was not yet written has no reader any more
                pipe.close()


def _read(idle: "SimpleQueue[_Worker]", lines: LineBlock) -> Block:
    worker = idle.get()
    try:
        return worker.read(lines)
    finally:
        idle.put(worker)


def main() -> None:
    """What a worker does: read blocks until its stdin ends, and so never outlive the process that started it."""
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever is printed must not stand among the results
    logging.getLogger("nanochat_core.native.build").disabled = True  # what is missing the parent has said, once
    gc.disable()  # nothing here refers to itself, and looking for what does costs 3 %
    try:
        reader = BlockReader(pickle.load(source))
        while True:
            pickle.dump(reader.read_lines(pickle.load(source)), sink, protocol=pickle.HIGHEST_PROTOCOL)
            sink.flush()
    except (EOFError, BrokenPipeError):  # the parent has what it wanted, or is gone
        os._exit(0)


if __name__ == "__main__":
    main()
