"""The end of a log that is still being written."""

import os
from pathlib import Path


def last_lines(path: Path, n: int) -> str:
    """The last `n` lines (of the last 1000 n bytes), empty without a file; of a progress bar only its last state."""
    if not path.is_file():
        return ""
    with open(path, "rb") as file:
        start = max(0, file.seek(0, os.SEEK_END) - 1000 * n)
        file.seek(start)
        text = file.read().decode("utf-8", errors="replace").replace("\r\n", "\n")
    found = [line.rsplit("\r", 1)[-1] for line in text.rstrip("\r\n").split("\n")]
    return "\n".join(found[1:][-n:] if start and len(found) > 1 else found[-n:])
