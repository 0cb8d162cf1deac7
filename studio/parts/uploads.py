"""Files that a browser sends: how large they may be, and that they are gone once they have been read.

By itself, since the server sets the limit and every tab with an upload removes what came.
"""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

MOST_UPLOAD = "200MB"
"""For each file, when the program is not told otherwise."""
CLEAN_SECONDS = (600, 3600)
"""How often gradio looks for files that it was sent or has sent, and how old they are when it removes them."""

_UNITS = {"": 1, "b": 1, "kb": 1000, "mb": 1000**2, "gb": 1000**3, "tb": 1000**4}


def parse_size(text: str) -> int:
    """Bytes, from text such as 200MB. ValueError for what is none."""
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s*([kmgt]?b)?", text.strip(), re.IGNORECASE | re.ASCII)
    size = int(float(match[1]) * _UNITS[(match[2] or "").lower()]) if match else 0
    if size < 1:
        raise ValueError(f"--max-upload is '{text}': give a size such as 200MB or 2GB.")
    return size


DEFAULT_UPLOAD = parse_size(MOST_UPLOAD)


@contextlib.contextmanager
def removed_after(path: str | Path) -> Iterator[Path]:
    """An uploaded file, which is gone when it has been read, whatever became of it."""
    try:
        yield Path(path)
    finally:
        Path(path).unlink(missing_ok=True)
