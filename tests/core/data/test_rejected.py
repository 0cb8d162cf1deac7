"""Rejected answers of a data file: found, rendered after the same beginning, left out where they do not fit."""

import json

import numpy as np
import pytest

from nanochat_core import FinetuneConfig, load_conversations
from nanochat_core.data.training_data import load_training_data
from nanochat_core.paths import starter_dir
from nanochat_core.tokenizer.tokenizer import Tokenizer

ROW = {
    "messages": [
        {"role": "user", "content": "When do you open?"},
        {"role": "assistant", "content": "At seven.", "rejected": "We never do."},
        {"role": "user", "content": "And on Sunday?"},
        {"role": "assistant", "content": "At eight."},
    ]
}


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.from_directory(starter_dir())


def _config(tmp_path, rows, **settings):
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    settings = {"learn_from_corrections": True, "max_seq_len": 256, "val_split": 0.01, **settings}
    return FinetuneConfig(str(path), model_tag="starter", **settings)


def _plain(text="x"):
    return {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": text * 2}]}


def _find(data):
    return [one for one in [*data.train, *data.validation] if one.rejected]


def test_the_rejected_answer_follows_the_same_beginning(tmp_path, tokenizer):
    config = _config(tmp_path, [*(_plain(f"q{n}") for n in range(9)), ROW, ROW])
    data = load_training_data(config, tokenizer)
    (example,) = _find(data)[:1]
    (rejected,) = example.rejected
    start, end = rejected.chosen
    assert tokenizer.decode(example.ids[start:end].tolist()) == "At seven.<|assistant_end|>"
    assert (rejected.ids[:start] == example.ids[:start]).all()
    assert tokenizer.decode(rejected.ids[rejected.mask].tolist()) == "We never do.<|assistant_end|>"
    assert not rejected.mask[:start].any()
    assert example.inputs == len(example.ids) - 1 + len(rejected.ids) - 1


def test_token_counts_include_rejected_answers(tmp_path, tokenizer):
    data = load_training_data(_config(tmp_path, [ROW] * 5), tokenizer)
    assert data.train.inputs.tolist() == [one.inputs for one in data.train]
    assert data.train[1:3].inputs.tolist() == [one.inputs for one in data.train][1:3]
    assert any("prefer" in note and note.startswith("4 answers") for note in data.notes)


def test_without_the_setting_nothing_is_rejected(tmp_path, tokenizer):
    data = load_training_data(_config(tmp_path, [ROW] * 5, learn_from_corrections=False), tokenizer)
    assert not _find(data)


def test_a_pair_that_does_not_fit_is_left_out_and_said(tmp_path, tokenizer):
    long = json.loads(json.dumps(ROW))
    long["messages"][1]["rejected"] = "no " * 400
    data = load_training_data(_config(tmp_path, [ROW, long, ROW, long]), tokenizer)
    assert sum(len(one.rejected) for one in data.train) < 4
    assert any("longer than max_seq_len: trained without" in note for note in data.notes)


def test_an_answer_that_is_not_trained_has_no_pair(tmp_path, tokenizer):
    unlearned = json.loads(json.dumps(ROW))
    unlearned["messages"][1]["train"] = False
    with pytest.raises(ValueError, match="There is no correction to learn from"):
        load_training_data(_config(tmp_path, [unlearned] * 4), tokenizer)


@pytest.mark.parametrize("rows", [[_plain(f"q{n}") for n in range(4)]])
def test_no_pairs_at_all_is_said_with_the_remedy(tmp_path, tokenizer, rows):
    with pytest.raises(ValueError, match="Correct replies in the Chat tab or import preference pairs"):
        load_training_data(_config(tmp_path, rows), tokenizer)


def test_load_conversations_keeps_what_was_rejected(tmp_path):
    config = _config(tmp_path, [ROW, ROW])
    assert load_conversations(config.data_path)[0]["messages"][1]["rejected"] == "We never do."


@pytest.mark.parametrize("key", ["rejected", "Rejected_Response", "dispreferred", "loser"])
def test_other_names_of_the_key_are_known(tmp_path, tokenizer, key):
    row = json.loads(json.dumps(ROW))
    row["messages"][1][key] = row["messages"][1].pop("rejected")
    assert _find(load_training_data(_config(tmp_path, [row] * 3), tokenizer))


def test_a_rejected_answer_in_parts(tmp_path, tokenizer):
    row = json.loads(json.dumps(ROW))
    parts = [{"type": "python", "text": "1+1"}, {"type": "python_output", "text": "2"}, {"type": "text", "text": "2."}]
    row["messages"][1]["rejected"] = parts
    (example, *_) = _find(load_training_data(_config(tmp_path, [row] * 3), tokenizer))
    learned = tokenizer.decode(example.rejected[0].ids[np.flatnonzero(example.rejected[0].mask)].tolist())
    assert learned == "<|python_start|>1+1<|python_end|>2.<|assistant_end|>"
