"""The starter: its generator keeps the evaluation out of the training, and what is shipped does what it promises."""

import json
import random
import re
from collections import Counter

import pytest
import torch

from nanochat_core.calculator import calculate
from nanochat_core.checkpoint.loading import load_model
from nanochat_core.checkpoint.reading import read_meta, read_weights
from nanochat_core.data.conversations import check
from nanochat_core.engine.engine import Engine
from nanochat_core.evaluation.answers import evaluate
from nanochat_core.evaluation.questions import load_questions
from nanochat_core.paths import starter_dir
from nanochat_core.tokenizer.tokenizer import Tokenizer
from starter import generate, train
from starter.draw import Draw, is_held_out
from starter.exchange import visible
from starter.skills import SKILLS
from starter.wording_files import FOLDER, read_wordings

STARTER = starter_dir()


@pytest.fixture(scope="module")
def conversations():
    return [generate.conversation(10_000_000 + index) for index in range(1500)]


@pytest.fixture(scope="module")
def starter():
    model, tokenizer, _ = load_model("starter")
    return model, tokenizer


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9{}|+*/-]", "", text.lower())


def _users(messages: list[dict]) -> list[str]:
    return [message["content"] for message in messages if message["role"] == "user"]


def _parts(conversations: list[dict]) -> list[list[dict]]:
    contents = (message["content"] for conversation in conversations for message in conversation["messages"])
    return [content for content in contents if isinstance(content, list)]


def test_a_number_gives_one_conversation_for_ever():
    assert generate.conversation(5) == generate.conversation(5) != generate.conversation(6)


def test_generated_conversations_pass_the_projects_own_check(tmp_path, conversations):
    path = tmp_path / "generated.jsonl"
    generate.write_lines(path, conversations)
    report = check(path, Tokenizer.from_directory(STARTER), 512)
    assert report.conversations == len(conversations)
    assert report.verdict != "reject", report.summary()


def test_every_tool_output_is_what_the_calculator_says(conversations):
    called = _parts(conversations)
    assert len(called) > 200
    for call, output, _ in called:
        assert str(calculate(call["text"])) == output["text"]


def test_every_skill_can_be_asked_in_all_four_ways():
    for name, skill in SKILLS.items():
        for new_wordings in (False, True):
            for new_content in (False, True):
                exchange = skill.make(Draw(random.Random(name), new_wordings, new_content))
                assert exchange.turns
                assert exchange.expected


def test_no_wording_is_both_trained_and_held_out():
    files = sorted(FOLDER.glob("*.txt"))
    assert len(files) >= 10
    for path in files:
        for title, wordings in read_wordings(path.stem).items():
            trained = {_plain(line) for line in wordings.trained}
            assert not [line for line in wordings.held_out if _plain(line) in trained], (path.name, title)


def test_training_never_draws_a_held_out_word_and_the_evaluation_only_such():
    seen, kept = Draw(random.Random(1)), Draw(random.Random(1), new_content=True)
    for _ in range(300):
        assert not any(map(is_held_out, (seen.name(), seen.place(), seen.word())))
        assert all(map(is_held_out, (kept.name(), kept.place(), kept.word())))


def test_no_evaluated_question_occurs_in_training(conversations):
    trained = {_plain(text) for talk in [*conversations, *generate.replay()] for text in _users(talk["messages"])}
    asked = [_plain(question.messages[-1]["content"]) for question in load_questions(STARTER / "eval.jsonl")]
    assert not [question for question in asked if question in trained]


