"""What the Data tab asks before it deletes or overwrites, and what the answer does: only to what was asked about."""

from typing import Any

import gradio as gr

from studio.data_tab import handlers
from studio.data_tab.handlers import At
from studio.datasets.files import ConflictError, free_path
from studio.parts.html import note


def ask_delete(at: At) -> tuple[Any, str, str]:
    """Ask before a dataset goes: (row, question, the session that is asked about)."""
    session = handlers.session_of(at)
    return gr.update(visible=True), note(f"Move {session.name} to the bin?", "warn"), session.id


def delete(at: At, asked: str) -> tuple[At, str]:
    """Delete the dataset that was asked about, as `handlers.delete`."""
    _check_asked(at, asked)
    return handlers.delete(at)


def _check_asked(at: At, asked: str) -> None:
    if at["session"] != asked:
        raise ValueError("Another dataset is open by now: look at it, and then repeat your click.")


def of_another(at: At, asked: str) -> tuple[Any, Any]:
    """(Delete, conflict): a question about a dataset that is not the open one any more goes."""
    return (gr.skip() if at["session"] == asked else gr.update(visible=False),) * 2


def save(at: At) -> tuple[Any, ...]:
    """Save, or ask what to do when the file has changed meanwhile: (at, what asks, why, a free name, session)."""
    try:
        return handlers.save(at), *no_conflict()
    except ConflictError as error:
        session = handlers.session_of(at)
        name = free_path(session.name).name.removesuffix(".jsonl")
        return at, gr.update(visible=True), note(str(error), "bad", "Not saved:"), name, session.id


def save_as(at: At, name: str, asked: str) -> tuple[Any, ...]:
    """Save what could not be saved under another name."""
    _check_asked(at, asked)
    return handlers.save_as(at, name), *no_conflict()


def reload(at: At, asked: str) -> tuple[Any, ...]:
    """Open what could not be saved as it is on disk."""
    _check_asked(at, asked)
    return handlers.reload(at), *no_conflict()


def no_conflict() -> tuple[Any, ...]:
    """Nothing to ask: the outputs of `save` after the first."""
    return gr.update(visible=False), "", "", ""
