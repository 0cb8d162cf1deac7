"""A process that holds one model and does what it is told by lines of JSON: load, reply, measure, evaluate, fold.

Requests come on stdin and answers go to stdout: see nanochat_core.serve.messages. An answer has the `id` of its
request, and nothing else is ever written to stdout. The process ends when stdin does, so it never outlives its parent.
"""

import contextlib
import json
import os
import queue
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch

from nanochat_core.checkpoint.fastest import AUTO, dtype_asked
from nanochat_core.checkpoint.loading import (
    build_for_inference,
    dtype_named,
    dtype_of,
    inference_dtype,
    parameter_count,
)
from nanochat_core.checkpoint.reading import base_of_adapter, model_config, read_checkpoint
from nanochat_core.checkpoint.sharing import with_own_adapter
from nanochat_core.compute.devices import choose_device
from nanochat_core.config import FinetuneConfig
from nanochat_core.engine.engine import Engine
from nanochat_core.engine.reply import Done, Text
from nanochat_core.evaluation.measuring import Wanted, measure
from nanochat_core.evaluation.meter import Moment
from nanochat_core.model.adapters import sharing_weights
from nanochat_core.model.blocks import Block
from nanochat_core.model.gpt import GPT
from nanochat_core.paths import ModelFiles, find_model
from nanochat_core.rows.folds import fold_losses
from nanochat_core.runs.run import Run
from nanochat_core.serve.messages import (
    Answer,
    Evaluate,
    Evaluated,
    Failure,
    Fold,
    Generate,
    Load,
    Loaded,
    Measure,
    Progress,
    Request,
    Stop,
    from_json,
    to_json,
)
from nanochat_core.tokenizer.tokenizer import Tokenizer
from nanochat_core.training.probe import probe

PROGRESS_SECONDS = 0.2
MERGED_ON = ("cpu",)
"""Devices on which an adapter is merged when it is loaded: the compiled decode step knows none. Elsewhere it hangs
beside its base, which stays for the next one."""
_OUT_OF_MEMORY = re.compile(r"out of memory|can't allocate memory|Cannot allocate|bad_alloc|MemoryError", re.IGNORECASE)

Say = Callable[[Answer], None]


class Stopped(Exception):
    """The present request was asked to stop."""


@dataclass(frozen=True)
class _Base:
    """What was read last: the model, which stays when another adapter is hung at it."""

    key: tuple[Any, ...]
    """Which file it is of, on which device, and in which dtype it was asked for."""
    model: GPT
    tokenizer: Tokenizer
    automatic: torch.dtype


