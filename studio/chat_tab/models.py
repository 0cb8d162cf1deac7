"""The models that can be talked to: the starter, downloaded ones, and each run's best and last checkpoint."""

from nanochat_core.paths import default_model, find_model, list_models, steps
from nanochat_core.runs.run import Run
from studio.space.access import is_visitor
from studio.space.visitor_limits import MODEL

Key = tuple[str, int]
"""(NAME, step) of a checkpoint."""


def choices() -> list[tuple[str, str]]:
    """(label, value) for a dropdown; a value is NAME@step. A Space's visitors are told of the starter only."""
    found = []
    for model in list_models():
        if is_visitor() and model.name != MODEL:
            continue
        present = steps(model.folder)
        if not model.name.startswith("finetuned/"):
            found.append((model.name, f"{model.name}@{model.step}"))
            continue
        best = _best_step(model.name.removeprefix("finetuned/"))
        tag = model.name.removeprefix("finetuned/")
        if best in present and best != model.step:
            found.append((f"{tag}: best (step {best})", f"{model.name}@{best}"))
            found.append((f"{tag}: last (step {model.step})", f"{model.name}@{model.step}"))
        else:
            what = "best and last" if best == model.step else "last"
            found.append((f"{tag}: {what} (step {model.step})", f"{model.name}@{model.step}"))
    return found


def defaults() -> tuple[str | None, str | None]:
    """Values to begin with: the base model, and beside it the newest run's best."""
    values = [value for _, value in choices()]
    usual = MODEL if is_visitor() else default_model()
    base = next((value for value in values if value.rsplit("@", 1)[0] == usual), None)
    newest = [*(f"finetuned/{run.tag}@" for run in Run.list()), "finetuned/"]
    tuned = next((value for start in newest for value in values if value.startswith(start)), None)
    return base, tuned or base


def key_of(value: str | None) -> Key:
    """The checkpoint that a dropdown's value means. ValueError when there is none (any more)."""
    name, _, step = (value or "").rpartition("@")
    if not name or not step.isdecimal():
        name, step = (value or "").strip(), ""
    if not name:
        raise ValueError("No model is chosen. Choose one above, such as the starter.")
    return name, find_model(name, int(step) if step else None).step


def label_of(value: str | None) -> str:
    """A short name of a model for people."""
    known = {value: label for label, value in choices()}
    return known.get(value, str(value or "no model").replace("@", ", step "))


def _best_step(tag: str) -> int | None:
    try:
        return Run.open(tag).status().best_step
    except ValueError:  # a folder with a model, put there by hand, is no run
        return None
