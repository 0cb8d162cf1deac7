"""What the editor of one conversation shows, as values for its page, and what each of its buttons does.

A button says which turn it means by the turn's name, so that a late click never meets another turn.
"""

from collections.abc import Callable, Mapping
from typing import Any

from nanochat_core.tokenizer.messages import ROLES
from studio.data_tab import handlers
from studio.data_tab import view as data_view
from studio.data_tab.handlers import At
from studio.datasets import edit, fields, problems, sessions
from studio.datasets.fields import TurnNames, Typed
from studio.datasets.fixes import label_for
from studio.datasets.session import Session

TURNS = 20
"""Turns on a page of a long conversation."""

Told = Mapping[str, Any]
"""What the page says: act, session, row, and what the act needs besides."""


# What is shown


def view(at: At) -> dict[str, Any]:
    """The shown conversation for editor.js, which makes text of every text in it."""
    session = sessions.get(at["session"])
    if session is None:
        title, text = "No dataset is open", "Pick one above, drop a file, or make a new one."
        return {"empty": {"title": title, "text": text}, "add": False}
    with session.lock:
        if not session.has(at["row"]):
            title, text = "No conversation is picked", "Pick one in the list, or add a conversation."
            return {"session": session.id, "row": None, "empty": {"title": title, "text": text}, "add": True}
        return _conversation(session, at["row"], at["turns"])


def _conversation(session: Session, row: int, page: int) -> dict[str, Any]:
    data = session.rows.data[row]
    value = edit.editable(data)
    shown = {
        "session": session.id,
        "row": row,
        "version": session.rows.version,
        "heading": data_view.heading(session, row),
        "problems": data_view.row_problems(session, row),
        "fixes": _fixes(session, row),
        "raw": data.decode("utf-8", "replace"),
        "turns": None,
    }
    return shown if value is None else {**shown, **_turns(edit.messages_of(value), fields.names_of(session, row), page)}


