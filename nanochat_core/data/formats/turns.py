"""From a list of turns in any of their shapes to messages: who speaks, what is said, and nothing guessed."""

import ast
import json
from collections.abc import Iterator
from typing import Any

from nanochat_core.data.formats.names import ANSWERS, MEDIA, REASONING, ROLE_NAMES, SAID, SPEAKERS, TOOL_ROLES, plain
from nanochat_core.tokenizer.messages import joined_parts, wrong_part

Message = dict[str, Any]

_PAIR_KEYS = (("question", "answer"), ("input", "output"), ("prompt", "completion"), ("prompt", "response"), ("q", "a"))
_LONGEST_TEXT = 4_000_000
"""Characters of a list written as text that is still read."""


def from_text(value: Any) -> Any:
    """A list or an object that is written as text, as JSON or as Python writes it; anything else as it is."""
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT or value.lstrip()[:1] not in ("[", "{"):
        return value
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(value.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
        return found if isinstance(found, list | dict) else value
    return value


def messages_of_turns(turns: Any) -> list[Any] | None:
    """Messages from a list of turns; None when it is no such list. A turn that is not understood stays as it is."""
    turns = from_text(turns)
    if isinstance(turns, dict) and "role" not in turns and isinstance(turns.get("messages"), list):
        turns = turns["messages"]
    if not isinstance(turns, list) or not turns:
        return None
    if all(isinstance(turn, str) for turn in turns):
        return _alternating(turns) if len(turns) > 1 else None
    if all(map(_is_pair, turns)):
        return [message for turn in turns for message in _of_pair(turn)]
    return [message for turn in turns for message in _of_turn(turn)]


def looks_like_turns(turns: Any) -> bool:
    """Whether at least one turn says who speaks and what, and all of them are objects, pairs or texts."""
    messages = messages_of_turns(turns)
    return messages is not None and any(
        isinstance(message, dict) and isinstance(message.get("role"), str) and "content" in message
        for message in messages
    )


def import_message(message: Any) -> Any:
    """One turn with a speaker as {"role", "content"}, with nanochat's name for the role; other keys stay."""
    if not isinstance(message, dict):
        return message
    imported = dict(message)
    names = {plain(key): key for key in imported if isinstance(key, str)}
    for wanted, candidates in (("role", SPEAKERS), ("content", SAID)):
        found = next((names[name] for name in candidates if name in names), None)
        if found is not None and wanted not in imported:
            imported = {wanted if key == found else key: value for key, value in imported.items()}
    if isinstance(imported.get("role"), dict):  # ChatGPT's {"author": {"role": "user"}}
        imported["role"] = imported["role"].get("role", imported["role"])
    role = imported.get("role")
    if isinstance(role, str):
        imported["role"] = ROLE_NAMES.get(role.strip().lower(), role)
    if "content" in imported:
        _take_content(imported)
    return imported


def _take_content(message: Message) -> None:
    """Text instead of parts of other kinds; what the model thought stands beside it."""
    content = from_text(message["content"]) if isinstance(message["content"], str) and _is_parts(message) else None
    content = message["content"] if content is None else content
    if isinstance(content, dict):
        content = content.get("parts", content.get("text", content.get("content", content.get("value", content))))
    if isinstance(content, list) and content:
        thoughts = [part for part in content if kind_of(part) in REASONING]
        rest = [part for part in content if kind_of(part) not in REASONING]
        if thoughts and rest:
            message["thinking"] = "\n".join(filter(None, map(_text_of, thoughts)))
        content = _joined(rest if rest else content, message.get("role"))
    message["content"] = content


def _is_parts(message: Message) -> bool:
    """A table has no lists: it may hold the parts of a content as text."""
    return message["content"].lstrip().startswith(('[{"type"', "[{'type'"))


def _joined(parts: list[Any], role: Any) -> Any:
    """Text parts as one text with line breaks; the assistant's own parts (nanochat's) and unknown ones as they are."""
    if role == "assistant" and not any(map(wrong_part, parts)):
        return parts
    if (text := joined_parts(parts)) is not None:
        return text
    texts = [_text_of(part) for part in parts]
    return "\n".join(text for text in texts if text) if None not in texts else parts


def _text_of(part: Any) -> str | None:
    """The text of one part as any program writes it; None when it is something else than text."""
    if isinstance(part, str):
        return part
    if not isinstance(part, dict) or kind_of(part) in MEDIA:
        return None
    kind = part.get("type", "text")
    if kind not in ("text", "input_text", "output_text", *REASONING):
        return None
    return next((part[key] for key in ("text", "value", "content", kind) if isinstance(part.get(key), str)), None)


def kind_of(part: Any) -> str:
    """What a part is: its type, or (Gemini's) its only key."""
    if not isinstance(part, dict) or not part:
        return ""
    kind = part.get("type", part.get("content_type"))  # ChatGPT's name for it
    return plain(kind) if isinstance(kind, str) else plain(str(next(iter(part))))


def _of_turn(turn: Any) -> Iterator[Any]:
    """The messages of one turn: usually one; two for an object that holds a question and its answer."""
    if not isinstance(turn, dict):
        yield from (_of_pair(turn) if _is_pair(turn) else [turn])
        return
    names = {plain(key): key for key in turn if isinstance(key, str)}
    if any(key in names for key in SPEAKERS):
        yield import_message(turn)
        return
    pair = next((pair for pair in _PAIR_KEYS if pair[0] in names and pair[1] in names), None)
    # Where another key holds what was said, `model` only names who said it.
    is_label = pair is not None or any(name in names for name in (*ANSWERS, *SAID))
    speakers = [
        *(key for name, key in names.items() if name in ROLE_NAMES and not (name == "model" and is_label)),
        *(key for name, key in names.items() if name in TOOL_ROLES),
    ]
    if pair and all(ROLE_NAMES.get(plain(key)) == "system" for key in speakers):
        yield from (import_message({"role": "system", "content": turn[key]}) for key in speakers if turn[key])
        turn, speakers = {key: value for key, value in turn.items() if key not in speakers}, []
    if speakers:
        rest = {key: value for key, value in turn.items() if key not in speakers}
        for place, key in enumerate(sorted(speakers, key=lambda key: _ORDER.get(ROLE_NAMES.get(plain(key), ""), 3))):
            own = rest if place == len(speakers) - 1 else {}
            yield import_message({"role": ROLE_NAMES.get(plain(key), plain(key)), "content": turn[key], **own})
    elif pair:
        rest = {key: value for key, value in turn.items() if plain(key) not in pair}
        yield {"role": "user", "content": turn[names[pair[0]]]}
        yield {"role": "assistant", "content": turn[names[pair[1]]], **rest}
    else:
        yield turn


_ORDER = {"system": 0, "user": 1, "assistant": 2}


def _is_pair(turn: Any) -> bool:
    """Whether it is two texts: a list of two messages is a conversation of its own."""
    return isinstance(turn, list | tuple) and len(turn) == 2 and not isinstance(turn[0], list | dict)


def _of_pair(pair: Any) -> list[Any]:
    """[role, text], or [question, answer]."""
    first, second = pair
    if isinstance(first, str) and first.strip().lower() in ROLE_NAMES:
        return [{"role": ROLE_NAMES[first.strip().lower()], "content": second}]
    return _alternating([first, second])


def _alternating(texts: list[Any]) -> list[Message]:
    return [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(texts)]
