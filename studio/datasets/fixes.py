"""What one click can do about a problem: for each kind the rule, applied to one line of a dataset."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nanochat_core.calculator import calculate
from nanochat_core.data.keys import key_warnings
from nanochat_core.data.line import SEVERAL, judge_line, to_line
from nanochat_core.data.repair.line import repair_line
from nanochat_core.data.report import Fault

Lines = list[bytes]


@dataclass(frozen=True)
class Fix:
    """A rule for one kind of problem."""

    label: str
    """What the button says."""
    apply: Callable[[bytes], Lines | None]
    """The lines to put for the line, [] to remove it, None when the rule cannot fix this one."""


def _repair(data: bytes) -> Lines | None:
    return repair_line(data)[0] or None


def _remove(data: bytes) -> Lines:
    return []


def _changed(data: bytes, change: Callable[[Any], Any]) -> Lines | None:
    """The line with its JSON value passed through `change`."""
    return [to_line(change(json.loads(data))).rstrip(b"\n")]


def _drop_unused(data: bytes) -> Lines | None:
    """Without the keys that are not used, as far as there is a word about each."""

    def drop(value: Any) -> Any:
        if isinstance(value, list):
            return [drop_keys(message, []) for message in value]
        messages = value["messages"]
        return {**drop_keys(value, messages), "messages": [drop_keys(message, []) for message in messages]}

    def drop_keys(entry: Any, messages: list[Any]) -> Any:
        if not isinstance(entry, dict):
            return entry
        return {key: kept for key, kept in entry.items() if not _is_unused(key, kept, entry, messages)}

    return _changed(data, drop)


def _is_unused(key: str, content: Any, entry: dict[str, Any], messages: list[Any]) -> bool:
    if key in ("messages", "role", "content"):
        return False
    alone = [{"role": "", "content": "", key: content}]
    faults = key_warnings({"messages": messages, key: content}, messages) if messages else key_warnings(alone, alone)
    return any(fault.kind == "unused_key" for fault in faults)


def _calculate(data: bytes) -> Lines | None:
    """Add the calculator's answer after a calculation that has none. None when it cannot be calculated."""
    value = json.loads(data)
    messages = value if isinstance(value, list) else value["messages"]
    for message in messages:
        if isinstance(message, dict) and isinstance(message.get("content"), list):
            message["content"] = _with_answers(message["content"])
    line = to_line(value).rstrip(b"\n")
    still = {fault.kind for fault in judge_line(line)[1]}
    return None if "lonely_tool_part" in still else [line]


def _with_answers(parts: list[dict[str, str]]) -> list[dict[str, str]]:
    whole = []
    kinds = [part.get("type") if isinstance(part, dict) else None for part in [*parts, None]]
    for part, kind, after in zip(parts, kinds, kinds[1:], strict=False):
        whole.append(part)
        if kind == "python" and after != "python_output" and isinstance(part.get("text"), str):
            if (answer := calculate(part["text"])) is not None:
                whole.append({"type": "python_output", "text": str(answer)})
    return whole


_REPAIR = Fix("Fix", _repair)
_REMOVE = Fix("Remove", _remove)

ALL = ""
"""In place of a kind: whatever a rule can fix without removing a conversation, as --fix does it."""

FIXES: dict[str, Fix] = {
    **dict.fromkeys(
        (
            *("other_format", "unknown_role", "wrong_order", "ends_with_user", "content_not_text", "broken_character"),
            *("json_array", "preference_pair", "system_beside", "text_beside", "malformed_part", "no_role"),
            *("not_a_message", *SEVERAL),
        ),
        _REPAIR,
    ),
    "unused_key": Fix("Remove the unused keys", _drop_unused),
    "repeated_key": Fix("Keep the last of the equal keys", lambda data: _changed(data, lambda value: value)),
    "lonely_tool_part": Fix("Add what the calculator answers", _calculate),
    "repeated_conversation": Fix("Remove the repetition", _remove),
    "nothing_to_learn": _REMOVE,
    "negative_example": Fix("Remove the bad example", _remove),
}
"""By the kinds that `nanochat_core.data.conversations.check` reports; what is missing has to be fixed by hand."""


def label_for(fault: Fault) -> str:
    """What a click does about this fault; "" when it has to be fixed by hand. No promise that the rule cannot keep."""
    rule = FIXES.get(fault.kind)
    return "" if rule is None or (rule is _REPAIR and not fault.can_fix) else rule.label


def fixed(data: bytes, kind: str) -> Lines | None:
    """What the rule for `kind` makes of a line; None when there is no rule or it cannot fix this one."""
    rule = _REPAIR if kind == ALL else FIXES.get(kind)
    return rule.apply(data) if rule else None
