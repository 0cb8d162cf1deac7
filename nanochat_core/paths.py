"""Where things lie: the home folder, and from a model's NAME to the files of one of its checkpoints."""

import json
import os
import re
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PROJECT_ROOT = Path(__file__).resolve().parent.parent
"""The folder in which the packages lie: of a checkout, of a rented job, or site-packages."""

_PROJECT = "nanochat-studio"

SOURCE_FOLDERS = {
    "base": "base_checkpoints",
    "mid": "mid_checkpoints",
    "sft": "chatsft_checkpoints",
    "rl": "chatrl_checkpoints",
}
"""nanochat's folder for each stage of training (nanochat-format: files on the hub)."""

_CHECKPOINT = re.compile(r"model_(\d{6,})\.pt|adapter_(\d{6,})")

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
"""peft's names for the files of an adapter."""


@cache
def checkout() -> Path | None:
    """The folder of the project's source when this package runs from there; None where it was installed from a wheel.

    The packages lie beside other people's files in site-packages, so it is the project's own name that counts.
    """
    try:
        lines = (PROJECT_ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    return PROJECT_ROOT if f'name = "{_PROJECT}"' in lines else None


def home() -> Path:
    """The folder under which models, runs and datasets lie: what a person makes. Read when called.

    $NANOCHAT_STUDIO_HOME, or the checkout, or for an installed package the user's data folder.
    """
    chosen = os.environ.get("NANOCHAT_STUDIO_HOME")
    return Path(chosen or checkout() or _user_data() / _PROJECT).expanduser().resolve()


def _user_data() -> Path:
    """Where the system wants programs to keep a person's data."""
    if sys.platform == "darwin":
        return Path("~/Library/Application Support")
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or "~/AppData/Local")
    return Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share")


def shipped(name: str) -> Path:
    """What comes with the program and is never written to, by its path in the project: "data/example_data.jsonl".

    A wheel holds it inside this package; in a checkout, and in a rented job, it lies beside it.
    """
    inside = PROJECT_ROOT / "nanochat_core" / "shipped"
    return (inside if inside.is_dir() else PROJECT_ROOT) / name


def find_file(path: str | Path) -> Path:
    """The file that a person means by `path`: data/example_data.jsonl is found from any folder.

    A relative path is looked for in the working folder, then in `home()`, then among what is shipped. What is in none
    of them comes back as it was given, to be missed under the name that was typed.
    """
    given = Path(path).expanduser()
    places = (given, home() / given, shipped(str(given)))
    return next((place for place in places if place.is_file()), given)


def find_moved(path: str) -> str:
    """Where a file lies now that was written down as the absolute `path`, when home or the checkout was moved since.

    What is not there any more is looked for in `home()` and among what is shipped by the end of its path, two names at
    least: "/old/data/mine.jsonl" as data/mine.jsonl. What is in neither comes back as it was given.
    """
    if not os.path.isabs(path) or os.path.exists(path):
        return path
    names = Path(path).parts
    ends = [Path(*names[start:]) for start in range(1, len(names) - 1)]
    places = (place for end in ends for place in (home() / end, shipped(str(end))))
    return next((str(place) for place in places if place.is_file()), path)


def download_command() -> str:
    """What fetches nanochat-d32, as it is typed here."""
    return "make download" if checkout() else "nanochat download"


def starter_dir() -> Path:
    """The shipped practice model."""
    return shipped("starter")


def pretrained_dir() -> Path:
    """Downloaded models, in nanochat's layout."""
    return home() / "models" / "pretrained"


def finetuned_dir() -> Path:
    """One folder a run."""
    return home() / "models" / "finetuned"


@dataclass(frozen=True)
class ModelFiles:
    """The files of one checkpoint."""

    name: str
    """What a person types: `starter`, `pretrained/d32`, `finetuned/<tag>` or a folder."""
    folder: Path
    step: int
    tokenizer_dir: Path

    @property
    def is_adapter(self) -> bool:
        """Whether the checkpoint is an adapter (LoRA): its meta says of which model."""
        return not weights_path(self.folder, self.step).exists() and adapter_path(self.folder, self.step).is_dir()

    @property
    def weights(self) -> Path:
        """The file with the weights, of an adapter its own."""
        adapter = adapter_path(self.folder, self.step)
        return adapter / ADAPTER_WEIGHTS if self.is_adapter else weights_path(self.folder, self.step)

    @property
    def meta(self) -> Path:
        return meta_path(self.folder, self.step)


def weights_path(folder: Path, step: int) -> Path:
    """`model_<step>.pt`, the step padded to six digits as nanochat does."""
    return Path(folder) / f"model_{step:06d}.pt"


def adapter_path(folder: Path, step: int) -> Path:
    """`adapter_<step>`, the folder that peft loads of a run with LoRA."""
    return Path(folder) / f"adapter_{step:06d}"


def meta_path(folder: Path, step: int) -> Path:
    """`meta_<step>.json`, the step padded to six digits as nanochat does."""
    return Path(folder) / f"meta_{step:06d}.json"


