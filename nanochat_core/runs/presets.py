"""Finetuning settings that come with a base model: a small practice model needs other ones than d32.

By themselves, since the command line, the app and notebooks ask before there is a run.
"""

from typing import Any

from nanochat_core.config import ONLY_WITH, FinetuneConfig, starter_preset
from nanochat_core.runs.run import Run


def original_base(name: str) -> str:
    """The model that `name` descends from: itself, or for a finetuned run what its first base was."""
    if not name.startswith("finetuned/"):
        return name
    record = Run.open(name.removeprefix("finetuned/")).record()
    return str(record.get("original_base", "unknown"))


def preset_of(base_name: str) -> dict[str, Any]:
    """Settings for finetuning `base_name`, by FinetuneConfig's names: the starter's and its descendants' own ones.

    Empty for every other model: FinetuneConfig's defaults are d32's.
    """
    if original_base(base_name) != "starter":
        return {}
    return starter_preset()


def with_preset(**settings: Any) -> FinetuneConfig:
    """A FinetuneConfig whose unnamed settings are those that suit its base model."""
    names = ("model_tag", "from_finetuned")
    base = FinetuneConfig(data_path="-", **{name: settings[name] for name in names if name in settings}).base_name
    return FinetuneConfig(**{**preset_of(base), **settings})


def describe_preset(preset: dict[str, Any], config: FinetuneConfig) -> str:
    """One sentence: which of the preset's settings are in force in `config`."""
    other = ONLY_WITH["full" if config.method == "lora" else "lora"]
    in_force = {name: value for name, value in preset.items() if getattr(config, name) == value}
    applied = [f"{name} {value}" for name, value in in_force.items() if name not in other]
    return f"Settings for the starter (other ones suit d32): {', '.join(applied)}."
