"""`eval`: ask a saved model questions with known answers, and take its loss on conversations."""

import json
from dataclasses import dataclass

from nanochat_core.cli.terminal import parse, say
from nanochat_core.paths import default_model

_WRONG_SHOWN = 10


@dataclass(frozen=True)
class EvalCommand:
    """Ask a model questions with known answers, and take its loss on conversations."""

    model: str | None = None
    """NAME of the model: starter, pretrained/d32, finetuned/<run>, or a folder; without it d32, or the starter."""
    questions: tuple[str, ...] = ()
    """Files of questions with expected answers (JSONL: question, expected)."""
    data_path: tuple[str, ...] = ()
    """Files of conversations whose loss is taken (JSONL, as for finetune)."""
    step: int | None = None
    """Checkpoint step; without it the newest."""
    device_type: str = "auto"
    """cuda, mps, cpu or auto."""
    max_seq_len: int | None = None
    """Longest conversation in tokens; without it the model's context."""
    max_tokens: int = 64
    """Longest reply in tokens."""
    json: bool = False
    """Print everything as JSON, every answer included."""


def run(arguments: list[str]) -> int:
    """Measure a model, beside another one where asked. Returns the exit status."""
    options = parse(EvalCommand, arguments, "eval")
    from nanochat_core.evaluation.measuring import keep, measure  # here, because `eval --help` must not wait for torch

    name = default_model() if options.model is None else options.model
    measured = measure(
        name,
        options.questions,
        options.data_path,
        options.step,
        options.device_type,
        options.max_seq_len,
        options.max_tokens,
    )
    kept = keep(measured)
    if options.json:
        print(json.dumps(measured.to_dict(), ensure_ascii=False))
        return 0
    for file, result in measured.questions.items():
        say(f"{file}: {result.correct} of {result.total} answered ({100 * result.accuracy:.1f}%)")
        for answer in [answer for answer in result.answers if not answer.correct][:_WRONG_SHOWN]:
            say(f"  {answer.question}\n    said:     {answer.reply}\n    expected: {' | '.join(answer.expected)}")
    for file, loss in measured.losses.items():
        say(f"{file}: loss {loss.loss:.4f} nats a trained token, {loss.bits_per_byte:.4f} bits a byte")
    if kept:
        say(f"Kept in {kept}.")
    return 0