def test_the_shipped_files_are_what_the_generator_makes():
    rows = [json.loads(line) for line in (STARTER / "eval.jsonl").read_text(encoding="utf-8").splitlines()]
    assert rows == generate.evaluation(new_wordings=True, new_content=True)
    assert Counter(row["task"] for row in rows) == dict.fromkeys({skill.task for skill in SKILLS.values()}, 50)
    assert len({row["task"] for row in rows}) == 10
    replayed = (STARTER / "replay.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in replayed[:100]] == list(generate.replay(100))


def test_lists_name_different_things():
    for seed in range(200):
        exchange = SKILLS["lists"].make(Draw(random.Random(seed)))
        named = re.split(", | and ", visible(exchange.turns[0][1]).rstrip(".").lower())
        assert len(set(named)) == len(named)


@pytest.mark.parametrize("word", ["strawberry", "zodvoatell", "Mirela", "bookkeeper"])
def test_the_tokenizer_splits_a_word_alike_after_a_blank_and_after_a_quote(word):
    tokenizer = Tokenizer.from_directory(STARTER)
    pieces = [[tokenizer.decode([token]) for token in tokenizer.encode(text)] for text in (f" {word}", f"'{word}")]
    assert "".join(pieces[0]) == f" {word}"
    assert [piece.strip() for piece in pieces[0]] == pieces[1][1:]
    assert tokenizer.vocab_size == 4096


def test_digits_are_single_tokens():
    tokenizer = Tokenizer.from_directory(STARTER)
    assert [tokenizer.decode([token]) for token in tokenizer.encode("1234+5")] == ["1", "2", "3", "4", "+", "5"]


def test_a_miniature_training_lowers_the_loss_and_saves_a_loadable_model(tmp_path, monkeypatch):
    shape = train.GPTConfig(sequence_len=512, vocab_size=4096, n_layer=1, n_head=2, n_kv_head=2, n_embd=64)
    monkeypatch.setattr(train, "SHAPE", shape)
    monkeypatch.setattr(train, "BATCH_TOKENS", 1024)
    monkeypatch.setattr(train, "POOL", 64)
    monkeypatch.setattr(train, "WARMUP_STEPS", 5)
    steps = train.train(tmp_path, tokens=40_000)
    log = [json.loads(line) for line in (tmp_path / "train_log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in log if "loss" in line]
    assert steps > 30
    assert losses[-1] < losses[0] - 1.5
    Tokenizer.from_directory(STARTER).save(tmp_path / "tokenizer.pkl")
    model, _, meta = load_model(str(tmp_path))
    assert (model.config.n_embd, meta["step"]) == (64, steps)


def test_what_is_shipped_is_one_small_bf16_file_with_its_own_log():
    [weights] = STARTER.glob("model_*.pt")
    [meta_file] = STARTER.glob("meta_*.json")
    tensors, meta = read_weights(weights), read_meta(meta_file)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    assert weights.stat().st_size < 12_000_000
    assert 5_000_000 < sum(tensor.numel() for tensor in tensors.values()) < 5_500_000
    *_, last = (STARTER / "train_log.jsonl").read_text().splitlines()
    assert json.loads(last) == {
        "finished": True,
        "step": meta["step"],
        "tokens": meta["tokens"],
        "supervised": meta["supervised_tokens"],
    }


def _chat(starter, *turns: str) -> str:
    model, tokenizer = starter
    engine, messages = Engine(model, tokenizer), []
    for text in turns:
        messages.append({"role": "user", "content": text})
        messages.append({"role": "assistant", "content": engine.reply(messages, max_tokens=64, temperature=0.0)})
    return messages[-1]["content"]


def test_it_counts_letters_with_the_calculator(starter):
    assert "3 r" in _chat(starter, "How many r are in strawberry?")


def test_it_remembers_a_name_told_two_turns_before(starter):
    assert "Mirela" in _chat(starter, "My name is Mirela.", "What is the capital of France?", "What is my name?")


@pytest.mark.parametrize("question", ["Name three fruits", "Name three fruits."])
def test_it_names_three_different_fruits(starter, question):
    fruits = set(re.findall(r"\w+", _chat(starter, question).lower())) - {"and"}
    assert len(fruits) == 3
    assert fruits <= {"apple", "banana", "cherry", "grape", "lemon", "mango", "orange", "peach", "pear", "plum"}


def test_it_says_what_it_is(starter):
    assert "starter (5M, practice only)" in _chat(starter, "Who are you?")


@pytest.mark.parametrize(
    "question", ["What is the capital of Mongolia?", "Who is Zorbal Trunk?", "Write a poem about the sea."]
)
def test_it_refuses_what_it_cannot_know(starter, question):
    assert _chat(starter, question).startswith("I am sorry")


def test_it_keeps_its_accuracy(starter):
    questions = load_questions(STARTER / "eval.jsonl")[::5]
    result = evaluate(*starter, questions)
    assert result.accuracy >= 0.85, {task: f"{score.correct}/{score.total}" for task, score in result.tasks.items()}
