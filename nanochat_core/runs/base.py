"""Which checkpoint of its base a run began with: what the base answered before the training is that one's alone."""

from nanochat_core.config import FinetuneConfig
from nanochat_core.paths import find_model, steps
from nanochat_core.runs.run import Run
from nanochat_core.system.files import write_json


def found_step(config: FinetuneConfig) -> int | None:
    """The step that a run of `config` would begin with now; None when there is no such model."""
    try:
        return find_model(config.base_name, config.model_step, config.base_source).step
    except ValueError:
        return None


def note_base_step(run: Run, step: int) -> None:
    """The run begins with this step of its base, which may have got a newer one since the run was made."""
    record = run.record()
    if record.get("base_step") != step:
        write_json(run.config_file, {**record, "base_step": step})


def base_step(run: Run) -> int | None:
    """The step of its base that the run began with; None where a run of before it was noted does not tell."""
    record = run.record()
    name, settings = str(record.get("base_model", "")), record.get("settings", {})
    for noted in (record.get("base_step"), settings.get("model_step")):
        if isinstance(noted, int):
            return noted
    try:
        source = settings.get("source") if name.startswith("pretrained/") else None
        present = steps(find_model(name, source=source).folder)
    except ValueError:
        return None
    return present[0] if len(present) == 1 else None
