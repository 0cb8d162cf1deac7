"""One line repaired where a rule can: for `check`, which promises only what this does, for --fix and for a click."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from nanochat_core.data.json_faults import TOO_DEEP, read_json, read_several, repeated_keys
from nanochat_core.data.keys import FIXABLE_WARNINGS
from nanochat_core.data.line import SEVERAL, Messages, array_of_conversations, decode, judge_line, to_line
from nanochat_core.data.notes import Note
from nanochat_core.data.repair.rules import repair_conversation
from nanochat_core.data.report import Fault
from nanochat_core.data.roles import SWAPPED
from nanochat_core.data.rules import nests_too_deeply


class Repaired(NamedTuple):
    """What came of one conversation."""

    line: bytes | None
    """Its JSON without the line end; None when no rule repairs it."""
    messages: Messages
    notes: tuple[Note, ...]
    """What was done."""
    faults: tuple[Fault, ...]
    """What is still wrong, when there is no line."""


def needs_repair(faults: list[Fault]) -> bool:
    """Whether a rule might do something about one of the faults."""
    return any(fault.level == "error" or fault.kind in FIXABLE_WARNINGS for fault in faults)


def with_promises(data: bytes, faults: list[Fault]) -> list[Fault]:
    """The faults that `judge_line` found on a line: each knows whether --fix does it, and another layout why not."""
    if not needs_repair(faults):
        return faults
    found = list(repairs(data)[0])
    if found and all(one.line is not None for one in found):
        return [fault._replace(can_fix=_is_fixed(fault)) for fault in faults]
    is_in_part = any(one.line is not None for one in found)
    faults = [fault._replace(can_fix=is_in_part and fault.kind in (*SEVERAL, "json_array")) for fault in faults]
    if any(fault.kind in ("other_format", "preference_pair") for fault in faults):
        known = {fault.kind for fault in faults}
        faults += [fault for one in found for fault in one.faults if fault.kind not in known]
    return faults


def _is_fixed(fault: Fault) -> bool:
    return fault.can_fix or (fault.level == "error" and fault.kind != SWAPPED) or fault.kind in FIXABLE_WARNINGS


def repair_line(data: bytes) -> tuple[list[bytes], list[Note]]:
    """(lines that follow the rules, what was done) for a faulty one; ([], []) when no rule can fix it."""
    found, notes = repairs(data)
    lines = [one.line for one in found if one.line is not None]
    if not found or len(lines) < len(found):
        return [], []
    return lines, [*notes, *dict.fromkeys(note for one in found for note in one.notes)]


def repairs(data: bytes) -> tuple[list[Repaired], list[Note]]:
    """(what comes of each conversation on a line, what was done with the line); none when it is no JSON."""
    values, notes = _values(data)
    return [_repaired(value) for value in values], notes


def _repaired(value: Any) -> Repaired:
    if isinstance(value, dict | list) and nests_too_deeply(value):
        return Repaired(None, [], (), (TOO_DEEP,))
    notes: dict[Note, None] = {}
    try:
        line = to_line(repair_conversation(value, notes.setdefault)).rstrip(b"\n")
    except ValueError as error:
        return Repaired(None, [], (), (Fault("error", "cannot_be_repaired", str(error), "Correct it by hand."),))
    judged, faults, _ = judge_line(line)
    errors = tuple(fault for fault in faults if fault.level == "error")
    if not judged or errors:
        return Repaired(None, [], (), errors or tuple(faults))
    return Repaired(line, judged[0], tuple(notes), ())


def _values(data: bytes) -> tuple[list[Any], list[Note]]:
    """(the JSON values on a line, or in an object over several; what that meant); none when it cannot be read."""
    text, fault = decode(data)
    if fault:
        return [], []
    value, fault, _ = read_json(text)
    if fault is not None and fault.kind not in SEVERAL:
        return [], []
    values, notes = ([value], []) if fault is None else (read_several(text), [])
    notes += list(_layout_notes(text, value, values, fault))
    if fault is None and isinstance(value, dict | list) and not nests_too_deeply(value):
        values = array_of_conversations(value) or values
    return values, notes


def _layout_notes(text: str, value: Any, values: list[Any], fault: Fault | None) -> Iterator[Note]:
    """What is done with a line as a whole."""
    if fault is not None and len(values) == 1:
        yield Note("removed a comma after the end of an object")
    elif fault is not None:
        yield Note("put objects that shared a line on lines of their own")
    elif isinstance(value, dict | list) and not nests_too_deeply(value):
        if "\n" in text or "\r" in text:
            yield Note("put a conversation that was spread over lines on one line")
        if array_of_conversations(value):
            what = "an array" if isinstance(value, list) else "an object around them"
            yield Note(f"put the conversations of {what} on lines of their own")
    if repeated_keys(text):
        yield Note("DROPPED the first of two equal keys in one object; the last one counts", matters=True)
