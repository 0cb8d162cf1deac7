"""The page's gr.Blocks, without a leak that gradio has: a page that polls would grow by some components a second.

gradio makes a new component for every update of one, a skipped one too, with a number of its own. Where that component
is also an input, the next event keeps it under this number, for as long as the session lasts (seen in gradio 6.31).
"""

from typing import Any

import gradio as gr
from gradio.block_function import BlockFunction
from gradio.state_holder import SessionState


class Page(gr.Blocks):
    """gr.Blocks whose sessions hold one component for each number: a replacement takes that of what it replaces."""

    async def postprocess_data(
        self, block_fn: BlockFunction, predictions: list[Any] | dict[Any, Any], state: SessionState | None
    ) -> Any:
        """As gr.Blocks does; the components that it has put into `state` get their numbers."""
        result = await super().postprocess_data(block_fn, predictions, state)
        if state is not None:
            for block in block_fn.outputs:
                held = state.blocks_config.blocks.get(block._id)
                if held is not None:
                    held._id = block._id
        return result
