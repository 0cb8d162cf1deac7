"""What the model is trained on: a conversation's tokens as HTML, marked as trained, context, cut off or special.

Not by colour alone: trained text is underlined, cut text struck through, special tokens are boxed, and a screen reader
is told where each stretch begins.
"""

import html
import sys
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from nanochat_core.data_report import plural
from nanochat_core.tokenizer import Tokenizer

SHOWN = 4_000
"""Tokens that are drawn; of a longer conversation the rest is only counted."""

KINDS = {
    "trained": "Trained: the model learns to say this",
    "context": "Context: only read",
    "cut": "Cut off: beyond the longest conversation",
}


_NOTHING = "Nothing here is trained: there is no answer within the length that is used."


@dataclass(frozen=True)
class TokenCounts:
    """Of one conversation; trained + context + cut = total. Special tokens are among them."""

    total: int
    trained: int
    context: int
    cut: int
    special: int


def count_tokens(ids: list[int], mask: list[int], max_seq_len: int, special: frozenset[int]) -> TokenCounts:
    kept = ids[:max_seq_len]
    trained = sum(mask[1:max_seq_len])
    specials = sum(token in special for token in ids)
    return TokenCounts(len(ids), trained, len(kept) - trained, len(ids) - len(kept), specials)


def token_view(messages: list[dict[str, Any]], tokenizer: Tokenizer, max_seq_len: int) -> str:
    """Escaped HTML: counts, a legend and the marked text. A sentence instead when it cannot be rendered."""
    try:
        ids, mask = tokenizer.render_conversation(messages, max_tokens=sys.maxsize)
    except ValueError as error:
        return f'<div class="note bad">{html.escape(str(error))}</div>'
    counts = count_tokens(ids, mask, max_seq_len, tokenizer.special_ids)
    drawn = _text(ids, mask, tokenizer, max_seq_len)
    return f'<div class="token-view">{_facts(counts, max_seq_len)}{_legend()}{drawn}</div>'


def _facts(counts: TokenCounts, max_seq_len: int) -> str:
    facts = [
        ("Tokens", counts.total),
        ("Trained", counts.trained),
        ("Context", counts.context),
        ("Cut off", counts.cut),
        ("Special", counts.special),
    ]
    entries = "".join(f"<div><dt>{name}</dt><dd>{number:,}</dd></div>" for name, number in facts)
    note = ""
    if counts.cut:
        cut = f"{plural(counts.cut, 'token')} at the end are cut off"
        note = f'<div class="note warn">Only the first {max_seq_len:,} tokens are used; {cut}.</div>'
    if not counts.trained:
        note += f'<div class="note bad">{_NOTHING}</div>'
    return f'<dl class="facts">{entries}</dl>{note}'


def _legend() -> str:
    entries = "".join(f'<span><span class="tok {kind}">abc</span> {words}</span>' for kind, words in KINDS.items())
    return f'<div class="token-legend">{entries}<span><span class="tok special">bos</span> Special token</span></div>'


def _text(ids: list[int], mask: list[int], tokenizer: Tokenizer, max_seq_len: int) -> str:
    kinds = ["cut" if place >= max_seq_len else "trained" if mask[place] else "context" for place in range(len(ids))]
    shown = list(zip(ids[:SHOWN], kinds[:SHOWN], strict=True))
    runs = groupby(shown, key=lambda pair: pair[1])
    drawn = "".join(_run(kind, [token for token, _ in run], tokenizer) for kind, run in runs)
    rest = len(ids) - len(shown)
    more = f'<div class="note">And {plural(rest, "token")} more that are not drawn here.</div>' if rest > 0 else ""
    label = "Tokens of this conversation"
    return f'<div class="tokens" tabindex="0" role="group" aria-label="{label}">{drawn}</div>{more}'


def _run(kind: str, ids: list[int], tokenizer: Tokenizer) -> str:
    """One stretch of tokens of a kind, with a word before it that only a screen reader says."""
    return f'<span class="run {kind}"><span class="sr">{kind}: </span>{"".join(_tokens(ids, tokenizer))}</span>'


def _tokens(ids: list[int], tokenizer: Tokenizer) -> list[str]:
    """Each token as an element; tokens that are parts of one character together, since alone they are no text."""
    drawn, waiting = [], []
    for token in ids:
        if token in tokenizer.special_ids:
            drawn += [_one(waiting, tokenizer)] if waiting else []
            waiting = []
            drawn.append(f'<span class="tok special">{html.escape(tokenizer.decode([token]).strip("<|>"))}</span>')
            continue
        waiting.append(token)
        if len(waiting) > 8 or _is_text(tokenizer.decode_bytes(waiting)):
            drawn.append(_one(waiting, tokenizer))
            waiting = []
    return drawn + ([_one(waiting, tokenizer)] if waiting else [])


def _is_text(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _one(ids: list[int], tokenizer: Tokenizer) -> str:
    text = html.escape(tokenizer.decode(ids)).replace("\r", "␍").replace("\n", "↵\n").replace("\t", "→\t")
    number = f"token {ids[0]}" if len(ids) == 1 else f"tokens {', '.join(map(str, ids))}"
    return f'<span class="tok" title="{number}">{text}</span>'
