"""Every benchmark runs, in its small form; no figure is asserted."""

import pytest

from benchmarks.load_memory import SMALL, measure, write_model


def test_the_memory_of_loading_is_measured(tmp_path):
    import torch

    write_model(tmp_path, SMALL, torch.bfloat16)
    found = measure(str(tmp_path), "bfloat16")
    assert found["weights"] == 2 * (2 * 65536 * 256 + 4 * 12 * 256 * 256)
    assert found["peak"] > found["weights"]
    assert found["first_token_seconds"] >= found["load_seconds"] > 0


def test_a_training_step_is_measured():
    import torch

    from benchmarks.train_step import GPTConfig, flops_per_token, measure

    config = GPTConfig(sequence_len=32, n_layer=2, n_embd=64, n_head=2, n_kv_head=2, vocab_size=512)
    seconds, losses = measure(config, torch.device("cpu"), steps=2)
    assert len(seconds) == len(losses) == 2
    assert losses[1] < losses[0]
    assert flops_per_token(config) == 6 * (2 * 12 * 64**2 + 512 * 64) + 6 * 2 * 64 * 32


def test_the_optimizer_is_measured(monkeypatch, capsys):
    from benchmarks import optimizer

    monkeypatch.setattr("sys.argv", ["optimizer", "--small", "--turns", "1"])
    optimizer.main()
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| tiny |")]
    assert [row.count("|") for row in rows] == [8, 10]
    monkeypatch.setattr(optimizer, "A", 3.0)  # another rule than ours, for the check
    monkeypatch.setattr(optimizer, "TOLERANCE", 0.9)
    with pytest.raises(AssertionError, match="off the exact one"):
        optimizer.main()
