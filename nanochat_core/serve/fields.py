"""Fields that the bodies of a request share, read and checked: what cannot be done is refused, never ignored."""

import json
from collections.abc import Collection, Mapping
from typing import Any

from nanochat_core.serve.response import ApiError

MOST_STOPS = 16
"""OpenAI takes 4; lm-eval's tasks want more."""
TOP_K = 50
TEMPERATURE = 0.7
"""Where the request does not say, as in `chat`: OpenAI's 1.0 of all tokens is too wild for small models."""

DRAWING = ("model", "max_tokens", "temperature", "top_p", "top_k", "seed", "stop")
"""Fields of every request for text."""
WITHOUT_EFFECT = frozenset(
    ("user", "metadata", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "store")
)
"""Fields that are for the keeper of a server, and change no reply."""

ONLY: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
}
"""Fields of OpenAI's that have no counterpart here, and the values at which they ask for nothing."""


def check_fields(fields: dict[str, Any], ours: Collection[str], only: Mapping[str, tuple[Any, ...]]) -> None:
    """ApiError for a field that is neither of `ours` nor without effect, or one of `only` that asks for something."""
    for name, value in fields.items():
        if name not in ours and name not in only and name not in ("stream", "stream_options", *WITHOUT_EFFECT):
            raise wrong(
                f"This server has no parameter {name!r:.60}. Leave it out; it knows {', '.join(ours)}, stream and "
                "stream_options.",
                name[:60],
                "unknown_parameter",
            )
        if name in only and not any(value == allowed for allowed in only[name]):
            allowed = " or ".join(json.dumps(value) for value in only[name])
            raise wrong(
                f"{name} is {shown(value)}; this server can only do {allowed}. Leave it out.",
                name,
                "unsupported_parameter",
            )


def wrong(sentence: str, param: str | None = None, code: str = "invalid_value") -> ApiError:
    """A refusal, status 400."""
    return ApiError(400, sentence, code, param)


def shown(value: Any) -> str:
    """A value for a sentence, short."""
    if isinstance(value, str | int | float):
        text = json.dumps(value)
        return text if len(text) <= 40 else f"{text[:40]}..."
    return "an object" if isinstance(value, dict) else "a list" if isinstance(value, list) else "nothing"


def read_object(body: bytes) -> dict[str, Any]:
    """The body as a JSON object, without what is null. ApiError when it is none."""
    try:
        fields = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise wrong(
            f"The body is not JSON ({str(error)[:100]}). Send one JSON object with model and messages.",
            code="invalid_json",
        ) from error
    if not isinstance(fields, dict):
        raise wrong("The body must be one JSON object with model and messages.", code="invalid_json")
    return {name: value for name, value in fields.items() if value is not None}  # null is as good as left out


def model_name(fields: dict[str, Any]) -> str:
    """The model that is asked for."""
    model = fields.get("model")
    if not isinstance(model, str):
        raise wrong("The request must name its model as a text. GET /v1/models lists what there is.", "model")
    return model


def max_tokens(fields: dict[str, Any]) -> int | None:
    """Longest reply in tokens, by either of its names; None where it is not said."""
    old, new = (integer(fields, name, 1) for name in ("max_tokens", "max_completion_tokens"))
    if old is not None and new is not None and old != new:
        raise wrong(f"max_tokens is {old} and max_completion_tokens is {new}: give one of them.", "max_tokens")
    return old if new is None else new


def integer(fields: dict[str, Any], name: str, least: int | None) -> int | None:
    """A whole number of at least `least`; `least` None for any, and None where it is not said."""
    value = fields.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or (least is not None and value < least):
        wanted = "a whole number" if least is None else f"a whole number of {least} or more"
        raise wrong(f"{name} is {shown(value)}; it must be {wanted}.", name)
    return value


def number(fields: dict[str, Any], name: str, default: float, most: float) -> float:
    """A number from 0 to `most`."""
    value = fields.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:  # NaN is not, either
        raise wrong(f"{name} is {shown(value)}; it must be a number from 0 to {most}.", name)
    return float(value)


def boolean(fields: dict[str, Any], name: str) -> bool:
    """True or false; false where it is not said."""
    value = fields.get(name, False)
    if not isinstance(value, bool):
        raise wrong(f"{name} is {shown(value)}; it must be true or false.", name)
    return value


def stops(stop: Any) -> tuple[str, ...]:
    """The texts that end a reply."""
    stops = [stop] if isinstance(stop, str) else stop
    if stops is None:
        return ()
    if not isinstance(stops, list) or not all(isinstance(text, str) and text for text in stops):
        raise wrong("stop must be a text or a list of texts, none of them empty.", "stop")
    if len(stops) > MOST_STOPS:
        raise wrong(f"stop has {len(stops)} texts; at most {MOST_STOPS} can be looked for.", "stop")
    return tuple(stops)


def include_usage(options: Any, stream: bool) -> bool:
    """Whether a stream ends with the counts of tokens."""
    if options is None:
        return False
    if not stream:
        raise wrong("stream_options is for streamed replies: set stream to true, or leave it out.", "stream_options")
    if not isinstance(options, dict) or set(options) - {"include_usage", "include_obfuscation"}:
        raise wrong('stream_options must be an object: {"include_usage": true}.', "stream_options")
    return boolean({name: value for name, value in options.items() if value is not None}, "include_usage")
