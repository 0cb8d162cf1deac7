"""Small pieces of escaped HTML for notebooks: readable on light and on dark pages, without scripts and style sheets.

Only colours with transparency and the page's own text colour are used; every meaning is also in the element itself
(u, s, kbd, progress), since some pages that show notebooks drop all styles.
"""

from collections.abc import Iterable, Mapping
from html import escape

__all__ = ["card", "escape", "facts", "marked", "note", "table"]

_LINE = "rgba(128,128,128,.45)"
_TINTS = {"good": "16,160,110", "warn": "217,140,6", "bad": "220,60,60", "plain": "128,128,128"}


def card(title: str, *parts: str) -> str:
    """A frame with a bold first line; `parts` are HTML, empty ones are left out."""
    body = "".join(part for part in parts if part)
    style = f"border:1px solid {_LINE};border-radius:6px;padding:.6em .9em;max-width:60em;line-height:1.5"
    return f'<div style="{style}"><div><b>{escape(title)}</b></div>{body}</div>'


def facts(values: Mapping[str, str]) -> str:
    """Names with their values, in one line that may wrap."""
    entry = '<span style="margin-right:1.6em;white-space:nowrap">'
    return "<div>" + " ".join(f"{entry}{escape(n)}: <b>{escape(v)}</b></span>" for n, v in values.items()) + "</div>"


def note(text: str, kind: str = "plain") -> str:
    """One remark; kind is good, warn, bad or plain."""
    tint = _TINTS[kind]
    style = f"border-left:4px solid rgba({tint},.8);background:rgba({tint},.1);padding:.2em .7em;margin:.3em 0"
    return f'<div style="{style}">{escape(text)}</div>'


def marked(text: str, kind: str) -> str:
    """A word on a tinted ground; kind as of `note`."""
    return f'<b style="background:rgba({_TINTS[kind]},.2);padding:0 .4em;border-radius:3px">{escape(text)}</b>'


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A plain table; texts to the left, as they are."""
    cell = 'style="text-align:left;vertical-align:top;white-space:pre-wrap"'
    head = "".join(f"<th {cell}>{escape(name)}</th>" for name in header)
    body = "".join("<tr>" + "".join(f"<td {cell}>{escape(value)}</td>" for value in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
