"""The metrics of a run as lines of JSON: appended by the trainer, read as a table while it still writes."""

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nanochat_core.system.disk import writing
from nanochat_core.system.files import write_atomically

if TYPE_CHECKING:
    import pandas

COLUMNS = (
    "step",
    "epoch",
    "tokens",
    "train_loss",
    "val_loss",
    "best_val_loss",
    "val_bpb",
    "kl_from_base",
    "lr_mult",
    "grad_norm",
    "tokens_per_s",
    "memory_bytes",
    "time",
)
"""Keys of a line. Losses in nats a token, time in seconds since 1970; a key may be missing or null."""


def plain(value: Any) -> Any:
    """`value` as JSON can hold it: array and tensor scalars become numbers, NaN and infinities null."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if not isinstance(value, str | int | float | bool | None) and hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def append(path: Path, values: dict[str, Any]) -> None:
    """Append one line in a single write, so that a reader sees all of it or a torn last line."""
    line = json.dumps(plain(values), allow_nan=False).encode() + b"\n"
    with writing(path, len(line)), open(path, "a+b", buffering=0) as file:
        if file.seek(0, os.SEEK_END) > 0:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":  # a killed process left half a line: it must not spoil this one
                line = b"\n" + line
        file.write(line)


def lines(path: Path) -> Iterator[dict[str, Any]]:
    """Every whole line, in file order. Torn lines, left by a killed process or not yet complete, are skipped."""
    if not path.is_file():
        return
    with open(path, "rb") as file:
        for line in file:
            if values := parsed(line):
                yield values


def parsed(line: bytes) -> dict[str, Any] | None:
    """The values of one line; None for one that a killed process left half written."""
    try:
        values = json.loads(line)
    except ValueError:
        return None
    return values if isinstance(values, dict) and isinstance(values.get("step"), int) else None


def table(path: Path) -> "pandas.DataFrame":
    """All lines as a table: the contract's columns first, even when empty; missing values are NaN."""
    import pandas  # noqa: PLC0415  half a second that most readers of a run do not need

    rows = list(lines(path))
    more = dict.fromkeys(key for row in rows for key in row if key not in COLUMNS)
    frame = pandas.DataFrame.from_records(rows, columns=[*COLUMNS, *more])
    for name in COLUMNS[1:]:
        frame[name] = pandas.to_numeric(frame[name], errors="coerce").astype(float)
    return frame.astype({"step": int})


def seconds(path: Path) -> float | None:
    """From the first line's time to the last one's; None before there is any."""
    times = [row["time"] for row in lines(path) if isinstance(row.get("time"), int | float)]
    return times[-1] - times[0] if times else None


def rewind(path: Path, step: int) -> None:
    """Drop the lines after `step`: a resumed run starts at its checkpoint and writes those steps again."""
    if not path.is_file():
        return
    kept = [json.dumps(row) + "\n" for row in lines(path) if row["step"] <= step]
    write_atomically(path, "".join(kept).encode())