def _turns(messages: list[dict[str, Any]], names: list[TurnNames], page: int) -> dict[str, Any]:
    """One page of the turns, and where it is."""
    pages = max(1, -(-len(messages) // TURNS))
    first = min(max(page, 0), pages - 1) * TURNS
    last = min(first + TURNS, len(messages))
    return {
        "turns": [_turn(turn, messages[turn], names[turn], len(messages)) for turn in range(first, last)],
        "has_system": bool(messages) and messages[0]["role"] == "system",
        "page": first // TURNS,
        "pages": pages,
        "where": f"Turns {first + 1:,} to {last:,} of {len(messages):,}",
    }


def _turn(turn: int, message: Mapping[str, Any], names: TurnNames, turns: int) -> dict[str, Any]:
    role, content = message["role"], message["content"]
    label = "System prompt" if role == "system" else f"Turn {turn + 1}, {role}"
    if isinstance(content, str):
        texts = [{"name": names.turn, "part": None, "label": label, "text": content}]
    else:
        texts = [_part(number, *pair) for number, pair in enumerate(zip(content, names.parts, strict=True))]
    return {
        "turn": turn,
        "name": names.turn,
        "role": role,
        "roles": [*ROLES] if role in ROLES else [*ROLES, role],
        "side": role if role in ROLES else "other",
        "texts": texts,
        "is_first": turn == 0,
        "is_last": turn == turns - 1,
    }


def _part(number: int, part: Mapping[str, Any], name: str) -> dict[str, Any]:
    kind = str(part.get("type"))
    known = kind if kind in edit.PART_LABELS else "other"
    label = edit.PART_LABELS.get(kind, f"Part of the unknown type {kind}")
    return {"name": name, "part": number, "kind": known, "label": label, "text": part["text"]}


def _fixes(session: Session, row: int) -> list[dict[str, str]]:
    labels = {fault.kind: label_for(fault) for fault in problems.problems_of(session.rows, row)}
    return [
        {"kind": kind, "label": f"{label} ({problems.kind_words(kind)})"} for kind, label in labels.items() if label
    ]


# What is typed


def store(told: Told) -> dict[str, Any]:
    """Take what was typed: {kept: names, gone: names, problem: a sentence}, and what else is true then."""
    session = sessions.get(told["session"])
    if session is None:
        problem = "This dataset is not open any more: copy your text, then pick it again."
        return {"kept": [], "gone": [text["name"] for text in told["texts"]], "problem": problem}
    typed = [Typed(**text) for text in told["texts"]]
    with session.lock:
        row = told["row"]
        kept = {text.name: fields.type_text(session, row, text) for text in typed}
        return {
            "kept": [name for name, is_kept in kept.items() if is_kept],
            "gone": [name for name, is_kept in kept.items() if not is_kept],
            "problem": "",
            "version": session.rows.version,
            "problems": data_view.row_problems(session, row) if session.has(row) else "",
        }


# What is clicked


def act(at: At, told: Told) -> At:
    """Do what a button in the editor says. ValueError when the page has moved on since."""
    if not at["session"] and (session := sessions.get(told["session"])):  # the app has been restarted meanwhile
        at = handlers.moved(handlers.opened(at, session), row=told["row"])
    if told["session"] != at["session"] or told["row"] != at["row"]:
        raise ValueError("Another conversation is shown by now: look at it, and then repeat your click.")
    return ACTS[told["act"]](at, told)


def _on_turn(what: str, function: Callable[..., bytes], *arguments: Any) -> Callable[[At, Told], At]:
    def apply(at: At, told: Told) -> At:
        session, row = handlers.row_of(at)
        with session.lock:
            turn = fields.turn_of(session, row, told["name"])
            return handlers.change(at, what, function, turn, *arguments)

    return apply


def _set_role(at: At, told: Told) -> At:
    if told["role"] not in ROLES:
        raise ValueError(f"A turn cannot be of {told['role']!r:.40}. Choose {', '.join(ROLES)}.")
    return _on_turn("changing a role", edit.set_role, told["role"])(at, told)


def _delete_part(at: At, told: Told) -> At:
    session, row = handlers.row_of(at)
    with session.lock:
        turn = fields.turn_of(session, row, told["name"])
        part = fields.names_of(session, row)[turn].parts.index(told["name"])
        return handlers.change(at, "deleting a part", edit.delete_part, turn, part)


def _add_turn(at: At, told: Told) -> At:
    """At the end, and show the end."""
    after = handlers.change(at, "adding a turn", edit.add_turn)
    session, row = handlers.row_of(after)
    return handlers.moved(after, turns=(len(fields.names_of(session, row)) - 1) // TURNS)


def _nothing(at: At, told: Told) -> At:
    """The page has found the app again after it was away."""
    return handlers.moved(at)


ACTS: dict[str, Callable[[At, Told], At]] = {
    "found-again": _nothing,
    "role": _set_role,
    "up": _on_turn("moving a turn", edit.move_turn, -1),
    "down": _on_turn("moving a turn", edit.move_turn, 1),
    "insert": _on_turn("adding a turn", edit.insert_turn),
    "calculation": _on_turn("adding a calculation", edit.add_calculation),
    "delete-turn": _on_turn("deleting a turn", edit.delete_turn),
    "delete-part": _delete_part,
    "add-turn": _add_turn,
    "add-system": lambda at, told: handlers.change(at, "adding a system prompt", edit.add_system),
    "page": lambda at, told: handlers.moved(at, turns=int(told["page"])),
    "fix": lambda at, told: handlers.fix_one(at, told["kind"]),
    "raw": lambda at, told: handlers.apply_text(at, told["text"]),
    "add-conversation": lambda at, told: handlers.add_conversation(at),
    "duplicate-conversation": lambda at, told: handlers.duplicate_conversation(at),
    "delete-conversation": lambda at, told: handlers.delete_conversation(at),
}
