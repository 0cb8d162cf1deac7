"""A served model in a process of its own, as a person starts it, and the clients that talk to it."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import openai
import torch

from tests.support.tiny import tiny_model, tiny_tokenizer

SECONDS = 120
"""After so long a test gives up, on however busy a machine."""
KEY = "a-long-secret"
ENDLESS = "pretrained/endless"


@dataclass
class Server:
    """A running `serve`."""

    process: subprocess.Popen
    greeting: str
    key: str | None = None

    @property
    def base(self) -> str:
        return re.search(r"http://\S+/v1", self.greeting)[0]

    def client(self, **changes) -> openai.OpenAI:
        """The real client, which repeats nothing by itself."""
        return openai.OpenAI(**self._settings(changes))

    def async_client(self, **changes) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(**self._settings(changes))

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str, str]:
        """Send a signal; (exit status, the rest of stdout, stderr)."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, out, err

    def _settings(self, changes: dict) -> dict:
        return {"base_url": self.base, "api_key": self.key or "none", "max_retries": 0, "timeout": SECONDS, **changes}


@contextlib.contextmanager
def served(model: str, home, *flags: str, key: str | None = None) -> Iterator[Server]:
    """`python -m nanochat_core serve --model MODEL` at a free port, until the block ends."""
    environment = {**os.environ, "NANOCHAT_STUDIO_HOME": str(home)}
    if key is not None:
        environment["NANOCHAT_STUDIO_API_KEY"] = key
    command = [sys.executable, "-m", "nanochat_core", "serve", "--model", model, "--port", "0", *flags]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        greeting = process.stdout.readline()
        assert "answers at" in greeting, process.communicate(timeout=SECONDS)[1]
        yield Server(process, greeting, key)
    finally:
        if process.poll() is None:
            process.terminate()
            process.communicate(timeout=SECONDS)


def starter_served(home) -> AbstractContextManager[Server]:
    """The starter, with the KEY."""
    return served("starter", home, key=KEY)


def endless_served(home) -> AbstractContextManager[Server]:
    """The model ENDLESS, for two callers at once."""
    return served(install_endless_model(home), home, "--max-batch", "2")


def user(text: str) -> list[dict]:
    """A conversation that is one question."""
    return [{"role": "user", "content": text}]


def create(client, text="Hello!", **settings):
    """Ask the client for a reply, greedy and of the starter if `settings` do not say otherwise."""
    return client.chat.completions.create(**{"model": "starter", "messages": user(text), "temperature": 0, **settings})


def joined(chunks) -> str:
    """The text of a stream."""
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def install_endless_model(home) -> str:
    """A tiny model that never ends a reply by itself, with room for 100,000 tokens; its name."""
    from nanochat_core.checkpoint.writing import save_checkpoint, save_tokenizer
    from nanochat_core.paths import SOURCE_FOLDERS

    tokenizer, model = tiny_tokenizer(), tiny_model(sequence_len=100_000)
    with torch.no_grad():
        for token in tokenizer.special_ids:
            model.lm_head.weight[token] = 0.0  # a logit of 0 is never the largest of hundreds
    folder = home / "models" / "pretrained" / SOURCE_FOLDERS["sft"] / "endless"
    folder.mkdir(parents=True)
    save_checkpoint(folder, 1, model, {})
    save_tokenizer(folder, tokenizer)
    return ENDLESS
