"""The components of the Evaluate tab, by name and part."""

from dataclasses import dataclass

import gradio as gr


@dataclass(frozen=True)
class Runs:
    """All runs, and what can be done with the chosen one."""

    table: gr.HTML
    sort: gr.Dropdown
    run: gr.Dropdown
    note: gr.Textbox
    name: gr.Textbox
    keep: gr.Button
    rename: gr.Button
    notebook: gr.Button
    delete: gr.Button
    sure: gr.Row
    question: gr.HTML
    yes: gr.Button
    no: gr.Button
    said: gr.HTML


@dataclass(frozen=True)
class Curves:
    """The losses of some runs, and their downloads."""

    shown: gr.Dropdown
    which: gr.Dropdown
    x_axis: gr.Dropdown
    smoothing: gr.Slider
    log: gr.Checkbox
    chart: gr.HTML
    png: gr.Button
    csv: gr.Button
    file: gr.DownloadButton
    code: gr.Code


@dataclass(frozen=True)
class EvaluateFields:
    """The whole tab, but for the panels that wire themselves."""

    runs: Runs
    curves: Curves
