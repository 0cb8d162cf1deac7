"""What a run has changed: the same questions asked before and after, new knowledge and old skills side by side."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nanochat_core.config import FinetuneConfig
from nanochat_core.engine.engine import Engine
from nanochat_core.evaluation.answers import evaluate
from nanochat_core.evaluation.proof import flips_of
from nanochat_core.evaluation.questions import Question, load_questions
from nanochat_core.evaluation.results import REPLY_TOKENS
from nanochat_core.evaluation.scores import EvalResult
from nanochat_core.evaluation.today import in_both, snapshot, unasked, unasked_words
from nanochat_core.model.gpt import GPT
from nanochat_core.paths import starter_dir
from nanochat_core.runs.run import Run
from nanochat_core.system.files import write_json
from nanochat_core.system.words import printable
from nanochat_core.tokenizer.tokenizer import Tokenizer

SAMPLES = 3


@dataclass(frozen=True)
class Snapshot:
    """A model's answers at one moment."""

    replies: list[tuple[str, str]]
    """(question, reply) of the samples that are shown."""
    new: EvalResult | None
    """Score on the questions about one's own data; None when there is no questions_path."""
    old: EvalResult | None
    """Score on the starter's own skills; None when the base is another model."""


class Summary:
    """Takes a snapshot before and one after the training, keeps both in the run's evals/, and prints the difference."""

    def __init__(self, run: Run, config: FinetuneConfig, samples: list[dict[str, Any]], say: Callable[[str], None]):
        """samples: conversations whose first question is asked when there is no questions_path."""
        self.run, self.say = run, say
        self.new = load_questions(config.questions_path) if config.questions_path else []
        is_starter = run.record().get("original_base") == "starter"
        self.old = load_questions(starter_dir() / "eval.jsonl") if is_starter else []
        self.samples = [question.messages for question in self.new[:SAMPLES]] or [
            _first_question(conversation) for conversation in samples[:SAMPLES]
        ]

    def take(self, name: str, model: GPT, tokenizer: Tokenizer) -> Snapshot:
        """Ask everything now; `name` is before or after."""
        if self.new or self.old:
            self.say(f"Asking {len(self.new) + len(self.old)} questions {name} the training ...")
        model.eval()
        engine = Engine(model, tokenizer)
        replies = [
            (messages[-1]["content"], engine.reply(messages, max_tokens=REPLY_TOKENS, temperature=0.0))
            for messages in self.samples
        ]
        taken = Snapshot(replies, _score(model, tokenizer, self.new), _score(model, tokenizer, self.old))
        write_json(self._path(name), asdict(taken))
        return taken

    def print(self) -> None:
        """Say what has changed between the two snapshots."""
        before, after = (snapshot(self.run, name) for name in ("before", "after"))
        if not before or not after:
            return
        for (question, old_reply), (_, new_reply) in zip(before["replies"], after["replies"]):
            self.say(
                f"\nQuestion: {_one_line(question)}\n  before: {_one_line(old_reply)}\n  after:  {_one_line(new_reply)}"
            )
        self.say("")
        for kind, title in (("new", "New questions answered"), ("old", "Old skills kept")):
            if after[kind] and before[kind]:
                first, last = in_both(before[kind], after[kind])
                then, now = first["correct"], last["correct"]
                kept = f" ({100 * now / then:.0f}% of before)" if kind == "old" and then else ""
                self.say(f"{title}: {then} of {last['total']} before, {now} after{kept}.")
                self.say(f"  {flips_of(last, first).verdict}")
                if said := unasked_words(unasked(first, last)):
                    self.say(f"  {said}")

    def _path(self, name: str) -> Path:
        return self.run.evals_dir / f"{name}.json"


def _score(model: GPT, tokenizer: Tokenizer, questions: list[Question]) -> EvalResult | None:
    return evaluate(model, tokenizer, questions, max_tokens=REPLY_TOKENS) if questions else None


def _first_question(conversation: dict[str, Any]) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = conversation["messages"]
    count = next(i for i, message in enumerate(messages) if message["role"] == "user") + 1
    return messages[:count]


def _one_line(text: str) -> str:
    return printable(" ".join(text.split())) or "(an empty reply)"
