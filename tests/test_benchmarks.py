"""Every benchmark runs, in its small form; no figure is asserted. The app's is in e2e/: it needs the browser."""

import subprocess
import sys

import pytest

from benchmarks.load_memory import SMALL, measure, write_model
from benchmarks.pairs import ratio, table, take_turns
from nanochat_core.paths import PROJECT_ROOT

pytestmark = pytest.mark.processes

BALLAST = 200 << 20
"""Bytes of memory that a measurement is not to contain."""


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


def test_the_doctor_and_the_trace_are_measured():
    printed = _printed("rows", "--rows", "300")
    assert "300 rows" in printed
    assert "a reply: median" in printed
    assert "doctor:" in printed


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


def test_the_memory_modes_are_measured():
    shown = _printed("memory_modes", "--small", "--dtypes", "bfloat16", "--only", "time")
    assert "| plain |" in shown
    assert "| layerwise, fixed_sums |" in shown


def test_the_evaluation_is_measured():
    shown = _printed("evaluation", "--small").splitlines()
    assert shown[-1].split("|")[2:4] == [" 10 ", " 10 "]
    assert [line for line in shown if line.endswith("% |") and "| 140 | 11 |" in line]


def test_tokenizing_is_measured():
    shown = _printed("tokenizing", "--small")
    assert "1000 conversations: the ids and masks of render_conversation" in shown
    assert "ours / tiktoken" in shown
    assert shown.splitlines()[-1].startswith("| 3,000 |")
    assert "| none |" in shown.splitlines()[-1]  # so small a file has no workers, whatever else was started


def test_the_memory_of_a_measured_process_holds_nothing_of_the_one_that_started_it(tmp_path):
    from benchmarks.tokenizing import run_ours, write_file

    path, found = write_file(tmp_path / "data.jsonl", 200), []
    for size in (0, BALLAST):
        ballast = b"x" * size
        found.append(run_ours(path, cores=1))
    assert len(ballast) == BALLAST  # it was there until now
    for name in ("before", "parent"):
        assert 20e6 < found[0][name] < 150e6
        assert abs(found[1][name] - found[0][name]) < 20e6
    assert "worker" not in found[0]


def test_the_memory_of_workers_is_theirs(tmp_path, monkeypatch):
    from benchmarks.tokenizing import data_workers, ours, write_file
    from nanochat_core.data import survey

    end, ballast = data_workers._Worker.end, b"x" * BALLAST
    monkeypatch.setattr(survey, "useful_workers", lambda size: 2)
    found = ours(str(write_file(tmp_path / "data.jsonl", 200)))
    assert found["parent"] >= found["before"] > len(ballast)
    assert 20e6 < found["worker"] < 150e6
    assert data_workers._Worker.end is end


def test_the_memory_of_a_peak_before_does_not_count():
    code = """
from benchmarks.memory import forget_peak
from nanochat_core.system.processes import peak_bytes
before, size = forget_peak(), 200 << 20
ballast = b"x" * size
print((peak_bytes() - before) / size)
del ballast
print((peak_bytes() - before) / size, (forget_peak() - before) / size)
"""
    # In a process of its own: in a long one others' memory may be given back at any time.
    printed = subprocess.check_output([sys.executable, "-c", code], cwd=PROJECT_ROOT, text=True)
    with_it, after, forgotten = map(float, printed.split())
    assert with_it > 0.9
    assert after > 0.9
    assert forgotten < 0.1


def test_replies_are_measured_and_equal():
    printed = _printed("chat", "--small")
    assert "| transformers, static cache, fp32 |" in printed
    assert printed.count("| all |") == 4  # ours, ours by torch, and transformers with either cache write the same
    assert "8 conversations at once" in printed
    assert "starter's perplexity" in printed


def test_growth_is_measured_whatever_the_size_of_the_process_that_starts_it(monkeypatch, capsys):
    from benchmarks import growth

    series, row, ballast = {}, growth._row, b"x" * BALLAST
    monkeypatch.setattr("sys.argv", ["growth", "--small"])
    monkeypatch.setattr(growth, "_row", lambda name, points: series.update({name: points}) or row(name, points))
    growth.main()
    assert len(ballast) == BALLAST  # it was there until now
    printed = capsys.readouterr().out
    assert printed.count("| training") == 5
    assert "| check and tokenize (s), conversations in the file | 100, 200 |" in printed
    for point in series["training memory (bytes), model size (parameters)"]:
        assert point["found"] > 12 * point["at"]  # weights, gradients, Muon's momentum in fp32
    for point in series["its memory without workers (bytes), conversations in the file"]:
        assert 20e6 < point["theory"] < point["found"] < 150e6
