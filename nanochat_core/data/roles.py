"""Who speaks in a conversation, and in which order: what may be wrong with either, in sentences."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from nanochat_core.data.formats.names import ROLE_NAMES
from nanochat_core.data.report import Fault
from nanochat_core.system.words import name_numbers, plural, quoted
from nanochat_core.tokenizer.messages import ROLES

SWAPPED = "swapped_roles"
"""Kind of a fault that no rule can decide: what --fix does instead, it does to the other faults."""

TOOL = object()
"""Stands for a message that calls a tool, of which nothing else is said."""


_TURNS = "After an optional first system message, user and assistant take turns, the user first."


def role_faults(messages: list[Any]) -> Iterator[Fault]:
    """Messages that are none, and roles that are missing or unknown; TOOL in place of a message is passed over."""
    shapeless: list[int] = []
    imported: list[int] = []
    missing: list[int] = []
    by_role: dict[str, list[int]] = {}
    for number, message in enumerate(messages, 1):
        if message is TOOL:
            continue
        if not isinstance(message, dict):
            shapeless.append(number)
        elif "role" not in message and "from" in message:
            imported.append(number)
        elif not isinstance(role := message.get("role"), str):
            missing.append(number)
        elif role not in ROLES:
            by_role.setdefault(role, []).append(number)
    if shapeless:
        message = f"{name_numbers('Message', shapeless)}: not an object with a role and a content."
        yield Fault("error", "not_a_message", message, 'Write {"role": "user", "content": "..."}.')
    if imported:
        message = f'{name_numbers("Message", imported)}: "from" stands for "role", as in the ShareGPT format.'
        yield Fault("error", "other_format", message, "Import it.")
    if missing:
        message = f'{name_numbers("Message", missing)}: there is no "role", or it is not text.'
        yield Fault("error", "no_role", message, 'Add "role": "user" or "role": "assistant".')
    for role, numbers in list(by_role.items())[:5]:
        yield _unknown_role(role, numbers)


def _unknown_role(role: str, numbers: list[int]) -> Fault:
    message = f"{name_numbers('Message', numbers)}: {quoted(role)} is no role of nanochat"
    meant = ROLE_NAMES.get(role.strip().lower())
    if role.strip().lower() in ("human", "gpt"):
        message += ", but one of the ShareGPT format"
    if meant:
        return Fault("error", "unknown_role", f"{message}.", f'Write "{meant}".')
    return Fault("error", "unknown_role", f"{message}.", 'Use "user" or "assistant", and "system" for a first message.')


def order_faults(messages: list[Any], awaits_answer: bool = False) -> Iterator[Fault]:
    """Only when every role can be guessed: else the order means nothing. A pair's answer stands beside the messages."""
    roles = [meant_role(message) for message in messages]
    if None in roles:
        return
    late = [number for number, role in enumerate(roles, 1) if role == "system" and number > 1]
    if late:
        message = f"{name_numbers('Message', late)}: a system message may only be the first message."
        yield Fault("error", "wrong_order", message, "Move it to the beginning, or remove it.")
    start = 1 if roles[0] == "system" else 0
    turns = roles[start:]
    if not turns:
        message = "There is only a system message, so there is nothing to learn."
        yield Fault("error", "wrong_order", message, "Add a message of the user and an answer of the assistant.")
        return
    if turns[0] == "assistant":
        message = f"Message {start + 1} is from the assistant, but the user must speak first."
        yield Fault("error", "wrong_order", message, f"Put the user's message before it. {_TURNS}")
    repeats = [n for n, (one, two) in enumerate(pairwise(turns), start + 1) if one == two and one != "system"]
    if repeats:
        message = f"Messages {repeats[0]} and {repeats[0] + 1} are both from the {turns[repeats[0] - start - 1]}"
        message += f", and so in {plural(len(repeats) - 1, 'more place')}." if repeats[1:] else "."
        yield Fault("error", "wrong_order", message, f"Join them, or add what is missing between. {_TURNS}")
    if turns[0] == "assistant" and turns[-1] == "user" and not awaits_answer:
        message = "The assistant speaks first and the user last: are the two swapped?"
        fix = "If they are, swap the roles in the file before all else: --fix would drop both ends, and train the user."
        yield Fault("error", SWAPPED, message, fix, once=True)
    if turns[-1] == "user" and not awaits_answer:
        message = f"The last message ({len(messages)}) is from the user: there is no answer to learn."
        yield Fault("error", "ends_with_user", message, "Add the assistant's answer, or remove the last message.")


def meant_role(message: Any) -> str | None:
    """nanochat's name for a message's role, however it is written; None for an unknown one."""
    role = message.get("role", message.get("from")) if isinstance(message, dict) else None
    return ROLE_NAMES.get(role.strip().lower()) if isinstance(role, str) else None
