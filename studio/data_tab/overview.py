"""The whole dataset at a glance: counts, lengths, repetitions, and what trains and what validates."""

import html
from dataclasses import dataclass

import numpy as np

from nanochat_core.data.tokens.plan import validation_places
from nanochat_core.system.words import plural
from studio.datasets.index import name_of
from studio.datasets.rows import UNKNOWN, Rows

BARS = 24
NAMED = 8
"""Rows of the validation part that are named."""


@dataclass(frozen=True)
class Overview:
    """Numbers of a dataset. Tokens are those of the rows that have been counted."""

    rows: int = 0
    faulty: int = 0
    turns: int = 0
    counted: int = 0
    """Rows whose tokens are known."""
    to_count: int = 0
    """Rows without errors."""
    tokens: int = 0
    trained: int = 0
    cut: int = 0
    """Tokens beyond max_seq_len."""
    cut_rows: int = 0
    useless: int = 0
    """Rows with nothing to learn within max_seq_len; the training leaves them out."""
    repeated: int = 0
    train: int = 0
    validation: int = 0
    validating: tuple[int, ...] = ()
    """The first few rows of the validation part."""
    straddling: int = 0
    """Conversations of the validation part that stand in the training part too."""


def overview(rows: Rows, max_seq_len: int, val_split: float) -> Overview:
    """The numbers, and the split as a new run makes it of the rows with something to learn."""
    ids = rows.ids()
    if not len(ids):
        return Overview()
    tokens, trained = rows.column("tokens")[ids], rows.column("trained")[ids]
    faulty = rows.faulty()[ids]
    counted = ~faulty & (tokens != UNKNOWN)
    useless = counted & (trained == 0)
    useful = ids[~faulty & ~useless]
    hashes = rows.column("hashes")
    places = validation_places(len(useful), val_split)
    train, validation = np.delete(useful, places), useful[places]
    return Overview(
        rows=len(ids),
        faulty=int(faulty.sum()),
        turns=int(rows.column("turns")[ids].sum()),
        counted=int(counted.sum()),
        to_count=int((~faulty).sum()),
        tokens=int(tokens[counted].sum()),
        trained=int(trained[counted].sum()),
        cut=int(np.maximum(tokens[counted] - max_seq_len, 0).sum()),
        cut_rows=int((tokens[counted] > max_seq_len).sum()),
        useless=int(useless.sum()),
        repeated=len(rows.repeats()),
        train=len(train),
        validation=len(validation),
        validating=tuple(validation[:NAMED].tolist()),
        straddling=int(np.isin(hashes[validation], hashes[train]).sum()),
    )


def overview_html(rows: Rows, max_seq_len: int, val_split: float) -> str:
    """Tiles of numbers, the histogram, and a sentence for whatever deserves one."""
    seen = overview(rows, max_seq_len, val_split)
    facts = [
        ("Conversations", f"{seen.rows:,}"),
        ("Turns", f"{seen.turns:,}"),
        ("Tokens", f"{seen.tokens:,}"),
        ("Trained tokens", f"{seen.trained:,}{_share(seen.trained, seen.tokens)}"),
        ("Cut off", f"{seen.cut:,}{_share(seen.cut, seen.tokens)}"),
        ("Repeated", f"{seen.repeated:,}"),
        ("To train", f"{seen.train:,}"),
        ("To validate", f"{seen.validation:,}"),
    ]
    tiles = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts)
    return (
        f'<dl class="facts">{tiles}</dl>{_notes(seen, max_seq_len, rows)}{histogram(token_counts(rows), max_seq_len)}'
    )


def _share(part: int, whole: int) -> str:
    return f" <small>{100 * part / whole:.0f}%</small>" if whole and part else ""


def _notes(seen: Overview, max_seq_len: int, rows: Rows) -> str:
    notes = []
    if seen.counted < seen.to_count:
        share = 100 * seen.counted // seen.to_count
        notes.append(("", f"The tokens are still being counted ({share}%); the numbers grow until then."))
    if seen.faulty:
        notes.append(
            ("bad", f"{plural(seen.faulty, 'line')} with errors: the file cannot be trained on until they are fixed.")
        )
    if seen.cut_rows:
        words = "is" if seen.cut_rows == 1 else "are"
        notes.append(("warn", f"{plural(seen.cut_rows, 'conversation')} {words} longer than {max_seq_len:,} tokens."))
    if seen.useless:
        notes.append(("warn", f"{plural(seen.useless, 'conversation')} with nothing to learn will be left out."))
    if seen.validating:
        named = ", ".join(name_of(rows, row) for row in seen.validating)
        more = " and so on" if seen.validation > len(seen.validating) else ""
        notes.append(
            ("", f"What validates is spread over the file by the seed (42 unless you set another): {named}{more}.")
        )
    if seen.straddling:
        what = "conversation" if seen.straddling == 1 else "conversations"
        notes.append(
            (
                "warn",
                f"{seen.straddling:,} validation {what} also stand in the training part: "
                "the validation loss will look better than it is. Remove the repetitions.",
            )
        )
    elif seen.validation:
        notes.append(("good", "No conversation stands both in the training and in the validation part."))
    return "".join(f'<div class="note {level}">{html.escape(text)}</div>' for level, text in notes)


def token_counts(rows: Rows) -> np.ndarray:
    """Tokens of each faultless conversation that has been counted."""
    ids = rows.ids()
    tokens = rows.column("tokens")[ids] if len(ids) else np.zeros(0, dtype=np.int64)
    return tokens[tokens > 0]


def histogram(tokens: np.ndarray, max_seq_len: int, width: int = 560, height: int = 130) -> str:
    """How many conversations have how many tokens, as inline SVG with a line at max_seq_len; "" for none."""
    if not len(tokens):
        return ""
    top = max(int(tokens.max()), 1)
    counts, edges = np.histogram(tokens, bins=BARS, range=(0, top + 1))
    base, step = height - 22, (width - 20) / BARS
    bars = []
    for place, count in enumerate(counts):
        if count:
            tall = max(2.0, (base - 14) * count / counts.max())
            tip = f"{edges[place]:,.0f} to {edges[place + 1]:,.0f} tokens: {plural(int(count), 'conversation')}"
            bars.append(
                f'<rect class="f0" x="{10 + place * step:.1f}" y="{base - tall:.1f}" width="{step - 2:.1f}" '
                f'height="{tall:.1f}" rx="1"><title>{tip}</title></rect>'
            )
    limit = ""
    if max_seq_len <= top:
        x = 10 + (width - 20) * max_seq_len / (top + 1)
        limit = f'<line class="c7 dashed" x1="{x:.1f}" x2="{x:.1f}" y1="6" y2="{base}"><title>cut here</title></line>'
    middle = int(np.median(tokens))
    label = f"Lengths: from {int(tokens.min()):,} to {top:,} tokens, half of them at most {middle:,}"
    axis = (
        f'<line class="axis" x1="10" x2="{width - 10}" y1="{base}" y2="{base}"/>'
        f'<text x="10" y="{height - 6}">0</text>'
        f'<text x="{width - 10}" y="{height - 6}" text-anchor="end">{top:,} tokens</text>'
    )
    return (
        f'<figure class="chart histogram"><figcaption>{label}</figcaption><svg viewBox="0 0 {width} {height}" '
        f'role="img" aria-label="{label}">{axis}{"".join(bars)}{limit}</svg></figure>'
    )
