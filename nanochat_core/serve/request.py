"""The body of a request to /v1/chat/completions, read and checked: what cannot be done is refused, never ignored.

Which roles there are and in which order they speak is the tokenizer's to say, when it renders the messages.
"""

import json
from dataclasses import dataclass
from typing import Any

from nanochat_core.serve.response import ApiError
from nanochat_core.tokenizer.messages import joined, joined_parts

MOST_STOPS = 4
TOP_K = 50
TEMPERATURE = 0.7
"""Where the request does not say, as in `chat`: OpenAI's 1.0 of all tokens is too wild for small models."""

_WITHOUT_EFFECT = frozenset(
    ("user", "metadata", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "store")
)
"""Fields that are for the keeper of a server, and change no reply."""

_ONLY = {
    "n": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "functions": ([],),
    "modalities": (["text"],),
    "response_format": ({"type": "text"},),
}
"""Fields of OpenAI's that have no counterpart here, and the values at which they ask for nothing."""

_OURS = ("model", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "seed", "stop")
_KNOWN = frozenset((*_OURS, "stream", "stream_options", *_WITHOUT_EFFECT, *_ONLY))

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
        fields = _read_object(body)
        _check_fields(fields)
        stream = _boolean(fields, "stream")
        return cls(
            model=_model(fields),
            messages=_messages(fields.get("messages")),
            max_tokens=_max_tokens(fields),
            temperature=_number(fields, "temperature", TEMPERATURE, 2),
            top_p=_number(fields, "top_p", 1.0, 1),
            top_k=TOP_K if (top_k := _integer(fields, "top_k", 0)) is None else top_k,
            seed=_integer(fields, "seed", None),
            stops=_stops(fields.get("stop")),
            stream=stream,
            include_usage=_include_usage(fields.get("stream_options"), stream),
        )


def _wrong(sentence: str, param: str | None = None, code: str = "invalid_value") -> ApiError:
    return ApiError(400, sentence, code, param)


def _shown(value: Any) -> str:
    """A value for a sentence, short."""
    if isinstance(value, str | int | float):
        text = json.dumps(value)
        return text if len(text) <= 40 else f"{text[:40]}..."
    return "an object" if isinstance(value, dict) else "a list" if isinstance(value, list) else "nothing"


def _read_object(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise _wrong(
            f"The body is not JSON ({str(error)[:100]}). Send one JSON object with model and messages.",
            code="invalid_json",
        ) from error
    if not isinstance(fields, dict):
        raise _wrong("The body must be one JSON object with model and messages.", code="invalid_json")
    return {name: value for name, value in fields.items() if value is not None}  # null is as good as left out


def _check_fields(fields: dict[str, Any]) -> None:
    for name, value in fields.items():
        if name not in _KNOWN:
            raise _wrong(
                f"This server has no parameter {name!r:.60}. Leave it out; it knows {', '.join(_OURS)}, stream and "
                "stream_options.",
                name[:60],
                "unknown_parameter",
            )
        if name in _ONLY and not any(value == allowed for allowed in _ONLY[name]):
            allowed = " or ".join(json.dumps(value) for value in _ONLY[name])
            raise _wrong(
                f"{name} is {_shown(value)}; this server can only do {allowed}. Leave it out.",
                name,
                "unsupported_parameter",
            )


def _model(fields: dict[str, Any]) -> str:
    model = fields.get("model")
    if not isinstance(model, str):
        raise _wrong("The request must name its model as a text. GET /v1/models lists what there is.", "model")
    return model


def _messages(messages: Any) -> list[dict[str, str]]:
    if not isinstance(messages, list) or not messages:
        raise _wrong("messages must be a list of at least one message, the last one of the user.", "messages")
    plain = [_message(number, message) for number, message in enumerate(messages, start=1)]
    if plain[-1]["role"] != "user":
        raise _wrong(
            f"The last message is from {plain[-1]['role']!r}; it must be the user's, for the model to answer it.",
            "messages",
        )
    return joined(plain)  # as chats have them after a stopped reply, and as check --fix joins them in training data


def _message(number: int, message: Any) -> dict[str, str]:
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise _wrong(f'Message {number} must be an object with "role" and "content".', "messages")
    role = "system" if message["role"] == "developer" else message["role"]  # OpenAI's newer word for it
    extra = [name for name, value in message.items() if name not in _OF_MESSAGES and value not in _NOTHING]
    if extra:
        raise _wrong(
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
    raise _wrong(f"Message {number} must have a text, or a list of parts of type text, as its content.", "messages")


def _max_tokens(fields: dict[str, Any]) -> int | None:
    old, new = (_integer(fields, name, 1) for name in ("max_tokens", "max_completion_tokens"))
    if old is not None and new is not None and old != new:
        raise _wrong(f"max_tokens is {old} and max_completion_tokens is {new}: give one of them.", "max_tokens")
    return old if new is None else new


def _integer(fields: dict[str, Any], name: str, least: int | None) -> int | None:
    value = fields.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or (least is not None and value < least):
        wanted = "a whole number" if least is None else f"a whole number of {least} or more"
        raise _wrong(f"{name} is {_shown(value)}; it must be {wanted}.", name)
    return value


def _number(fields: dict[str, Any], name: str, default: float, most: float) -> float:
    value = fields.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:  # NaN is not, either
        raise _wrong(f"{name} is {_shown(value)}; it must be a number from 0 to {most}.", name)
    return float(value)


def _boolean(fields: dict[str, Any], name: str) -> bool:
    value = fields.get(name, False)
    if not isinstance(value, bool):
        raise _wrong(f"{name} is {_shown(value)}; it must be true or false.", name)
    return value


def _stops(stop: Any) -> tuple[str, ...]:
    stops = [stop] if isinstance(stop, str) else stop
    if stops is None:
        return ()
    if not isinstance(stops, list) or not all(isinstance(text, str) and text for text in stops):
        raise _wrong("stop must be a text or a list of texts, none of them empty.", "stop")
    if len(stops) > MOST_STOPS:
        raise _wrong(f"stop has {len(stops)} texts; at most {MOST_STOPS} can be looked for.", "stop")
    return tuple(stops)


def _include_usage(options: Any, stream: bool) -> bool:
    if options is None:
        return False
    if not stream:
        raise _wrong("stream_options is for streamed replies: set stream to true, or leave it out.", "stream_options")
    if not isinstance(options, dict) or set(options) - {"include_usage", "include_obfuscation"}:
        raise _wrong('stream_options must be an object: {"include_usage": true}.', "stream_options")
    return _boolean({name: value for name, value in options.items() if value is not None}, "include_usage")
