"""The Data tab's controls, laid out from top to bottom; data_tab.py gives them their meaning."""

from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import gradio as gr

from nanochat_core.config import FinetuneConfig
from studio.data_tab import handlers, view
from studio.datasets.counting import tokenizer_names
from studio.datasets.index import SHOW, SORT
from studio.parts.html import size, step

_LEAD = (
    "Pick a dataset, or drop a file: JSONL, JSON, ShareGPT, Alpaca, prompt and completion, CSV. "
    "Nothing changes on disk until you save."
)


T = TypeVar("T")


@dataclass
class Files:
    """Pick, upload, and what can be done with a whole file."""

    pick: gr.Dropdown
    upload: gr.File
    name: gr.Textbox
    new: gr.Button
    duplicate: gr.Button
    rename: gr.Button
    download: gr.Button
    download_file: gr.DownloadButton
    delete: gr.Button
    delete_row: gr.Row
    delete_question: gr.HTML
    delete_yes: gr.Button
    delete_no: gr.Button


def files(max_upload: int) -> Files:
    """Step 1: which file is edited. max_upload: bytes of the largest one that may be sent."""
    gr.HTML(step(1, "Pick your data", _LEAD), padding=False)
    with gr.Row(equal_height=True):
        with gr.Column(scale=3, min_width=300):
            pick = gr.Dropdown(handlers.choices([]), value=None, label="Dataset", elem_id="data-pick")
            with gr.Accordion("New, duplicate, rename, download, delete", open=False, elem_id="data-files-fold"):
                name = gr.Textbox(label="Name (for New and Rename)", placeholder="my-bakery", elem_id="data-name")
                with gr.Row(elem_classes="data-tools"):
                    new, duplicate = tool("New", "data-new"), tool("Duplicate", "data-duplicate")
                    rename, download = tool("Rename", "data-rename"), tool("Download", "data-download")
                    delete = tool("Delete…", "data-delete")
                with gr.Row(visible=False, elem_classes="data-tools", elem_id="data-delete-sure") as delete_row:
                    delete_question = gr.HTML(elem_id="data-delete-question", padding=False)
                    delete_yes = tool("Move it to the bin", "data-delete-yes", "stop")
                    delete_no = tool("Keep it", "data-delete-no")
                download_file = gr.DownloadButton(visible="hidden", elem_id="data-download-file")
        with gr.Column(scale=2, min_width=300):
            upload = gr.File(label=f"Upload (at most {size(max_upload)})", elem_id="data-upload", height=132)
    return by_name(Files, locals())


@dataclass
class Saving:
    """Save and undo, and the choice when the file has changed meanwhile."""

    status: gr.HTML
    save: gr.Button
    undo: gr.Button
    conflict: gr.Group
    conflict_text: gr.HTML
    save_name: gr.Textbox
    save_as: gr.Button
    reload: gr.Button
    conflict_close: gr.Button
    draft: gr.Column
    draft_text: gr.HTML
    draft_take: gr.Button
    draft_discard: gr.Button


def saving() -> Saving:
    """The bar with Save and Undo, and what a draft offers."""
    with gr.Row(elem_id="data-bar"):
        status = gr.HTML(view.NOTHING_OPEN, elem_id="data-status", padding=False)
        save = gr.Button(
            "Save", variant="primary", size="sm", elem_id="data-save", min_width=90, scale=0, interactive=False
        )
        undo = gr.Button("Undo", size="sm", elem_id="data-undo", min_width=90, scale=0, interactive=False)
    with gr.Column(visible=False, elem_id="data-draft") as draft:
        draft_text = gr.HTML(elem_id="data-draft-text", padding=False)
        with gr.Row(elem_classes="data-tools"):
            draft_take = tool("Restore", "data-draft-take", "primary")
            draft_discard = tool("Discard", "data-draft-discard", "stop")
    with gr.Column(visible=False, elem_id="data-conflict") as conflict:
        conflict_text = gr.HTML(elem_id="data-conflict-text", padding=False)
        save_name = gr.Textbox(label="Another name", elem_id="data-save-name", max_lines=1)
        with gr.Row(elem_classes="data-tools"):
            save_as = tool("Save under this name", "data-save-as", "primary")
            reload = tool("Reload and lose my changes", "data-reload", "stop")
            conflict_close = tool("Keep editing", "data-conflict-close")
    return by_name(Saving, locals())


@dataclass
class Listing:
    """Search, filter, sort, and one page of conversations."""

    search: gr.Textbox
    show: gr.Dropdown
    sort: gr.Dropdown
    note: gr.HTML
    rows: gr.Radio
    previous: gr.Button
    next: gr.Button


