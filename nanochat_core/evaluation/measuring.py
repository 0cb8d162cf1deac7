"""What a saved model is worth: questions answered, and the loss on conversations, as figures of one file."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from nanochat_core.checkpoint.loading import load_model
from nanochat_core.compute.devices import choose_device
from nanochat_core.compute.ranks import Ranks
from nanochat_core.data.conversations import load_conversations
from nanochat_core.evaluation.answers import EvalResult, evaluate
from nanochat_core.evaluation.questions import load_questions
from nanochat_core.evaluation.validation import Validation, validate
from nanochat_core.runs.run import Run
from nanochat_core.system.files import write_json
from nanochat_core.tokenizer.rendering import render

_BATCH = 4


@dataclass(frozen=True)
class Measured:
    """The figures of one model."""

    model: str
    """Its NAME."""
    step: int
    questions: dict[str, EvalResult] = field(default_factory=dict)
    """Result for each file of questions, by the file's name."""
    losses: dict[str, Validation] = field(default_factory=dict)
    """Loss for each file of conversations, by the file's name."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON keeps it."""
        return asdict(self)


def measure(  # noqa: PLR0913  all but the name are options
    name: str,
    questions: list[str] | tuple[str, ...] = (),
    data: list[str] | tuple[str, ...] = (),
    step: int | None = None,
    device_type: str = "auto",
    max_seq_len: int | None = None,
    max_tokens: int = 64,
) -> Measured:
    """Ask the model NAME the `questions` files, and take its loss on the `data` files.

    max_seq_len: longest conversation in tokens; without it the model's context. max_tokens: longest reply. Raises
    ValueError in a sentence for every file that cannot be used, before the model is loaded where that is possible.
    """
    if not questions and not data:
        raise ValueError(
            "There is nothing to evaluate: give a file of questions (--questions data/example_questions.jsonl), one of "
            "conversations (--data_path data/example_data.jsonl), or both."
        )
    asked = {Path(path).name: load_questions(path) for path in questions}
    device = choose_device(device_type)
    model, tokenizer, meta = load_model(name, device=device, step=step)
    longest = max_seq_len or model.config.sequence_len
    told = {Path(path).name: load_conversations(path, tokenizer, longest) for path in data}
    results = {file: evaluate(model, tokenizer, rows, max_tokens) for file, rows in asked.items()}
    token_bytes, alone = torch.tensor(tokenizer.token_bytes()), Ranks(0, 1, torch.device(device))
    losses = {}
    for file, conversations in told.items():
        examples = [one for one in render(conversations, tokenizer, longest) if one.mask[1:].any()]
        if not examples:
            raise ValueError(
                f"{file} has no answer within {longest} tokens. Raise max_seq_len, or choose another file."
            )
        losses[file] = validate(model, examples, token_bytes, alone, _BATCH)
    return Measured(name, int(meta.get("step", 0)), results, losses)


def keep(measured: Measured) -> Path | None:
    """Write the figures into the run that the model belongs to; where, or None for a model that is no run's."""
    kind, _, tag = measured.model.partition("/")
    if kind != "finetuned" or not tag:
        return None
    path = Run.open(tag).evals_dir / f"step_{measured.step:06d}.json"
    path.parent.mkdir(exist_ok=True)
    write_json(path, measured.to_dict())
    return path
