"""All models that the app holds, each in a process of its own, shared by every browser; at most two at a time."""

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nanochat_core.config import FinetuneConfig
from nanochat_core.engine.reply import Event
from nanochat_core.paths import ModelFiles, adapter_base, find_model
from nanochat_core.serve.messages import Fold, Key, Loaded
from nanochat_core.training.needs import Needs
from studio.models.process import ModelProcess
from studio.parts.working import Report

MOST = 2
"""Models in memory at a time: what side by side needs."""
AS_IT_IS = "as it is"
"""Asks for no dtype: the model stays in the one that it is in, and is loaded as for None where it is in none yet."""
FASTEST = "auto"
"""Asks for the dtype in which this machine writes the fastest; checkpoint.fastest measures it, which needs torch."""

_REPLYING = (
    "The model {} is writing another reply in another precision. Wait until it is done, or choose the former "
    "precision in Settings."
)
_CHANGED = (
    "The file of the model {} has changed, and the model from the earlier file is still writing a reply. Wait until it "
    "is done."
)


@dataclass
class _Place:
    """One model's process and what is known of it."""

    process: ModelProcess = field(default_factory=lambda: ModelProcess())
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held while it is being loaded."""
    base: tuple[str, int] | None = None
    """The model that its process keeps for adapters; None when what it holds has none."""
    mark: tuple[int, int] = (0, 0)
    """Which file was loaded: a run of the same name may have been trained again."""
    replies: int = 0
    """Being written, or about to be; while there are any, the model stays as it is."""
    users: int = 0
    """Loads and replies going on."""
    used: float = 0.0


class ModelProcesses:
    """Models by (name, step). Every method may be called from any thread."""

    def __init__(self) -> None:
        self._places: dict[tuple[str, int], _Place] = {}
        self._lock = threading.Lock()

    def load(
        self, name: str, step: int | None = None, report: Report | None = None, dtype: str | None = None
    ) -> Loaded:
        """Have the model in memory: at once when it is. The one used longest ago makes room for a third.

        In another dtype (as load_model has them, or AS_IT_IS) it is loaded again, and its former process ends.
        ValueError in a sentence when there is no such model, it cannot be loaded, two others are at work, or it would
        have to be loaded again under a reply.
        """
        with self.held(name, step, report, dtype) as loaded:
            return loaded

    @contextlib.contextmanager
    def held(
        self, name: str, step: int | None = None, report: Report | None = None, dtype: str | None = None
    ) -> Iterator[Loaded]:
        """As `load`; within the block nobody else loads the model in another precision."""
        files = find_model(name, step)
        with self._used(files, takes_over=True) as place, contextlib.ExitStack() as replying:
            with place.lock:
                loaded = self._made_to_fit(place, files, report, dtype)
                if self._places.get((files.name, files.step)) is not place:  # unloaded while it was loaded
                    place.process.unload()
                    raise ValueError("The model was unloaded. Load it again to continue.")
                replying.enter_context(self._replying(place))
            yield loaded

    def warm(self, name: str, step: int | None = None, report: Report | None = None, dtype: str | None = None) -> bool:
        """Load the model before anyone asks it, and give way; whether it is in memory then.

        It takes no place from a model at work, and whoever needs its own meanwhile gets it. ValueError in a sentence
        when there is no such model or it cannot be loaded.
        """
        files = find_model(name, step)
        key = (files.name, files.step)
        with self._lock:
            present = self._places.get(key)
            is_full = len(self._places) >= MOST and all(place.users for place in self._places.values())
        if present is None and is_full:
            return False
        with self._used(files, waits=False) as place:
            try:
                with place.lock:
                    self._made_to_fit(place, files, report, dtype)
            except ValueError:
                if self._places.get(key) is place:
                    raise
                return False
            if self._places.get(key) is not place:  # given away while its process was only about to start
                place.process.unload()
                return False
        return True

    def _made_to_fit(self, place: _Place, files: ModelFiles, report: Report | None, dtype: str | None) -> Loaded:
        mark, loaded = _mark(files.weights), place.process.loaded if place.process.is_alive else None
        if loaded and place.mark == mark and fits(loaded, dtype):
            return loaded
        if loaded and place.replies:
            raise ValueError((_REPLYING if place.mark == mark else _CHANGED).format(files.name))
        asked = None if dtype == AS_IT_IS else dtype
        base = _base_of(files)
        stays = base is not None and base == place.base
        loaded = place.process.load(files.name, files.step, dtype=asked, report=report, stays=stays)
        place.mark, place.base = mark, base
        return loaded

    def generate(
        self,
        name: str,
        step: int | None,
        messages: list[dict[str, Any]],
        stop: threading.Event | None = None,
        **settings: Any,
    ) -> Iterator[Event]:
        """Events of one reply of a loaded model; see ModelProcess.generate. ValueError when it is not loaded."""
        files = find_model(name, step)
        with self._used(files) as place, self._replying(place):
            yield from place.process.generate(messages, stop, **settings)

    def loaded(self) -> list[Loaded]:
        """The models in memory."""
        with self._lock:
            processes = [place.process for place in self._places.values()]
        return [process.loaded for process in processes if process.loaded and process.is_alive]

    def rss_bytes(self, name: str, step: int) -> int:
        """Memory of a model's process, 0 when it is not loaded."""
        with self._lock:
            place = self._places.get((name, step))
        return place.process.rss_bytes() if place else 0

    def unload(self, name: str, step: int) -> int:
        """End the model's process; the bytes given back, 0 when it was not loaded. A reply in the making ends."""
        with self._lock:
            place = self._places.pop((name, step), None)
        return place.process.unload() if place else 0

    def probe(self, config: FinetuneConfig, report: Report | None = None, stop: threading.Event | None = None) -> Needs:
        """Measure a few training steps in a process of their own.

        report is called from this thread. ValueError in a sentence, also when the process was killed, ran out of
        memory or was stopped.
        """
        process = ModelProcess()
        try:
            return process.probe(config.with_absolute_paths(), report, stop)
        finally:
            process.unload()

    def evaluate(
        self,
        models: list[Key],
        wanted: dict[str, Any],
        report: Report | None = None,
        stop: threading.Event | None = None,
    ) -> bool:
        """Measure models in a process of their own, one after the other; see ModelProcess.evaluate."""
        process = ModelProcess()
        try:
            return process.evaluate(models, wanted, report, stop)
        finally:
            process.unload()

    def fold(self, asked: Fold, report: Report | None = None, stop: threading.Event | None = None) -> bool:
        """Judge a run's rows in a process of their own; see ModelProcess.fold."""
        process = ModelProcess()
        try:
            return process.fold(asked, report, stop)
        finally:
            process.unload()

    def close(self) -> None:
        """End all processes. They also end by themselves when the app does."""
        for loaded_key in list(self._places):
            self.unload(*loaded_key)

    @contextlib.contextmanager
    def _used(self, files: ModelFiles, waits: bool = True, takes_over: bool = False) -> Iterator[_Place]:
        """The model's place; while someone waits for it, it is not taken away within the block.

        takes_over: an idle place of another adapter of the same base becomes this one's, to be loaded.
        """
        key = (files.name, files.step)
        with self._lock:
            place = self._places.get(key)
            if place is None and takes_over and (place := self._sibling(_base_of(files))):
                self._places[key] = place
            left = self._make_room() if place is None else None
            if place is None:
                place = self._places[key] = _Place()
            place.users += waits
            place.used = time.monotonic()
        try:
            if left is not None:
                left.process.unload()
            yield place
        finally:
            with self._lock:
                place.users -= waits
                place.used = time.monotonic()
                if place.process.loaded is None and not place.users and self._places.get(key) is place:
                    del self._places[key]

    @contextlib.contextmanager
    def _replying(self, place: _Place) -> Iterator[None]:
        with self._lock:
            place.replies += 1
        try:
            yield
        finally:
            with self._lock:
                place.replies -= 1

    def _sibling(self, base: tuple[str, int] | None) -> _Place | None:
        """Take out an idle place whose process keeps `base`: another adapter is then loaded in no time."""
        idle = [key for key, place in self._places.items() if base and place.base == base and not place.users]
        if not idle:
            return None
        place = self._places.pop(idle[0])
        place.mark = (0, 0)  # what it holds is the other adapter
        return place

    def _make_room(self) -> _Place | None:
        """Take out the idle place that was used longest ago when all are taken; it is still to be unloaded."""
        if len(self._places) < MOST:
            return None
        idle = [key for key, place in self._places.items() if not place.users]
        if not idle:
            raise ValueError(f"{MOST} other models are at work. Wait until they are done, or stop one.")
        return self._places.pop(min(idle, key=lambda key: self._places[key].used))


def fits(loaded: Loaded, dtype: str | None) -> bool:
    """Whether a model is in the dtype that is asked for, by whatever name."""
    wanted = loaded.fastest if dtype == FASTEST else dtype or loaded.automatic
    return dtype == AS_IT_IS or wanted == loaded.dtype


def _base_of(files: ModelFiles) -> tuple[str, int] | None:
    """Which model an adapter belongs to; None for what is no adapter. ValueError when that model is gone."""
    if not files.is_adapter:
        return None
    base = adapter_base(files)
    return base.name, base.step


def _mark(weights: Path) -> tuple[int, int]:
    stat = weights.stat()
    return stat.st_mtime_ns, stat.st_size


AUTOMATIC = "automatic"
