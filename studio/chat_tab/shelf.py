"""Where chats are kept: on disk, and those of a Space's visitors in memory, so that nothing of its owner's changes."""

import json
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

from nanochat_core.paths import home
from nanochat_core.system.files import write_json
from studio.space.access import is_visitor

MOST_VISITORS_CHATS = 500
"""The one unused for longest is forgotten then."""


class OnDisk:
    """A file for each chat."""

    def read(self, chat_id: str) -> dict[str, Any]:
        """ValueError or OSError when there is none that can be read."""
        return _values(self._path(chat_id).read_text(encoding="utf-8"))

    def write(self, chat_id: str, values: dict[str, Any]) -> None:
        """Replace it, all or nothing."""
        write_json(self._path(chat_id), values)

    def _path(self, chat_id: str) -> Path:
        return home() / "chats" / f"{chat_id}.json"


class InMemory:
    """The latest chats, as text, until the app ends."""

    def __init__(self, most: int):
        self._most = most
        self._chats: OrderedDict[str, str] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, chat_id: str) -> dict[str, Any]:
        """ValueError when there is none."""
        with self._lock:
            if chat_id not in self._chats:
                raise ValueError("This chat is not there any more. Start a new one.")
            self._chats.move_to_end(chat_id)
            return _values(self._chats[chat_id])

    def write(self, chat_id: str, values: dict[str, Any]) -> None:
        """Replace it; the oldest makes room."""
        with self._lock:
            self._chats[chat_id] = json.dumps(values)
            self._chats.move_to_end(chat_id)
            while len(self._chats) > self._most:
                self._chats.popitem(last=False)


def _values(text: str) -> dict[str, Any]:
    values = json.loads(text)
    if not isinstance(values, dict):
        raise ValueError("This is no chat.")
    return values


_DISK, _VISITORS = OnDisk(), InMemory(MOST_VISITORS_CHATS)


def shelf() -> OnDisk | InMemory:
    """For the chats of who acts now. A visitor cannot reach the owner's chats, nor the owner a visitor's."""
    return _VISITORS if is_visitor() else _DISK
