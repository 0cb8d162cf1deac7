"""Did it get better? Two models, the same questions: what is known at once, and what is not known asked of both."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from nanochat_core.evaluation.questions import Question, load_questions
from nanochat_core.evaluation.today import named
from nanochat_core.paths import default_model, steps
from nanochat_core.report.facts import distance
from nanochat_core.runs.distance import distance_words
from nanochat_core.runs.run import Run
from nanochat_core.system.files import read_json
from nanochat_core.system.words import plural
from studio.context import Context
from studio.datasets import questions as question_files
from studio.evaluate_tab import comparison
from studio.evaluate_tab.asking import Asking
from studio.evaluate_tab.known import pair
from studio.evaluate_tab.proof_view import ProofView
from studio.evaluate_tab.rows_panel import CLICKED, opened
from studio.models.choices import all_choices, key_of, label_of, of_name, pair_of
from studio.parts import html
from studio.parts.events import AT_ONCE, LATEST, QUIET, UNLIMITED, another, changes, noted, update_of
from studio.parts.showcode import show_code
from studio.runs.outcome import outcome_of
from studio.runs.traced import traced_html


@dataclass(frozen=True)
class ProofPanel:
    """Its components."""

    this: gr.Dropdown
    other: gr.Dropdown
    questions: gr.Dropdown
    ask: gr.Button
    stop: gr.Button
    asking: gr.HTML
    proof: gr.HTML
    behind: gr.HTML
    """The rows that taught a reply that was asked about."""
    differs: gr.HTML
    code: gr.Code


def panel(has_models: bool) -> ProofPanel:
    """Lay it out. has_models: whether this app can ask models at all."""
    lead = "The same questions, asked of two models: what one of them alone answers is what was learnt, or lost."
    gr.HTML(html.step(2, "Did it get better?", lead), elem_id="eval_better")
    with gr.Row(elem_classes="fields"):
        this = gr.Dropdown([], value=None, label="Model", elem_id="eval_model")
        other = gr.Dropdown([], value=None, label="Compared with", elem_id="eval_other")
        questions = gr.Dropdown([], value=None, label="Questions", elem_id="eval_questions")
    with gr.Row(elem_classes="buttons"):
        ask = gr.Button(
            "Ask both", variant="primary", size="sm", elem_id="eval_ask", scale=0, min_width=190, visible=has_models
        )
        stop = gr.Button("Stop", variant="stop", size="sm", elem_id="eval_stop", scale=0, min_width=90, visible=False)
    asking = gr.HTML(elem_id="eval_asking", padding=False)
    proof = gr.HTML(elem_id="eval_proof", padding=False, js_on_load=CLICKED)
    behind = gr.HTML(elem_id="eval_behind", padding=False, js_on_load=CLICKED)
    with gr.Accordion("What differs between the two trainings", open=False, elem_id="eval_differs_fold"):
        differs = gr.HTML(elem_id="eval_compared", padding=False)
    return ProofPanel(this, other, questions, ask, stop, asking, proof, behind, differs, show_code("eval_proof_code"))


class ProofHandlers:
    """What the panel's events do: values in, values out."""

    def __init__(self, asking: Asking):
        self.asking = asking

    def lists(self, this: str | None, other: str | None, questions: str | None) -> list[Any]:
        """The lists as they are now; what is gone is replaced by the newest run's pair and its questions."""
        values = [value for _, value in all_choices()]
        chosen = (this, other, questions) if this in values and other in values else self.newest()
        return _menus((this, other, questions), chosen)

    def newest(self) -> tuple[str | None, str | None, str | None]:
        """What is compared at first: the newest finished run's model and its base."""
        runs = sorted(Run.list(), key=lambda run: run.status().state != "finished")
        found = (self.of_run(run.tag) for run in runs if steps(run.path))
        base = next(iter(of_name(default_model())), None)
        return next(found, (base, base, None))

    def of_run(self, tag: str) -> tuple[str | None, str | None, str | None]:
        """(model, compared with, questions) of a run: what was asked after its training, or else its best model."""
        run = Run.open(tag)
        base, best = pair_of(tag)
        last = f"finetuned/{tag}@{max(steps(run.path), default=0)}"
        was_asked = bool(read_json(run.evals_dir / "after.json").get("new")) and last in of_name(f"finetuned/{tag}")
        path = run.record().get("settings", {}).get("questions_path")
        known = [value for _, value in question_files.question_files()]
        questions = next((str(one) for one in known if path and Path(one) == Path(path)), None)
        return last if was_asked else best, base, questions

    def choose_run(self, tag: str | None) -> list[Any]:
        """The three lists for a run that was chosen above; as they are when it has no model."""
        if not tag or not (values := self.of_run(tag))[0]:
            return [gr.skip()] * 3
        return _menus((None, None, None), values)

    def shown(self, this: str | None, other: str | None, questions: str | None) -> list[Any]:
        """(button that asks, proof, what differs, code) of what is chosen."""
        try:
            keys, asked = (key_of(this), key_of(other)), self._questions(questions)
        except ValueError as error:
            return [gr.Button(visible=False), html.empty("Nothing to compare yet", str(error)), "", ""]
        if keys[0] == keys[1]:
            text = "Choose another model on one of the sides: a run and what it was trained from, or two runs."
            return [gr.Button(visible=False), html.empty("Twice the same model", text), "", ""]
        found = pair(asked, *keys)
        names = _names(this, other)
        tag = _tag(keys[0][0])
        view = ProofView(found, names, _cost(tag, keys[1][0]), tag)
        missing = ""
        if found.missing:
            both = f"{names[0]} and {names[1]}"
            what = plural(found.missing, "question") if found.asked else f"these {plural(found.total, 'question')}"
            which = f": {named(found.unasked)}" if found.asked else ""
            missing = html.note(f"{both} were not both asked {what} yet{which}.")
        button = gr.Button(_label(found.missing, found.total), visible=bool(found.missing), interactive=True)
        differs = _differs(tag, _tag(keys[1][0]))
        gauge = _distance(tag, keys[1][0])
        return [button, missing + view.html() + gauge, differs, _code(keys, questions or "")]

    def ask(self, this: str | None, other: str | None, questions: str | None) -> Iterator[list[Any]]:
        """Ask both models what is not known yet: (button, Stop, progress). What is chosen by then is drawn after it."""
        keys = [key_of(this), key_of(other)]
        self._questions(questions)
        yield from self._followed(self.asking.ask(keys, {"questions": questions}))

    def attach(self) -> Iterator[list[Any]]:
        """What another page has begun, or this one before it was reloaded: as `ask`; nothing where nothing goes on."""
        task = self.asking.now("questions")
        if task is None:
            yield [gr.skip()] * 3
        else:
            yield from self._followed(self.asking.watch(task))

    def _followed(self, progress: Iterable[str]) -> Iterator[list[Any]]:
        busy, said = [gr.Button(interactive=False), gr.Button(visible=True)], ""
        try:
            for shown in progress:
                yield [*busy, shown]
        except ValueError as error:
            said = html.note(str(error), "bad")
        yield [gr.Button(interactive=True), gr.Button(visible=self.asking.is_active), said]

    def stop(self) -> str:
        """Stop asking."""
        return html.note("Stopping: what was answered is kept ...") if self.asking.stop() else ""

    def _questions(self, path: str | None) -> list[Question]:
        if not path:
            raise ValueError("No file of questions is chosen. Choose one, or draft one from your data below.")
        if path not in [value for _, value in question_files.question_files()]:
            raise ValueError("This file of questions is gone. Choose another one.")
        return load_questions(path)


