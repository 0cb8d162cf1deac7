"""The chat's handlers without a browser: models that say given words, the page's settings, and what was said."""

import contextlib
import time

from nanochat_core.engine.reply import Done, Text
from studio.chat_tab.handlers import STREAM
from studio.chat_tab.settings import SETTINGS
from studio.chat_tab.state import Chat, Reply, Turn

A, B = "pretrained/one@7", "pretrained/two@7"
ID = "0123456789abcdef"


class FakeModels:
    """Says `words` one by one, as a model's process would; counts what was asked of it."""

    def __init__(self, words=("Good", " day", "."), wait=0.0, events=()):
        self.words, self.wait, self.extra = words, wait, events
        self.asked, self.in_memory, self.stopped, self.loading = [], set(), 0, 0.0
        self.dtypes = []

    def load(self, name, step=None, report=None, dtype=None):
        self.dtypes.append(dtype)
        if name.endswith("broken"):
            raise ValueError("The checkpoint is damaged. Take another one.")
        report(0.5, "Loading model_000007.pt")
        time.sleep(self.loading)
        self.in_memory.add((name, step))

    @contextlib.contextmanager
    def held(self, name, step=None, report=None, dtype=None):
        yield self.load(name, step, report, dtype)

    def generate(self, name, step, messages, stop=None, **values):
        self.asked.append((name, messages, values))
        yield from self.extra
        for word in self.words:
            if stop.wait(self.wait):
                self.stopped += 1
                yield Done("stopped", 1, 0, 0.5)
                return
            yield Text(word)
        yield Done("stop", 30, 0, 0.5)

    def loaded(self):
        return []

    def unload(self, name, step):
        return 123_000_000


def install_fake_models(home) -> FakeModels:
    """Put the names of three models under `home`, of which `broken` cannot be loaded."""
    for tag in ("one", "two", "broken"):
        folder = home / "models" / "pretrained" / "chatsft_checkpoints" / tag
        folder.mkdir(parents=True)
        (folder / "model_000007.pt").write_bytes(b"x")
        (folder / "meta_000007.json").write_bytes(b"{}")
    return FakeModels()


def chosen(**changes):
    values = {"both": False, "model_0": A, "model_1": B, "system": "", "temperature": 0.7, "top_k": 50}
    values["precision"] = "automatic"
    return [{**values, "max_tokens": 64, "seed": 1, **changes}[name] for name in SETTINGS]


def run(stream) -> list[dict]:
    """Every update as {output: value}."""
    return [dict(zip(STREAM, update, strict=True)) for update in stream]


def said(chat_id: str = ID, side: int = 0) -> list[str]:
    return [message["content"] for message in Chat.load(chat_id).shown(side)]


def a_chat() -> Chat:
    """A chat that was kept: two questions, of which the second was answered by both models."""
    parts = [{"type": "python", "text": "2*3"}, {"type": "python_output", "text": "6"}, {"type": "text", "text": "7"}]
    chat = Chat(
        ID, [Turn("One", [Reply("m", [{"type": "text", "text": "Uno"}]), None])], settings={"system": "Be kind."}
    )
    chat.turns.append(Turn("2*3?", [Reply("m", parts), Reply("n", [{"type": "text", "text": "5"}])]))
    chat.save()
    return chat
