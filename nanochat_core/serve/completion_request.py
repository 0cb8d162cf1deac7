"""The body of a request to /v1/completions: a text, or token ids, that the model is to continue or to judge."""

from dataclasses import dataclass
from typing import Any

from nanochat_core.serve import fields as read
from nanochat_core.serve.fields import DRAWING, ONLY, TEMPERATURE, TOP_K, check_fields, read_object, wrong

MOST_PROMPTS = 64
MOST_LOGPROBS = 20
MAX_TOKENS = 16
"""Where the request does not say, as with OpenAI."""

_OURS = ("prompt", *DRAWING, "echo", "logprobs")
_ONLY = {**ONLY, "best_of": (1,), "suffix": ("",)}


@dataclass(frozen=True)
class CompletionRequest:
    """What a caller wants, in our own terms."""

    model: str
    prompts: list[str | list[int]]
    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    seed: int | None
    stops: tuple[str, ...]
    echo: bool
    """Whether the prompt comes back before the reply."""
    logprobs: int | None
    """How many of the likeliest tokens are told for each; None for no log-probabilities at all."""
    stream: bool
    include_usage: bool

    @classmethod
    def parse(cls, body: bytes) -> "CompletionRequest":
        """Read a request's body. ApiError (400) in a sentence for whatever is wrong with it."""
        fields = read_object(body)
        check_fields(fields, _OURS, _ONLY)
        stream, echo = read.boolean(fields, "stream"), read.boolean(fields, "echo")
        logprobs = _logprobs(fields)
        if stream and (echo or logprobs is not None):
            raise wrong("A stream has neither echo nor logprobs. Leave them out, or set stream to false.", "stream")
        tokens = read.integer(fields, "max_tokens", 0 if echo else 1)
        return cls(
            model=read.model_name(fields),
            prompts=_prompts(fields.get("prompt")),
            max_tokens=MAX_TOKENS if tokens is None else tokens,
            temperature=read.number(fields, "temperature", TEMPERATURE, 2),
            top_p=read.number(fields, "top_p", 1.0, 1),
            top_k=TOP_K if (top_k := read.integer(fields, "top_k", 0)) is None else top_k,
            seed=read.integer(fields, "seed", None),
            stops=read.stops(fields.get("stop")),
            echo=echo,
            logprobs=logprobs,
            stream=stream,
            include_usage=read.include_usage(fields.get("stream_options"), stream),
        )


def _logprobs(fields: dict[str, Any]) -> int | None:
    count = read.integer(fields, "logprobs", 0)
    if count is not None and count > MOST_LOGPROBS:
        raise wrong(f"logprobs is {count}; at most {MOST_LOGPROBS} likeliest tokens can be told.", "logprobs")
    return count


def _prompts(prompt: Any) -> list[str | list[int]]:
    """One prompt or several, each a text or token ids: OpenAI's four forms."""
    several = prompt if isinstance(prompt, list) and prompt and isinstance(prompt[0], str | list) else [prompt]
    if len(several) > MOST_PROMPTS:
        raise wrong(f"prompt has {len(several)} prompts; at most {MOST_PROMPTS} fit into a request.", "prompt")
    if not all(map(_is_prompt, several)):
        raise wrong("prompt must be a text, a list of token ids, or a list of several such prompts.", "prompt")
    return several


def _is_prompt(prompt: Any) -> bool:
    if isinstance(prompt, str):
        return bool(prompt)
    return isinstance(prompt, list) and bool(prompt) and all(type(token) is int and token >= 0 for token in prompt)
