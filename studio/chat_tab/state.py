"""A chat: what was asked, what one or two models answered, how it is shown. Kept, so that a reload loses nothing."""

import re
import secrets
import threading
from dataclasses import asdict, dataclass, field
from typing import Any

from nanochat_core.engine.reply import Done, Event, Notice, Reason, Text, ToolCall
from studio.chat_tab.markdown import as_markdown, code_block
from studio.chat_tab.shelf import InMemory, OnDisk, shelf

SIDES = (0, 1)
_ID = re.compile(r"[0-9a-f]{16}")


@dataclass
class Reply:
    """What one model answers, also while it does."""

    model: str
    """Label of the model."""
    parts: list[dict[str, str]] = field(default_factory=list)
    """nanochat's parts: {"type": "text" | "python" | "python_output", "text": ...}."""
    notice: str = ""
    """Something to know of it, such as what the model did not see."""
    facts: str = ""
    """Where it is, or how it went: tokens and their rate."""
    failed: str = ""
    """Why there is no more of it, as a sentence."""
    is_written: bool = False
    """Whether the model came to its end, or was stopped."""

    @property
    def text(self) -> str:
        """The visible text."""
        return "".join(part["text"] for part in self.parts if part["type"] == "text")

    @property
    def content(self) -> str | list[dict[str, str]]:
        """As nanochat's conversations have it: a text, or parts when the calculator was used."""
        return self.text if all(part["type"] == "text" for part in self.parts) else self.parts

    def add(self, event: Event) -> None:
        """Take in what the model did next."""
        match event:
            case Text(text):
                if not self.parts or self.parts[-1]["type"] != "text":
                    self.parts.append({"type": "text", "text": ""})
                self.parts[-1]["text"] += text
            case ToolCall(expression, output):
                self.parts.append({"type": "python", "text": expression})
                if output is not None:
                    self.parts.append({"type": "python_output", "text": output})
            case Notice(text):
                self.notice = text
            case Done():
                self.facts, self.is_written = _facts(event), True


_WHY: dict[Reason, str] = {
    "stop": "",
    "length": " · cut off at the longest reply allowed",
    "context": " · the model's context is full",
    "stopped": " · stopped",
}


def _facts(done: Done) -> str:
    rate = f" · {done.tokens / done.seconds:,.1f} tokens/s" if done.tokens and done.seconds else ""
    return f"{done.tokens:,} token{'' if done.tokens == 1 else 's'}{rate}{_WHY[done.reason]}"


@dataclass
class Turn:
    """One message of the person and the replies of the two sides."""

    user: str
    replies: list[Reply | None] = field(default_factory=lambda: [None, None])


@dataclass
class Chat:
    """The turns so far. Both sides have the same questions and each its own answers."""

    id: str
    turns: list[Turn] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    """What the last reply was asked with, by name: models, system prompt, numbers."""
    shelf: OnDisk | InMemory = field(default_factory=shelf, compare=False, repr=False)
    """Where it is kept, by who began to use it: it may be saved by a thread in which nobody acts."""
    _saving: threading.Lock = field(default_factory=threading.Lock, compare=False, repr=False)

    @property
    def system(self) -> str:
        """The system prompt."""
        return str(self.settings.get("system") or "")

    def messages(self, side: int, turns: int | None = None) -> list[dict[str, Any]]:
        """What a model of `side` is to answer at the last of the first `turns` turns (default: all).

        Where a side has no answer because it was not there, the other side's stands.
        """
        system = [{"role": "system", "content": self.system}] if self.system.strip() else []
        shown = self.turns[: len(self.turns) if turns is None else turns]
        found: list[dict[str, Any]] = list(system)
        for number, turn in enumerate(shown, 1):
            found.append({"role": "user", "content": turn.user})
            if number < len(shown):
                reply = turn.replies[side] or turn.replies[1 - side]
                found.append({"role": "assistant", "content": reply.content if reply else ""})
        return found

    def cut(self, turn: int) -> str:
        """Take away a turn and what came after it; its message. ValueError when there is none."""
        if not 0 <= turn < len(self.turns):
            raise ValueError("There is no message yet. Write one below.")
        removed = self.turns[turn]
        del self.turns[turn:]
        return removed.user

    def shown(self, side: int) -> list[dict[str, Any]]:
        """Messages for a gr.Chatbot."""
        return [message for message, _ in self._shown(side)]

    def turn_at(self, side: int, index: int) -> int:
        """Which turn the message at `index` of what `shown` gives belongs to."""
        turns = [turn for _, turn in self._shown(side)]
        if not 0 <= index < len(turns):
            raise ValueError("This message is not there any more.")
        return turns[index]

    def _shown(self, side: int) -> list[tuple[dict[str, Any], int]]:
        found = []
        for number, turn in enumerate(self.turns):
            found.append(({"role": "user", "content": as_markdown(turn.user)}, number))
            if reply := turn.replies[side]:
                found += [(message, number) for message in _reply_messages(reply)]
        return found

    # Kept

    def save(self) -> None:
        """Write it, all or nothing."""
        with self._saving:  # so that of two threads the later one writes what is there by then
            turns = [asdict(turn) for turn in self.turns]
            self.shelf.write(_checked(self.id), {"id": self.id, "turns": turns, "settings": self.settings})

    @classmethod
    def load(cls, chat_id: str) -> "Chat":
        """The chat of that id; an empty one when it was never saved or its file is damaged."""
        try:
            values = shelf().read(_checked(chat_id))
            turns = [_turn(turn) for turn in values["turns"]]
            return cls(chat_id, turns, dict(values["settings"]))
        except (OSError, ValueError, KeyError, TypeError):
            return cls(chat_id)

    @staticmethod
    def new_id() -> str:
        """An id that nobody can guess: whoever knows it sees the chat."""
        return secrets.token_hex(8)


def _turn(values: dict[str, Any]) -> Turn:
    replies = [None if reply is None else Reply(**reply) for reply in values["replies"]]
    return Turn(str(values["user"]), replies)


def _checked(chat_id: str) -> str:
    if not isinstance(chat_id, str) or not _ID.fullmatch(chat_id):  # it comes from a browser
        raise ValueError("This chat cannot be found. Reload the page.")
    return chat_id


def _reply_messages(reply: Reply) -> list[dict[str, Any]]:
    """One message for each text, and a fold for each call of the calculator with its result."""
    found, parts = [], list(reply.parts)
    while parts:
        part = parts.pop(0)
        if part["type"] == "python":
            output = parts.pop(0)["text"] if parts and parts[0]["type"] == "python_output" else None
            result = "the calculator refused this" if output is None else f"= {output}"
            metadata = {"title": "Calculator", "status": "done"}
            content = code_block(f"{part['text']}\n{result}")
            found.append({"role": "assistant", "content": content, "metadata": metadata})
        elif part["text"].strip():
            found.append({"role": "assistant", "content": as_markdown(part["text"])})
    if reply.failed:
        found.append({"role": "assistant", "content": "**" + as_markdown(reply.failed.strip()) + "**"})
    elif not found:
        found.append({"role": "assistant", "content": "*(no text)*" if reply.is_written else "…"})
    return found
