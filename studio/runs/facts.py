"""What there is to know of each run, for the table of runs; and the actions on a whole run: note, rename, delete."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanochat_core.paths import finetuned_dir
from nanochat_core.runs import curves
from nanochat_core.runs.claiming import run_processes
from nanochat_core.runs.folders import delete_folder, refuse_links
from nanochat_core.runs.run import Run
from nanochat_core.runs.status import RunStatus
from nanochat_core.system.files import read_json, write_atomically, write_json
from nanochat_core.system.folder_names import check_tag
from studio.parts import html
from studio.runs import launching
from studio.runs import queue as run_queue

COLUMNS = ("Run", "State", "Base", "Data", "Version", "Steps", "Best validation", "Time", "Device", "Note")
SORTS = ("Newest first", "Best validation first", "Longest first", "By name", "By state", "By data")
_NOTE = "note.txt"


@dataclass(frozen=True)
class RunFacts:
    """One row of the table."""

    tag: str
    state: str
    base: str
    data: str
    version: str
    """The first eight digits of the data file's sha256."""
    steps: int
    planned: int
    best: float | None
    seconds: float
    device: str
    note: str

    def row(self) -> tuple[str, ...]:
        """The cells under COLUMNS."""
        best = "–" if self.best is None else f"{self.best:.4f}"
        steps = f"{self.steps} of {self.planned}" if self.planned else str(self.steps)
        shown = (self.data, self.version, steps, best, html.duration(self.seconds), self.device or "–", self.note)
        return self.tag, self.state, self.base, *shown


def facts_of(run: Run) -> RunFacts:
    """Read a run's directory."""
    record, status = run.record(), run.status()
    data = record.get("data", {})
    rows = curves.rows(run)
    best = status.best_val_loss if status.best_val_loss is not None else curves.last(rows, "best_val_loss")
    return RunFacts(
        tag=run.tag,
        state=status.state,
        base=str(record.get("base_model", "")),
        data=Path(str(data.get("path", ""))).name,
        version=str(data.get("sha256", ""))[:8],
        steps=status.step,
        planned=status.steps,
        best=best,
        seconds=_training_seconds(rows),
        device=_device(run, status),
        note=note_of(run),
    )


def all_facts() -> list[RunFacts]:
    """Every run, newest first."""
    return [facts_of(run) for run in Run.list()]


def sorted_facts(facts: list[RunFacts], by: str) -> list[RunFacts]:
    """In one of the orders of SORTS; those without a value come last."""
    keys = {
        SORTS[1]: lambda one: (one.best is None, one.best or 0.0),
        SORTS[2]: lambda one: -one.seconds,
        SORTS[3]: lambda one: one.tag.lower(),
        SORTS[4]: lambda one: one.state,
        SORTS[5]: lambda one: (one.data.lower(), one.version),
    }
    return sorted(facts, key=keys[by]) if by in keys else facts


def table_html(facts: list[RunFacts], chosen: str | None) -> str:
    """All runs as a table that scrolls sideways where the window is narrow."""
    if not facts:
        return html.empty("No run yet", "Train one in the Train tab: it appears here, with its loss.")
    numbers = ("Steps", "Best validation", "Time")
    head = "".join(f"<th{_number(name, numbers)}>{name}</th>" for name in COLUMNS)
    body = "".join(
        f"<tr{' class=chosen' if one.tag == chosen else ''}>"
        + "".join(
            f"<td{_number(name, numbers)}>{html.badge(cell) if name == 'State' else html.escape(cell)}</td>"
            for name, cell in zip(COLUMNS, one.row(), strict=True)
        )
        + "</tr>"
        for one in facts
    )
    table = f'<table class="plain"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    return f'<div class="table-frame" tabindex="0" role="region" aria-label="All runs">{table}</div>'


def _number(name: str, numbers: tuple[str, ...]) -> str:
    return ' class="number"' if name in numbers else ""


def _training_seconds(rows: list[dict[str, Any]]) -> float:
    """Time in training steps, without the pauses between a stop and a resume."""
    total, tokens = 0.0, 0.0
    for row in rows:
        if row.get("tokens_per_s") and isinstance(row.get("tokens"), int | float):
            total += max(0.0, row["tokens"] - tokens) / row["tokens_per_s"]
            tokens = row["tokens"]
    return total


def _device(run: Run, status: RunStatus) -> str:
    processes = int(run.read_launch().get("nproc") or 1)
    return f"{processes} x {status.device}" if status.device and processes > 1 else status.device or ""


