"""Loss, token accuracy, bits per byte and KL against a plain computation in fp64, in any batches and processes."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from nanochat_core.compute.ranks import Ranks, joined_ranks
from nanochat_core.evaluation.figures import figures
from nanochat_core.evaluation.gauge import read_gauge, write_gauge
from nanochat_core.evaluation.validation import validate
from nanochat_core.model.batch import pack
from nanochat_core.model.predictions import divergence, predictions
from nanochat_core.tokenizer.rendering import render
from tests.support.reference_model import reference_logits
from tests.support.tiny import tiny_model, tiny_tokenizer

ROOT = Path(__file__).parents[3]
WORDS = "the name of three fruits is not what you say there and how do they go"


def _examples():
    talks = []
    for number in range(13):
        text = " ".join(WORDS.split()[number % 5 : 3 + number])
        user = {"role": "user", "content": f"{text}?"}
        talks.append({"messages": [user, {"role": "assistant", "content": f"{text} é {number}."}] * (1 + number % 3)})
    return render(talks, tiny_tokenizer(), 64)


def _reference(model, example):
    """(fp64 logits at each supervised place, the targets there) of one conversation, token by token."""
    shape = {**vars(model.config), "generation": model.config.generation}
    logits = reference_logits(dict(model.state_dict()), shape, example.ids[:-1].tolist())
    places = np.flatnonzero(example.mask[1:])
    return logits[places], torch.tensor(example.ids[1:][places].astype(np.int64))


def _expected(model, examples):
    """Loss, bits per byte and token accuracy by the definition."""
    nats, right, sizes = [], [], []
    token_bytes = tiny_tokenizer().token_bytes()
    for example in examples:
        logits, targets = _reference(model, example)
        nats += (-torch.log_softmax(logits, 1)[torch.arange(len(targets)), targets]).tolist()
        right += (logits.argmax(1) == targets).tolist()
        sizes += [token_bytes[token] for token in targets.tolist()]
    of_bytes = sum(one for one, size in zip(nats, sizes) if size)
    return sum(nats) / len(nats), of_bytes / (math.log(2) * sum(sizes)), sum(right) / len(right)


@pytest.fixture(scope="module")
def known():
    """The models, the conversations, and what is expected of both."""
    model, base, examples = tiny_model(), tiny_model(seed=5), _examples()
    kl = []
    for example in examples:
        ours, theirs = (torch.log_softmax(_reference(one, example)[0], 1) for one in (model, base))
        kl += (theirs.exp() * (theirs - ours)).sum(1).tolist()
    return model, base, examples, _expected(model, examples), sum(kl) / len(kl)


@pytest.mark.parametrize("batch_size", [1, 8])
def test_the_figures_are_those_of_a_plain_computation_in_fp64(known, batch_size):
    model, _, examples, expected, _ = known
    token_bytes, alone = torch.tensor(tiny_tokenizer().token_bytes()), Ranks(0, 1, torch.device("cpu"))
    found = figures(model, examples, token_bytes, alone, batch_size)
    assert (found.loss, found.bits_per_byte, found.token_accuracy) == pytest.approx(expected, abs=1e-6)
    assert found.tokens.tolist() == [example.supervised for example in examples]
    during_training = validate(model, examples, token_bytes, alone, batch_size)
    assert (during_training.loss, during_training.bits_per_byte) == pytest.approx(expected[:2], abs=1e-6)


def test_each_conversation_has_its_own_figures(known):
    model, _, examples, _, _ = known
    token_bytes, alone = torch.tensor(tiny_tokenizer().token_bytes()), Ranks(0, 1, torch.device("cpu"))
    together = figures(model, examples, token_bytes, alone, 8)
    for place, example in enumerate(examples):
        loss, bits, accuracy = _expected(model, [example])
        one = [together.nats[place] / together.tokens[place], together.right[place] / together.tokens[place]]
        assert one == pytest.approx([loss, accuracy], abs=1e-5)
        assert together.nats_of_bytes[place] / math.log(2) / together.bytes[place] == pytest.approx(bits, abs=1e-5)


@pytest.mark.parametrize("batch_size", [1, 8])
def test_the_gauge_of_a_validation_is_that_divergence(known, tmp_path, batch_size):
    model, base, examples, expected, kl = known
    token_bytes, alone = torch.tensor(tiny_tokenizer().token_bytes()), Ranks(0, 1, torch.device("cpu"))
    write_gauge(tmp_path / "base.pt", base, examples, batch_size, alone)
    gauge = read_gauge(tmp_path / "base.pt")
    found = validate(model, examples, token_bytes, alone, batch_size, gauge)
    assert found.kl_from_base == pytest.approx(kl, abs=1e-6)
    assert found.loss == pytest.approx(expected[0], abs=1e-6)
    assert validate(base, examples, token_bytes, alone, batch_size, gauge).kl_from_base == 0.0


def test_a_gauge_of_many_conversations_keeps_some_of_every_length(known, tmp_path, monkeypatch):
    model, base, examples, _, _ = known
    tokens = sum(example.supervised for example in examples)
    monkeypatch.setattr("nanochat_core.evaluation.gauge.GAUGE_TOKENS", tokens // 4)
    token_bytes, alone = torch.tensor(tiny_tokenizer().token_bytes()), Ranks(0, 1, torch.device("cpu"))
    write_gauge(tmp_path / "base.pt", base, examples, 1, alone)
    gauge = read_gauge(tmp_path / "base.pt")
    kept = [examples[place] for place in sorted(range(13), key=lambda place: (-examples[place].inputs, place))]
    kept = [kept[number] for number in gauge.states]
    assert 2 <= len(kept) <= 4
    assert [len(state) for state in gauge.states.values()] == [example.supervised for example in kept]
    found = validate(model, examples, token_bytes, alone, 1, gauge).kl_from_base
    theirs = (torch.log_softmax(_reference(base, example)[0], 1) for example in kept)
    ours = (torch.log_softmax(_reference(model, example)[0], 1) for example in kept)
    nats = torch.cat([(b.exp() * (b - m)).sum(1) for b, m in zip(theirs, ours)])
    assert found == pytest.approx(nats.mean().item(), abs=1e-6)


def test_a_damaged_gauge_is_told_with_its_remedy(known, tmp_path):
    _, base, examples, _, _ = known
    path = tmp_path / "base.pt"
    write_gauge(path, base, examples, 8, Ranks(0, 1, torch.device("cpu")))
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="without the distance from its base"):
        read_gauge(path)


@pytest.mark.parametrize("size", [1, 8])
def test_the_divergence_is_that_of_the_whole_distributions(known, size):
    model, base, examples, _, expected = known
    nats = []
    for start in range(0, len(examples), size):
        batch = pack(examples[start : start + size])
        hidden, theirs = (one.hidden(batch.ids, batch.layout, batch.wanted)[0] for one in (model, base))
        nats += divergence(theirs, base.lm_head.weight, hidden, model.lm_head.weight).tolist()
    assert sum(nats) / len(nats) == pytest.approx(expected, abs=1e-6)
    assert min(nats) > 0


def test_chunks_change_no_figure(known, monkeypatch):
    model, base, examples, _, _ = known
    batch = pack(examples)
    hidden, theirs = (one.hidden(batch.ids, batch.layout, batch.wanted)[0] for one in (model, base))
    heads = base.lm_head.weight, model.lm_head.weight
    whole = divergence(theirs, heads[0], hidden, heads[1]), predictions(hidden, heads[1], batch.labels)
    monkeypatch.setattr("nanochat_core.model.loss.CHUNK_ROWS", 3)
    monkeypatch.setattr("nanochat_core.model.loss.CHUNK_ELEMENTS", 1)
    parts = divergence(theirs, heads[0], hidden, heads[1]), predictions(hidden, heads[1], batch.labels)
    assert torch.allclose(whole[0], parts[0], atol=1e-6)
    assert torch.allclose(whole[1].nats, parts[1].nats, atol=1e-6)
    assert torch.equal(whole[1].right, parts[1].right)


@pytest.mark.processes
@pytest.mark.parametrize("batch_size", [1, 8])
def test_two_processes_have_the_figures_of_one(known, tmp_path, batch_size):
    _, base, examples, expected, kl = known
    write_gauge(tmp_path / "base.pt", base, examples, batch_size, Ranks(0, 1, torch.device("cpu")))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    out = tmp_path / "figures"
    done = subprocess.run(
        [*command, "-m", "tests.core.evaluation.test_figures", str(out), str(tmp_path / "base.pt"), str(batch_size)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,  # only there to end a broken test
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(Path(f"{out}{rank}").read_text()) for rank in (0, 1)]
    assert found[0] == found[1]
    figures, tokens, during_training = found[0]
    assert figures == pytest.approx(expected, abs=1e-6)
    assert tokens == [example.supervised for example in examples]
    assert during_training == pytest.approx([*expected[:2], kl], abs=1e-6)


def _of_this_rank(out: str, base: str, batch_size: str) -> None:
    with joined_ranks("cpu") as ranks:
        size = int(batch_size)
        token_bytes = torch.tensor(tiny_tokenizer().token_bytes())
        found = figures(tiny_model(), _examples(), token_bytes, ranks, size)
        during = validate(tiny_model(), _examples(), token_bytes, ranks, size, read_gauge(Path(base)))
        told = [[found.loss, found.bits_per_byte, found.token_accuracy], found.tokens.tolist()]
        told.append([during.loss, during.bits_per_byte, during.kl_from_base])
        Path(f"{out}{ranks.rank}").write_text(json.dumps(told))


if __name__ == "__main__":
    _of_this_rank(*sys.argv[1:])
