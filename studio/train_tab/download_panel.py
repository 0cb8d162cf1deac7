"""The fold of the Train tab that fetches a model from the Hugging Face Hub."""

from typing import Any

import gradio as gr

from studio.context import Context
from studio.parts.events import AT_ONCE, QUIET, noted
from studio.parts.showcode import show_code
from studio.runs import downloads
from studio.train_tab import before_start

_REPO = "karpathy/nanochat-d32"
_CODE = (
    "from nanochat_core.hub import download, repository_size\n\n"
    "print(repository_size({0!r}).summary())\n"
    "download({0!r})"
)


def build(context: Context, base: gr.Dropdown) -> None:
    """Lay it out and wire it; `base` gets the new model among its choices."""
    with gr.Accordion("Download a model from the Hugging Face Hub", open=False, elem_id="download_fold"):
        with gr.Row(elem_classes="fields"):
            repo = gr.Textbox(
                _REPO, label="Repository", info="Any nanochat model.", max_lines=1, elem_id="download_repo"
            )
        with gr.Row(elem_classes="buttons"):
            look = gr.Button("Show its size", size="sm", elem_id="download_size", scale=0, min_width=130)
            start = gr.Button(
                "Download", size="sm", variant="primary", elem_id="download_start", scale=0, min_width=130
            )
        said = gr.HTML(elem_id="download_said", padding=False)
        code = show_code("download_code", _CODE.format(_REPO))
    timer = gr.Timer(1, active=False)
    watched = [said, timer, base]
    look.click(downloads.size, repo, said, **QUIET)
    start.click(noted(begin, said), repo, watched, **QUIET)
    timer.tick(watch, None, watched, **AT_ONCE)
    context.page.load(watch, None, watched, **QUIET)
    repo.change(lambda name: _CODE.format((name or "").strip()), repo, code, **QUIET)


def begin(repo: str) -> tuple[str, Any, Any]:
    """Start the download and look at it once a second from then on."""
    downloads.start(repo)
    return watch()


def watch() -> tuple[str, Any, Any]:
    """How far it is; when it is over, no further look, and the new model among the choices."""
    is_active = downloads.is_active()
    choices = gr.skip() if is_active else gr.update(choices=before_start.base_choices())
    # With nothing to say it leaves what is there: a page's first look may come after the person's first click.
    return downloads.shown() or gr.skip(), gr.Timer(active=is_active), choices