def wire(parts: ProofPanel, handlers: ProofHandlers, run: gr.Dropdown, context: Context) -> None:
    """Connect it; `run` is the list of runs above."""
    chosen = [parts.this, parts.other, parts.questions]
    drawn = [parts.ask, parts.proof, parts.differs, parts.code]
    # One event for all that it follows, so that of several proofs the one of the last choice is shown.
    again = gr.State("")
    for event in (context.page.load, context.tab.select):
        event(handlers.lists, chosen, chosen, **QUIET).then(another, None, again, **QUIET)
    run.input(handlers.choose_run, run, chosen, **QUIET)
    context.to_evaluate.change(lambda wish: handlers.choose_run(wish[0]), context.to_evaluate, chosen, **QUIET)
    gr.on([again.change, *changes(chosen)], handlers.shown, chosen, drawn, **LATEST)
    asked = [parts.ask, parts.stop, parts.asking]
    began = parts.ask.click(noted(handlers.ask, parts.asking), chosen, asked, **UNLIMITED)
    # A page that was reloaded, or is opened elsewhere, shows what is under way.
    attached = context.page.load(handlers.attach, None, asked, **UNLIMITED)
    for event in (began, attached):
        event.then(another, None, again, **QUIET)
    traced = parts.proof.act(noted(behind, parts.behind), None, parts.behind, **UNLIMITED)
    traced.success(
        None, None, None, js="() => document.querySelector('#eval_behind').scrollIntoView({block: 'nearest'})"
    )
    parts.behind.act(opened, None, context.to_data, **QUIET)
    # By a person's choice only: the lists are filled again whenever the tab opens, which must not take the rows away.
    others = [*(each.input for each in chosen), run.input, context.to_evaluate.change]
    gr.on(others, lambda: "", None, parts.behind, cancels=traced, **QUIET)
    parts.stop.click(handlers.stop, None, parts.asking, **AT_ONCE)


