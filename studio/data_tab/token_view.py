"""What the model is trained on: a conversation's tokens as HTML, marked as trained, context, cut off or special.

Not by colour alone: trained text is underlined, cut text struck through, special tokens are boxed, and a screen reader
is told where each stretch begins.
"""

import sys
from typing import Any

from nanochat_core.system.words import plural
from nanochat_core.tokenizer.spans import KINDS, Piece, Stretch, TokenCounts, count_tokens, stretches
from nanochat_core.tokenizer.tokenizer import Tokenizer
from studio.parts.html import escape, facts, note

SHOWN = 4_000
"""Tokens that are drawn; of a longer conversation the rest is only counted."""


def token_view(messages: list[dict[str, Any]], tokenizer: Tokenizer, max_seq_len: int) -> str:
    """Escaped HTML: counts, a legend and the marked text. A sentence instead when it cannot be rendered."""
    try:
        ids, mask = tokenizer.render_conversation(messages, max_tokens=sys.maxsize)
    except ValueError as error:
        return note(str(error), "bad")
    counts = count_tokens(ids, mask, max_seq_len, tokenizer.special_ids)
    drawn = _text(ids, mask, tokenizer, max_seq_len)
    return f'<div class="token-view">{_head(counts, max_seq_len)}{_legend()}{drawn}</div>'


def _head(counts: TokenCounts, max_seq_len: int) -> str:
    named = {name.capitalize(): count for name, count in counts.facts.items()}
    return facts(named) + "".join(note(sentence, kind) for kind, sentence in counts.remarks(max_seq_len))


def _legend() -> str:
    entries = "".join(f'<span><span class="tok {kind}">abc</span> {words}</span>' for kind, words in KINDS.items())
    return f'<div class="token-legend">{entries}<span><span class="tok special">bos</span> Special token</span></div>'


def _text(ids: list[int], mask: list[int], tokenizer: Tokenizer, max_seq_len: int) -> str:
    drawn = "".join(_stretch(stretch) for stretch in stretches(ids, mask, tokenizer, max_seq_len, SHOWN))
    rest = max(0, len(ids) - SHOWN)
    more = f'<div class="note">And {plural(rest, "token")} more that are not drawn here.</div>' if rest > 0 else ""
    label = "Tokens of this conversation"
    return f'<div class="tokens" tabindex="0" role="group" aria-label="{label}">{drawn}</div>{more}'


def _stretch(stretch: Stretch) -> str:
    """One stretch of tokens of a kind, with a word before it that only a screen reader says."""
    pieces = "".join(_piece(piece) for piece in stretch.pieces)
    return f'<span class="run {stretch.kind}"><span class="sr">{stretch.kind}: </span>{pieces}</span>'


def _piece(piece: Piece) -> str:
    if piece.special:
        return f'<span class="tok special">{escape(piece.text)}</span>'
    number = f"token {piece.ids[0]}" if len(piece.ids) == 1 else f"tokens {', '.join(map(str, piece.ids))}"
    return f'<span class="tok" title="{number}">{escape(piece.visible)}</span>'
