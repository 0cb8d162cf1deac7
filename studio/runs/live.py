"""A run as it is now, as HTML: read from its directory alone, drawn once for all browsers, and only when it changed."""

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanochat_core.paths import finetuned_dir, steps
from nanochat_core.runs import curves
from nanochat_core.runs.run import Run
from nanochat_core.runs.status import RunStatus
from nanochat_core.show.svg import loss_chart
from studio.parts import html
from studio.runs import launching, rented, stops
from studio.runs.outcome import outcome_of

SMOOTHING = 0.9
LOG_LINES = 200


@dataclass(frozen=True)
class View:
    """What the Train tab shows of a run."""

    signature: tuple[object, ...]
    """Equal for two views that look the same."""
    tag: str
    status: str
    chart: str
    log: str
    can_stop: bool = False
    can_resume: bool = False
    retry: str = ""
    """Label of the retry button, "" when there is nothing to retry."""
    has_model: bool = False
    """Whether it is over and has left a model, which can be talked to and looked at."""


NOTHING = View(
    ("nothing",),
    "",
    html.empty("No run yet", "Choose a dataset above and press Start training: progress and loss appear here."),
    "",
    "",
)

_views: dict[str, View] = {}
_lock = threading.Lock()


def run_tags() -> list[str]:
    """All runs, newest first."""
    return [run.tag for run in Run.list()]


def tags_signature() -> int:
    """Changes when a run is made, renamed or deleted."""
    folder = finetuned_dir()
    return folder.stat().st_mtime_ns if folder.is_dir() else 0


def followed(tag: str) -> str:
    """The run to show: `tag`, or without one the run that trains now, else the newest; "" when there is none."""
    runs = Run.list()
    if tag and any(run.tag == tag for run in runs):
        return tag
    active = next((run for run in runs if launching.is_active(run)), None)
    return active.tag if active else (runs[0].tag if runs else "")


def look(tag: str) -> View:
    """The run's view, drawn again only when something in its directory, or its process, has changed."""
    if not tag:
        return NOTHING
    run = Run.open(tag)
    status = run.status()
    stopping = stops.sentence(run, status)
    questions = Path(run.record().get("settings", {}).get("questions_path") or "")  # which judge what was replied
    files = (run.metrics_file, run.log_file, run.evals_dir, questions)
    signature = (tag, _of_status(status), stopping, *map(_mark, files))
    with _lock:
        known = _views.get(tag)
        if known is None or known.signature != signature:
            known = _views[tag] = _draw(run, status, stopping, signature)
        return known


def _of_status(status: RunStatus) -> tuple[object, ...]:
    shown = (status.step, status.steps, status.eta_seconds, status.val_loss, status.trouble, status.doing)
    machines = (status.nodes, status.restarts)
    return status.state, status.error, status.remedy, status.warning, *shown, *machines


def _mark(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return 0, 0
    return stat.st_mtime_ns, stat.st_size


def _draw(run: Run, status: RunStatus, stopping: tuple[str, str], signature: tuple[object, ...]) -> View:
    rows = curves.rows(run)
    is_active = launching.is_active(run)
    can_retry = status.state == "failed" and not run.is_remote()  # a job is resumed, not started over here
    return View(
        signature,
        run.tag,
        _status(run, status, stopping, rows),
        _chart(run, status),
        html.log(run.log_tail(LOG_LINES) or "The log is empty so far."),
        can_stop=is_active and status.state != "stopping",
        can_resume=status.state in ("stopped", "interrupted", "failed") and not is_active,
        retry=launching.retry_label(status) if can_retry else "",
        has_model=status.is_over and not is_active and bool(steps(run.path)),
    )


def _status(run: Run, status: RunStatus, stopping: tuple[str, str], rows: list[dict[str, Any]]) -> str:
    record = run.record()
    data = Path(record.get("data", {}).get("path", "")).name
    head = (
        f'<div class="run-head">{html.badge(status.state)} <strong>{html.escape(run.tag)}</strong> '
        f'<span class="lead">{html.escape(str(record.get("base_model", "")))} on {html.escape(data)}</span></div>'
    )
    parts = [head, html.bar(status.step, status.steps, status.state), html.facts(_facts(status, rows))]
    parts.append(rented.about(run))
    if stopping[0]:
        parts.append(html.note(*stopping))
    if status.error:
        parts.append(html.note(f"{status.error} {status.remedy or ''}", "bad" if status.is_over else "warn"))
    if status.warning:
        parts.append(html.note(status.warning, "warn"))
    if status.state == "finished":
        best = f" The best was step {status.best_step}." if status.best_step is not None else ""
        came = outcome_of(run).sentence()
        parts.append(html.note(f"{came}.{best}" if came else f"The model is saved.{best}", "good", "Finished:"))
    if status.state == "starting":
        doing = status.doing or "Loading the model and asking it the questions before the training."
        parts.append(html.note(doing))
    return "".join(parts)


def _facts(status: RunStatus, rows: list[dict[str, Any]]) -> dict[str, str]:
    speed, memory = curves.last(rows, "tokens_per_s"), curves.last(rows, "memory_bytes")
    train = curves.last(rows, "train_loss")
    several: dict[str, str] = {}
    if status.nodes_wanted:
        several["Machines"] = f"{len(status.nodes or [])} of {status.nodes_wanted}: {', '.join(status.nodes or [])}"
    if status.restarts:
        several["Restarts"] = str(status.restarts)
    return {
        **several,
        "Step": f"{status.step} of {status.steps or '–'}",
        "Epoch": f"{status.epoch:.2f}",
        "Time left": "–" if status.is_over else html.duration(status.eta_seconds),
        "Tokens per second": f"{speed:,.0f}" if speed else "–",
        "Memory": html.size(memory),
        "Training loss": f"{train:.4f}" if train is not None else "–",
        "Validation loss": f"{status.val_loss:.4f}" if status.val_loss is not None else "–",
        "Best validation": f"{status.best_val_loss:.4f}" if status.best_val_loss is not None else "–",
    }


def _chart(run: Run, status: RunStatus) -> str:
    chart = loss_chart(curves.losses(run, smoothing=SMOOTHING), width=660, height=340)
    if chart:
        return chart
    if status.is_over:
        return html.empty("No loss was measured", "The run ended before its first step; the log says more.")
    return html.empty("The loss appears here", "with the first step, after the model has been loaded.")