def listing() -> Listing:
    """The list of conversations with search, filter and order."""
    search = gr.Textbox(label="Search", placeholder="Words in any message", elem_id="data-search", max_lines=1)
    with gr.Row():
        show = gr.Dropdown(_flip(SHOW), value="all", label="Show", elem_id="data-show", min_width=120)
        sort = gr.Dropdown(_flip(SORT), value="file", label="Sort", elem_id="data-sort", min_width=120)
    note = gr.HTML(elem_id="data-list-note", padding=False)
    rows = gr.Radio([], label="Conversations", elem_id="data-list", interactive=True)
    with gr.Row(elem_classes="data-tools"):
        previous, next = tool("Previous page", "data-previous"), tool("Next page", "data-next")
    return by_name(Listing, locals())


@dataclass
class Measures:
    """With what tokens are counted, and how the dataset is split."""

    model: gr.Dropdown
    longest: gr.Number
    split: gr.Number


def measures() -> Measures:
    """By whose tokens lengths are measured, and how many a conversation may have."""
    names = tokenizer_names()
    value = names[0] if names else None
    with gr.Row():
        model = gr.Dropdown(names, value=value, label="Tokenizer of", elem_id="data-model", min_width=130)
        longest = gr.Number(
            view.longest_of(value) if value else FinetuneConfig.max_seq_len,
            label="Longest, in tokens",
            precision=0,
            minimum=8,
            elem_id="data-longest",
            min_width=110,
        )
        split = gr.Number(
            FinetuneConfig.val_split, label="Validation share", step=0.05, elem_id="data-split", min_width=110
        )
    return by_name(Measures, locals())


@dataclass
class Fixing:
    """Problems by kind, each with its fix, and the fix for all."""

    everything: gr.Button
    tools: gr.Column
    kind: gr.Dropdown
    fix_all: gr.Button
    jump: gr.Dropdown
    problems: gr.HTML


_CLICKED = """
element.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-row]");
  if (!button) return;
  await window.dataEditor?.flush().catch(() => {});
  const { session } = button.closest("[data-session]").dataset;
  trigger("act", { session, row: Number(button.dataset.row), kind: button.dataset.kind });
});
"""
"""A click on a button of a listed problem, after the app has what was typed last."""


def fixing() -> Fixing:
    """What is wrong, and the buttons that fix it."""
    gr.HTML(step(3, "Fix problems", "A file with one error is not trained on."), padding=False)
    everything = gr.Button(
        view.fix_everything_label(None)[0], variant="primary", size="sm", visible=False, elem_id="data-fix-everything"
    )
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=300, visible=False) as tools:
            kind = gr.Dropdown([("All kinds", "")], value="", label="Kind", elem_id="data-kind")
            fix_all = gr.Button("Fix all of this kind", size="sm", interactive=False, elem_id="data-fix-all")
            jump = gr.Dropdown([], value=None, label="Go to a line", elem_id="data-jump")
        with gr.Column(scale=3, min_width=320):
            problems = gr.HTML(elem_id="data-problems", padding=False, max_height=320, js_on_load=_CLICKED)
    return by_name(Fixing, locals())


@dataclass
class History:
    """The whole dataset in numbers, and its versions."""

    overview: gr.HTML
    version: gr.Dropdown
    restore: gr.Button
    difference: gr.HTML


def history() -> History:
    """Step 5: the dataset as a whole, and its earlier versions."""
    gr.HTML(step(5, "The whole dataset", "What an epoch trains on, and what is kept to validate with."), padding=False)
    overview = gr.HTML(elem_id="data-overview", padding=False)
    with gr.Accordion("Earlier versions", open=False, elem_id="data-versions-fold"):
        version = gr.Dropdown([], value=None, label="Compare what is on the screen with", elem_id="data-version")
        with gr.Row(elem_classes="data-tools"):
            restore = tool("Restore this version", "data-restore")
        difference = gr.HTML(view.NO_VERSION, elem_id="data-difference", padding=False)
    return by_name(History, locals())


def tool(label: str, elem_id: str, variant: Literal["secondary", "stop", "primary"] = "secondary") -> gr.Button:
    """A small button in a row of such."""
    return gr.Button(label, size="sm", variant=variant, elem_id=elem_id, min_width=90, scale=0)


def by_name(kind: type[T], found: dict[str, Any]) -> T:
    """The dataclass from the local variables of the same names."""
    return kind(**{name: found[name] for name in kind.__annotations__})


def _flip(names: dict[str, str]) -> list[tuple[str, str]]:
    return [(label, value) for value, label in names.items()]