class ModelServer:
    """Serves requests one after the other; only `stop` and the end of stdin are heeded meanwhile."""

    def __init__(self, requests: IO[bytes], answers: IO[str]):
        self._input, self._output = requests, answers
        self._waiting: queue.Queue[tuple[int, Request]] = queue.Queue()
        self._stops: set[int] = set()
        self._present = -1
        self._engine: Engine | None = None
        self._base: _Base | None = None

    def serve(self) -> None:
        """Never returns: the process ends when its input does."""
        threading.Thread(target=self._read, name="requests", daemon=True).start()
        while True:
            self._answer(*self._waiting.get())

    def _read(self) -> None:
        for line in self._input:
            values = json.loads(line)
            number, request = values.pop("id"), from_json(values)
            if isinstance(request, Stop):
                self._stops.add(number)
            else:
                self._waiting.put((number, request))
        os._exit(0)  # the parent is gone or has let go; the main thread may be deep in a computation

    def _answer(self, number: int, request: Request) -> None:
        def say(answer: Answer) -> None:
            self._output.write(json.dumps({"id": number, **to_json(answer)}) + "\n")
            self._output.flush()

        self._present = number
        try:
            self._check_stop()
            match request:
                case Load():
                    self._load(request, say)
                case Generate():
                    self._generate(request, say)
                case Measure():
                    self._measure(request, say)
                case Evaluate():
                    self._evaluate(request, say)
                case Fold():
                    self._fold(request, say)
        except Stopped:
            say(Done("stopped", 0, 0, 0.0))
        except Exception as error:  # noqa: BLE001  whatever it is, the parent is told, and this process goes on
            traceback.print_exc()
            torch.cuda.empty_cache()  # does nothing without a GPU
            say(Failure(sentence_of(error)))
        finally:
            self._stops.discard(number)

    def _check_stop(self, *_: object) -> None:
        if self._present in self._stops:
            raise Stopped

    def _load(self, request: Load, say: Say) -> None:
        started = time.perf_counter()
        self._engine = None
        files = find_model(request.name, request.step)
        device = choose_device(request.device)
        say(Progress(0.0, f"Reading {files.weights.name}"))
        is_beside = files.is_adapter and device.type not in MERGED_ON
        asked = dtype_asked(request.dtype, device, lambda sentence: say(Progress(0.0, sentence)))
        dtype = None if asked is None else _name(asked)
        base = self._base_of(base_of_adapter(files) if is_beside else files, device, dtype, say)
        # A second model in any case: the hooks below are not for the one that other adapters share.
        model = with_own_adapter(base.model, files) if is_beside else sharing_weights(base.model)
        self._engine = Engine(model, base.tokenizer)
        for block in model.modules():
            if isinstance(block, Block):  # so that a stop is heeded within a layer's time, also in a long prompt
                block.register_forward_pre_hook(self._check_stop)
        loaded = Loaded(
            name=request.name,
            step=files.step,
            parameters=parameter_count(base.model),
            device=device.type,
            dtype=_name(dtype_of(model)),
            automatic=_name(base.automatic),
            context=model.config.sequence_len,
            seconds=time.perf_counter() - started,
            device_bytes=torch.cuda.memory_reserved(),
            fastest=dtype if request.dtype == AUTO else None,
        )
        say(loaded)

    def _base_of(self, files: ModelFiles, device: torch.device, dtype: str | None, say: Say) -> _Base:
        """The model in `files`; the one that is there already, where it is the same."""
        key = (str(files.weights), files.weights.stat().st_mtime_ns, str(device), dtype)
        if self._base is None or self._base.key != key:
            self._base = None  # before the next one takes memory
            weights, meta, tokenizer = read_checkpoint(files)
            total, automatic = len(weights), inference_dtype(device, weights)
            with _reported(lambda: 1 - len(weights) / total, f"Loading {files.weights.name}", say):
                config = model_config(meta, weights)
                # An adapter that hangs beside it on a CPU would be torch's: none does (MERGED_ON).
                model = build_for_inference(config, weights, device, dtype_named(dtype), for_chat=True)
            self._base = _Base(key, model, tokenizer, automatic)
        return self._base

    def _generate(self, request: Generate, say: Say) -> None:
        if self._engine is None:
            raise ValueError("No model is loaded. Load one first.")
        started, pieces = time.perf_counter(), []
        try:
            for event in self._engine.events(request.messages, **request.settings):
                self._check_stop()
                if isinstance(event, Text):
                    pieces.append(event.text)
                say(event)
        except Stopped:
            tokens = len(self._engine.tokenizer.encode("".join(pieces)))
            say(Done("stopped", tokens, 0, time.perf_counter() - started))

    def _measure(self, request: Measure, say: Say) -> None:
        say(probe(FinetuneConfig.from_dict(request.config), self._report(say)))

    def _fold(self, request: Fold, say: Say) -> None:
        started = time.perf_counter()
        fold_losses(request.data, request.folds, self._report(say), run=Run.open(request.run))
        say(Evaluated(time.perf_counter() - started))

    def _report(self, say: Say) -> Callable[[float, str], None]:
        """Says how far the present request is, and ends it where it was asked to stop."""

        def report(fraction: float, text: str) -> None:
            self._check_stop()
            say(Progress(fraction, text))

        return report

    def _evaluate(self, request: Evaluate, say: Say) -> None:
        def watch(moment: Moment) -> None:
            self._check_stop()
            say(Progress(moment.fraction, str(moment)))

        started = time.perf_counter()
        measure([(name, step) for name, step in request.models], Wanted(**request.wanted), watch=watch)
        say(Evaluated(time.perf_counter() - started))


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def sentence_of(error: Exception) -> str:
    """What a person reads of an exception."""
    if isinstance(error, ValueError):
        return str(error)
    said = f"{type(error).__name__}: {error}"
    if _OUT_OF_MEMORY.search(said):
        return (
            "The model ran out of memory. Unload the other model, stop other programs that use memory, "
            "or take a smaller model or a smaller device_batch_size."
        )
    return f"The model's process failed ({said[:300]}). Load the model again; if it stays so, take another checkpoint."


@contextlib.contextmanager
def _reported(fraction: Callable[[], float], text: str, say: Say) -> Iterator[None]:
    """Say how far the block is, a few times a second, from a thread beside it."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(PROGRESS_SECONDS):
            say(Progress(fraction(), text))

    watcher = threading.Thread(target=watch, name="progress")
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _claim_stdout() -> IO[str]:
    """The pipe to the parent, for this file alone: what a library prints goes to stderr from now on."""
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    return answers


def _die_first() -> None:
    """When the machine runs out of memory, the system shall end this process and not the app."""
    with contextlib.suppress(OSError):  # only Linux has it
        Path("/proc/self/oom_score_adj").write_text("1000")


if __name__ == "__main__":
    _die_first()
    ModelServer(sys.stdin.buffer, _claim_stdout()).serve()