def behind(told: gr.EventData) -> str:
    """The rows that taught the reply whose button was clicked. ValueError in a sentence."""
    return traced_html(*(str(told._data[name]) for name in ("run", "reply", "question")))


def _menus(present: tuple[str | None, ...], chosen: tuple[str | None, ...]) -> list[Any]:
    """Updates of the three lists."""
    models, files = all_choices(), question_files.question_files()
    this, other, questions = chosen
    if questions not in [value for _, value in files]:
        questions = files[0][1] if files else None
    values = ((this, models), (other, models), (questions, files))
    return [update_of(was, value, choices=menu) for was, (value, menu) in zip(present, values)]


def _tag(name: str) -> str:
    kind, _, tag = name.partition("/")
    return tag if kind == "finetuned" and any(run.tag == tag for run in Run.list()) else ""


def _names(this: str | None, other: str | None) -> tuple[str, str]:
    """Short names: of a run its own, with the checkpoint where both are of one run."""
    first, second = (str(value).rpartition("@")[0].removeprefix("finetuned/") for value in (this, other))
    return (first, second) if first != second else (label_of(this), label_of(other))


def _label(missing: int, total: int) -> str:
    return f"Ask both {plural(missing, 'question')}" if missing == total else f"Ask the other {missing:,}"


def _cost(tag: str, base: str) -> dict[str, str]:
    """What a run has cost: its old skills, and how far it went from its base."""
    if not tag or Run.open(tag).record().get("base_model") != base:
        return {}
    run, facts = Run.open(tag), {}
    if (kept := outcome_of(run).kept) is not None:
        facts["Old skills kept"] = f"{kept:.0%}"
    return facts


def _distance(tag: str, base: str) -> str:
    """The gauge of a run beside its own base, with what it means."""
    if not tag or Run.open(tag).record().get("base_model") != base:
        return ""
    nats = distance(Run.open(tag))
    return html.note(distance_words(nats)) if nats is not None else ""


def _differs(this: str, other: str) -> str:
    if not (this and other):
        return html.empty("Nothing to list", "Settings and data are compared of two runs: choose one on each side.")
    return comparison.comparison_html(this, other)


def _code(keys: tuple[Any, Any], questions: str) -> str:
    listed = ", ".join(f"({name!r}, {step})" for name, step in keys)
    return (
        "from nanochat_core.evaluation.measuring import Wanted, measure\n"
        "from nanochat_core.evaluation.proof import questions_proof\n\n"
        f"this, other = measure([{listed}], Wanted(questions={json.dumps(questions)}))\n"
        "questions_proof(this.questions, other.questions)"
    )
