"""What stands beside the messages and in them besides role and content: marks, verdicts, and what is not used.

No key is passed over in silence when it can carry text, an instruction about training, or a verdict on the example.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from nanochat_core.data.formats import names
from nanochat_core.data.formats.names import plain
from nanochat_core.data.formats.preference import is_same_answer
from nanochat_core.data.report import Fault
from nanochat_core.system.words import name_numbers, quoted
from nanochat_core.tokenizer.messages import (
    LEARN_MARKS,
    SKIP_MARKS,
    UNCLEAR_MARKS,
    fractions,
    joined_parts,
    odd_marks,
    says,
    wrong_part,
)

_NOTHING: tuple[Any, ...] = (None, "", [], {}, "[]", "{}")
_WORDS = re.compile(r"\w+(\W+\w+){3}")
"""Four words: so much text may be something that was meant to be learned."""

_SPEAKS_OF_TRAINING = re.compile(r"(^|_)(train(ed|ing|able)?|loss|mask(ed)?|weights?|learn(ed)?)(_|$)")
_MARKS = LEARN_MARKS | SKIP_MARKS | UNCLEAR_MARKS
_VERDICTS = names.BAD_IF_FALSE | names.BAD_IF_TRUE
MEANINGFUL = frozenset(
    _MARKS
    | _VERDICTS
    | names.RATINGS
    | names.MEDIA
    | names.REASONING
    | names.TOOLS
    | {*names.SYSTEMS, *names.BESIDE, *names.HISTORIES, *names.CHOSEN, *names.REJECTED, *names.CALLS, *names.SPLITS}
)
"""Keys whose meaning is known: a value of theirs is looked at."""
SYSTEM_BESIDE, TEXT_BESIDE = FIXABLE_WARNINGS = ("system_beside", "text_beside")
"""Kinds of warnings of what a rule brings into the messages."""


def verdict_faults(value: Any) -> Iterator[Fault]:
    """Errors of a record that is marked as a bad example, or is a pair of which only one answer is to be learned."""
    if not isinstance(value, dict):
        return
    for key, content in value.items():
        if _is_bad(plain(key), content):
            yield _negative(f"({quoted(key)[1:-1]}: {str(content).lower()})")
    fields = {plain(key): key for key in value}
    chosen, rejected = (
        next((fields[name] for name in keys if name in fields and _is_answer(value[fields[name]])), None)
        for keys in (names.CHOSEN, names.REJECTED)
    )
    if chosen is None and rejected is not None and _answers_with(value, value[rejected]):
        yield _negative(f"(its answer stands in {quoted(rejected)} too)")
    elif chosen is not None or rejected is not None:
        keys = " and ".join(quoted(key) for key in (chosen, rejected) if key is not None)
        message = f"This is a preference pair ({keys}): only the chosen answer is to be learned."
        yield Fault("error", "preference_pair", message, "Let the messages end with the chosen answer.")


def _is_bad(name: str, content: Any) -> bool:
    if name in ("label", "labels") and not isinstance(content, bool):  # a number or a name of a class
        return isinstance(content, str) and content.strip().lower() == "false"
    if name in names.BAD_IF_FALSE:
        return says(content) is False
    return name in names.BAD_IF_TRUE and says(content) is True


def _is_answer(content: Any) -> bool:
    return isinstance(content, str | list | dict) and content not in _NOTHING


def _answers_with(value: dict[str, Any], rejected: Any) -> bool:
    """Whether the messages' answer is the rejected one, or is missing: then there is nothing good to learn."""
    messages = value.get("messages")
    if not isinstance(messages, list) or not messages or not isinstance(messages[-1], dict):
        return False
    return messages[-1].get("role") == "user" or is_same_answer(messages[-1], rejected)


def _negative(why: str) -> Fault:
    message = f"This example is marked as bad {why}: it would be trained as a good answer."
    fix = "Remove it, or the mark where that is wrong; `check FILE --fix NEW.jsonl` leaves it out."
    return Fault("error", "negative_example", message, fix)


def mark_faults(value: Any, messages: list[Any]) -> Iterator[Fault]:
    """Errors for marks about training that cannot be followed."""
    odd: dict[str, list[int]] = {}
    for number, message in enumerate(messages, 1):
        if isinstance(message, dict) and len(message) > 2:
            for key in odd_marks(message):
                odd.setdefault(key, []).append(number)
    for key, numbers in odd.items():
        yield _unclear(f"{name_numbers('Message', numbers)}: ", key)
    for key in odd_marks(value) if isinstance(value, dict) else ():
        yield _unclear("", key)


def _unclear(where: str, key: str) -> Fault:
    message = f"{where}{quoted(key)} says something about the training that cannot be followed here."
    fix = 'Write "train": false beside a message that is not to be learned, and remove this key.'
    return Fault("error", "unclear_mark", message, fix)


def key_warnings(value: Any, messages: list[Any]) -> Iterator[Fault]:
    """A warning for each key that is not used, said once for the whole file."""
    found: dict[str, Fault] = {}
    for entry, is_record in ((value, True), *((message, False) for message in messages)):
        if isinstance(entry, dict) and len(entry) > (1 if is_record else 2):
            for key, content in entry.items():
                if key not in ("messages", "role", "content") and content not in _NOTHING:
                    if fault := _warning(key, content, entry, is_record, messages):
                        found.setdefault(fault.message, fault)
    yield from found.values()


