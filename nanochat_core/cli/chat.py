"""Talking to a model in the terminal."""

import sys

from nanochat_core.checkpoint.loading import dtype_named, load_model
from nanochat_core.compute.devices import choose_device
from nanochat_core.engine.engine import Engine
from nanochat_core.engine.reply import Notice, Text
from nanochat_core.paths import default_model


def chat(
    model: str | None,
    prompt: str | None,
    system: str | None,
    step: int | None,
    device_type: str,
    dtype: str | None,
    temperature: float,
    top_k: int,
    max_tokens: int,
    seed: int,
) -> None:
    """Answer the one question `prompt`, or converse until an empty line. The reply goes to stdout as it is made."""
    name = model or default_model()
    network, tokenizer, _ = load_model(name, choose_device(device_type), dtype_named(dtype), step)
    engine = Engine(network, tokenizer)
    history = [{"role": "system", "content": system}] if system else []
    interactive = prompt is None
    if interactive:
        print(f"{name}. An empty line ends the chat.", file=sys.stderr)
    while True:
        question = _read_question() if interactive else prompt
        if not question.strip():
            return
        history.append({"role": "user", "content": question})
        pieces = []
        for event in engine.events(history, max_tokens, temperature, top_k, seed):
            if isinstance(event, Text):
                print(event.text, end="", flush=True)
                pieces.append(event.text)
            elif isinstance(event, Notice):
                print(f"({event.text})", file=sys.stderr, flush=True)
        print(flush=True)
        if not interactive:
            return
        history.append({"role": "assistant", "content": "".join(pieces)})


def _read_question() -> str:
    try:
        return input("> ")
    except EOFError:
        return ""
