"""Marks at the ends of texts, left over from an older API: all prompts end alike, all answers begin or end alike."""

import re
from collections.abc import Iterator
from typing import Any

from nanochat_core.data.report import Fault
from nanochat_core.system.words import quoted

FEWEST = 5
"""Conversations that must agree before it is said."""

_MARK = re.compile(r"\s*(\W{2,}|[A-Z]{2,}|<[^>]+>|\W*\n\W*)\s*$")
"""What looks like a mark and not like the end of a sentence: `###`, `->`, ` END`, `</s>`."""


_NAME = re.compile(r"\W{0,5}(assistant|answer|a|ai|bot|gpt|model|output|reply|response)\W{0,3}:", re.IGNORECASE)


def shared_ends(conversations: list[list[dict[str, Any]]]) -> Iterator[Fault]:
    """A warning for marks that nearly every text shares; the model would learn those of the answers."""
    questions = _texts(conversations, "user")
    answers = _texts(conversations, "assistant")
    if len(answers) < FEWEST:
        return
    found = []
    if end := _shared_end(questions):
        found.append(f"every question ends with {quoted(end)}")
    if all(answer[:1] == " " and answer.strip() for answer in answers):
        found.append("every answer begins with a blank")
    if name := _shared_name(answers):
        found.append(f"every answer begins with {quoted(name)}")
    if end := _shared_end(answers):
        found.append(f"every answer ends with {quoted(end)}")
    if found:
        message = f"{'; '.join(found)}: marks of an older kind of file, which the model would learn to write."
        yield Fault(
            "warning", "shared_ends", message[0].upper() + message[1:], "Remove them: nanochat marks the turns itself."
        )


def _shared_name(answers: list[str]) -> str:
    """The name of the speaker with which all answers begin, as in `Assistant: yes`; "" for none."""
    names = [match[0].strip() if (match := _NAME.match(answer)) else "" for answer in answers]
    return names[0] if names[0] and set(names) == {names[0]} and len(set(answers)) >= FEWEST else ""


def _texts(conversations: list[list[dict[str, Any]]], role: str) -> list[str]:
    return [
        message["content"]
        for messages in conversations
        for message in messages
        if message["role"] == role and isinstance(message["content"], str)
    ]


def _shared_end(texts: list[str]) -> str:
    """The mark that all texts end with; "" for none, and for texts that are all the same."""
    if len(set(texts)) < FEWEST:
        return ""
    end = texts[0][-24:]
    while end and not all(text.endswith(end) for text in texts):
        end = end[1:]
    match = _MARK.search(end)
    return match[0] if match and match[0].strip() not in ("", ".", "?", "!", '"', ")", "?!", "...") else ""