def steps(folder: Path) -> list[int]:
    """Steps of the complete checkpoints in `folder` (weights or an adapter, and meta, both there), ascending.

    Names that are not a step (`model_best.pt`, temporary files) are skipped, and so is a folder that cannot be read:
    one of them must not hide all others.
    """
    folder = Path(folder)
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    found = {int(match[1] or match[2]) for match in map(_CHECKPOINT.fullmatch, names) if match}
    return sorted(step for step in found if meta_path(folder, step).is_file())


def find_model(name: str, step: int | None = None, source: str | None = None) -> ModelFiles:
    """The files of the model called `name`, at `step` or at its newest complete checkpoint.

    `source` (base, mid, sft, rl) says which stage of a downloaded model is meant; without it the most trained one.
    `name` is `starter`, `pretrained/<tag>`, `finetuned/<run>`, or a folder that holds model_*.pt and
    meta_*.json. Raises ValueError that names what there is and how to get what is missing.
    """
    folder, tokenizer_dir = _folders(name, source)
    present = steps(folder)
    if not present:
        raise ValueError(f"There is no model '{name}' ({folder} holds no checkpoint). {_remedy(name)}")
    if step is not None and step not in present:
        listed = ", ".join(map(str, present))
        raise ValueError(f"Model '{name}' has no checkpoint of step {step}; it has {listed}. Choose one of these.")
    return ModelFiles(name, folder, present[-1] if step is None else step, tokenizer_dir)


def adapter_base(files: ModelFiles) -> ModelFiles:
    """The model that the adapter in `files` was trained on, as its meta says. ValueError when it is not there."""
    try:
        noted = json.loads(files.meta.read_text(encoding="utf-8"))["adapter"]
        name, step, source = str(noted["base"]), int(noted["step"]), noted.get("source")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{files.meta} does not say of which model the adapter is. Train it again.") from error
    try:
        return find_model(name, step, source)
    except ValueError as error:
        raise ValueError(
            f"The adapter '{files.name}' belongs to the model '{name}' of step {step}, which is not here. Put that "
            f"model back. ({error})"
        ) from error


def whole_model(files: ModelFiles) -> ModelFiles:
    """`files` itself, or of an adapter the model whose weights it changes. ValueError when that is not there."""
    return whole_model(adapter_base(files)) if files.is_adapter else files


def list_models() -> list[ModelFiles]:
    """Every model that can be loaded by name: the starter, the downloaded ones, the finetuned runs."""
    names = ["starter"]
    for source_folder in SOURCE_FOLDERS.values():
        names += [f"pretrained/{path.name}" for path in _subfolders(pretrained_dir() / source_folder)]
    names += [f"finetuned/{path.name}" for path in _subfolders(finetuned_dir())]
    models = []
    for name in dict.fromkeys(names):  # the same tag may lie under two sources: `_folders` takes the most trained
        folder, tokenizer_dir = _folders(name)
        if present := steps(folder):
            models.append(ModelFiles(name, folder, present[-1], tokenizer_dir))
    return models


def default_model() -> str:
    """The name used when a person names none: d32 when it has been downloaded, else the starter."""
    return "pretrained/d32" if steps(_folders("pretrained/d32")[0]) else "starter"


def _folders(name: str, source: str | None = None) -> tuple[Path, Path]:
    """(folder of the checkpoints, folder of the tokenizer) for a model's name."""
    if name == "starter":
        return starter_dir(), starter_dir()
    kind, _, tag = name.partition("/")
    if kind in ("pretrained", "finetuned") and tag and "/" not in tag and tag not in (".", ".."):
        folder = finetuned_dir() / tag if kind == "finetuned" else _pretrained_folder(tag, source)
    else:
        folder = Path(name).expanduser()
    return folder, _own_tokenizer(folder)


def _pretrained_folder(tag: str, source: str | None) -> Path:
    """The tag's folder of the stage `source`, or of the most trained stage that has been downloaded."""
    stages = [source] if source else ["sft", "rl", "mid", "base"]
    folders = [pretrained_dir() / SOURCE_FOLDERS[stage] / tag for stage in stages]
    return next((folder for folder in folders if steps(folder)), folders[0])


def _own_tokenizer(folder: Path) -> Path:
    """The folder's tokenizer; nanochat's own layout keeps it two levels up."""
    candidates = [folder, folder / "tokenizer", folder.parent.parent / "tokenizer"]
    return next((path for path in candidates if (path / "tokenizer.pkl").is_file()), folder)


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != ".") if folder.is_dir() else []


def _remedy(name: str) -> str:
    meant = [f"{kind}/{name}" for kind in ("finetuned", "pretrained") if "/" not in name]
    if known := [one for one in meant if steps(_folders(one)[0])]:
        return f"Its whole name is {known[0]}."
    if name.startswith("pretrained/"):
        return f"Run `{download_command()}` to fetch it, or use the shipped practice model: --model_tag starter."
    if name.startswith("finetuned/"):
        return "`python -m nanochat_core models` lists what there is."
    return "A NAME is starter, pretrained/d32, finetuned/<run>, or a folder with model_*.pt and meta_*.json."
