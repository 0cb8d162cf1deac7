"""Small pieces of HTML, every text in them escaped: facts, notes, bars, logs, empty states."""

from collections.abc import Iterable, Mapping
from html import escape

from nanochat_core.system.words import duration, size

__all__ = ["badge", "bar", "duration", "empty", "escape", "facts", "lead", "log", "note", "size", "step", "table"]


def lead(text: str) -> str:
    """The line of explanation above a step."""
    return f'<p class="lead">{escape(text)}</p>'


def step(number: int, title: str, text: str = "") -> str:
    """The heading of a step with its line of explanation, as in a notebook."""
    return f'<h2 class="step-title"><span class="number">{number}</span>{escape(title)}</h2>' + (
        lead(text) if text else ""
    )


def empty(title: str, text: str) -> str:
    """What stands where nothing is yet: what this place is, and what to do next."""
    return f'<div class="empty"><strong>{escape(title)}</strong>{escape(text)}</div>'


def note(text: str, kind: str = "", title: str = "") -> str:
    """One remark; kind is good, warn, bad or plain."""
    bold = f"<b>{escape(title)}</b> " if title else ""
    role = ' role="alert"' if kind == "bad" else ""
    return f'<div class="note {escape(kind)}"{role}>{bold}{escape(text)}</div>'


def facts(values: Mapping[str, str]) -> str:
    """Names with their values side by side."""
    pairs = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in values.items())
    return f'<dl class="facts">{pairs}</dl>'


def badge(state: str) -> str:
    """A run's state."""
    return f'<span class="badge {escape(state)}">{escape(state)}</span>'


def bar(done: int, total: int, state: str = "", label: str = "Steps done") -> str:
    """A progress bar; its label is for those who cannot see it."""
    percent = 100 * done / total if total else 0
    return (
        f'<div class="bar {escape(state)}" role="progressbar" aria-label="{escape(label)}" aria-valuemin="0" '
        f'aria-valuemax="{total}" aria-valuenow="{done}"><i style="width:{percent:.1f}%"></i></div>'
    )


def log(text: str) -> str:
    """Output of a program, as it is."""
    return (
        f'<div class="log-frame" tabindex="0" role="log" aria-label="Log"><pre class="log">{escape(text)}</pre></div>'
    )


def table(header: Iterable[str], rows: Iterable[Iterable[str]], *, even: bool = True) -> str:
    """A plain table, its columns of one width or as wide as what is in them."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<table class="plain{" fixed" if even else ""}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
