"""The page without a browser or a server: what it holds, and its events one by one, so that more happens between."""

from collections.abc import Iterator
from typing import Any

import gradio as gr
from gradio.blocks import Block, BlockFunction


class Pressed:
    """The values of a page's fields by elem_id; an event takes them when it begins, as a browser sends them."""

    def __init__(self, page: gr.Blocks, **values: Any):
        """values: by elem_id, in the place of what the page begins with."""
        self.page = page
        self.ids = {block.elem_id: number for number, block in page.blocks.items() if getattr(block, "elem_id", None)}
        self.values = {number: getattr(block, "value", None) for number, block in page.blocks.items()}
        kept = {
            number: block.default_value for number, block in page.blocks.items() if isinstance(block, gr.BrowserState)
        }
        self.values.update(kept)
        self.shown: dict[str, bool] = {}
        self.choices: dict[str, list[tuple[str, Any]]] = {}
        for name, value in values.items():
            self[name] = value

    def __getitem__(self, elem_id: str) -> Any:
        return self.values[self.ids[elem_id]]

    def __setitem__(self, elem_id: str, value: Any) -> None:
        self.values[self.ids[elem_id]] = value

    def events(self, field: str | int, kind: str) -> list[BlockFunction]:
        """What begins with an event of a field, by its elem_id or its number."""
        number = self.ids[field] if isinstance(field, str) else field
        found = [one for one in self.page.fns.values() if (number, kind) in one.targets and one.fn]
        assert found, f"no event {kind} of {field}"
        return found

    def loading(self, output: str) -> list[BlockFunction]:
        """What the load of the page begins that may write into a field."""
        page, field = self.page._id, self.page.blocks[self.ids[output]]
        return [one for one in self.page.fns.values() if (page, "load") in one.targets and field in one.outputs]

    def is_ended_by(self, event: BlockFunction, elem_id: str, kind: str) -> bool:
        """Whether an event of a field ends another one that goes on."""
        ending = [one for one in self.page.fns.values() if (self.ids[elem_id], kind) in one.targets]
        return any(event._id in one.cancels for one in ending)

    def begin(self, event: BlockFunction) -> Iterator[None]:
        """An event with what follows it, a step for each thing that it shows."""
        states = {field._id: self.values[field._id] for field in event.outputs if isinstance(field, gr.State)}
        answer = event.fn(*[self.values[field._id] for field in event.inputs])
        for one in answer if isinstance(answer, Iterator) else [answer]:
            self._take(event.outputs, one)
            yield
        for following in self.page.fns.values():
            if following.fn and following.trigger_after == event._id and not following.trigger_only_on_failure:
                yield from self.begin(following)
        for number in [number for number, was in states.items() if self.values[number] != was]:
            for changed in self.page.fns.values():  # a field's own change comes from the browser
                if changed.fn and (number, "change") in changed.targets:
                    yield from self.begin(changed)

    def do(self, field: str | int, kind: str = "click", **values: Any) -> None:
        """All events of a kind of a field, to their ends."""
        for name, value in values.items():
            self[name] = value
        for event in self.events(field, kind):
            for _ in self.begin(event):
                pass

    def _take(self, outputs: list[Block], answer: Any) -> None:
        if isinstance(answer, dict) and any(field in answer for field in outputs):
            answer = [answer.get(field, gr.skip()) for field in outputs]
        for field, value in zip(outputs, [answer] if len(outputs) == 1 else answer or [], strict=True):
            changes = value
            if isinstance(value, Block):
                changes = dict(value._constructor_args[0])
            elif not (isinstance(value, dict) and "__type__" in value):
                changes = {"value": value}
            if "value" in changes:
                self.values[field._id] = changes["value"]
            for name, known in (("visible", self.shown), ("choices", self.choices)):
                if name in changes and field.elem_id:
                    known[field.elem_id] = changes[name]


def seen_by_another(page: gr.Blocks, button: str, said: str, **values: Any) -> tuple[Pressed, Iterator[None]]:
    """(another page, what it shows by its load, begun) of a task whose own page is gone; `said` shows how far it is."""
    first = Pressed(page, **values)
    begun = first.begin(first.events(button, "click")[0])
    next(begun)
    begun.close()
    second = Pressed(page, **values)
    [event] = second.loading(said)
    watching = second.begin(event)
    next(watching)
    return second, watching