def note_of(run: Run) -> str:
    """A person's remark about the run, "" when there is none."""
    path = run.path / _NOTE
    return path.read_text(encoding="utf-8", errors="replace").strip() if path.is_file() else ""


def set_note(tag: str, text: str) -> None:
    """Keep a remark beside the run."""
    refuse_links(Run.open(tag).path)
    run = Run.open(tag)
    with _told_plainly(run):
        write_atomically(run.path / _NOTE, f"{text.strip()}\n".encode())


def rename(tag: str, new: str, loaded: list[str], asked: Sequence[str] = ()) -> Run:
    """Give a run another name, also in its own settings and in what the runs that were trained from it say of it.

    loaded, asked: names of the models in memory, and of those that are being asked questions. ValueError while it or
    a run that is built on it is in use.
    """
    new = check_tag(new.strip())
    run = Run.open(tag)
    _refuse_in_use(run, loaded, asked, "renamed")
    if active := [child.tag for child in _children(tag) if _is_training(child)]:
        raise ValueError(f"Run '{active[0]}' is training from '{tag}', which cannot be renamed. Stop it first.")
    target = finetuned_dir() / new
    if target.exists():
        raise ValueError(f"There is already a run '{new}'. Choose another name.")
    with _told_plainly(run):
        os.rename(run.path, target)
    for other in Run.list():
        with _told_plainly(other):
            _rename_in(other, tag, new)
    run_queue.rename_base(tag, new)
    return Run.open(new)


def _rename_in(run: Run, old: str, new: str) -> None:
    """What a run says of the one that is called `new` from now on."""
    record = run.record()
    changed = _renamed(record, run.tag == new, old, new)
    if changed != record:
        write_json(run.config_file, changed)
    for path in sorted(run.path.glob("meta_*.json")):
        meta = read_json(path)
        adapter = meta.get("adapter")
        if isinstance(adapter, dict) and adapter.get("base") == f"finetuned/{old}":
            write_json(path, {**meta, "adapter": {**adapter, "base": f"finetuned/{new}"}})


def _renamed(record: dict[str, Any], is_itself: bool, old: str, new: str) -> dict[str, Any]:
    settings = dict(record.get("settings", {}))
    if is_itself:
        settings["output_tag"] = new
    if settings.get("from_finetuned") == old:
        settings["from_finetuned"] = new
    base = record.get("base_model")
    return {**record, "settings": settings, "base_model": f"finetuned/{new}" if base == f"finetuned/{old}" else base}


def delete(tag: str, loaded: list[str], asked: Sequence[str] = ()) -> None:
    """Remove a run with its checkpoints; what a person put there, a note say, stays in the bin.

    ValueError while it trains, is loaded or asked, or other runs are or will be built on it.
    """
    run = Run.open(tag)
    _refuse_in_use(run, loaded, asked, "deleted")
    if children := _children(tag):
        raise ValueError(
            f"Run '{children[0].tag}' was trained from '{tag}' and needs its record. Delete that one first."
        )
    if waiting := run_queue.trained_from(tag):
        raise ValueError(f"Run '{waiting[0]}' waits to be trained from '{tag}'. Take it out of the queue first.")
    with _told_plainly(run):
        delete_folder(run.path)


@contextlib.contextmanager
def _told_plainly(run: Run) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ValueError(f"{run.path} cannot be changed ({error.strerror}). Check its permissions.") from error


def _children(tag: str) -> list[Run]:
    """The runs that were trained from it."""
    return [run for run in Run.list() if run.record().get("base_model") == f"finetuned/{tag}"]


def _is_training(run: Run) -> bool:
    return launching.is_active(run) or bool(run_processes(run))


def _refuse_in_use(run: Run, loaded: list[str], asked: Sequence[str], what: str) -> None:
    refuse_links(run.path)
    if _is_training(run):
        raise ValueError(f"Run '{run.tag}' is training and cannot be {what}. Stop it first, in the Train tab.")
    if f"finetuned/{run.tag}" in loaded:
        raise ValueError(
            f"The model of run '{run.tag}' is loaded and cannot be {what}. Unload it first, in the Chat tab."
        )
    if f"finetuned/{run.tag}" in asked:
        raise ValueError(
            f"The model of run '{run.tag}' is being asked questions and cannot be {what}. Wait until that is done, or "
            "stop it, in the Evaluate tab."
        )
