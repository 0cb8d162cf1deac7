"""The fold that compares two models on conversations: the difference of their losses, pair by pair."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from nanochat_core.evaluation.pairs import LEVEL
from nanochat_core.evaluation.proof import data_proof
from nanochat_core.evaluation.results import results
from nanochat_core.system.files import sha256_of
from studio.context import Context
from studio.datasets.files import find_dataset, list_datasets
from studio.evaluate_tab.asking import Asking
from studio.models.choices import Key, key_of
from studio.parts import html
from studio.parts.events import AT_ONCE, LATEST, QUIET, UNLIMITED, another, changes, noted, update_of


@dataclass(frozen=True)
class DataPanel:
    """Its components."""

    fold: gr.Accordion
    data: gr.Dropdown
    measure: gr.Button
    stop: gr.Button
    said: gr.HTML
    proof: gr.HTML


def panel(has_models: bool) -> DataPanel:
    """Lay it out. has_models: whether this app can measure models at all."""
    with gr.Accordion("Compare their losses on conversations", open=False, elem_id="eval_data_fold") as fold:
        lead = "Each conversation is read by both models. Best are conversations that neither of them was trained on."
        gr.HTML(html.lead(lead), padding=False)
        with gr.Row(elem_classes="fields"):
            data = gr.Dropdown([], value=None, label="Conversations", elem_id="eval_data")
        with gr.Row(elem_classes="buttons"):
            measure = gr.Button("Measure both", size="sm", elem_id="eval_measure", scale=0, visible=has_models)
            stop = gr.Button("Stop", variant="stop", size="sm", elem_id="eval_measure_stop", scale=0, visible=False)
        said = gr.HTML(elem_id="eval_data_said", padding=False)
        proof = gr.HTML(elem_id="eval_data_proof", padding=False)
    return DataPanel(fold, data, measure, stop, said, proof)


def wire(parts: DataPanel, pair: list[gr.Dropdown], asking: Asking, context: Context) -> None:
    """Connect it; `pair` are the lists of the two models."""
    chosen = [*pair, parts.data]
    gr.on([context.page.load, context.tab.select], choices, parts.data, parts.data, **QUIET)
    # One event for all that it follows, so that of several figures those of the last choice are shown.
    again = gr.State("")
    gr.on([again.change, *changes(chosen)], shown, chosen, parts.proof, **LATEST)

    measuring = noted(partial(measure, asking), parts.said)
    began = parts.measure.click(measuring, chosen, [parts.said, parts.stop], **UNLIMITED)
    # A page that was reloaded, or is opened elsewhere, shows what is under way.
    attached = context.page.load(partial(attach, asking), None, [parts.said, parts.stop, parts.fold], **UNLIMITED)
    for event in (began, attached):
        event.then(another, None, again, **QUIET)
    parts.stop.click(lambda: html.note("Stopping ...") if asking.stop() else "", None, parts.said, **AT_ONCE)


def measure(asking: Asking, this: str | None, other: str | None, data: str | None) -> Iterator[list[Any]]:
    """Measure what is not known yet: (progress, Stop). What is chosen by then is drawn after it."""
    keys = [key_of(this), key_of(other)]
    path = str(find_dataset(data or "").path)
    yield from _followed(asking.ask(keys, {"data": path}), asking)


def attach(asking: Asking) -> Iterator[list[Any]]:
    """What another page has begun, or this one before it was reloaded: as `measure`, and the panel is opened."""
    task = asking.now("data")
    if task is None:
        yield [gr.skip()] * 3
        return
    opened = gr.Accordion(open=True)
    for followed in _followed(asking.watch(task), asking):
        yield [*followed, opened]
        opened = gr.skip()  # once: it draws all that is in it again, under whoever is about to press Stop


def _followed(progress: Iterable[str], asking: Asking) -> Iterator[list[Any]]:
    said = ""
    try:
        for bar in progress:
            yield [bar, gr.Button(visible=True)]
    except ValueError as error:
        said = html.note(str(error), "bad")
    yield [said, gr.Button(visible=asking.is_active)]


def choices(present: str | None) -> Any:
    """The datasets that can be read."""
    listed = [(dataset.label, str(dataset.path)) for dataset in list_datasets()]
    values = [value for _, value in listed]
    return update_of(present, present if present in values else next(iter(values), None), choices=listed)


def shown(this: str | None, other: str | None, data: str | None) -> str:
    """What is known of both on these conversations; "" before they were measured."""
    try:
        found = [_results(key_of(value), find_dataset(data or "").path) for value in (this, other)]
        if this == other or not all(found):
            return ""
        pairs = [(one, two) for one in found[0] for two in found[1] if _ends(one) == _ends(two)]
        proof = data_proof(*(pairs[0] if pairs else (found[0][0], found[1][0])))
    except ValueError as error:
        return html.note(str(error), "bad")
    kind = ("good" if proof["difference"] < 0 else "worse") if proof["p"] < LEVEL else ""
    rows = [
        (title, *(_figure(name, proof[side][name]) for side in ("model", "compare")))
        for name, title in (
            ("loss", "Loss, nats per token"),
            ("token_accuracy", "Tokens right"),
            ("bits_per_byte", "Bits per byte"),
        )
    ]
    table = html.table(("", "Model", "Compared with"), rows)
    not_read = html.note(proof["not_read"]) if "not_read" in proof else ""
    return f'<p class="verdict {kind}" role="status">{html.escape(proof["verdict"])}</p>{not_read}{table}'


def _figure(name: str, value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.1%}" if name == "token_accuracy" else f"{value:.4f}"


def _results(key: Key, path: Path) -> list[dict[str, Any]]:
    """The results of a checkpoint on the file as it is now, the newest first."""
    sha256 = sha256_of(path)
    return [one for one in results(key[0], "data") if one.get("file_sha256") == sha256 and one.get("step") == key[1]]


def _ends(result: dict[str, Any]) -> Any:
    """How far each conversation was read: beside a model of a shorter context, not as far."""
    return result["conversations"]["bytes"]
