"""Preference pairs: a better and a worse answer to the same question. The better one is the answer."""

from typing import Any

from nanochat_core.data.formats.marked_text import messages_of_text
from nanochat_core.data.formats.turns import import_message, messages_of_turns
from nanochat_core.data.notes import Note

BOTH = Note(
    'took the chosen answer of a preference pair; the rejected one stands beside it as "rejected"', matters=True
)
ONLY_CHOSEN = Note("took the chosen answer, which stood beside the question", matters=True)


def with_chosen(messages: list[Any], chosen: Any) -> list[Any]:
    """The messages with the chosen answer as their last. ValueError when it cannot be told what belongs together."""
    answer = _as_messages(chosen)
    if answer is None:
        raise ValueError("The chosen answer is neither text nor messages: write it as text.")
    if not answer:
        raise ValueError("The chosen answer is empty: write it, or remove the line.")
    if _role(answer[0]) in ("user", "system"):  # the whole conversation
        system = [one for one in messages[:1] if _role(one) == "system" and _role(answer[0]) != "system"]
        asked = messages[len(system) :]
        if [_said(one) for one in answer[: len(asked)]] != [_said(one) for one in asked]:
            raise ValueError("The chosen conversation and the question differ: keep the one that is meant.")
        return system + answer
    if messages and _role(messages[-1]) == "assistant":
        if _said(messages[-1]) == _said(answer[0]) and len(answer) == 1:
            return messages
        raise ValueError("There is an answer both in the messages and as the chosen one: keep the one that is meant.")
    if not messages:
        raise ValueError("There is a chosen answer without a question: add the question.")
    return [*messages, *answer]


def with_rejected(messages: list[Any], rejected: Any) -> list[Any]:
    """The messages, the rejected answer beside the last of them."""
    answer = _as_messages(rejected)
    content = answer[-1].get("content") if answer and isinstance(answer[-1], dict) else rejected
    return [*messages[:-1], {**messages[-1], "rejected": content}]


def is_same_answer(message: Any, answer: Any) -> bool:
    """Whether the message says what the (chosen or rejected) answer says."""
    found = _as_messages(answer)
    return bool(found and _said(found[-1])[1] == _said(message)[1])


def _as_messages(answer: Any) -> list[Any] | None:
    """The messages of an answer that is a text, a message, a list of them, or a marked text of a conversation."""
    if isinstance(answer, str):
        if found := messages_of_text(answer):
            return found[1]
        return [{"role": "assistant", "content": answer}] if answer.strip() else []
    if isinstance(answer, dict):
        return [import_message({"role": "assistant", **answer} if "from" not in answer else answer)]
    if isinstance(answer, list) and len(answer) == 1 and isinstance(answer[0], str):
        return [{"role": "assistant", "content": answer[0]}]
    return messages_of_turns(answer)


def _role(message: Any) -> Any:
    return message.get("role") if isinstance(message, dict) else None


def _said(message: Any) -> tuple[Any, Any]:
    if not isinstance(message, dict):
        return None, message
    content = message.get("content")
    return message.get("role"), content.strip() if isinstance(content, str) else content
