"""The models there are, as lists offer them: NAME@step as a value, in words for people; and a run's pair of models."""

from nanochat_core.paths import find_model, list_models, steps
from nanochat_core.runs.base import base_step
from nanochat_core.runs.run import Run

Key = tuple[str, int]
"""(NAME, step) of a checkpoint."""


def all_choices() -> list[tuple[str, str]]:
    """(label, value) of every model: the starter, downloaded ones, each run's best and last."""
    found = []
    for model in list_models():
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


def _best_step(tag: str) -> int | None:
    try:
        return Run.open(tag).status().best_step
    except ValueError:  # a folder with a model, put there by hand, is no run
        return None


def key_of(value: str | None) -> Key:
    """The checkpoint that a list's value means. ValueError when there is none (any more)."""
    name, _, step = (value or "").rpartition("@")
    if not name or not step.isdecimal():
        name, step = (value or "").strip(), ""
    if not name:
        raise ValueError("No model is chosen. Choose one above, such as the starter.")
    return name, find_model(name, int(step) if step else None).step


def label_of(value: str | None) -> str:
    """A short name of a model for people."""
    known = {value: label for label, value in all_choices()}
    return known.get(value or "", str(value or "no model").replace("@", ", step "))


def of_name(name: str) -> list[str]:
    """The values of the model NAME, a run's best first."""
    return [value for _, value in all_choices() if value.rsplit("@", 1)[0] == name]


def pair_of(tag: str) -> tuple[str | None, str | None]:
    """(base, tuned): what a run was trained from, and its best; None for what is not there any more."""
    run = Run.open(tag)
    name = str(run.record().get("base_model"))
    bases, tuned = of_name(name), of_name(f"finetuned/{tag}")
    began = f"{name}@{base_step(run)}"
    return began if began in bases else next(iter(bases), None), next(iter(tuned), None)


def newest_pair() -> tuple[str | None, str | None]:
    """`pair_of` the newest finished run that has left a model, else of the newest with one; else (None, None)."""
    runs = sorted(Run.list(), key=lambda run: run.status().state != "finished")  # of equals, the newest stays first
    return next((pair for run in runs if (pair := pair_of(run.tag))[1]), (None, None))
