"""The fold of the Data tab that imports conversations from the Hugging Face Hub, not saved until Save is clicked."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from studio.data_tab import handlers
from studio.datasets.apart import HubImport, import_apart
from studio.parts import html
from studio.parts.events import QUIET
from studio.parts.working import Working

_FIRST_ROWS = 1000


def build(at: gr.State) -> None:
    """Lay it out and wire it: what was read is opened as a dataset that is not saved yet."""
    with gr.Accordion("Import from the Hugging Face Hub", open=False, elem_id="data-hub-fold"):
        with gr.Row():
            repo = gr.Textbox(
                label="Dataset on the hub",
                placeholder="HuggingFaceTB/smol-smoltalk",
                max_lines=1,
                elem_id="data-hub-repo",
            )
            rows = gr.Number(
                _FIRST_ROWS, label="Rows, at most", precision=0, minimum=1, min_width=110, elem_id="data-hub-rows"
            )
        start = gr.Button("Import", size="sm", elem_id="data-hub-import", min_width=90, scale=0)
        said = gr.HTML(elem_id="data-hub-said", padding=False)
    start.click(bring, [at, repo, rows], [at, said], **QUIET)


def bring(at: dict[str, Any], repo: str, rows: float | None) -> Iterator[tuple[Any, str]]:
    """Read the dataset's first rows, showing how far it is, and open what came of them."""
    repo = (repo or "").strip()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{repo.rpartition('/')[2] or 'dataset'}.jsonl"
        limit = int(rows) if rows else None
        reading = Working(lambda report: import_apart(repo, path, limit, _counted(report, limit)))
        for shown in reading:
            yield gr.skip(), shown
        try:
            report = reading.result()
            yield handlers.upload(at, str(path), path.name), _said(report)
        except ValueError as error:
            yield gr.skip(), html.note(str(error), "bad")


def _counted(report: Callable[[float, str], Any], limit: int | None) -> Callable[[int], None]:
    def count(rows: int) -> None:
        report(rows / limit if limit else 0.0, f"{rows:,} rows")

    return count


def _said(report: HubImport) -> str:
    dropped = "".join(html.note(line) for line in report.said[:12])
    return html.note(f"Read {report.rows:,} rows of {report.repo}; not saved yet.", "good") + dropped
