"""The body of a request to /v1/chat/completions, read and checked: what cannot be done is refused, never ignored.

Which roles there are and in which order they speak is the tokenizer's to say, when it renders the messages.
"""

from dataclasses import dataclass
from typing import Any

from nanochat_core.serve import fields as read
from nanochat_core.serve.fields import DRAWING, ONLY, TEMPERATURE, TOP_K, check_fields, read_object, wrong
from nanochat_core.tokenizer.messages import joined, joined_parts

_OURS = ("model", "messages", "max_tokens", "max_completion_tokens", *DRAWING[2:])
_ONLY = {
    **ONLY,
    "logprobs": (False,),
    "top_logprobs": (0,),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "functions": ([],),
    "modalities": (["text"],),
    "response_format": ({"type": "text"},),
}

_NOTHING: tuple[Any, ...] = (None, [], {}, "")
_OF_MESSAGES = frozenset(("role", "content", "name", "annotations", "reasoning_content", "reasoning"))


@dataclass(frozen=True)
class ChatRequest:
    """What a caller wants, in our own terms."""

    model: str
    messages: list[dict[str, str]]
    max_tokens: int | None
    """Longest reply; None as long as the context has room."""
    temperature: float
    top_p: float
    top_k: int
    seed: int | None
    stops: tuple[str, ...]
    stream: bool
    include_usage: bool

    @classmethod
    def parse(cls, body: bytes) -> "ChatRequest":
        """Read a request's body. ApiError (400) in a sentence for whatever is wrong with it."""
        fields = read_object(body)
        check_fields(fields, _OURS, _ONLY)
        stream = read.boolean(fields, "stream")
        return cls(
            model=read.model_name(fields),
            messages=_messages(fields.get("messages")),
            max_tokens=read.max_tokens(fields),
            temperature=read.number(fields, "temperature", TEMPERATURE, 2),
            top_p=read.number(fields, "top_p", 1.0, 1),
            top_k=TOP_K if (top_k := read.integer(fields, "top_k", 0)) is None else top_k,
            seed=read.integer(fields, "seed", None),
            stops=read.stops(fields.get("stop")),
            stream=stream,
            include_usage=read.include_usage(fields.get("stream_options"), stream),
        )


def _messages(messages: Any) -> list[dict[str, str]]:
    if not isinstance(messages, list) or not messages:
        raise wrong("messages must be a list of at least one message, the last one of the user.", "messages")
    plain = [_message(number, message) for number, message in enumerate(messages, start=1)]
    # The model knows no system message but as the beginning of a user's: a later one begins, or ends, that too.
    begun = [message["role"] != "system" for message in plain]
    for place, message in enumerate(plain):
        if message["role"] == "system" and any(begun[:place]):
            message["role"] = "user"
    if plain[-1]["role"] != "user":
        raise wrong(
            f"The last message is from {plain[-1]['role']!r}; it must be the user's, for the model to answer it.",
            "messages",
        )
    return joined(plain)  # as chats have them after a stopped reply, and as check --fix joins them in training data


def _message(number: int, message: Any) -> dict[str, str]:
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise wrong(f'Message {number} must be an object with "role" and "content".', "messages")
    role = "system" if message["role"] == "developer" else message["role"]  # OpenAI's newer word for it
    extra = [name for name, value in message.items() if name not in _OF_MESSAGES and value not in _NOTHING]
    if extra:
        raise wrong(
            f"Message {number} has {extra[0]!r:.60}, which this server cannot give to the model. Leave it out.",
            "messages",
            "unsupported_parameter",
        )
    return {"role": role, "content": _content(number, message.get("content"))}


def _content(number: int, content: Any) -> str:
    """The text of a message; OpenAI's list of text parts is joined with line breaks, as in training data."""
    if isinstance(content, str):
        return content
    if (text := joined_parts(content)) is not None:
        return text
    raise wrong(f"Message {number} must have a text, or a list of parts of type text, as its content.", "messages")
