"""What may leave the machine: facts without the names of files and folders on it, which are nobody else's business."""

import re
from pathlib import Path
from typing import Any

from nanochat_core.paths import PROJECT_ROOT, home

_ABSOLUTE = re.compile(r"(?:/|~[/\\]|[A-Za-z]:[/\\]|\\\\|file:)")


def without_paths(value: Any) -> Any:
    """`value` (of a JSON file) without entries called path or *_path; of other absolute paths the last part is kept."""
    if isinstance(value, dict):
        return {key: without_paths(item) for key, item in value.items() if key != "path" and not key.endswith("_path")}
    if isinstance(value, list):
        return [without_paths(item) for item in value]
    return _scrubbed(value) if isinstance(value, str) else value


def _scrubbed(text: str) -> str:
    if _ABSOLUTE.match(text):
        return re.split(r"[/\\]", text.rstrip("/\\"))[-1]
    for folder in (home(), PROJECT_ROOT, Path.home()):
        if folder != Path(folder.anchor):
            text = text.replace(f"{folder}/", "").replace(str(folder), "")
    return text
