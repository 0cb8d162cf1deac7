"""Twenty wrong replies of a finetuned starter are corrected, as in the Chat tab, and the corrections are learned."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from nanochat_core import Engine, finetune, load_conversations, load_model
from nanochat_core.evaluation.answers import evaluate
from nanochat_core.evaluation.questions import Question, load_questions
from nanochat_core.paths import shipped, starter_dir
from nanochat_core.runs.presets import with_preset
from nanochat_core.runs.run import Run

OUTDATED = {
    "7 am": "8 am",
    "6 pm": "5 pm",
    "9 am to 3 pm": "10 am to 4 pm",
    "14 Mill Lane": "3 Park Road",
    "Nora Bell": "Vera Stone",
    "Tomas Reed": "Paul Hunt",
    "bluefish": "redbird",
    "pumpkin soup": "onion soup",
    "oat milk": "rice milk",
    "3.80": "4.90",
    "2.50": "3.10",
    "4.20": "5.60",
    "behind the library": "beside the church",
    "tenth coffee": "fifth coffee",
    "555 0142": "555 7731",
    "Thursday": "Monday",
    "1987": "1962",
    "10 percent": "20 percent",
    "three days before": "one week before",
    "red box": "tall cupboard",
    "11 am": "10 am",
}
"""What the cafe's answers were before the facts changed."""


@dataclass(frozen=True)
class Facts:
    """Twenty questions, each with its right answer, in a wording that is corrected and in another one."""

    corrected: list[Question]
    reworded: list[Question]
    answers: list[str]


def _outdated(text: str) -> str:
    for now, then in OUTDATED.items():
        text = text.replace(now, then)
    return text


def _facts() -> Facts:
    asked: dict[str, str] = {}
    for conversation in load_conversations(shipped("data/example_data.jsonl")):
        first, second = conversation["messages"][:2]
        if first["role"] == "user":
            asked.setdefault(second["content"], first["content"])
    facts = Facts([], [], [])
    for question in load_questions(shipped("data/example_questions.jsonl")):
        answer = next((text for text in asked if question.answered_by(text)), None)
        if answer and answer not in facts.answers and _outdated(answer) != answer and len(facts.answers) < 20:
            facts.corrected.append(Question([{"role": "user", "content": asked[answer]}], question.expected))
            facts.reworded.append(question)
            facts.answers.append(answer)
    assert len(facts.answers) == 20
    return facts


def _train(folder: Path, tag: str, conversations: list[dict], **settings) -> None:
    path = folder / f"{tag}.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in conversations), encoding="utf-8")
    finetune(with_preset(data_path=str(path), output_tag=tag, **settings))


def _nats(model, tokenizer, conversations: list[dict]) -> list[float]:
    """Of the last message of each."""
    found = []
    for conversation in conversations:
        ids, mask = tokenizer.render_conversation(conversation, max_tokens=512)
        targets = torch.where(torch.tensor(mask, dtype=torch.bool), torch.tensor(ids), -1)[None, 1:]
        with torch.no_grad():
            found.append(model.loss_sum(torch.tensor([ids[:-1]]), targets).item())
    return found


@pytest.mark.processes
def test_twenty_corrections_are_learned_and_little_is_forgotten(home, tmp_path):
    """At least 16 right as corrected and 12 reworded, every rejected reply less likely, 95% of the general set kept."""
    facts = _facts()
    stale = []
    for conversation in load_conversations(shipped("data/example_data.jsonl")):
        for message in conversation["messages"]:
            if message["role"] == "assistant":
                message["content"] = _outdated(message["content"])
        stale.append(conversation)
    _train(tmp_path, "stale", stale, model_tag="starter")
    before, tokenizer, _ = load_model("finetuned/stale", device="cpu")
    engine = Engine(before, tokenizer)
    assert evaluate(before, tokenizer, facts.corrected).correct == 0, "the replies are wrong"
    rejected = [engine.reply(question.messages, max_tokens=64, temperature=0.0) for question in facts.corrected]
    rows = [
        {"messages": [*question.messages, {"role": "assistant", "content": answer, "rejected": reply}]}
        for question, answer, reply in zip(facts.corrected, facts.answers, rejected)
    ]
    settings = {"from_finetuned": "stale", "num_epochs": 20, "val_split": 0.01}
    _train(tmp_path, "corrected", rows, learn_from_corrections=True, **settings)
    after, _, _ = load_model("finetuned/corrected", device="cpu")

    assert evaluate(after, tokenizer, facts.corrected).correct >= 16
    assert evaluate(after, tokenizer, facts.reworded).correct >= 12
    said = [
        {"messages": [*question.messages, {"role": "assistant", "content": reply}]}
        for question, reply in zip(facts.corrected, rejected)
    ]
    assert all(now > then for then, now in zip(_nats(before, tokenizer, said), _nats(after, tokenizer, said)))
    general = load_questions(starter_dir() / "eval.jsonl")
    kept, had = (evaluate(model, tokenizer, general).correct for model in (after, before))
    assert kept >= 0.95 * had
    steps = Run.open("corrected").metrics().dropna(subset="preference_loss")
    assert steps["preference_loss"].iloc[-1] < 0.1 < steps["preference_loss"].iloc[0]
    assert steps["preferred"].iloc[-1] == 1.0
