"""The tour: five steps around the loop, above the tabs at a browser's first visit, and again whenever it is called.

In the page's flow and over nothing, so that whoever does not read it is not hindered. It runs in the browser alone.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import gradio as gr

_SCRIPT = Path(__file__).with_name("tour.js")

BUTTON = '<button type="button" id="tour_open">Tour</button>'
"""Calls it again; for the page's header."""


@dataclass(frozen=True)
class Step:
    """What is said of one place."""

    tab: str
    """Id of the tab that is opened."""
    place: str
    """CSS selector of what is outlined there; the first of them that is seen."""
    title: str
    text: str


STEPS = (
    Step(
        "data",
        "#data-example, #data-pick",
        "Data: what the model shall learn",
        "A dataset is a list of conversations. Open the example, read it, change it. Only the assistant's words are "
        "learnt.",
    ),
    Step(
        "train",
        "#train_start",
        "Train: teach it",
        "Choose a base model and a dataset, look at what will happen, and press Start training. The practice model "
        "learns the example in minutes, without a GPU.",
    ),
    Step(
        "evaluate",
        "#eval_better",
        "Evaluate: did it get better?",
        "The same questions before and after, in pairs: what was learnt, what was lost, and whether it may be chance.",
    ),
    Step(
        "evaluate",
        "#eval_rows",
        "Evaluate: which rows did it?",
        "Rows that contradict each other, repeat each other, or were not learnt: decide on one after the other.",
    ),
    Step(
        "chat",
        "#chat_box",
        "Chat: base and tuned side by side",
        "Where a reply is bad, correct it: it becomes a row of your data. Train again, and the loop is closed.",
    ),
)


def tour() -> gr.HTML:
    """The tour's place on the page; it shows itself."""
    steps = json.dumps([asdict(step) for step in STEPS])
    return gr.HTML(
        '<section class="tour" aria-label="Tour" hidden></section>',
        js_on_load=f"const STEPS = {steps};\n{_SCRIPT.read_text(encoding='utf-8')}",
        elem_id="tour",
        padding=False,
    )
