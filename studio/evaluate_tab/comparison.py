"""Two runs side by side: what differs between their settings and data."""

from pathlib import Path
from typing import Any

from nanochat_core.runs.run import Run
from studio.parts import html

_NOT_COMPARED = ("output_tag", "resume", "data_path")


def differences(first: str, second: str) -> list[tuple[str, str, str]]:
    """(setting, value in the first, value in the second) of those that differ; names of runs and files apart."""
    one, two = (Run.open(tag).record().get("settings", {}) for tag in (first, second))
    names = [name for name in {**one, **two} if name not in _NOT_COMPARED and one.get(name) != two.get(name)]
    return [(name, _text(one.get(name)), _text(two.get(name))) for name in names]


def comparison_html(first: str, second: str) -> str:
    """The settings that differ, and both data versions."""
    if first == second:
        return html.note("Both models are of the same run.")
    rows = [("data", _data(first), _data(second)), *differences(first, second)]
    same = "" if len(rows) > 1 else html.note("All settings are the same.")
    return html.table(("", first, second), rows) + same


def _data(tag: str) -> str:
    data = Run.open(tag).record().get("data", {})
    name = Path(str(data.get("path", ""))).name
    return f"{name}, {data.get('rows', '?')} rows, version {str(data.get('sha256', ''))[:8]}"


def _text(value: Any) -> str:
    return "–" if value is None else str(value)
