"""What happens in the upper half of the Train tab: choices fill the form, the form fills the preview, Start starts."""

import tempfile
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from nanochat_core.config import ONLY_WITH, FinetuneConfig
from nanochat_core.system.hardware import Hardware
from studio.context import Context
from studio.parts import html
from studio.parts.events import AT_ONCE, LATEST, QUIET, alerted, another, changes, noted, update_of
from studio.parts.uploads import removed_after
from studio.parts.working import Working
from studio.runs import launching
from studio.runs import queue as run_queue
from studio.runs.estimate import what_is_counted
from studio.train_tab import before_start
from studio.train_tab.choices import (
    base_value,
    form_names,
    is_shown,
    make_config,
    preset_values,
    questions_beside,
    read_settings,
    settings_json,
    suggest_tag,
)
from studio.train_tab.counting import Counting, Superseded
from studio.train_tab.fields import TrainFields
from studio.train_tab.form import by_name


@dataclass(frozen=True)
class Chosen:
    """What is chosen above and in the form: the values of `chosen_fields`, by name."""

    base: str
    data: str
    tag: str
    gpus: list[int]
    count: float | None
    form: dict[str, Any]

    @classmethod
    def of(cls, values: Sequence[Any]) -> "Chosen":
        """From the values of `chosen_fields` in their order, as gradio hands them over."""
        base, data, tag, gpus, count, *form = values
        return cls(base, data or "", tag, gpus, count, by_name(form))

    def config(self) -> FinetuneConfig:
        """The config of what is chosen, on whatever machine. ValueError in a sentence."""
        return make_config(self.base, self.data, self.tag, self.form)


def chosen_fields(fields: TrainFields) -> list[Any]:
    """The components whose values are a `Chosen`."""
    choice, settings = fields.choice, fields.settings
    return [choice.base, choice.data, choice.tag, settings.gpus, settings.count, *settings.form]


def wire(fields: TrainFields, panel: Any, context: Context, handlers: "Handlers") -> None:
    """Connect everything; `panel` is the watch panel, whose picker follows what is started."""
    choice, settings, before, starting = fields.choice, fields.settings, fields.before, fields.starting
    chosen, said = chosen_fields(fields), starting.said
    lists = [choice.base, choice.data]
    begin = [choice.base, choice.data, choice.preset]
    for event in (choice.base.input, choice.preset.input):
        event(handlers.fill, begin, settings.form, **QUIET)
    tag_and_questions = [choice.tag, settings.form[form_names().index("questions_path")]]
    method: Any = settings.form[form_names().index("method")]
    method.change(handlers.show_method, method, _of_a_method(settings.form), **QUIET)
    choice.data.input(handlers.name_run, choice.data, tag_and_questions, **QUIET)
    refresh: dict[str, Any] = {"fn": handlers.lists, "inputs": lists, "outputs": lists, **QUIET}
    context.page.load(**refresh)
    # One event for all that it follows, so that of several counts the last one is shown. What is set while the tab is
    # not open does not fire its change.
    again = gr.State("")
    context.tab.select(**refresh).then(another, None, again, **QUIET)
    context.dataset.change(handlers.take_dataset, context.dataset, [choice.data, *tag_and_questions], **QUIET).then(
        another, None, again, **QUIET
    )
    counting = gr.State(Counting())
    # Beside the preview, which waits for the one before it: this is what makes that one end.
    gr.on(changes(chosen), handlers.chosen, [counting, *chosen], None, **{**LATEST, **AT_ONCE})
    gr.on(
        [context.page.load, again.change, *changes(chosen)],
        handlers.preview,
        [counting, *chosen],
        [before.counts, starting.command, starting.cell, before.probed],
        concurrency_limit=4,
        **LATEST,
    )
    started = gr.State(None)
    starting.start.click(noted(handlers.start, said), chosen, [said, panel.picker, choice.tag, started], **QUIET)
    started.change(None, None, None, js=_SCROLL)
    queued = [said, starting.waiting, starting.clear, choice.tag]
    starting.queue.click(noted(handlers.queue, said), chosen, queued, **QUIET)
    starting.clear.click(handlers.empty_queue, None, [said, starting.waiting, starting.clear], **QUIET)
    settings.save.click(alerted(handlers.save), chosen, [settings.saved, said], **QUIET).success(
        None, None, None, js="() => document.querySelector('#train_saved').click()"
    )
    filled = [choice.base, choice.data, choice.tag, *settings.form, said]
    settings.load.upload(noted(handlers.load, said), settings.load, filled, **QUIET)
    # Gradio takes a function for a generator only when it is one itself, which no lambda is.
    probe = partial(handlers.probe, context.models)
    measured = gr.State([])
    before.probe.click(probe, chosen, [before.probed, before.probe, measured], **QUIET).success(
        handlers.measured, [measured, *chosen], before.probed, **QUIET
    )


def _of_a_method(form: Sequence[Any]) -> list[Any]:
    """The fields that one method has and the other has not, in the order of ONLY_WITH."""
    return [form[form_names().index(name)] for names in ONLY_WITH.values() for name in names]


_SCROLL = "() => document.querySelector('#watch_title').scrollIntoView({behavior: 'smooth'})"


