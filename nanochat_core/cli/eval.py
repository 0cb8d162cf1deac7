"""`eval`: ask saved models questions with known answers, take their figures on conversations, and compare two."""

from dataclasses import dataclass
from typing import Any

from nanochat_core.cli.terminal import parse, say, say_json, show
from nanochat_core.evaluation.meter import Moment
from nanochat_core.evaluation.proof import data_proof, questions_proof, tasks_proof
from nanochat_core.paths import default_model

_SHOWN = 10


@dataclass(frozen=True)
class EvalCommand:
    """Ask a model questions with known answers, take its loss on conversations, and prove it better than another."""

    model: str | None = None
    """NAME of the model: starter, pretrained/d32, finetuned/<run>, or a folder; without it d32, or the starter."""
    compare: str | None = None
    """NAME of a second model, measured in the same way; the difference is judged in pairs."""
    questions: str | None = None
    """File of questions with expected answers (JSONL: question, expected, match)."""
    data_path: str | None = None
    """File of conversations for loss, bits per byte and token accuracy (JSONL, as for finetune)."""
    tasks: str | None = None
    """Names of lm-evaluation-harness's tasks, with commas between; needs the extra lm-eval."""
    include_path: str | None = None
    """Folder with tasks of your own in lm-eval's YAML."""
    limit: int | None = None
    """Samples of each task; without it all."""
    step: int | None = None
    """Checkpoint step of the model; without it the newest."""
    compare_step: int | None = None
    """Checkpoint step of the second model; without it the newest."""
    device_type: str = "auto"
    """cuda, mps, cpu or auto."""
    max_seq_len: int | None = None
    """Longest conversation in tokens; without it the model's context."""
    max_tokens: int = 64
    """Longest reply in tokens."""
    json: bool = False
    """Print the scores, the flips and the differences as JSON."""


def run(arguments: list[str]) -> int:
    """Measure a model, beside another one where asked. Returns the exit status."""
    options = parse(EvalCommand, arguments, "eval")
    # Here, because `eval --help` must not wait for torch.
    from nanochat_core.compute.ranks import joined_ranks
    from nanochat_core.evaluation.measuring import Wanted, measure

    name = default_model() if options.model is None else options.model
    tasks = tuple(name.strip() for name in (options.tasks or "").split(",") if name.strip())
    wanted = Wanted(
        questions=options.questions,
        data=options.data_path,
        tasks=tasks,
        include_path=options.include_path,
        limit=options.limit,
        max_tokens=options.max_tokens,
        max_seq_len=options.max_seq_len,
    )
    names = [(name, options.step)] + ([(options.compare, options.compare_step)] if options.compare else [])
    with joined_ranks(options.device_type) as ranks:
        measured = measure(names, wanted, watch=_watch, ranks=ranks)
    if not ranks.is_first:
        return 0
    show()
    results = {kind: [getattr(one, kind) for one in measured] for kind in ("questions", "data", "tasks")}
    proofs = {"questions": questions_proof, "data": data_proof, "tasks": tasks_proof}
    told = {kind: proofs[kind](*found) for kind, found in results.items() if found[0] is not None}
    if options.json:
        say_json(told)
        return 0
    if "questions" in told:
        _say_questions(told["questions"], *results["questions"])
    if "data" in told:
        _say_data(told["data"])
    if "tasks" in told:
        _say_tasks(told["tasks"])
    return 0


def _say_questions(told: dict[str, Any], this: dict[str, Any], other: dict[str, Any] | None = None) -> None:
    for result in (this, other):
        if result:
            share = 100 * result["correct"] / result["total"]
            say(f"{result['model']}: {result['correct']} of {result['total']} answered ({share:.1f}%)")
    if other is None:
        _say_answers([answer for answer in this["answers"] if not answer["correct"]])
        return
    say(told["verdict"])
    for kind in ("learnt", "lost"):
        if numbers := told[kind]:
            say(f"\n{kind.capitalize()}:")
            _say_answers([this["answers"][number - 1] for number in numbers], numbers)


def _say_answers(answers: list[dict[str, Any]], numbers: list[int] | None = None) -> None:
    for place, answer in enumerate(answers[:_SHOWN]):
        before, wanted = f"{numbers[place]}. " if numbers else "", " | ".join(answer["expected"])
        say(f"  {before}{answer['question']}\n    said:     {answer['reply']}\n    expected: {wanted}")
        if answer.get("note"):
            say(f"    {answer['note']}")
    if len(answers) > _SHOWN:
        say(f"  ... and {len(answers) - _SHOWN} more")


def _say_data(told: dict[str, Any]) -> None:
    for kind in ("model", "compare"):
        if kind in told:
            one = told[kind]
            say(
                f"{kind}: loss {one['loss']:.4f} nats per trained token, {one['bits_per_byte']:.4f} bits per byte, "
                f"{100 * one['token_accuracy']:.1f}% of the tokens right"
            )
    if "not_read" in told:
        say(told["not_read"])
    if "verdict" in told:
        say(told["verdict"])


def _say_tasks(told: dict[str, Any]) -> None:
    for kind in ("model", "compare"):
        for name, metrics in told.get(kind, {}).items():
            say(f"{kind}: {name}: {', '.join(f'{metric} {value:.4f}' for metric, value in metrics.items())}")
    for name, found in told.get("flips", {}).items():
        say(f"{name}: {found['verdict']}")


def _watch(moment: Moment) -> None:
    show(f"{100 * moment.fraction:3.0f}% {moment}")
