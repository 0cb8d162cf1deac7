"""From what is chosen in the Train tab to a FinetuneConfig: base models, groups of settings, presets, files."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanochat_core.config import MEMORY_MODES, ONLY_WITH, FinetuneConfig, Setting, settings
from nanochat_core.paths import SOURCE_FOLDERS, finetuned_dir, list_models, pretrained_dir, steps
from nanochat_core.runs.presets import with_preset
from nanochat_core.system.folder_names import next_free_tag

ESSENTIAL = (
    "method",
    "num_epochs",
    "target_examples_per_step",
    "device_batch_size",
    *ONLY_WITH["full"],
    *ONLY_WITH["lora"],
)
"""Shown at once; the others are folded."""

CHOSEN_ELSEWHERE = ("data_path", "source", "model_tag", "from_finetuned", "output_tag", "resume")

CHOICES = {
    "method": tuple(ONLY_WITH),
    "memory": ("auto", *MEMORY_MODES),
    "device_type": ("auto", "cuda", "mps", "cpu"),
    "dtype": ("bfloat16", "float32"),
    "split": ("spread", "tail"),
    "best_by": ("loss", "questions"),
}

PRESETS = ("Suited to the base model", "Defaults (for nanochat-d32)", "Quick try (20 steps)")


@dataclass(frozen=True)
class Base:
    """A model that training can start from."""

    value: str
    """starter, pretrained/<stage>/<tag> or finetuned/<run>."""
    label: str


def bases() -> list[Base]:
    """The starter, what was downloaded, and finished runs."""
    found = [Base("starter", "starter (small, for practice)")]
    for source, folder in SOURCE_FOLDERS.items():
        for path in sorted((pretrained_dir() / folder).glob("*")):
            if steps(path):
                found.append(Base(f"pretrained/{source}/{path.name}", f"{path.name} ({source})"))
    runs = [model.name for model in list_models() if model.name.startswith("finetuned/")]
    return found + [Base(name, f"{name.removeprefix('finetuned/')} (your run)") for name in runs]


def default_base() -> str:
    """The downloaded model where there is one, else the starter."""
    downloaded = [base.value for base in bases() if base.value.startswith("pretrained/sft/")]
    return downloaded[0] if downloaded else "starter"


def base_settings(value: str) -> dict[str, Any]:
    """The settings that name the base model `value`."""
    kind, _, rest = value.partition("/")
    if value == "starter":
        return {"model_tag": "starter"}
    if kind == "finetuned" and rest:
        return {"from_finetuned": rest}
    source, _, tag = rest.partition("/")
    if kind == "pretrained" and source in SOURCE_FOLDERS and tag:
        return {"source": source, "model_tag": tag}
    raise ValueError("No base model is chosen. Choose one, such as the starter.")


def base_value(config: FinetuneConfig) -> str:
    """The reverse of `base_settings`."""
    if config.from_finetuned is not None:
        return f"finetuned/{config.from_finetuned}"
    return "starter" if config.model_tag == "starter" else f"pretrained/{config.source}/{config.model_tag}"


def form_settings() -> tuple[list[Setting], list[Setting]]:
    """(the essential settings, the others), without those that are chosen above the form."""
    known = {setting.name: setting for setting in settings()}
    others = [one for one in settings() if one.name not in (*ESSENTIAL, *CHOSEN_ELSEWHERE)]
    return [known[name] for name in ESSENTIAL], others


def form_names() -> list[str]:
    """Names of the form's settings in the order of its fields."""
    essential, others = form_settings()
    return [setting.name for setting in [*essential, *others]]


def is_shown(name: str, method: str) -> bool:
    """Whether the setting `name` has a meaning with this method."""
    return not any(name in names for other, names in ONLY_WITH.items() if other != method)


def preset_values(preset: str, base: str, data_path: str) -> dict[str, Any]:
    """Values of the form's settings under one of PRESETS."""
    suited = with_preset(data_path=data_path or "-", **base_settings(base)).to_dict()
    if preset == PRESETS[1]:
        suited = FinetuneConfig(data_path="-").to_dict()
    if preset == PRESETS[2]:
        suited |= {"num_iterations": 20, "eval_every": 5}
    suited["questions_path"] = questions_beside(data_path)
    return {name: suited[name] for name in form_names()}


def questions_beside(data_path: str) -> str | None:
    """`mine_questions.jsonl` for `mine_data.jsonl`, where it exists: asked before and after the training."""
    path = Path(data_path)
    if not path.name.endswith("_data.jsonl"):
        return None
    questions = path.with_name(path.name.removesuffix("_data.jsonl") + "_questions.jsonl")
    return str(questions) if questions.is_file() else None


def make_config(base: str, data_path: str, output_tag: str, values: dict[str, Any]) -> FinetuneConfig:
    """The config of what was chosen. ValueError in one sentence for what cannot work."""
    if not data_path:
        raise ValueError("No dataset is chosen. Choose one above, or make one in the Data tab.")
    if not (output_tag or "").strip():
        raise ValueError("The run has no name. Give it one, such as my-bakery.")
    by_name = {setting.name: setting for setting in settings()}
    typed = {name: _typed(by_name[name], value) for name, value in values.items()}
    return FinetuneConfig(data_path=data_path, output_tag=output_tag.strip(), **base_settings(base), **typed)


def _typed(setting: Setting, value: Any) -> Any:
    """A form gives 3.0 for 3 and "" or nothing for None."""
    if value is None or (isinstance(value, str) and not value.strip()):
        if setting.is_optional:
            return None
        raise ValueError(f"Setting {setting.name} is empty: give a value, such as {setting.default}.")
    if setting.kind is int and isinstance(value, float):
        if not value.is_integer():
            raise ValueError(f"Setting {setting.name} is {value}: it must be a whole number.")
        return int(value)
    if setting.kind is int and isinstance(value, str):
        if not value.strip().lstrip("-").isdecimal():
            raise ValueError(f"Setting {setting.name} is '{value}': it must be a whole number.")
        return int(value)
    return value.strip() if isinstance(value, str) else value


def suggest_tag(data_path: str) -> str:
    """A name for the run that is not taken: that of the data."""
    stem = Path(data_path).stem.removesuffix("_data") if data_path else "finetuned"
    stem = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in stem).strip("-") or "finetuned"
    return next_free_tag(finetuned_dir(), stem) if (finetuned_dir() / stem).exists() else stem


def settings_json(config: FinetuneConfig) -> str:
    """The settings as a file to keep."""
    return json.dumps(config.to_dict(), indent=2) + "\n"


_MOST_CHARACTERS = 1 << 20


def read_settings(path: str | Path) -> FinetuneConfig:
    """Settings from a file that was saved here, or from a run's config.json. ValueError for anything else."""
    try:
        with open(path, encoding="utf-8") as file:
            values = json.loads(file.read(_MOST_CHARACTERS))  # cut short, a longer one is no JSON
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"The file of settings cannot be read: {error}. Choose one that was saved here.") from error
    if isinstance(values, dict) and isinstance(values.get("settings"), dict):
        values = {"split": "tail", **values["settings"]}  # a run of before `split` was a setting
    if not isinstance(values, dict):
        raise ValueError("The file holds no settings. Choose one that was saved here, or a run's config.json.")
    return FinetuneConfig.from_dict(values)
