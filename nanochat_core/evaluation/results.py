"""Results of evaluations on the disk: by model and by what it was asked, so that nothing is computed twice.

A run's lie in its evals/, those of other models together in one folder. Each file tells by itself what it is of, so
that the app, which has no torch, lists, compares and shows them:

questions-*.json  model, step, file, made, seconds, correct, total, tasks {name: {correct, total}}, answers [{task,
                  question, expected, reply, correct, note, key}]; `complete` is false where the asking was stopped
data-*.json       model, step, file, made, seconds, loss, bits_per_byte, token_accuracy, conversations {nats, tokens,
                  right, nats_of_bytes, bytes: [one number each]}, longest: tokens of one that are read at most, cut:
                  how many have more, without_answer: how many have none within them, and are no conversation here
tasks-*.json      model, step, made, seconds, tasks {name: {metrics: {name: number}, right: [of each sample]}}
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nanochat_core.evaluation.today import judged_by_file, replies_in
from nanochat_core.paths import finetuned_dir, home
from nanochat_core.runs.metrics import plain
from nanochat_core.system.files import read_json, sha256_of, write_json

KINDS = ("questions", "data", "tasks")


REPLY_TOKENS = 64
"""Longest reply to a question, unless another length is asked for."""


def results_folder(name: str) -> Path:
    """Where the results of the model called `name` lie."""
    kind, _, tag = name.partition("/")
    return finetuned_dir() / tag / "evals" if kind == "finetuned" and tag else home() / "models" / ".evals"


def _is_shared(name: str) -> bool:
    return results_folder(name) == results_folder("starter")


def result_path(name: str, kind: str, model_sha256: str, asked: dict[str, Any]) -> Path:
    """The file of a result. asked: everything that it depends on beside the model's weights."""
    if _is_shared(name):  # by models under several names, which may have the same weights
        asked = {"model": name, **asked}
    what = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
    return results_folder(name) / f"{kind}-{model_sha256[:12]}-{what[:12]}.json"


def keep(path: Path, result: dict[str, Any]) -> None:
    """Write a result."""
    write_json(path, plain(result))


def kept(path: Path) -> dict[str, Any] | None:
    """A whole result that was kept before; None when there is none."""
    result = read_json(path)
    return result if result.get("complete") else None


def judged(result: dict[str, Any], file: Path | None = None) -> dict[str, Any]:
    """The result with its replies judged by its questions as they are now.

    file: that of its questions, where it is known to be the same; without, the one it names, which may have changed.
    """
    if not result.get("answers") or not result.get("complete"):
        return result
    named = file or Path(str(result.get("file", "")))
    again = judged_by_file(result, named)
    return again if "as_then" in again else again | {"file_sha256": sha256_of(named)}


def results(name: str, kind: str | None = None) -> list[dict[str, Any]]:
    """All whole results of the model called `name`, of all its steps, or those of one kind; the newest first."""
    own = [judged(result) for result in _of(name, kind) if result.get("complete")]
    return sorted(own, key=lambda one: str(one["made"]), reverse=True)


def known_replies(name: str, model_sha256: str, asked: dict[str, Any]) -> dict[str, str]:
    """Question.key -> reply, of everything that this very model was asked before in the same way, stopped or not."""
    replies: dict[str, str] = {}
    for result in _read(results_folder(name), "questions", model_sha256[:12]):
        if result.get("asked") == asked:
            replies |= replies_in(result)
    return replies


def all_replies(name: str, step: int) -> dict[str, str]:
    """As `today.Replies`, of everything that this checkpoint was ever asked, stopped or not; the newest counts.

    But for one of the usual length: a longer one, beside that of another model, would be no fair comparison.
    """
    asked = [one for one in _of(name, "questions") if one.get("step") == step]
    replies: dict[str, str] = {}
    for result in sorted(asked, key=lambda one: (_is_usual(one), str(one.get("made")))):
        replies |= replies_in(result)
    return replies


def _is_usual(result: dict[str, Any]) -> bool:
    """Whether its replies are of the usual length, as all were of which it is not noted."""
    return result.get("asked", {}).get("max_tokens", REPLY_TOKENS) == REPLY_TOKENS


def _of(name: str, kind: str | None) -> Iterator[dict[str, Any]]:
    """The results of one model. What lies in a run's folder is of that run, whatever it was called when it was made."""
    for result in _read(results_folder(name), kind):
        if not _is_shared(name):
            yield result | {"model": name}
        elif result.get("model") == name:
            yield result


def _read(folder: Path, kind: str | None, model: str = "*") -> Iterator[dict[str, Any]]:
    for one in KINDS if kind is None else (kind,):
        for path in sorted(folder.glob(f"{one}-{model}-*.json")):
            if result := read_json(path):
                yield result
