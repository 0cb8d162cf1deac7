"""Repairs one line of a data file where a rule can: what the app does at a click, and `repair` for a whole file."""

from typing import Any

from nanochat_core.data.json_faults import read_json, read_several
from nanochat_core.data.line import SEVERAL, array_of_conversations, decode, judge_line, to_line
from nanochat_core.data.repair.rules import repair_conversation
from nanochat_core.data.rules import nests_too_deeply


def repair_line(data: bytes) -> tuple[list[bytes], list[str]]:
    """(lines that follow the rules, what was done in words) for a faulty one; ([], []) when no rule can mend it."""
    notes: dict[str, None] = {}
    repaired = []
    for value in _values(data, notes):
        try:
            line = to_line(repair_conversation(value, lambda what: notes.setdefault(what))).rstrip(b"\n")
        except ValueError:
            return [], []
        judged, faults, _ = judge_line(line)
        if not judged or any(fault.level == "error" for fault in faults):
            return [], []
        repaired.append(line)
    return repaired, list(notes)


def _values(data: bytes, notes: dict[str, None]) -> list[Any]:
    """The JSON values on a line; [] when it cannot be read."""
    text, fault = decode(data)
    if fault:
        return []
    value, fault, _ = read_json(text)
    if fault is None:
        if isinstance(value, dict | list) and nests_too_deeply(value):
            return []
        if inner := array_of_conversations(value):
            notes.setdefault("put the conversations of an array on lines of their own")
            return inner
        return [value]
    if fault.kind not in SEVERAL:
        return []
    values = read_several(text)
    notes.setdefault(
        "removed a comma after the end" if len(values) == 1 else "put objects that shared a line on their own lines"
    )
    return values
