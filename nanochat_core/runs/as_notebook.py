"""A notebook that repeats a run: its settings, the check that the data is the same, start, chart, chat.

Written as plain JSON in Jupyter's format 4.5, so that nothing of Jupyter is needed to make it.
"""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from nanochat_core.config import FinetuneConfig
from nanochat_core.runs.as_code import named_settings, python_call, short_path, start_call
from nanochat_core.runs.run import Run
from nanochat_core.system.files import sha256_of

_IMPORTS = """\
import hashlib

from nanochat_core import (
    Engine,
    Run,
    check,
    choose_device,
    find_file,
    load_conversations,
    load_model,
    start_run,
    with_preset,
)
"""
_SAME_DATA = """\
found = hashlib.sha256(find_file(DATA).read_bytes()).hexdigest()
if found != SHA256:
    raise ValueError(
        f"{DATA} has changed since the run was made. Put the old content back, or run on from here to use the new one."
    )
check(DATA)"""
_CHAT = """\
model, tokenizer, meta = load_model(f"finetuned/{run.tag}", device=choose_device("auto"))
last = load_conversations(DATA)[-1]["messages"]  # from the part that was kept for validation
question = next(message for message in last if message["role"] == "user")
print(question["content"])
print(Engine(model, tokenizer).reply([question], temperature=0.0))"""


def notebook_of(source: Run | FinetuneConfig, nproc: int | None = None) -> str:
    """The text of an .ipynb file that repeats a run, or makes the one that a config describes.

    The repeated run gets a name of its own, since a run never overwrites another. nproc: number of processes; None
    takes the run's own. ValueError when the settings or, for a config, the data file cannot be read.
    """
    if not isinstance(source, Run | FinetuneConfig):
        raise ValueError(f"{source!r:.60} is no run and no config. Give one, such as notebook_of(Run.open('mine')).")
    if isinstance(source, Run):
        record = source.record()
        config, data = source.settings(), record.get("data", {})
        title, made = f"Run {source.tag}, again", f"made on {str(record.get('created', ''))[:10]}"
        versions = record.get("versions", {})
        nproc = nproc or int(source.read_launch().get("nproc", 1))
    else:
        config, data = source, _facts(source)
        title, made, versions = f"Run {source.output_tag}", "not made yet", {}
    config = dataclasses.replace(config, resume=False)
    return _to_json(_cells(title, made, config, data, versions, nproc or 1))


def _facts(config: FinetuneConfig) -> dict[str, Any]:
    try:
        return {"path": config.data_path, "sha256": sha256_of(Path(config.data_path).expanduser())}
    except OSError as error:
        raise ValueError(
            f"The data file {config.data_path} cannot be read ({error.strerror}). Correct data_path."
        ) from error


def _cells(
    title: str, made: str, config: FinetuneConfig, data: dict[str, Any], versions: dict[str, str], nproc: int
) -> list[tuple[str, str]]:
    """Pairs of the kind and the text of each cell."""
    settings = named_settings(config)
    path, tag = short_path(settings.pop("data_path")), settings.pop("output_tag")
    call = python_call("with_preset", {"data_path": _Code("DATA"), **settings, "output_tag": _Code("tag")})
    with_versions = ", ".join(f"{name} {versions[name]}" for name in ("python", "torch") if name in versions)
    about = f"Base model {_code(config.base_name)}, data {_code(Path(str(path)).name)}, {made}"
    about += f" with {with_versions}." if with_versions else "."
    return [
        ("markdown", f"# {_escaped(title)}\n\n{about}\n\nRun it wherever nanochat studio is installed."),
        ("code", _IMPORTS.rstrip()),
        ("markdown", "## The data\n\nThe file must still be the one whose SHA-256 was noted."),
        ("code", f"DATA = {path!r}\nSHA256 = {str(data.get('sha256', ''))!r}\n{_SAME_DATA}"),
        (
            "markdown",
            "## The training\n\nIt runs beside the notebook, shows in the app, and outlives both.",
        ),
        ("code", f"tag = Run.free_tag({tag!r})\nconfig = {call}\n{start_call(nproc)}\nrun.watch()"),
        ("code", "run.plot()"),
        ("markdown", "## The result"),
        ("code", _CHAT),
    ]


class _Code(str):
    """Text that is Python already: its repr is itself."""

    def __repr__(self) -> str:
        return str(self)


def _code(text: str) -> str:
    """Text as Markdown code, whatever is in it."""
    return f"`{text.replace('`', chr(39))}`"


def _escaped(text: str) -> str:
    return "".join(f"\\{letter}" if letter in "\\`*_{}[]<>#|" else letter for letter in text)


def _to_json(cells: list[tuple[str, str]]) -> str:
    content = {
        "cells": [_cell(number, kind, text) for number, (kind, text) in enumerate(cells)],
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _cell(number: int, kind: str, text: str) -> dict[str, Any]:
    identity = hashlib.sha256(f"{number}:{text}".encode()).hexdigest()[:12]
    cell = {"cell_type": kind, "id": identity, "metadata": {}, "source": text.splitlines(keepends=True)}
    return cell if kind == "markdown" else {**cell, "execution_count": None, "outputs": []}
