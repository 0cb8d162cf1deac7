"""A run as text to copy: the shell command that starts it, and the Python of a cell that does the same."""

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nanochat_core.config import FinetuneConfig
from nanochat_core.paths import find_file, home, shipped
from nanochat_core.runs.presets import with_preset

_BASE = ("data_path", "source", "model_tag", "from_finetuned", "output_tag")


def python_call(function: str, arguments: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> str:
    """`function(name=value, ...)`, one argument a line, without those that have their default."""
    defaults = defaults or {}
    kept = {name: value for name, value in arguments.items() if name not in defaults or defaults[name] != value}
    if not kept:
        return f"{function}()"
    lines = "".join(f"    {name}={value!r},\n" for name, value in kept.items())
    return f"{function}(\n{lines})"


def named_settings(config: FinetuneConfig) -> dict[str, Any]:
    """The settings that must be named: which base, and what differs from what suits it (`with_preset` adds that).

    ValueError when the run that it starts from is gone.
    """
    values = config.to_dict()
    default = FinetuneConfig(data_path="-").to_dict()
    base = {name: values[name] for name in _BASE if values[name] != default[name]}
    suited = with_preset(**base).to_dict()
    base["output_tag"] = config.output_tag
    changed = {name: value for name, value in values.items() if name not in base and value != suited[name]}
    return {name: short_path(value) for name, value in {**base, **changed}.items()}


def shell_command(config: FinetuneConfig, nproc: int = 1, devices: str = "") -> str:
    """What to type in a shell, in any folder. devices: numbers of the GPUs, "" for all."""
    words = ["python", "-m", "nanochat_core", "finetune"]
    if nproc > 1:
        words += ["--nproc", str(nproc)]
    prefix = f"CUDA_VISIBLE_DEVICES={devices} " if devices else ""
    return prefix + joined(words, named_settings(config))


def joined(words: list[str], flags: Mapping[str, Any]) -> str:
    """A shell command of these words and flags, quoted where it must be."""
    given = [part for name, value in flags.items() for part in (f"--{name}", str(value))]
    return " ".join(shlex.quote(word) for word in [*words, *given])


def config_call(config: FinetuneConfig) -> str:
    """The `with_preset(...)` call that gives `config`, in whichever folder it is run."""
    return python_call("with_preset", named_settings(config))


def notebook_cell(config: FinetuneConfig, nproc: int = 1, devices: str = "") -> str:
    """A cell that starts the run and shows its status; the run continues when the notebook is closed.

    devices: numbers of the GPUs to use, such as "0,3"; "" for all.
    """
    head = "from nanochat_core import start_run, with_preset\n\n"
    if devices:
        head = f'import os\n\n{head}os.environ["CUDA_VISIBLE_DEVICES"] = "{devices}"\n'
    return f"{head}config = {config_call(config)}\n{start_call(nproc)}\nrun.status()"


def start_call(nproc: int = 1) -> str:
    """The line that starts `config`."""
    count = f", nproc={nproc}" if nproc > 1 else ""
    return f"run = start_run(config{count})  # returns at once"


def short_path(value: Any) -> Any:
    """A path of the home folder, or of what is shipped, as `find_file` knows it anywhere; any other value as it is."""
    if isinstance(value, str) and os.path.isabs(value):
        for folder in (home(), shipped("")):
            if Path(value).is_relative_to(folder):
                short = str(Path(value).relative_to(folder))
                return short if find_file(short).resolve() == Path(value).resolve() else value
    return value
