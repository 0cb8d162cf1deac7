"""What a notebook shows of conversations and of their masks: escaped HTML, and plain text where there is no page."""

import sys
from dataclasses import dataclass
from typing import Any

from nanochat_core.show.markup import card, escape, facts, note
from nanochat_core.system.words import plural, whole
from nanochat_core.tokenizer.spans import KINDS, Piece, Stretch, count_tokens, stretches
from nanochat_core.tokenizer.tokenizer import Tokenizer

SHOWN = 2_000
"""Tokens that are drawn; of a longer conversation the rest is only counted."""

_ROLE_TINTS = {"system": "128,128,128", "user": "70,120,230", "assistant": "16,160,110"}
_ELEMENTS = {  # meaningful by themselves where styles are dropped
    "trained": ("u", "background:rgba(16,160,110,.2);text-decoration:underline;text-underline-offset:.25em"),
    "context": ("span", ""),
    "cut": ("s", "background:rgba(220,60,60,.12);opacity:.75"),
}
_EDGE = "border-left:1px solid rgba(128,128,128,.55)"
_BOX = "border:1px solid rgba(128,128,128,.6);border-radius:3px;padding:0 .25em;font-size:85%"


@dataclass(frozen=True, repr=False)
class Shown:
    """Something to look at: HTML in a notebook, text in a terminal."""

    html: str
    text: str

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text


def show_conversation(conversation: dict[str, Any] | list[dict[str, Any]]) -> Shown:
    """The messages of a conversation, {"messages": [...]} or the bare list, below each other with their roles.

    Drafts are shown too; ValueError for what holds no messages at all.
    """
    messages = conversation.get("messages") if isinstance(conversation, dict) else conversation
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise ValueError('A conversation is {"messages": [...]} or a list of messages: give one of them.')
    html = "".join(_message(message) for message in messages)
    text = "\n".join(f"{message.get('role')}: {_plain(message.get('content'))}" for message in messages)
    return Shown(f"<div>{html}</div>", text)


def _message(message: dict[str, Any]) -> str:
    role = str(message.get("role"))
    tint = _ROLE_TINTS.get(role, "220,60,60")
    style = f"border-left:4px solid rgba({tint},.8);background:rgba({tint},.1);padding:.3em .8em;margin:.35em 0;"
    text = escape(whole(_plain(message.get("content"))))
    return f'<div style="{style}max-width:60em;white-space:pre-wrap"><b>{escape(role)}</b>&ensp;{text}</div>'


def _plain(content: Any) -> str:
    """The text of a message; tool calls and their results named as such."""
    if not isinstance(content, list):
        return content if isinstance(content, str) else repr(content)
    names = {"python": "[calculator: {}]", "python_output": "[result: {}]"}
    parts = [part if isinstance(part, dict) else {"text": part} for part in content]
    return "".join(names.get(part.get("type", ""), "{}").format(part.get("text")) for part in parts)


def show_tokens(tokenizer: Tokenizer, conversation: dict[str, Any] | list[Any], max_seq_len: int = 2048) -> Shown:
    """What a training would make of the conversation: each token trained, context, cut off or special, and counts.

    max_seq_len: the longest conversation in tokens, as in FinetuneConfig. ValueError for a malformed conversation.
    """
    if not isinstance(tokenizer, Tokenizer):
        raise ValueError("The tokenizer comes first: show_tokens(tokenizer, conversation).")
    ids, mask = tokenizer.render_conversation(conversation, max_tokens=sys.maxsize)
    counts = count_tokens(ids, mask, max_seq_len, tokenizer.special_ids)
    found = stretches(ids, mask, tokenizer, max_seq_len, SHOWN)
    warnings = [sentence for _, sentence in counts.remarks(max_seq_len)]
    if counts.total > SHOWN:
        warnings.append(f"{plural(counts.total - SHOWN, 'more token')} not drawn here.")
    drawn = "".join(_stretch(stretch) for stretch in found)
    style = "white-space:pre-wrap;font-family:monospace;line-height:1.9;margin:.4em 0"
    html = card(
        "What the model is trained on",
        facts(counts.facts),
        f'<div style="{style}">{drawn}</div>',
        *(note(warning, "warn") for warning in warnings),
        _legend(),
    )
    line = ", ".join(f"{name} {number}" for name, number in counts.facts.items())
    return Shown(html, "\n".join([line, "".join(_as_text(stretch) for stretch in found), *warnings]))


def _stretch(stretch: Stretch) -> str:
    element, style = _ELEMENTS[stretch.kind]
    pieces = "".join(_piece(piece) for piece in stretch.pieces)
    return f'<{element} style="{style}" title="{stretch.kind}">{pieces}</{element}>'


def _piece(piece: Piece) -> str:
    if piece.special:
        return f'<kbd style="{_BOX}">{escape(piece.text)}</kbd>'
    return f'<span style="{_EDGE}">{escape(piece.visible)}</span>'


def _legend() -> str:
    words = [_stretch(Stretch(kind, (Piece((), "abc", special=False),))) + " " + escape(KINDS[kind]) for kind in KINDS]
    words.append(_piece(Piece((), "bos", special=True)) + " Special token")
    style = "margin-right:1.4em;white-space:nowrap"
    return "<div><small>" + " ".join(f'<span style="{style}">{word}</span>' for word in words) + "</small></div>"


def _as_text(stretch: Stretch) -> str:
    """Trained stretches in [square brackets], cut ones in {curly ones}."""
    text = "".join(f"<|{piece.text}|>" if piece.special else piece.text for piece in stretch.pieces)
    return {"trained": f"[{text}]", "cut": f"{{{text}}}"}.get(stretch.kind, text)
