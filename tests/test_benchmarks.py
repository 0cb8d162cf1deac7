"""Every benchmark runs, in its small form; no figure is asserted."""

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


def test_tokenizing_is_measured(capsys, monkeypatch, home):
    from benchmarks import tokenizing

    monkeypatch.setattr("sys.argv", ["tokenizing", "--small"])
    tokenizing.main()
    shown = capsys.readouterr().out
    assert "1000 conversations: the ids and masks of render_conversation" in shown
    assert "ours / tiktoken" in shown
    assert shown.splitlines()[-1].startswith("| 3,000 |")
