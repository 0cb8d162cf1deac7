"""`chat`: talk to a model in the terminal."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from nanochat_core.checkpoint.fastest import dtype_asked
from nanochat_core.checkpoint.loading import load_model
from nanochat_core.cli.terminal import parse, say, tell
from nanochat_core.compute.devices import choose_device
from nanochat_core.engine.engine import Engine
from nanochat_core.engine.reply import Notice, Text
from nanochat_core.paths import default_model


@dataclass(frozen=True)
class ChatCommand:
    """Talk to a model. An empty line or Ctrl-D ends it."""

    model: str | None = None
    """NAME of the model: starter, pretrained/d32, finetuned/<run>, or a folder; without it d32, or the starter."""
    prompt: Annotated[str | None, tyro.conf.arg(aliases=["-p"])] = None
    """One question: answer it and end."""
    system: str | None = None
    """System prompt."""
    step: int | None = None
    """Checkpoint step; without it the newest."""
    device_type: str = "auto"
    """cuda, mps, cpu or auto."""
    dtype: str | None = None
    """float32, bfloat16, int8 or int4 (on a CPU: rounded weights, a quarter or a seventh of float32's memory), or auto:
    the fastest of them on this machine, found by a trial of a second; without it what suits best and rounds nothing."""
    temperature: float = 0.7
    """0 always takes the likeliest token."""
    top_k: int = 50
    """Choose among this many likeliest tokens; 0 among all."""
    max_tokens: int = 256
    """Longest reply in tokens."""
    seed: int = 1
    """Seed of the choices."""


def run(arguments: list[str]) -> int:
    """Answer one question, or converse until an empty line. Returns the exit status."""
    chat(parse(ChatCommand, arguments, "chat"))
    return 0


def chat(options: ChatCommand) -> None:
    """Answer the one question, or converse until an empty line. The reply goes to stdout as it is made."""
    name = options.model or default_model()
    device = choose_device(options.device_type)
    dtype = dtype_asked(options.dtype, device, tell)
    network, tokenizer, _ = load_model(name, device, dtype, options.step, for_chat=True)
    engine = Engine(network, tokenizer)
    history = [{"role": "system", "content": options.system}] if options.system else []
    interactive = options.prompt is None
    if interactive:
        tell(f"{name}. An empty line ends the chat.")
    while True:
        question = _read_question() if options.prompt is None else options.prompt
        if not question.strip():
            return
        history.append({"role": "user", "content": question})
        pieces = []
        for event in engine.events(history, options.max_tokens, options.temperature, options.top_k, options.seed):
            if isinstance(event, Text):
                say(event.text, end="", flush=True)
                pieces.append(event.text)
            elif isinstance(event, Notice):
                tell(f"({event.text})")
        say(flush=True)
        if not interactive:
            return
        history.append({"role": "assistant", "content": "".join(pieces)})


def _read_question() -> str:
    try:
        return input("> ")
    except EOFError:
        return ""
