"""A run at a glance, as HTML for notebooks: its state, how far it is, its losses, and what went wrong."""

from pathlib import Path
from typing import Any

from nanochat_core.runs.status import RunStatus
from nanochat_core.show.markup import card, escape, facts, marked, note
from nanochat_core.system.words import duration

_STATE_KINDS = {
    "finished": "good",
    "failed": "bad",
    "interrupted": "bad",
    "stopped": "warn",
    "stopping": "warn",
    "stalled": "warn",
}


def run_card(tag: str, status: RunStatus, record: dict[str, Any], seconds: float | None) -> str:
    """Escaped HTML without scripts.

    record: the run's config.json. seconds: from its first metrics to its last, None before.
    """
    data = record.get("data", {})
    origin = {
        "Base": str(record.get("base_model", "–")),
        "Data": f"{Path(str(data.get('path', ''))).name} ({data.get('rows', '–')} conversations)",
        "Time": duration(seconds),
    }
    if status.eta_seconds is not None and not status.is_over:
        origin["Left"] = duration(status.eta_seconds)
    problem = " ".join(text for text in (status.error, status.remedy) if text)
    state = marked(status.state, _STATE_KINDS.get(status.state, "plain"))
    return card(
        f"Run {tag}",
        f"<div>{state} {_bar(status)} step {status.step:,} of {status.steps:,}</div>",
        facts(_losses(status)),
        facts(origin),
        note(problem, "bad" if status.is_over else "warn") if problem else "",
        note(status.warning, "warn") if status.warning else "",
    )


def run_line(status: RunStatus) -> str:
    """The same in one line of text, for a terminal."""
    losses = "".join(f" | {name.lower()} {value}" for name, value in _losses(status).items())
    left = f" | {duration(status.eta_seconds)} left" if status.eta_seconds and not status.is_over else ""
    return f"{status.state} | step {status.step}/{status.steps}{losses}{left}"


def _losses(status: RunStatus) -> dict[str, str]:
    values = {"Train loss": status.train_loss, "Validation loss": status.val_loss, "Best": status.best_val_loss}
    shown = {name: f"{value:.4f}" for name, value in values.items() if value is not None}
    if "Best" in shown and status.best_step:
        shown["Best"] += f" at step {status.best_step:,}"
    return shown


def _bar(status: RunStatus) -> str:
    total = max(1, status.steps)
    percent = f"{100 * status.step / total:.0f}%"
    style = "width:18em;max-width:50%;vertical-align:middle"
    return f'<progress max="{total}" value="{status.step}" style="{style}">{escape(percent)}</progress>'
