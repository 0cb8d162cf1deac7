"""What a job needs from this machine: our code, the data, the settings, and a base model that the hub lacks."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanochat_core.config import PATH_SETTINGS, FinetuneConfig
from nanochat_core.paths import (
    ADAPTER_CONFIG,
    PROJECT_ROOT,
    SOURCE_FOLDERS,
    adapter_base,
    find_model,
    home,
    pretrained_dir,
    starter_dir,
    steps,
)
from nanochat_core.remote.state import RemoteLaunch
from nanochat_core.runs.nodes import Nodes
from nanochat_core.system.files import read_json

REQUIREMENTS = (
    "huggingface_hub>=1.0",
    "tiktoken>=0.13",
    "psutil>=5.9",
    "filelock>=3.15",
    "numpy>=1.26",
    "safetensors>=0.5",
    "regex>=2024.5",
)
"""What nanochat_core needs for training beside torch, which the image has."""

WORKER_MODULE = "nanochat_core.training.worker"
"""Trains a run when it is called with its tag."""

_ON_THE_HUB = {"d32": "karpathy/nanochat-d32", "d34": "karpathy/nanochat-d34"}
_STARTER_FILES = ("tokenizer.pkl", "eval.jsonl", "preset.json")


@dataclass(frozen=True)
class BaseModel:
    """Where the job finds the model that it trains."""

    download: dict[str, str] | None
    """repo, tag and source for `hub.download` in the job; None when the model is sent."""
    files: dict[str, Path]
    """What is sent: path in the repository -> file."""


def base_model(config: FinetuneConfig) -> BaseModel:
    """The base of `config`: one that is on the hub is fetched there, any other is sent.

    d32 and d34 need not be on this machine. ValueError when the model is neither here nor known.
    """
    return _located(config.base_name, config.model_step, config.base_source)


def _located(name: str, step: int | None, source: str | None) -> BaseModel:
    kind, _, tag = name.partition("/")
    if kind == "pretrained" and source:
        folder = pretrained_dir() / SOURCE_FOLDERS[source] / tag
        here = bool(steps(folder))
        repo = read_json(folder / "download.json").get("repo") if here else _ON_THE_HUB.get(tag)
        if repo:
            return BaseModel({"repo": repo, "tag": tag, "source": source}, {})
    found = find_model(name, step, source)
    if name == "starter":
        paths = [found.weights, found.meta, *(starter_dir() / name for name in _STARTER_FILES)]
        return BaseModel(None, {f"code/starter/{path.name}": path for path in paths})
    tokenizer = [found.tokenizer_dir / name for name in ("tokenizer.pkl", "token_bytes.pt")]
    paths = [found.weights, found.meta, *(path for path in tokenizer if path.is_file())]
    if not found.is_adapter:
        return BaseModel(None, {_below_home(path): path for path in paths})
    paths.append(found.weights.with_name(ADAPTER_CONFIG))
    changed = adapter_base(found)
    stages = {folder: stage for stage, folder in SOURCE_FOLDERS.items()}
    base = _located(changed.name, changed.step, stages.get(changed.folder.parent.name))
    return BaseModel(base.download, {**base.files, **{_below_home(path): path for path in paths}})


def _below_home(path: Path) -> str:
    return f"home/{path.relative_to(home()).as_posix()}"


def code_files() -> dict[str, Path]:
    """nanochat_core as it is here, by its path in the repository: the job runs the very code that started it."""
    package = PROJECT_ROOT / "nanochat_core"
    names = {path: path.relative_to(PROJECT_ROOT) for path in sorted(package.rglob("*")) if path.is_file()}
    return {
        f"code/{name.as_posix()}": path
        for path, name in names.items()
        if not any(part.startswith((".", "__pycache__")) for part in name.parts)  # made here, for this machine
    }


def inputs(record: dict[str, Any], base: BaseModel) -> dict[str, Path | bytes]:
    """Everything that is sent for the run with this config.json: path in the repository -> content."""
    files: dict[str, Path | bytes] = {**code_files(), **base.files}
    settings = dict(record["settings"])
    for name in PATH_SETTINGS:
        if settings.get(name):
            path = Path(settings[name])
            settings[name] = f"data/{name}/{path.name}"
            files[f"home/{settings[name]}"] = path
    if record.get("original_base") == "starter":
        files["code/starter/eval.jsonl"] = starter_dir() / "eval.jsonl"  # asked before and after
    data = {**record["data"], "path": settings["data_path"]}
    sent = {**record, "settings": settings, "data": data, "download": base.download}
    files["record.json"] = json.dumps(sent, indent=2, ensure_ascii=False).encode()
    return files


def command(launch: RemoteLaunch, worker: str, nodes: Nodes) -> list[str]:
    """What the job runs: install the few packages, fetch our code, and hand over to `remote.job`. Holds no secret."""
    arguments = [launch.repo, f"--attempt={launch.attempt}", f"--nproc={launch.nproc}"]
    arguments += [
        f"--seconds={launch.timeout_seconds}",
        f"--push_seconds={launch.push_seconds:g}",
        f"--worker={worker}",
    ]
    arguments += [f"--{name}={value}" for name, value in nodes.flags().items()]
    fetch = (
        "import os, sys; from huggingface_hub import snapshot_download; "
        "folder = os.path.abspath('nanochat'); "
        "snapshot_download(sys.argv[1], local_dir=folder, allow_patterns=['code/*']); "
        "os.environ.update(PYTHONPATH=os.pathsep.join("
        "filter(None, [folder + '/code', os.environ.get('PYTHONPATH')])), PYTHONSAFEPATH='1'); "
        "os.execv(sys.executable, [sys.executable, '-u', '-m', 'nanochat_core.remote.job', folder, *sys.argv[1:]])"
    )
    packages = " ".join(f"'{name}'" for name in REQUIREMENTS)
    script = f'python3 -m pip install --quiet {packages} && exec python3 -c "$0" "$@"'
    return ["bash", "-c", script, fetch, *arguments]
