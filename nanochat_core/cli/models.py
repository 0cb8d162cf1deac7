"""`models`: list the models there are; a module of its own, as each command that `main` imports by name."""

from dataclasses import dataclass

from nanochat_core import paths
from nanochat_core.cli.terminal import parse, say


@dataclass(frozen=True)
class ModelsCommand:
    """List the models that can be loaded by name."""


def run(arguments: list[str]) -> int:
    """List the models. Returns the exit status."""
    parse(ModelsCommand, arguments, "models")
    for model in paths.list_models():
        megabytes = model.weights.stat().st_size / 1e6
        say(f"{model.name:<32} step {model.step:<8} {megabytes:>10,.1f} MB  {model.folder}")
    if not paths.steps(paths.pretrained_dir() / "chatsft_checkpoints" / "d32"):
        say(f"pretrained/d32 is not here yet: `{paths.download_command()}` fetches it (7.3 GB).")
    return 0
