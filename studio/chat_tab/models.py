"""The models that can be talked to: the starter, downloaded ones, each run's best and last; loaded and given back."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from nanochat_core.paths import default_model
from studio.chat_tab import precision, warming
from studio.models.choices import all_choices, key_of, newest_pair, of_name, pair_of
from studio.models.zero_gpu import Models
from studio.parts import html
from studio.parts.events import update_of
from studio.parts.working import Working
from studio.space.access import current_space, for_visitors, is_visitor
from studio.space.visitor_limits import MODEL

Update = Any
"""A value for a component, gr.update(...) or gr.skip()."""


def choices() -> list[tuple[str, str]]:
    """(label, value) for a dropdown. A Space's visitors are told of the starter only."""
    return [one for one in all_choices() if not is_visitor() or one[1].rsplit("@", 1)[0] == MODEL]


def defaults() -> tuple[str | None, str | None]:
    """Values to begin with: the newest finished run's best, and what it was trained from; else the base model twice."""
    base, tuned = (None, None) if is_visitor() else newest_pair()
    usual = next(iter(of_name(MODEL if is_visitor() else default_model())), None)
    first = base or usual
    return first, tuned or next((value for _, value in choices() if value.startswith("finetuned/")), first)


def has_tuned() -> bool:
    """Whether there is a model of one's own to set beside another one."""
    return any(value.startswith("finetuned/") for _, value in choices())


def present_or_default(*chosen: str | None) -> list[str | None]:
    """The chosen models, with the defaults in place of those that are not there."""
    return [value if _is_there(value) else other for value, other in zip(chosen, defaults())]


def _is_there(value: str | None) -> bool:
    """Whether a choice, or a NAME that was typed, is a model that can be loaded."""
    try:
        return bool(key_of(value))
    except ValueError:
        return False


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

    def wished(self, asked: list[str], both: bool, first: str | None, second: str | None) -> tuple[Update, ...]:
        """(both, model, model beside it) for a run that another tab wants to be shown beside its base."""
        if not asked:
            return gr.skip(), gr.skip(), gr.skip()
        menu, pair = choices(), pair_of(asked[0])
        models = [update_of(was, value or was, choices=menu) for was, value in zip((first, second), pair)]
        return update_of(present=both, value=True), *models

    def warm(
        self, is_open: bool, chat_id: str, is_shown: bool, value: str | None, dtype: str | None
    ) -> Iterator[Update]:
        """Load a model that is shown, before the first message, where there is room for it.

        Only in an open tab, and once the page knows which chat, and so which models, it shows.
        """
        if not (is_open and chat_id and is_shown) or current_space() is not None or not _is_there(value):
            yield gr.skip()
            return
        key = key_of(value)
        if any(model.key == key for model in self.models.loaded()):
            yield self.about(value)
            return
        if hindrance := warming.hindrance(*key):
            yield self.about(value, f"Not in memory; it is loaded with your first message, because {hindrance}.")
            return
        loading = Working(lambda report: self.models.warm(*key, report, precision.dtype_of(dtype)))
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
