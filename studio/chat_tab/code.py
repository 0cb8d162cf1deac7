"""The chat as code: the nanochat_core calls that give the same replies, to copy into a cell."""

from collections.abc import Mapping, Sequence
from typing import Any

from studio.chat_tab.state import Chat

EXAMPLE = [{"role": "user", "content": "Hello!"}]


def chat_code(chat: Chat, models: Sequence[str | None], settings: Mapping[str, Any], dtype: str | None = None) -> str:
    """Python for the chat's last reply by each of `models` (values NAME@step); settings as Engine.stream takes them.

    dtype: the precision they are held in; None where load_model chooses.
    """
    arguments = ", ".join(f"{name}={value!r}" for name, value in settings.items())
    imports = "from nanochat_core import Engine, load_model"
    blocks = [f"import torch\n\n{imports}" if dtype else imports]
    for side, value in enumerate(models):
        name, _, step = (value or "").rpartition("@")
        loaded = f"{name!r}, step={step}" if name else repr(step or "starter")
        loaded += f", dtype=torch.{dtype}" if dtype else ""
        messages = chat.messages(side) if chat.turns else EXAMPLE
        listed = "".join(f"    {message!r},\n" for message in messages)
        blocks.append(
            f"model, tokenizer, meta = load_model({loaded})\n"
            f"messages = [\n{listed}]\n"
            f"for text in Engine(model, tokenizer).stream(messages, {arguments}):\n"
            '    print(text, end="", flush=True)'
        )
    return "\n\n".join(blocks)