def _warning(key: str, content: Any, entry: dict[str, Any], is_record: bool, messages: list[Any]) -> Fault | None:
    name, shown = plain(key), quoted(key, 30)
    if isinstance(content, str) and content.strip().lower() in names.BAD_WORDS:
        message = f"The training does not use {shown}, which says {quoted(content.strip())} of an example."
        return Fault("warning", "unused_key", message, "Remove the rows that are not to be learned.", once=True)
    if is_record and name in names.SPLITS and str(content).strip().lower() in names.HELD_OUT:
        message = (
            f"By its {shown} ({str(content).strip().lower()}) this row is not for training; it is trained all the same."
        )
        fix = "Remove such rows: a part of the file is kept for validation without them (val_split)."
        return Fault("warning", "held_out", message, fix, once=True)
    if is_record and name in names.SYSTEMS:
        if _is_said(content, [one for one in messages[:1] if isinstance(one, dict) and one.get("role") == "system"]):
            return None
        message = f"The training does not use {shown}, which stands beside the messages."
        return Fault("warning", SYSTEM_BESIDE, message, "Make it a first message of the role system.", once=True)
    if is_record and name in (*names.BESIDE, *names.HISTORIES) and not _is_said(content, messages):
        message = f"The training does not use {shown}, which stands beside the messages."
        return Fault("warning", TEXT_BESIDE, message, "Bring it into the messages.", once=True)
    if name in names.MEDIA:
        return media_fault(shown)
    if name in names.REASONING:
        message = f"The training does not use {shown}: only what the assistant says is learned, not its reasoning."
        return Fault("warning", "reasoning", message, "Put it into the content if the model should say it.", once=True)
    if name in names.REJECTED and not is_record:
        message = f"Beside the answers stand rejected ones ({shown}), which are used only when that is asked for."
        fix = "To learn from both, switch on learn_from_corrections in the Train tab; else there is nothing to do."
        if rejected_answer(entry) is None:
            message = f"A rejected answer ({shown}) is neither text nor parts, or says nothing: it is not used."
            fix = f'Write it as text: {shown}: "...".'
        return Fault("warning", "rejected_answers", message, fix, once=True)
    if key in fractions(entry):
        message = f"The training takes an answer whole or not at all: {shown} other than 0 and 1 changes nothing."
        return Fault("warning", "unused_key", message, "Write 0 where an answer is not to be learned.", once=True)
    if name in _MARKS or name in _VERDICTS or name in names.OWN:
        return None
    if _SPEAKS_OF_TRAINING.search(name):
        fix = 'Write "train": false beside a message that is not to be learned, and remove this key.'
    elif name in names.TOOLS or name in names.CALLS:
        fix = "Say what matters in the messages: tools cannot be called here."
    elif name in names.RATINGS:
        fix = "It may be a verdict on the example: remove the rows that are not to be learned."
    elif _carries_text(content) and not _is_said(content, messages):
        fix = "Bring it into the messages if it is to be learned or read; else remove the key, or leave it."
    else:
        return None
    return Fault("warning", "unused_key", f"The training does not use {shown}.", fix, once=True)


def rejected_answer(message: dict[str, Any]) -> Any:
    """The content of the answer that was rejected in favour of the message's; None without a usable one."""
    for key, content in message.items():
        if plain(key) in names.REJECTED:
            if isinstance(content, str) and content.strip():
                return content
            if isinstance(content, list) and content and not any(map(wrong_part, content)):
                return [{"type": part["type"], "text": part["text"]} for part in content]
    return None


def media_fault(what: str) -> Fault:
    """The warning for a key or a mark that stands for a picture, sound or video."""
    message = f"The model reads text only: pictures, sound and video ({what}) are not seen by it."
    return Fault("warning", "media", message, "Leave out what cannot be answered without them.", once=True)


def _carries_text(content: Any) -> bool:
    """Whether a value holds four words in one text, at any depth that matters."""
    waiting, looked_at = [content], 0
    while waiting and looked_at < 1_000:
        entry = waiting.pop()
        looked_at += 1
        if isinstance(entry, str) and _WORDS.search(entry[:2_000]):
            return True
        waiting += entry if isinstance(entry, list) else entry.values() if isinstance(entry, dict) else ()
    return False


def _is_said(content: Any, messages: list[Any]) -> bool:
    """Whether a text stands in the messages too."""
    text = content.strip() if isinstance(content, str) else None
    contents = [message.get("content") for message in messages if isinstance(message, dict)]
    said = [joined_parts(content) if isinstance(content, list) else content for content in contents]
    return text is not None and any(isinstance(one, str) and text in one for one in said)


def is_silent(key: str, content: Any) -> bool:
    """Whether a key beside the messages surely needs no word: the quick look at nearly every line."""
    if isinstance(content, list | dict) or (isinstance(content, str) and content.strip().lower() in names.BAD_WORDS):
        return False
    has_meaning, is_own = _known(key)
    return not has_meaning and (is_own or not isinstance(content, str) or len(content) < 8)


@lru_cache(maxsize=1024)
def _known(key: str) -> tuple[bool, bool]:
    """(whether a value under this key has to be looked at, whether it is a person's own bookkeeping)."""
    name = plain(key)
    return name in MEANINGFUL or _SPEAKS_OF_TRAINING.search(name) is not None, name in names.OWN
