"""A page that asks who sent an event before it runs: the one door that all events of a Space go through."""

from collections.abc import MutableMapping
from typing import Any

import gradio as gr
from gradio.block_function import BlockFunction
from starlette.requests import Request

from studio.parts.page import Page
from studio.space import visitor_limits
from studio.space.access import NOBODY, Person, acting, current_space, is_for_visitors, person_of

ONLY_OWNER = (
    "Only the owner of this Space may do this. Sign in as the owner, "
    "or duplicate this Space to have a studio of your own."
)

# What only a person does, and what the page does by itself, of which a refusal is not shown.
_ACTS = {"click", "submit", "upload"}
_QUIET = {"load", "tick", "change", "select", "then", "success", "failure", "unload", "timeout"}

# Shows who is signed in; gr.LoginButton wires it by itself.
_OF_GRADIO = {gr.LoginButton._check_login_status}


class SpacePage(Page):
    """A page whose every event is judged by the session of its request. Only the owner's are not limited.

    Queued and direct calls, by number and by name, first and later steps of generators, and events of components
    drawn by gr.render: gradio runs all of them through process_api.
    """

    async def process_api(
        self, block_fn: BlockFunction | int, inputs: list[Any], *given: Any, **options: Any
    ) -> dict[str, Any]:
        """As gr.Blocks does, for those who may. gr.Error in a sentence, or no change, for the others."""
        if isinstance(block_fn, int):
            block_fn = self.fns[block_fn]
        person = _sender(options.get("request"))
        if not person.is_owner:
            if not _is_open(block_fn):
                if _is_quiet(block_fn):
                    return _unchanged(block_fn)
                raise gr.Error(ONLY_OWNER, duration=12, print_exception=False)
            try:
                visitor_limits.check(_sent(block_fn, inputs))
            except ValueError as error:
                raise gr.Error(str(error), duration=12, print_exception=False) from error
        with acting(person):
            return await super().process_api(block_fn, inputs, *given, **options)


def _unchanged(block_fn: BlockFunction) -> dict[str, Any]:
    """The answer of an event that changes nothing."""
    return {
        "data": [None if block.stateful else gr.skip() for block in block_fn.outputs],
        "is_generating": False,
        "iterator": None,
        "duration": 0.0,
        "average_duration": 0.0,
        "render_config": None,
        "changed_state_ids": [],
        "used_cache": None,
    }


def _sender(requests: Any) -> Person:
    """Who sent a request; NOBODY when there is none, or when several are answered at once."""
    if not isinstance(requests, gr.Request) or not isinstance(requests.request, Request):
        return NOBODY
    return sender(requests.request.scope)


def sender(scope: MutableMapping[str, Any]) -> Person:
    """Who a request is from, by the session that gradio's middleware has read from its signed cookie."""
    space = current_space()
    assert space is not None, "off a Space nobody is asked"
    return person_of(scope.get("session"), space)


def _is_open(block_fn: BlockFunction) -> bool:
    function = block_fn.fn
    return is_for_visitors(function) or getattr(function, "__func__", None) in _OF_GRADIO


def _is_quiet(block_fn: BlockFunction) -> bool:
    events = {event for _, event in block_fn.targets}
    return bool(events & _QUIET) and not events & _ACTS


def _sent(block_fn: BlockFunction, inputs: list[Any]) -> dict[str, Any]:
    """What came from the browser, by the fields' elem_id; a gr.State is our own."""
    fields = zip(block_fn.inputs, inputs, strict=False)
    return {getattr(block, "elem_id", None) or "": value for block, value in fields if not block.stateful}
