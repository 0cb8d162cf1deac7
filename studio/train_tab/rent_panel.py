"""The fold of the Train tab that sends a run to a rented machine."""

from typing import Any

import gradio as gr

from studio.parts import html
from studio.parts.events import LATEST, QUIET, changes, noted, update_of
from studio.parts.showcode import show_code
from studio.runs import rented
from studio.train_tab import before_start
from studio.train_tab.choices import suggest_tag
from studio.train_tab.fields import TrainFields
from studio.train_tab.handlers import Chosen, chosen_fields

_TITLE = "Train on a rented machine instead"


def build(fields: TrainFields, picker: gr.Dropdown) -> None:
    """Lay it out and wire it; `picker` follows what is started."""
    with gr.Accordion(_TITLE, open=False, elem_id="rent_fold") as fold:
        gr.HTML(html.lead(rented.LOGIN), padding=False)
        with gr.Row(elem_classes="fields"):
            machine = gr.Dropdown([], value=None, label="Machine", elem_id="rent_machine", min_width=280)
            limit = gr.Textbox("2h", label="Time limit", info="Such as 90m or 2h.", max_lines=1, elem_id="rent_limit")
            account = gr.Textbox(
                label="Account that pays",
                info="A user or an organisation; empty for your own.",
                max_lines=1,
                elem_id="rent_account",
            )
        cost = gr.HTML(elem_id="rent_cost", padding=False)
        with gr.Row(elem_classes="buttons"):
            start = gr.Button(
                "Start on the rented machine", variant="primary", elem_id="rent_start", scale=0, min_width=230
            )
        said = gr.HTML(elem_id="rent_said", padding=False)
        cell = show_code("rent_cell")
        command = show_code("rent_command", label="Show the shell command", language="shell")
    where, chosen = [machine, limit, account], chosen_fields(fields)
    fold.expand(noted(list_machines, said), machine, [machine, said], **QUIET)
    gr.on(changes([machine, limit]), rented.cost, [machine, limit], cost, **LATEST)
    gr.on(changes([*where, *chosen]), codes, [*where, *chosen], [command, cell], **LATEST)
    start.click(noted(start_rented, said), [*where, *chosen], [said, picker, fields.choice.tag], **QUIET)


def list_machines(chosen: str | None) -> tuple[Any, str]:
    """The machines and their prices, fetched when the fold is opened."""
    found = rented.machines()
    known = [flavor for _, flavor in found]
    return update_of(chosen, chosen if chosen in known else None, choices=found), ""


def codes(machine: str | None, limit: str, account: str, *chosen: Any) -> tuple[str, str]:
    """(shell command, notebook cell) of what is chosen; empty where it cannot work."""
    try:
        return rented.codes(Chosen.of(chosen).config(), machine, limit, account)
    except ValueError:
        return "", ""  # what is wrong with it is said above, before the start


def start_rented(machine: str | None, limit: str, account: str, *values: Any) -> tuple[str, Any, Any]:
    """Send the run off and follow it."""
    chosen = Chosen.of(values)
    run = rented.start(chosen.config(), machine, limit, account)
    said = html.note(f"Run {run.tag} is on its way; below you see what comes back from it.", "good")
    return said, gr.update(choices=before_start.run_choices(), value=run.tag), suggest_tag(chosen.data)
