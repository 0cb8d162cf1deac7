"""The fold of the Train tab for several machines: what to type on each of them, and who has joined stands below it."""

from typing import Any

import gradio as gr

from nanochat_core.runs.nodes import PORT, node_commands
from studio.parts import html
from studio.parts.events import LATEST, changes
from studio.train_tab.fields import TrainFields
from studio.train_tab.handlers import Handlers, chosen_fields

_LEAD = (
    "Each machine needs the program, the base model and the dataset; models/finetuned must be one folder that all of "
    "them see. The run starts when every machine has joined, and the view below says which have."
)


def build(fields: TrainFields, handlers: Handlers) -> None:
    """Lay it out and wire it."""
    with gr.Accordion("Train on several machines", open=False, elem_id="machines_fold"):
        gr.HTML(html.lead(_LEAD), padding=False)
        with gr.Row(elem_classes="fields"):
            count = gr.Number(2, label="Machines", precision=0, minimum=2, elem_id="machines_count", min_width=160)
            endpoint = gr.Textbox(
                f"10.0.0.1:{PORT}",
                label="Address of the first machine",
                info="HOST:PORT, as the others reach it.",
                max_lines=1,
                elem_id="machines_endpoint",
            )
            restarts = gr.Number(
                3,
                label="Restarts",
                info="How often the run starts again by itself when a process or a machine was lost.",
                precision=0,
                minimum=0,
                elem_id="machines_restarts",
                min_width=160,
            )
        commands = gr.Code(language="shell", interactive=False, show_label=False, elem_id="machines_commands")
    where, chosen = [count, endpoint, restarts], chosen_fields(fields)

    def show(count: float | None, endpoint: str, restarts: float | None, *values: Any) -> str:
        return shown_commands(handlers, int(count or 2), endpoint, int(restarts or 0), *values)

    gr.on(changes([*where, *chosen]), show, [*where, *chosen], commands, **LATEST)


def shown_commands(handlers: Handlers, count: int, endpoint: str, restarts: int, *chosen: Any) -> str:
    """The command for each machine, under a comment that says which; the sentence that says why there is none."""
    try:
        config, nproc, _ = handlers.read(*chosen)
        commands = node_commands(config, nproc, count, endpoint.strip(), restarts)
    except ValueError as error:
        return f"# {error}"
    return "\n\n".join(f"# on machine {number} of {count}\n{line}" for number, line in enumerate(commands, 1))
