"""Every benchmark runs, in its small form; no figure is asserted. (The app's is in e2e/: it needs the browser.)"""

import subprocess
import sys

import pytest

from benchmarks.load_memory import SMALL, measure, write_model
from benchmarks.pairs import ratio, table, take_turns


def _printed(name: str, *arguments: str) -> str:
    """What `python -m benchmarks.<name>` prints; it must end well."""
    command = [sys.executable, "-m", f"benchmarks.{name}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_variants_take_turns_and_the_first_turn_does_not_count():
    order = []

    def variant(name: str, values: list[float]):
        return lambda: order.append(name) or values.pop(0)

    found = take_turns({"a": variant("a", [0, 4, 9]), "b": variant("b", [0, 2, 3])}, turns=2)
    assert order == ["a", "b"] * 3
    assert found == {"a": [4, 9], "b": [2, 3]}
    assert ratio(found["a"], found["b"]) == (2.5, 2, 3)
    assert str(ratio(found["a"], found["b"])) == "2.50x (2.00 to 3.00)"
    with pytest.raises(ValueError):
        ratio([1.0, 2.0], [1.0])
    assert table(["x"], [["1"]]) == "| x |\n| --- |\n| 1 |"


def test_the_data_tab_is_measured():
    assert "check (the command line's)" in _printed("data_tab", "--conversations", "300")


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


def test_training_is_measured_beside_peers_and_found_equal():
    loops = ("usual loop", "transformers, plain loop", "ours")
    printed = _printed("training", "--small", "--precisions", "fp32", "--loops", *loops)
    assert "Losses and gradient norms are equal." in printed
    assert all(f"| {loop}, fp32 |" in printed for loop in loops)


def test_a_loop_with_another_loss_is_refused():
    from benchmarks.training import Step, check_equal

    right, wrong = Step(1, 1, 2.0, 3.0), Step(1, 1, 2.0, 3.001)
    check_equal({("ours", "fp32"): right, ("ours", "bf16"): wrong}, {"ours": right})
    with pytest.raises(ValueError, match="ours in fp32 has norm"):
        check_equal({("ours", "fp32"): wrong}, {"ours": right})


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


def test_tokenizing_is_measured():
    shown = _printed("tokenizing", "--small")
    assert "1000 conversations: the ids and masks of render_conversation" in shown
    assert "ours / tiktoken" in shown
    assert shown.splitlines()[-1].startswith("| 3,000 |")


def test_replies_are_measured_and_equal():
    printed = _printed("chat", "--small")
    assert "| transformers, static cache, fp32 |" in printed
    assert printed.count("| all |") == 4  # ours, ours by torch, and transformers with either cache write the same
    assert "8 conversations at once" in printed
    assert "starter's perplexity" in printed


def test_growth_is_measured():
    printed = _printed("growth", "--small")
    assert printed.count("| training") == 5
    assert "| check and tokenize (s), conversations in the file | 100, 200 |" in printed
