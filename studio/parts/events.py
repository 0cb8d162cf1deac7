"""How a tab's handlers are wired, and how their errors are shown: told here once for every tab.

A handler raises ValueError with a sentence for the person, and the wiring says where it is read: `noted` writes it into
a line of the page and leaves the other outputs as they are, `alerted` shows it over the page for a moment.

    button.click(noted(handlers.start, fields.said), inputs, [fields.said, fields.tag], **QUIET)
"""

import inspect
import uuid
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from typing import Any

import gradio as gr
from gradio.components import Component

from studio.parts import html

ALERT_SECONDS = 12

Handler = Callable[..., Any]

QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
"""Options of every event: no endpoint for programs, and no veil over what is about to change."""

LATEST: dict[str, Any] = {**QUIET, "trigger_mode": "always_last"}
"""Of many changes in a row, such as those of a slider, the last one counts."""

AT_ONCE: dict[str, Any] = {**QUIET, "queue": False}
"""Never behind the events of others: a look at the clock, Stop. What it sets in a gr.State fires no change."""

UNLIMITED: dict[str, Any] = {**QUIET, "concurrency_limit": None}
"""For what takes long: gradio lets one at a time of each handler run, whoever asks."""


_SCROLL = """(wish) => {{
    const look = (tries) => {{
        const place = document.querySelector({})
        if (place?.offsetParent) place.scrollIntoView({{behavior: 'smooth', block: 'start'}})
        else if (tries) setTimeout(() => look(tries - 1), 100)
    }}
    look(20)
}}"""


def scrolling_to(selector: str) -> str:
    """JavaScript for an event whose input is `wish`: to what a JavaScript expression selects, once it is drawn."""
    return _SCROLL.format(selector)


def another() -> str:
    """A value for a gr.State whose change draws something again, with what is chosen on the page by then."""
    return uuid.uuid4().hex


def changes(components: Iterable[Component]) -> list[Any]:
    """The change events of these; gradio makes them for each class of components, where no type checker sees them."""
    return [getattr(component, "change") for component in components]  # noqa: B009


def update_of(present: Any, value: Any, **more: Any) -> Any:
    """A field's new value. One that stays is not sent: by the time it came, something else may have been chosen."""
    return gr.update(**more) if value == present else gr.update(value=value, **more)


def noted(handler: Handler, said: Component) -> Handler:
    """The handler, whose ValueError becomes a note in `said`, one of its outputs; the others stay as they are."""
    return _guarded(handler, lambda error: {said: html.note(str(error), "bad")})


def alerted(handler: Handler) -> Handler:
    """The handler, whose ValueError is shown over the page for a moment; all its outputs stay as they are."""

    def alert(error: ValueError) -> Any:
        raise gr.Error(str(error), duration=ALERT_SECONDS, print_exception=False) from error

    return _guarded(handler, alert)


def _guarded(handler: Handler, shown: Callable[[ValueError], Any]) -> Handler:
    # Gradio takes a function for a generator only when it is one itself, and `wraps` keeps the signature, in which it
    # looks for gr.SelectData, and the mark of what visitors of a Space may call.
    if inspect.isgeneratorfunction(handler):

        @wraps(handler)
        def generating(*arguments: Any) -> Iterator[Any]:
            try:
                yield from handler(*arguments)
            except ValueError as error:
                yield shown(error)

        return generating

    @wraps(handler)
    def guarded(*arguments: Any) -> Any:
        try:
            return handler(*arguments)
        except ValueError as error:
            return shown(error)

    return guarded
