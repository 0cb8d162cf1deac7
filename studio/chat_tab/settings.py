"""What a reply is asked with: the form's values by name, as the model's process takes them, and as code."""

from dataclasses import dataclass, fields
from typing import Any

from nanochat_core.system.words import whole
from studio.chat_tab.precision import MEASURED
from studio.chat_tab.state import SIDES, Chat
from studio.models.processes import AUTOMATIC

_LARGEST = 2**53
"""Up to here a browser's numbers are whole."""


@dataclass(frozen=True)
class ChatSettings:
    """The values of the fields that a reply depends on; an emptied field is None."""

    both: bool
    model_0: str | None
    model_1: str | None
    """A dropdown's value, NAME@step, or a NAME that was typed."""
    system: str | None
    temperature: float | None
    top_k: int | None
    max_tokens: int | None
    precision: str | None
    seed: int | None

    def __post_init__(self) -> None:
        """Half an emoji, which a browser may send, cannot be sent back: the whole page would show errors."""
        if self.system:
            object.__setattr__(self, "system", whole(self.system, ""))

    def models(self) -> dict[int, str | None]:
        """The model of each side that answers."""
        return {side: (self.model_0, self.model_1)[side] for side in SIDES if side == 0 or self.both}

    def sampling(self) -> dict[str, int | float]:
        """What the model's process is asked with. ValueError for an empty field."""
        for name in ("temperature", "top_k", "max_tokens", "seed"):
            if getattr(self, name) is None:
                raise ValueError(f"The setting {name} is empty. Give a number.")
        return self.numbers()

    def numbers(self) -> dict[str, int | float]:
        """As `sampling`, an empty field as 0: code may be shown before it is filled."""
        for name in ("temperature", "top_k", "max_tokens", "seed"):
            value = getattr(self, name) or 0
            if not isinstance(value, int | float) or not abs(value) <= _LARGEST:  # NaN is not, either
                raise ValueError(f"The setting {name} is {value!r:.40}. Give a number of ordinary size.")
        return {
            "max_tokens": int(self.max_tokens or 0),
            "temperature": float(self.temperature or 0),
            "top_k": int(self.top_k or 0),
            "seed": int(self.seed or 0),
        }


SETTINGS = tuple(field.name for field in fields(ChatSettings))
"""The order of the fields wherever they are inputs or outputs."""

_EXAMPLE: list[dict[str, Any]] = [{"role": "user", "content": "Hello!"}]


def chat_code(chat: Chat, settings: ChatSettings) -> str:
    """Python that gives the chat's last replies: the nanochat_core calls, to copy into a cell."""
    dtype = None if settings.precision in (None, AUTOMATIC) else f"torch.{settings.precision}"
    arguments = ", ".join(f"{name}={value!r}" for name, value in settings.numbers().items())
    imports = "from nanochat_core import Engine, load_model"
    blocks = [f"import torch\n\n{imports}" if dtype else imports]
    if settings.precision == MEASURED:
        dtype = 'dtype_asked("auto", torch.device("cpu"), print)'
        blocks = [f"{blocks[0]}\nfrom nanochat_core.checkpoint.fastest import dtype_asked"]
    for side, value in settings.models().items():
        name, _, step = (value or "").rpartition("@")
        loaded = f"{name!r}, step={step}" if name else repr(step or "starter")
        loaded += f", dtype={dtype}" if dtype else ""
        messages = chat.messages(side) if chat.turns else _EXAMPLE
        listed = "".join(f"    {message!r},\n" for message in messages)
        blocks.append(
            f"model, tokenizer, meta = load_model({loaded})\n"
            f"messages = [\n{listed}]\n"
            f"for text in Engine(model, tokenizer).stream(messages, {arguments}):\n"
            '    print(text, end="", flush=True)'
        )
    return "\n\n".join(blocks)
