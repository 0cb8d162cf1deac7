"""Models on a ZeroGPU Space, whose GPU is lent to single functions of this very process: as ModelProcesses offers them.

A worker process of ours would never see that GPU. `spaces.GPU` runs a function in a copy of this process that has it,
so models are kept here in main memory, and the copy moves its own to the GPU.
"""

import importlib.util
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import gradio as gr

from nanochat_core.config import FinetuneConfig
from nanochat_core.paths import find_model
from studio.model_worker import Event, Loaded, Report

MOST = 2
SECONDS = 60
"""What one reply may take of the GPU; a visitor's daily share is a few minutes."""
NO_PROBE = (
    "Time and memory cannot be measured here: ZeroGPU lends its GPU for a minute at a time, which is too little to "
    "train. Choose a rented GPU, whose memory and price are listed."
)

Key = tuple[str, int]

# The copy that has the GPU finds here what was loaded before it was made.
_engines: OrderedDict[Key, Any] = OrderedDict()
_engines_lock = threading.Lock()


def is_zero_gpu() -> bool:
    """Whether this is a ZeroGPU Space."""
    is_asked = os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")  # as `spaces` reads it
    return is_asked and importlib.util.find_spec("spaces") is not None


class ZeroGpuModels:
    """Models by (name, step), with the methods of ModelProcesses. Make it before the page is launched."""

    def __init__(self) -> None:
        import spaces  # changes torch, so it comes before it

        self._answer = spaces.GPU(duration=SECONDS)(answer)
        self._loaded: dict[Key, Loaded] = {}

    def load(self, name: str, step: int | None = None, report: Report | None = None) -> Loaded:
        """Have the model in memory. ValueError in a sentence when there is no such model, or it cannot be loaded."""
        key = (name, find_model(name, step).step)
        if key in self._loaded:
            return self._loaded[key]
        if report is not None:
            report(0.0, "Loading the model")
        started = time.perf_counter()
        engine = _engine(*key)
        self._loaded[key] = Loaded(
            name=name,
            step=key[1],
            parameters=sum(parameter.numel() for parameter in engine.model.parameters()),
            device="ZeroGPU",
            dtype=str(next(engine.model.parameters()).dtype).removeprefix("torch."),
            context=engine.context,
            seconds=time.perf_counter() - started,
            device_bytes=0,
        )
        for gone in self._loaded.keys() - _engines.keys():
            del self._loaded[gone]
        return self._loaded[key]

    def generate(
        self, name: str, step: int | None, messages: list[dict], stop: threading.Event | None = None, **settings: Any
    ) -> Iterator[Event]:
        """Events of one reply, the last is "done". ValueError in a sentence, also when no GPU is to be had."""
        key = (name, find_model(name, step).step)
        if key not in self._loaded:
            raise ValueError("No model is loaded here. Load one first.")
        started, pieces = time.perf_counter(), 0
        events = self._answer(*key, messages, settings)
        try:
            for event in events:
                if stop is not None and stop.is_set():
                    seconds = time.perf_counter() - started
                    yield {"event": "done", "reason": "stopped", "tokens": pieces, "seconds": seconds}
                    return
                pieces += event["event"] == "text"
                yield event
        except gr.Error as error:  # how `spaces` says that a quota is used up
            raise ValueError(f"ZeroGPU lends no GPU now: {error.message} Sign in, or try again later.") from error
        except RuntimeError as error:
            said = str(error)[:300]
            raise ValueError(f"The model failed on the GPU ({said}). Try again, or take a smaller model.") from error
        finally:
            events.close()

    def loaded(self) -> list[Loaded]:
        """The models in memory."""
        return list(self._loaded.values())

    def rss_bytes(self, name: str, step: int) -> int:
        """Main memory of a model, 0 when it is not loaded."""
        engine = _engines.get((name, step))
        return _bytes(engine) if engine is not None else 0

    def unload(self, name: str, step: int) -> int:
        """Forget the model; the bytes given back, 0 when it was not loaded."""
        self._loaded.pop((name, step), None)
        with _engines_lock:
            engine = _engines.pop((name, step), None)
        return _bytes(engine) if engine is not None else 0

    def probe(self, config: FinetuneConfig, report: Report | None = None, stop: threading.Event | None = None) -> Event:
        """Always refused, in a sentence."""
        raise ValueError(NO_PROBE)

    def close(self) -> None:
        """Forget all models."""
        for key in list(self._loaded):
            self.unload(*key)


def answer(name: str, step: int, messages: list[dict], settings: dict[str, Any]) -> Iterator[Event]:
    """One reply, where the GPU is: plain values come in and go out, for it runs in another process."""
    from nanochat_core.engine import Engine
    from nanochat_core.ranks import choose_device

    kept = _engine(name, step)
    model = kept.model.to(choose_device("auto"))
    # An engine of its own: the kept one's cache may be on another device, or another visitor's at this moment.
    for event in Engine(model, kept.tokenizer).events(messages, **settings):
        yield {"event": _KINDS[type(event).__name__], **vars(event)}


_KINDS = {"Text": "text", "ToolCall": "tool", "Notice": "notice", "Done": "done"}


def _engine(name: str, step: int) -> Any:
    """The loaded engine, loaded now when it is not; the oldest makes room."""
    with _engines_lock:
        if (name, step) not in _engines:
            from nanochat_core.checkpoint import load_model
            from nanochat_core.engine import Engine

            model, tokenizer, _ = load_model(name, step=step)
            _engines[name, step] = Engine(model, tokenizer)
            while len(_engines) > MOST:
                _engines.popitem(last=False)
        _engines.move_to_end((name, step))
        return _engines[name, step]


def _bytes(engine: Any) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in engine.model.parameters())
