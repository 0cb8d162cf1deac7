"""The models that can be talked to: the starter, downloaded ones, each run's best and last; loaded and given back."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from nanochat_core.paths import default_model, find_model, list_models, steps
from nanochat_core.runs.run import Run
from studio.chat_tab import precision
from studio.models.zero_gpu import Models
from studio.parts import html
from studio.parts.working import Working
from studio.space.access import for_visitors, is_visitor
from studio.space.visitor_limits import MODEL

Key = tuple[str, int]
"""(NAME, step) of a checkpoint."""

Update = Any
"""A value for a component, gr.update(...) or gr.skip()."""


def choices() -> list[tuple[str, str]]:
    """(label, value) for a dropdown; a value is NAME@step. A Space's visitors are told of the starter only."""
    found = []
    for model in list_models():
        if is_visitor() and model.name != MODEL:
            continue
        present = steps(model.folder)
        if not model.name.startswith("finetuned/"):
            found.append((model.name, f"{model.name}@{model.step}"))
            continue
        best = _best_step(model.name.removeprefix("finetuned/"))
        tag = model.name.removeprefix("finetuned/")
        if best in present and best != model.step:
            found.append((f"{tag}: best (step {best})", f"{model.name}@{best}"))
            found.append((f"{tag}: last (step {model.step})", f"{model.name}@{model.step}"))
        else:
            what = "best and last" if best == model.step else "last"
            found.append((f"{tag}: {what} (step {model.step})", f"{model.name}@{model.step}"))
    return found


def defaults() -> tuple[str | None, str | None]:
    """Values to begin with: the base model, and beside it the newest run's best."""
    values = [value for _, value in choices()]
    usual = MODEL if is_visitor() else default_model()
    base = next((value for value in values if value.rsplit("@", 1)[0] == usual), None)
    newest = [*(f"finetuned/{run.tag}@" for run in Run.list()), "finetuned/"]
    tuned = next((value for start in newest for value in values if value.startswith(start)), None)
    return base, tuned or base


def key_of(value: str | None) -> Key:
    """The checkpoint that a dropdown's value means. ValueError when there is none (any more)."""
    name, _, step = (value or "").rpartition("@")
    if not name or not step.isdecimal():
        name, step = (value or "").strip(), ""
    if not name:
        raise ValueError("No model is chosen. Choose one above, such as the starter.")
    return name, find_model(name, int(step) if step else None).step


def label_of(value: str | None) -> str:
    """A short name of a model for people."""
    known = {value: label for label, value in choices()}
    return known.get(value or "", str(value or "no model").replace("@", ", step "))


def _best_step(tag: str) -> int | None:
    try:
        return Run.open(tag).status().best_step
    except ValueError:  # a folder with a model, put there by hand, is no run
        return None


def present_or_default(*chosen: str | None) -> list[str | None]:
    """The chosen models, with the defaults in place of those that are not there."""
    return [value if _is_there(value) else other for value, other in zip(chosen, defaults())]


def _is_there(value: str | None) -> bool:
    """Whether a choice, or a NAME that was typed, is a model that can be loaded."""
    try:
        return bool(key_of(value))
    except ValueError:
        return False


def update_of(present: Any, value: Any, **more: Any) -> Update:
    """A field's new value. One that stays is not sent: by the time it came, something else may have been chosen."""
    return gr.update(**more) if value == present else gr.update(value=value, **more)


class ModelHandlers:
    """What the two model pickers do: values in, values out. ValueError in a sentence for what cannot be."""

    def __init__(self, models: Models):
        self.models = models

    @for_visitors
    def lists(self, first: str | None, second: str | None) -> tuple[Update, ...]:
        """Fresh choices of models, what is gone replaced; then the lines about both."""
        values = present_or_default(first, second)
        menus = [update_of(was, value, choices=choices()) for was, value in zip((first, second), values)]
        return *menus, *(self._line(value) for value in values)

    @for_visitors
    def about(self, value: str | None, said: str = "") -> str:
        """The line under a model's name: whether it is in memory, and what it is. ValueError when there is none."""
        key = key_of(value)
        loaded = next((model for model in self.models.loaded() if model.key == key), None)
        if loaded is None:
            text = said or "Not in memory; it is loaded with your first message."
        else:
            held = html.size(self.models.rss_bytes(*key) + loaded.device_bytes)
            text = (
                f"In memory: {loaded.parameters:,} parameters, {loaded.device}, {loaded.dtype}, "
                f"context of {loaded.context:,} tokens, {held}."
            )
        return f'<p class="chat-facts" role="status">{html.escape(text)}</p>'

    @for_visitors
    def load(self, value: str | None, dtype: str | None = None) -> Iterator[str]:
        """Load a model, showing how far it is."""
        loading = Working(lambda report: self.models.load(*key_of(value), report, precision.dtype_of(dtype)))
        yield from loading
        loading.result()
        yield self.about(value)

    def _line(self, value: str | None) -> str:
        try:
            return self.about(value)
        except ValueError as error:
            return html.note(str(error), "bad")

    def unload(self, value: str | None) -> str:
        """End the model's process, and say what that gave back."""
        freed = self.models.unload(*key_of(value))
        return self.about(value, f"Unloaded: {html.size(freed)} given back." if freed else "It was not in memory.")
