"""Fitting a conversation into a model's context: what is left out is counted, never hidden."""

from dataclasses import dataclass
from typing import Any

from nanochat_core.tokenizer.messages import joined
from nanochat_core.tokenizer.tokenizer import Tokenizer

Messages = list[dict[str, Any]]
Conversation = Messages | dict[str, Any]
"""Messages by themselves, or in an object as "messages"."""

SMALLEST_ROOM = 8  # tokens: four frame the last message, and some of it should stay


@dataclass(frozen=True)
class Prompt:
    """A prompt that fits, and what it cost."""

    ids: list[int]
    dropped_messages: int = 0
    question_cut: bool = False
    cut_tokens: int = 0
    """Tokens of the whole prompt that are not in `ids`, for either reason."""

    def notice(self, context: int) -> str:
        """What a person is told of a prompt that was cut to fit into `context` tokens."""
        parts = []
        if self.dropped_messages:
            parts.append(f"its {self.dropped_messages} oldest messages")
        if self.question_cut:
            parts.append("the beginning of the last one")
        left_out = " and ".join(parts)
        return (
            f"The conversation does not fit into the model's context of {context:,} tokens. "
            f"Left out: {left_out} ({self.cut_tokens:,} tokens)."
        )


def fit_prompt(tokenizer: Tokenizer, messages: Conversation, room: int) -> Prompt:
    """The prompt for the next reply in at most `room` tokens.

    The oldest whole turns (a question with its answer) go first; a system message stays. When the last question
    alone is too long, its beginning goes. Neighbours of one role are joined, as in training data: a client sends two
    questions in a row after a stopped reply. ValueError for malformed messages.
    """
    room = max(room, SMALLEST_ROOM)
    messages = messages["messages"] if isinstance(messages, dict) and "messages" in messages else messages
    messages = joined(messages) if isinstance(messages, list) else messages
    whole = tokenizer.render_prompt(messages)
    if len(whole) <= room:
        return Prompt(whole)
    turns = list(messages)
    if turns[-1]["role"] == "assistant":
        turns.pop()
    system = [turns.pop(0)] if turns[0]["role"] == "system" else []
    kept = _newest_turns(tokenizer, system, turns, room)
    ids = tokenizer.render_prompt(system + kept)
    too_long = len(ids) > room
    if too_long:
        ids = _cut_question(tokenizer, system, ids, room)
    return Prompt(ids, len(turns) - len(kept), too_long, len(whole) - len(ids))


def _newest_turns(tokenizer: Tokenizer, system: Messages, turns: Messages, room: int) -> Messages:
    """As many of the newest turns as fit, the last question in any case."""
    first = len(turns) - 1
    used = len(tokenizer.render_prompt(system + turns[first:]))
    while first > 0:  # counted pair by pair from the end, so that a long history is not rendered again and again
        used += len(tokenizer.render_conversation(turns[first - 2 : first], max_tokens=10**9)[0]) - 1
        if used > room:
            break
        first -= 2
    while first < len(turns) - 1 and len(tokenizer.render_prompt(system + turns[first:])) > room:
        first += 2  # the system text joins another message than it was counted with, which can cost a token more
    return turns[first:]


def _cut_question(tokenizer: Tokenizer, system: Messages, ids: list[int], room: int) -> list[int]:
    """Cut `ids` (bos, user_start, system text and question, user_end, assistant_start) after the system text."""
    surplus = len(ids) - room
    head = 2 + (len(tokenizer.encode(system[0]["content"] + "\n\n")) if system else 0)
    head = min(head, room - 3)  # of a system text that alone is too long, only the beginning is kept
    return ids[:head] + ids[head + surplus :]
