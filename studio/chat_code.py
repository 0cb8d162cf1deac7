"""The chat as code: the nanochat_core calls that give the same replies, to copy into a cell."""

from collections.abc import Mapping, Sequence
from typing import Any

from studio.chat_state import Chat

EXAMPLE = [{"role": "user", "content": "Hello!"}]


def chat_code(chat: Chat, models: Sequence[str | None], settings: Mapping[str, Any]) -> str:
    """Python for the chat's last reply by each of `models` (values NAME@step); settings as Engine.stream takes them."""
    arguments = ", ".join(f"{name}={value!r}" for name, value in settings.items())
    blocks = ["from nanochat_core import Engine, load_model"]
    for side, value in enumerate(models):
        name, _, step = (value or "").rpartition("@")
        loaded = f"{name!r}, step={step}" if name else repr(step or "starter")
        messages = chat.messages(side) if chat.turns else EXAMPLE
        listed = "".join(f"    {message!r},\n" for message in messages)
        blocks.append(
            f"model, tokenizer, meta = load_model({loaded})\n"
            f"messages = [\n{listed}]\n"
            f"for text in Engine(model, tokenizer).stream(messages, {arguments}):\n"
            '    print(text, end="", flush=True)'
        )
    return "\n\n".join(blocks)
