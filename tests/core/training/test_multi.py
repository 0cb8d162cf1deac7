"""Two real processes over gloo against one: the same losses, whatever the number of conversations."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nanochat_core import FinetuneConfig, Run, finetune
from nanochat_core.data.tokens.plan import Plan, micro_batches, shares
from nanochat_core.runs import row_losses
from nanochat_core.tokenizer.rendering import Example, render
from tests.support.finetune_in_fp32 import muon_in_fp32
from tests.support.tiny import install_tiny_model, tiny_tokenizer, write_conversations

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parents[3]
SETTINGS = {
    "model_tag": "tiny",
    "num_epochs": 3,
    "target_examples_per_step": 8,
    "device_batch_size": 3,
    "init_lr_frac": 1.0,
    "eval_every": 4,
    "dtype": "float32",
}


def _torchrun(data: Path, tag: str, *program: str) -> subprocess.CompletedProcess:
    flags = [f"--{name}={value}" for name, value in SETTINGS.items()]
    return subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"),
            *(*(program or ("-m", "nanochat_core")), "finetune", f"--data_path={data}", f"--output_tag={tag}", *flags),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=300,  # only there to end a broken test
    )


def _losses(tag: str) -> tuple[list[float], list[float]]:
    metrics = Run.open(tag).metrics()
    return metrics["train_loss"].dropna().tolist(), metrics["val_loss"].dropna().tolist()


@pytest.mark.parametrize("count", [34, 21, 3])  # 31 and 19 to train on: odd; 2: one for each rank
def test_two_processes_give_the_losses_of_one(home, count):
    install_tiny_model(home)
    data = write_conversations(home / "data.jsonl", count)
    with muon_in_fp32:
        finetune(FinetuneConfig(str(data), output_tag="one", **SETTINGS))
    process = _torchrun(data, "two", "-m", "tests.support.finetune_in_fp32")
    assert process.returncode == 0, process.stderr
    assert "2 processes" in process.stdout
    assert process.stdout.count("Base model") == 1  # rank 0 alone speaks
    for one, two in zip(_losses("one"), _losses("two"), strict=True):
        assert two == pytest.approx(one, abs=3e-6)
    one, two = (row_losses.read(Run.open(tag).rows_file) for tag in ("one", "two"))
    assert two.visits.tolist() == one.visits.tolist()
    np.testing.assert_allclose(two.first, one.first, atol=1e-3)


def test_two_processes_with_muon_as_it_is(home):
    """It rounds to bf16, so that the order of a sum, which two processes add in another one, soon shows."""
    install_tiny_model(home)
    data = write_conversations(home / "data.jsonl", 21)
    finetune(FinetuneConfig(str(data), output_tag="one", **SETTINGS))
    process = _torchrun(data, "two")
    assert process.returncode == 0, process.stderr
    for one, two in zip(_losses("one"), _losses("two"), strict=True):
        assert two[0] == pytest.approx(one[0], rel=1e-6)
        assert two == pytest.approx(one, abs=3e-4)


def test_fewer_conversations_than_processes_are_refused(home):
    install_tiny_model(home)
    data = write_conversations(home / "data.jsonl", 2)
    process = _torchrun(data, "refused")
    assert process.returncode != 0
    assert "fewer than the 2 processes. Use at most 1 processes" in process.stderr


def test_the_followed_command_refuses_in_one_sentence(home):
    install_tiny_model(home)
    data = write_conversations(home / "data.jsonl", 2)
    process = subprocess.run(
        [sys.executable, "-m", "nanochat_core", "finetune", "--nproc=2", f"--data_path={data}", "--model_tag=tiny"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=300,  # only there to end a broken test
    )
    assert process.returncode == 2
    assert process.stderr.startswith("Error: There are 1 conversations to train on, fewer than the 2 processes.")
    assert len(process.stderr.splitlines()) == 1


@pytest.mark.parametrize("ranks", [1, 2, 3, 5, 8])
def test_every_conversation_once_an_epoch_for_any_number_of_ranks(tmp_path, ranks):
    conversations = [
        {"messages": [{"role": "user", "content": "a " * n}, {"role": "assistant", "content": "b"}]} for n in range(37)
    ]
    examples = render(conversations, tiny_tokenizer(), 64)
    plan = Plan(examples, [], 0.0, 8, seed=1)
    steps = plan.steps_from(plan.steps_per_epoch)  # the second epoch
    dealt = [
        example.index
        for _ in range(plan.steps_per_epoch)
        for step in [next(steps)]
        for batches in [micro_batches(step, 3)]
        for numbers in shares(batches, ranks)
        for number in numbers
        for example in batches[number]
    ]
    assert sorted(dealt) == list(range(37))


def test_ranks_share_micro_batches_by_their_tokens():
    batches = [[Example(np.zeros(length + 1, np.int32), np.ones(length + 1, bool), 0)] for length in (9, 5, 4, 3, 2)]
    assert shares(batches, 2) == [[0, 3], [1, 2, 4]]
    assert shares(batches, 1) == [[0, 1, 2, 3, 4]]
    assert shares(batches, 7)[5:] == [[], []]


def test_two_processes_stop_while_the_first_reads_the_data(home, tmp_path):
    """The second waits for what the first has read, and must not wait in vain."""
    install_tiny_model(home)
    data, script = write_conversations(home / "data.jsonl", 34), tmp_path / "asked.py"
    script.write_text(
        "import sys\n"
        "from nanochat_core import Run\n"
        "from nanochat_core.data import reader\n"
        "from nanochat_core.cli.main import main\n"
        "reader.BLOCK_BYTES = 200\n"
        "Run.stop_requested = lambda run: True\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    process = _torchrun(data, "two", str(script))
    assert process.returncode == 0, process.stderr
    assert process.stdout.count("Stopped before the training began") == 1
    assert Run.open("two").status().state == "stopped"