class Handlers:
    """The events' functions: values in, values out. They hold the hardware that was found, and nothing else."""

    def __init__(self, hardware: Hardware):
        self.hardware = hardware

    def read(self, *values: Any) -> tuple[FinetuneConfig, int, str]:
        """(config, processes, GPUs) of what is chosen. ValueError in a sentence."""
        chosen = Chosen.of(values)
        config = chosen.config()
        if config.device_type == "cpu":
            return config, max(1, int(chosen.count or 1)), ""
        return config, *before_start.processes(self.hardware, chosen.gpus, chosen.count)

    def fill(self, base: str, data: str, preset: str) -> list[Any]:
        """The form's values under a preset."""
        values = preset_values(preset, base, data or "")
        return [values[name] for name in form_names()]

    def show_method(self, method: str) -> list[Any]:
        """The chosen method's own fields, and not the other's."""
        return [gr.update(visible=is_shown(name, method)) for names in ONLY_WITH.values() for name in names]

    def name_run(self, data: str) -> tuple[str, str | None]:
        """(name of the run, file of questions) that go with a dataset."""
        return suggest_tag(data or ""), questions_beside(data or "")

    def take_dataset(self, data: str) -> tuple[Any, Any, Any]:
        """The dataset chosen in Data, here too."""
        if not data:
            return gr.skip(), gr.skip(), gr.skip()
        tag, questions = self.name_run(data)
        return gr.update(choices=before_start.dataset_choices(), value=data), tag, questions

    def lists(self, base: str, data: str) -> tuple[Any, Any]:
        """Fresh choices; what is gone is no longer chosen."""
        bases, datasets = before_start.base_choices(), before_start.dataset_choices()
        kept = base if base in [value for _, value in bases] else bases[0][1]
        paths = [path for _, path in datasets]
        chosen = data if data in paths else (paths[0] if paths else None)
        return update_of(base, kept, choices=bases), update_of(data, chosen, choices=datasets)

    def preview(self, counting: Counting, *chosen: Any) -> Iterator[tuple[Any, Any, Any, Any]]:
        """Counts, command and cell of what is chosen; a sentence in place of the counts where it cannot work.

        It ends without them when something else is chosen meanwhile: that has a preview of its own.
        """
        wrong, command, cell, nproc = "", "", "", 1
        try:
            try:
                config, nproc, devices = self.read(*chosen)
                command, cell = before_start.codes(config, nproc, devices)
            except ValueError as error:  # a wrong name must not hide what is wrong with the data
                wrong = html.note(str(error), "bad")
                config = self._unnamed(*chosen)
            go_on = counting.begin(what_is_counted(config))
            if before_start.takes_long(config):
                yield wrong + before_start.counting(), command, cell, ""
            yield wrong + before_start.before_start(config, self.hardware, nproc, go_on), command, cell, ""
        except ValueError as error:
            yield html.note(str(error), "bad"), "", "", ""
        except Superseded:
            return

    def chosen(self, counting: Counting, *chosen: Any) -> None:
        """End the count of what was chosen before, where this is counted otherwise."""
        try:
            of = what_is_counted(self._unnamed(*chosen))
        except ValueError:  # nothing that could be counted
            of = None
        counting.chosen(of)

    @staticmethod
    def _unnamed(*chosen: Any) -> FinetuneConfig:
        return replace(Chosen.of(chosen), tag="run").config()

    def start(self, *chosen: Any) -> tuple[Any, Any, Any, str]:
        """Start the run and follow it. The last value is another one for each run that was started."""
        run = launching.start(*self.read(*chosen))
        said = html.note(f"Run {run.tag} has been started.", "good")
        picker = gr.update(choices=before_start.run_choices(), value="")
        return said, picker, suggest_tag(Chosen.of(chosen).data), uuid.uuid4().hex

    def queue(self, *chosen: Any) -> tuple[Any, Any, Any, Any]:
        """Put the run at the end of the queue."""
        config, nproc, devices = self.read(*chosen)
        run_queue.add(config, nproc, devices)
        said = html.note(f"Run {config.output_tag} starts when no other one trains, while the app is open.", "good")
        return said, before_start.queue_html(), gr.Button(visible=True), f"{config.output_tag}-next"

    def empty_queue(self) -> tuple[str, str, Any]:
        """Take all waiting runs out."""
        for one in run_queue.waiting():
            run_queue.remove(one.tag)
        return html.note("The queue is empty."), before_start.queue_html(), gr.Button(visible=False)

    def save(self, *chosen: Any) -> tuple[Any, Any]:
        """The settings as a file to download."""
        config = Chosen.of(chosen).config()
        path = Path(tempfile.mkdtemp()) / f"{config.output_tag}-settings.json"
        path.write_text(settings_json(config), encoding="utf-8")
        return gr.DownloadButton(value=str(path)), ""

    def load(self, path: str) -> list[Any]:
        """Fill everything from a file of settings. The dataset is taken over when it is there."""
        with removed_after(path) as file:
            config = read_settings(file)
        values, datasets = config.to_dict(), before_start.dataset_choices()
        is_known = config.data_path in [known for _, known in datasets]
        data = gr.update(choices=datasets, value=config.data_path) if is_known else gr.skip()
        what = "Settings loaded." if is_known else f"Settings loaded; their dataset {config.data_path} is not here."
        form = [values[name] for name in form_names()]
        return [base_value(config), data, config.output_tag, *form, html.note(what, "good" if is_known else "warn")]

    def probe(self, models: Any, *chosen: Any) -> Iterator[tuple[Any, Any, Any]]:
        """Measure some steps in a process of their own: (progress, button, what `measured` shows)."""
        try:
            config, nproc, _ = self.read(*chosen)
            measuring = Working(lambda report: models.probe(config, report, measuring.left))
            for progress in measuring:
                yield progress, gr.Button("Measuring ...", interactive=False), []
            shown = before_start.probe_result(measuring.result(), nproc)
        except ValueError as error:
            shown = html.note(str(error), "bad")
        yield gr.skip(), gr.Button("Measure time and memory", interactive=True), [list(chosen), shown]

    def measured(self, known: list[Any], *chosen: Any) -> str:
        """What was measured, if it was measured of what is chosen now."""
        of, shown = known
        return shown if of == list(chosen) else html.note("The settings were changed meanwhile: measure again.")
