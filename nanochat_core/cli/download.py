"""`download`: fetch a nanochat model from the hub; a module of its own, as each command that `main` imports by name."""

from dataclasses import dataclass

from nanochat_core.cli.terminal import parse, say
from nanochat_core.hub.downloading import download


@dataclass(frozen=True)
class DownloadCommand:
    """Fetch a nanochat model from the Hugging Face Hub, once; a second call needs no network."""

    repo: str = "karpathy/nanochat-d32"
    """Repository on the hub."""
    tag: str | None = None
    """Name to keep it under; without it, by the repository's name: nanochat-d32 gives d32."""
    source: str | None = None
    """Its stage (base, mid, sft, rl) where the repository does not tell."""


def run(arguments: list[str]) -> int:
    """Fetch a model. Returns the exit status."""
    options = parse(DownloadCommand, arguments, "download")
    folder = download(options.repo, options.tag, options.source)
    say(f"{options.repo} is in {folder}.")
    return 0
