"""Models on a ZeroGPU Space, whose GPU is lent to single functions of this very process: as ModelProcesses offers them.

A worker process of ours would never see that GPU. `spaces.GPU` runs a function in a copy of this process that has it,
so models are kept here in main memory, and the copy moves its own to the GPU.
"""

import contextlib
import importlib.util
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import gradio as gr

from nanochat_core.config import FinetuneConfig
from nanochat_core.engine.reply import Done, Event, Text
from nanochat_core.paths import find_model
from nanochat_core.serve.messages import Failure, Fold, Key, Loaded, from_json, to_json
from nanochat_core.training.needs import Needs
from studio.models.processes import AS_IT_IS, ModelProcesses
from studio.parts.working import Report

MOST = 2
SECONDS = 60
"""What one reply may take of the GPU; a visitor's daily share is a few minutes."""
NO_PROBE = (
    "Time and memory cannot be measured here: ZeroGPU lends its GPU for a minute at a time, which is too little to "
    "train. Choose a rented GPU, whose memory and price are listed."
)

NO_EVALUATION = (
    "Models cannot be asked many questions here: ZeroGPU lends its GPU for a minute at a time. Use `nanochat eval` "
    "elsewhere."
)
NO_FOLDS = (
    "Models cannot be trained here to judge rows: ZeroGPU lends its GPU for a minute at a time. Use `nanochat review "
    "DATA --folds 3` elsewhere."
)

# The copy that has the GPU finds here what was loaded before it was made, and reads the files itself for what came
# later. No lock around it: a copy made while another thread holds one would wait for it for ever.
_engines: OrderedDict[Key, Any] = OrderedDict()


def is_zero_gpu() -> bool:
    """Whether this is a ZeroGPU Space."""
    is_asked = os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")  # as `spaces` reads it
    return is_asked and importlib.util.find_spec("spaces") is not None


class ZeroGpuModels:
    """Models by (name, step), with the methods of ModelProcesses. Make it before the page is launched."""

    def __init__(self) -> None:
        import spaces  # on a Space only; it changes torch, so it comes before it

        self._answer = spaces.GPU(duration=SECONDS)(answer)
        self._loaded: dict[Key, Loaded] = {}
        self._loading = threading.Lock()

    def load(
        self, name: str, step: int | None = None, report: Report | None = None, dtype: str | None = None
    ) -> Loaded:
        """Have the model in memory, in no dtype but None's. ValueError in a sentence when it cannot be loaded."""
        if dtype not in (None, AS_IT_IS):
            raise ValueError(f"On ZeroGPU the precision '{dtype}' cannot be had. Choose automatic in Settings.")
        key = (name, find_model(name, step).step)
        if report is not None and key not in self._loaded:
            report(0.0, "Loading the model")
        with self._loading:
            return self._loaded.get(key) or self._load(*key)

    @contextlib.contextmanager
    def held(
        self, name: str, step: int | None = None, report: Report | None = None, dtype: str | None = None
    ) -> Iterator[Loaded]:
        """As `load`: there is no other precision."""
        yield self.load(name, step, report, dtype)

    def warm(self, name: str, step: int | None = None, report: Report | None = None, dtype: str | None = None) -> bool:
        """Never: its memory is shared by all visitors, so a model is loaded when someone asks it."""
        return False

    def _load(self, name: str, step: int) -> Loaded:
        started = time.perf_counter()
        engine = _engine(name, step)
        dtype = str(next(engine.model.parameters()).dtype).removeprefix("torch.")
        self._loaded[name, step] = loaded = Loaded(
            name=name,
            step=step,
            parameters=sum(parameter.numel() for parameter in engine.model.parameters()),
            device="ZeroGPU",
            dtype=dtype,
            automatic=dtype,
            context=engine.context,
            seconds=time.perf_counter() - started,
            device_bytes=0,
        )
        for gone in self._loaded.keys() - _engines.keys():
            del self._loaded[gone]
        return loaded

    def generate(
        self,
        name: str,
        step: int | None,
        messages: list[dict[str, Any]],
        stop: threading.Event | None = None,
        **settings: Any,
    ) -> Iterator[Event]:
        """Events of one reply, the last is Done. ValueError in a sentence, also when no GPU is to be had."""
        key = (name, find_model(name, step).step)
        if key not in self._loaded:
            raise ValueError("No model is loaded here. Load one first.")
        started, pieces = time.perf_counter(), 0
        answers = self._answer(*key, messages, settings)
        try:
            for event in map(from_json, answers):
                if stop is not None and stop.is_set():
                    yield Done("stopped", pieces, 0, time.perf_counter() - started)
                    return
                if isinstance(event, Failure):
                    raise ValueError(event.text)
                pieces += isinstance(event, Text)
                yield event
        except gr.Error as error:  # how `spaces` says that a quota is used up, or that its process is gone
            raise ValueError(f"ZeroGPU lends no GPU now: {error.message} Sign in, or try again later.") from error
        finally:
            answers.close()  # stops the model, too

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
        engine = _engines.pop((name, step), None)
        return _bytes(engine) if engine is not None else 0

    def probe(self, config: FinetuneConfig, report: Report | None = None, stop: threading.Event | None = None) -> Needs:
        """Always refused, in a sentence."""
        raise ValueError(NO_PROBE)

    def evaluate(
        self,
        models: list[Key],
        wanted: dict[str, Any],
        report: Report | None = None,
        stop: threading.Event | None = None,
    ) -> bool:
        """Always refused, in a sentence."""
        raise ValueError(NO_EVALUATION)

    def fold(self, asked: Fold, report: Report | None = None, stop: threading.Event | None = None) -> bool:
        """Always refused, in a sentence."""
        raise ValueError(NO_FOLDS)

    def close(self) -> None:
        """Forget all models."""
        for key in list(self._loaded):
            self.unload(*key)


def answer(name: str, step: int, messages: list[dict[str, Any]], settings: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One reply, where the GPU is: plain values come in and go out, for it runs in another process.

    A failure is its last message: of an exception `spaces` would bring back the kind only.
    """
    from nanochat_core.compute.devices import choose_device
    from nanochat_core.engine.engine import Engine
    from nanochat_core.serve.pipe import sentence_of

    try:
        kept = _engine(name, step)
        model = kept.model.to(choose_device("auto"))
        # An engine of its own: the kept one's cache may be on another device, or another visitor's at this moment.
        for event in Engine(model, kept.tokenizer).events(messages, **settings):
            yield to_json(event)
    except (ValueError, RuntimeError, OSError, MemoryError) as error:
        yield to_json(Failure(sentence_of(error)))


def _engine(name: str, step: int) -> Any:
    """The loaded engine, loaded now when it is not; the one loaded longest ago makes room."""
    engine = _engines.get((name, step))
    if engine is None:
        from nanochat_core.checkpoint.loading import load_model
        from nanochat_core.engine.engine import Engine

        model, tokenizer, _ = load_model(name, step=step)
        engine = _engines[name, step] = Engine(model, tokenizer)
        while len(_engines) > MOST:
            _engines.popitem(last=False)
    return engine


def _bytes(engine: Any) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in engine.model.parameters())


Models = ModelProcesses | ZeroGpuModels
"""What holds the app's models, here and elsewhere."""
