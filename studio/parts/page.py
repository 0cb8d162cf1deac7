"""The page's gr.Blocks, without two faults of gradio's (seen in 6.31) that a page meets which stays open and polls.

It would grow by some components a second. gradio makes a new component for every update of one, a skipped one too, with
a number of its own. Where that component is also an input, the next event keeps it under this number, for as long as
the session lasts.

And it would not be answered any more once what is chosen in a list is gone from it, such as a run that was deleted in a
terminal: gradio refuses such a value with a traceback, before the handler that would say what is gone is asked.
"""

from typing import Any

import gradio as gr
from gradio.block_function import BlockFunction
from gradio.state_holder import SessionState


def _as_it_is(payload: Any) -> Any:
    return payload


class Page(gr.Blocks):
    """gr.Blocks whose sessions hold one component for each number: a replacement takes that of what it replaces.

    A list whose entries have changed hands over what the page says; one that always has the same still refuses others.
    """

    async def postprocess_data(
        self, block_fn: BlockFunction, predictions: list[Any] | dict[Any, Any], state: SessionState | None
    ) -> Any:
        """As gr.Blocks does; the components that it has put into `state` get their numbers."""
        result = await super().postprocess_data(block_fn, predictions, state)
        if state is not None:
            for block in block_fn.outputs:
                held = state.blocks_config.blocks.get(block._id)
                if held is None:
                    continue
                held._id = block._id
                if isinstance(held, gr.Dropdown | gr.Radio) and held.choices != getattr(block, "choices", None):
                    vars(block)["preprocess"] = _as_it_is  # also in the sessions whose list is the first one again
                if "preprocess" in vars(block):
                    vars(held)["preprocess"] = _as_it_is
        return result
