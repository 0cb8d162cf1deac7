"""Two models' results side by side, as `eval --json` prints them and the app shows them. Without torch."""

from typing import Any

import numpy as np

from nanochat_core.evaluation.pairs import Difference, Flips, difference_of, flips
from nanochat_core.system.words import plural


def questions_proof(this: dict[str, Any], other: dict[str, Any] | None = None) -> dict[str, Any]:
    """Of results of the same questions: model, compare, learnt, lost (numbers of questions, from 1), p, verdict.

    Without `other` the model's score alone. ValueError when they were not asked the same.
    """
    told: dict[str, Any] = {"model": _score(this)}
    if other is None:
        return told
    flipped = flips_of(this, other)
    told["compare"] = _score(other)
    return told | {"learnt": flipped.learnt, "lost": flipped.lost, "p": flipped.p, "verdict": flipped.verdict}


def flips_of(this: dict[str, Any], other: dict[str, Any]) -> Flips:
    """Which questions one of two results answers alone."""
    asked = [[(_key(answer), answer["expected"]) for answer in result["answers"]] for result in (this, other)]
    if asked[0] != asked[1]:
        raise ValueError("The two models were not asked the same questions. Ask both the same file, then compare.")
    right = [[bool(answer["correct"]) for answer in result["answers"]] for result in (this, other)]
    return flips(*right)


def _key(answer: dict[str, Any]) -> str:
    """What was asked; results of before there were keys have the question alone."""
    return str(answer.get("key") or answer["question"])


def _score(result: dict[str, Any]) -> dict[str, int]:
    return {"correct": result["correct"], "total": result["total"]}


def data_proof(this: dict[str, Any], other: dict[str, Any] | None = None) -> dict[str, Any]:
    """Of results on the same conversations: model, compare, difference, interval, p, verdict; see `data_difference`.

    Without `other` the model's figures alone. Where not all was read, `not_read` says so. ValueError when the
    conversations are not the same.
    """
    told: dict[str, Any] = {"model": _figures(this)}
    if said := _not_read(this):
        told["not_read"] = said
    if other is None:
        return told
    found, measure = data_difference(this, other)
    told |= {"compare": _figures(other), "difference": found.difference, "interval": list(found.interval), "p": found.p}
    return told | {"verdict": found.verdict, "measure": measure}


def _not_read(result: dict[str, Any]) -> str:
    """What of the conversations does not count, in a sentence; "" for nothing, and of a result that does not tell."""
    cut, left_out = result.get("cut", 0), result.get("without_answer", 0)
    told = [f"{cut:,} {'is' if cut == 1 else 'are'} cut off there"] if cut else []
    told += [f"{left_out:,} with no answer by then {'is' if left_out == 1 else 'are'} left out"] if left_out else []
    of = plural(len(result["conversations"]["tokens"]) + left_out, "conversation")
    return f"Of {of}, read up to {result['longest']:,} tokens, {' and '.join(told)}." if told else ""


def data_difference(this: dict[str, Any], other: dict[str, Any]) -> tuple[Difference, str]:
    """(difference, loss): nats per token lower or higher. With other tokens (difference, bits_per_byte).

    Losses per token are of one scale only where both models have the same tokens.
    """
    ours, theirs = ({name: np.array(v) for name, v in result["conversations"].items()} for result in (this, other))
    if len(ours["bytes"]) != len(theirs["bytes"]) or (ours["bytes"] != theirs["bytes"]).any():
        raise ValueError(
            "The two models did not read the same conversations to the same ends. Give both the same file and a "
            "--max_seq_len within which every conversation fits in the tokens of both."
        )
    if (ours["tokens"] == theirs["tokens"]).all():
        return difference_of(ours["nats"], theirs["nats"], ours["tokens"], "loss"), "loss"
    bits = np.log(2) * ours["bytes"]
    return difference_of(ours["nats_of_bytes"], theirs["nats_of_bytes"], bits, "bits per byte"), "bits_per_byte"


def tasks_proof(this: dict[str, Any], other: dict[str, Any] | None = None) -> dict[str, Any]:
    """Of results of the same tasks: model and compare {task: {metric: number}}, flips {task: as of questions_proof}.

    There are flips of the tasks whose samples are right or wrong.
    """
    told: dict[str, Any] = {"model": _metrics(this)}
    if other is None:
        return told
    told["compare"], told["flips"] = _metrics(other), {}
    for name, result in this["tasks"].items():
        its = other["tasks"].get(name, {}).get("right", [])
        if result["right"] and len(result["right"]) == len(its):
            found = flips(result["right"], its)
            told["flips"][name] = {
                "learnt": found.learnt,
                "lost": found.lost,
                "p": found.p,
                "verdict": found.verdict,
            }
    return told


def _metrics(result: dict[str, Any]) -> dict[str, dict[str, float]]:
    return {name: found["metrics"] for name, found in result["tasks"].items()}


def _figures(result: dict[str, Any]) -> dict[str, float]:
    return {name: result[name] for name in ("loss", "bits_per_byte", "token_accuracy")}
