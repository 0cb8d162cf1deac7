"""Two runs side by side: what differs between them, and what each answered before and after its training."""

import json
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
    if not first or not second:
        return html.empty("Nothing to compare yet", "Train two runs, then choose them here.")
    if first == second:
        return html.empty("Twice the same run", "Choose another one on one of the sides.")
    rows = [("data", _data(first), _data(second)), *differences(first, second)]
    same = "" if len(rows) > 1 else html.note("All settings are the same.")
    return html.table(("", first, second), rows) + same


def _data(tag: str) -> str:
    data = Run.open(tag).record().get("data", {})
    name = Path(str(data.get("path", ""))).name
    return f"{name}, {data.get('rows', '?')} rows, version {str(data.get('sha256', ''))[:8]}"


def _text(value: Any) -> str:
    return "–" if value is None else str(value)


def scores_html(tags: list[str]) -> str:
    """The questions answered before and after each run's training, and the replies to some of them."""
    tables = [(tag, _evaluation(tag, "before"), _evaluation(tag, "after")) for tag in dict.fromkeys(tags) if tag]
    rows = [
        (tag, title, _score(before.get(kind)), _score(after.get(kind)))
        for tag, before, after in tables
        for kind, title in (("new", "New questions"), ("old", "Old skills"))
        if before.get(kind) or after.get(kind)
    ]
    parts = [html.table(("Run", "Questions", "Before", "After"), rows)] if rows else []
    parts += [_replies(tag, before, after) for tag, before, after in tables if before.get("replies")]
    if not parts:
        return html.empty(
            "No questions were asked", "A run with a questions_path is asked before and after its training."
        )
    return "".join(parts)


def _evaluation(tag: str, name: str) -> dict[str, Any]:
    try:
        values = json.loads((Run.open(tag).evals_dir / f"{name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _score(result: Any) -> str:
    if not isinstance(result, dict) or not result.get("total"):
        return "–"
    return f"{result['correct']} of {result['total']} ({100 * result['correct'] / result['total']:.0f}%)"


def _replies(tag: str, before: dict[str, Any], after: dict[str, Any]) -> str:
    later = dict(_pairs(after.get("replies", [])))
    rows = [(question, reply, later.get(question, "–")) for question, reply in _pairs(before["replies"])]
    return html.table((f"{tag}: question", "Reply before", "Reply after"), rows)


def _pairs(replies: Any) -> list[tuple[str, str]]:
    return [(str(pair[0]), str(pair[1])) for pair in replies if isinstance(pair, list) and len(pair) == 2]
