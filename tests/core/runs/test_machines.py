"""Two machines for one run: two torchrun agents on loopback, whose homes share nothing but the runs' folder."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nanochat_core import FinetuneConfig, Run, finetune
from nanochat_core.runs.launcher import start_run
from nanochat_core.runs.machines import LOST_MACHINE
from nanochat_core.runs.nodes import Nodes
from nanochat_core.system import processes
from tests.e2e.invented import invent_run
from tests.support.short_training import changed
from tests.support.tiny import install_tiny_model, write_conversations

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parents[3]
SECONDS = 300
"""Only there to end a broken test."""


class Machine:
    """One of the two: its own home, model and data, and the command that was typed on it."""

    def __init__(self, home: Path, rank: int, endpoint: str):
        self.home, self.rank, self.endpoint = home, rank, endpoint
        self.process: subprocess.Popen | None = None

    def type(self, *flags: str) -> None:
        """`finetune` as a person starts it here."""
        meeting = ["--nnodes=2", f"--node_rank={self.rank}", f"--rdzv_endpoint={self.endpoint}"]
        self._start("-m", "nanochat_core", "finetune", "--nproc=1", *meeting, "--data_path=data.jsonl", *flags)

    def start(self, settings: dict, worker: str, max_restarts: int = 1, **variables: str) -> None:
        """The same with another worker."""
        nodes = f"Nodes(2, {self.rank}, {self.endpoint!r}, {max_restarts})"
        what = {**settings, "data_path": str(self.home / "data.jsonl")}
        code = (
            "import sys, json; from nanochat_core import FinetuneConfig; from nanochat_core.cli.follow import follow\n"
            "from nanochat_core.runs.launcher import join_run, start_run; from nanochat_core.runs.nodes import Nodes\n"
            f"config, nodes = FinetuneConfig(**json.loads(sys.argv[1])), {nodes}\n"
            f"if nodes.rank: join_run(config, 1, nodes, {worker!r})\n"
            f"follow(start_run(config, 1, worker={worker!r}, nodes=nodes))\n"
        )
        self._start("-c", code, json.dumps(what), **variables)

    def _start(self, *command: str, **variables: str) -> None:
        names = {"NANOCHAT_STUDIO_HOME": str(self.home), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **variables}
        self.process = subprocess.Popen(
            [sys.executable, *command],
            cwd=self.home,
            env={**os.environ, **names},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def end(self) -> str:
        """What it printed, once it is over."""
        try:
            return self.process.communicate(timeout=SECONDS)[0]
        except subprocess.TimeoutExpired:
            self.lose()
            raise AssertionError(f"Machine {self.rank} does not end: {self.process.communicate()[0]}") from None

    def lose(self) -> None:
        """The machine is gone, with everything on it."""
        everything = processes.tree(processes.identity(self.process.pid))
        processes.kill(everything)
        self.process.wait()


@pytest.fixture
def machines(home, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{free.getsockname()[1]}"
    other = tmp_path / "other"
    install_tiny_model(home)
    write_conversations(home / "data.jsonl", 35)
    shutil.copytree(home, other)
    (home / "models" / "finetuned").mkdir()
    (other / "models" / "finetuned").symlink_to(home / "models" / "finetuned")
    both = [Machine(home, 0, endpoint), Machine(other, 1, endpoint)]
    yield both
    for machine in both:
        if machine.process and machine.process.poll() is None:
            machine.lose()
    for run in Run.list():
        run.stop(wait=0, kill=True)


SETTINGS = {"model_tag": "tiny", "target_examples_per_step": 8, "device_batch_size": 2, "dtype": "float32"}


def until(condition, machines) -> None:
    limit = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < limit, [machine.process.poll() for machine in machines]
        time.sleep(0.1)


def step_of(tag: str) -> int:
    return Run.open(tag).status().step if tag in {run.tag for run in Run.list()} else 0


def test_a_lost_process_starts_the_run_again_from_its_checkpoint(machines, home):
    settings = {**SETTINGS, "num_iterations": 8, "eval_every": 4, "save_every": 3, "output_tag": "two"}
    for machine in machines:
        machine.start(settings, "tests.support.dying_worker", DIES_AT="5")
    first, second = (machine.end() for machine in machines)
    run = Run.open("two")
    status = run.status()
    assert (status.state, status.step, status.restarts) == ("finished", 8, 1), first + second
    assert status.nodes == [socket.gethostname()] * 2
    assert "Resuming from the checkpoint of step 4." in first  # the best one, after the validation there
    assert "this machine's part is over." in second
    alone = finetune(changed(FinetuneConfig(str(home / "data.jsonl"), **settings), output_tag="one"))
    for name in ("train_loss", "val_loss"):
        one, two = (each.metrics()[name].dropna().tolist() for each in (alone, run))
        assert two == pytest.approx(one, abs=3e-4)
    assert list((machines[1].home / "models").iterdir())  # and nothing of the run in its own home
    assert {path.name for path in (run.path / ".beats").iterdir()} == {"0"}


def test_a_lost_machine_joins_again(machines):
    flags = [f"--{name}={value}" for name, value in SETTINGS.items()]
    flags += ["--num_iterations=200", "--eval_every=200", "--save_every=10", "--output_tag=two", "--max_restarts=2"]
    for machine in machines:
        machine.type(*flags)
    until(lambda: step_of("two") >= 10, machines)
    machines[1].lose()
    until(lambda: "starts again" in (Run.open("two").status().doing or ""), machines)
    machines[1].type(*flags)
    first, second = (machine.end() for machine in machines)
    status = Run.open("two").status()
    assert (status.state, status.step, status.restarts) == ("finished", 200, 1), first + second
    assert "Resuming from the checkpoint of step" in first


@pytest.mark.parametrize(
    ("failing", "fails", "hangs", "restarts"),
    [
        (1, "The row is torn.", "0", 0),
        (1, "The row is torn.", "1", 0),
        (1, "The row is torn.", "1", 1),
        (1, "killed", "1", 0),
        (0, "The row is torn.", "1", 0),
    ],
)
def test_the_cause_on_one_machine_ends_the_other_and_is_the_runs(machines, failing, fails, hangs, restarts):
    """Also where the other's network does not tell it that its peer is gone: it hangs for an hour here."""
    settings = {**SETTINGS, "num_iterations": 8, "eval_every": -1, "output_tag": "two"}
    for machine in machines:
        how = {"FAILING": str(failing), "FAILS": fails, "HANGS": hangs}
        machine.start(settings, "tests.support.failing_machine", restarts, **how)
    first, second = (machine.end() for machine in machines)
    late = time.time() - float((machines[failing].home / "failed_at").read_text())
    status = Run.open("two").status()
    sentence = "Process 1 of the training (rank 1) was killed" if fails == "killed" else fails
    assert (status.state, status.rank, status.is_mistake) == ("failed", failing, fails != "killed"), first + second
    assert status.error.startswith(sentence), first + second
    assert status.restarts in (None, 0)
    assert late < 60  # a few seconds, where nothing else runs
    print(f"Ended {late:.1f} s after the failure.")


def test_a_process_that_fails_after_the_end_starts_nothing_again(machines):
    settings = {**SETTINGS, "num_iterations": 1, "eval_every": -1, "output_tag": "two"}
    for machine in machines:
        machine.start(settings, "tests.support.stumbling_worker")
    first, second = (machine.end() for machine in machines)
    assert "this machine's part is over." in second
    status = Run.open("two").status()
    assert (status.state, status.restarts) == ("finished", 0), first + second
    assert machines[0].process.returncode == 0


def test_a_mistake_is_said_and_starts_nothing_again(home):
    install_tiny_model(home)
    data = write_conversations(home / "data.jsonl", 35)
    config = FinetuneConfig(str(data), **SETTINGS, output_tag="two")
    run = start_run(config, 1, worker="tests.support.mistaken_worker", nodes=Nodes(1, max_restarts=2))
    status = run.wait(SECONDS)
    assert (status.state, status.error) == ("failed", "There are 8 processes and 4 devices."), run.log_tail()
    assert status.is_mistake
    assert run.log_tail(1000).count("Begun.") == 1


def test_another_machine_goes_by_what_the_run_has_said(home):
    run = invent_run("two", "running")
    run.write_launch(pid=1, start=1.0, boot_id="of another machine")
    assert run.status().is_over  # as far as this machine can see
    assert not run.has_ended()
    run.write_status(state="failed")
    assert run.has_ended()


def test_with_no_restart_left_it_ends_in_words(machines):
    flags = [f"--{name}={value}" for name, value in SETTINGS.items()]
    flags += ["--num_iterations=100000", "--eval_every=100000", "--output_tag=two"]
    machines[0].type(*flags)
    until(lambda: step_of("two") == 0 and (machines[0].home / "models/finetuned/two/status.json").is_file(), machines)
    until(lambda: "Waiting for 1 of 2 machines" in (Run.open("two").status().doing or ""), machines)
    machines[1].type(*flags)
    until(lambda: step_of("two") >= 2, machines)
    machines[1].lose()
    said = machines[0].end()
    status = Run.open("two").status()
    assert (status.state, status.error, status.nodes_wanted) == ("failed", LOST_MACHINE, 2), said
    assert "typed again on all machines, with --resume" in status.remedy
    assert machines[0].process.returncode == 1
    assert LOST_MACHINE in said


def test_another_base_on_one_machine_is_refused_everywhere(machines):
    from nanochat_core.paths import find_model

    weights = find_model("pretrained/tiny").weights
    other = machines[1].home / weights.relative_to(machines[0].home)
    install = tiny_weights(other)
    other.write_bytes(install)
    other.with_name(f"{other.name}.sha256").unlink()
    flags = [f"--{name}={value}" for name, value in SETTINGS.items()]
    for machine in machines:
        machine.type(*flags, "--output_tag=two", "--max_restarts=3")
    first, second = (machine.end() for machine in machines)
    sentence = "The base model pretrained/tiny is not the same file on all machines. Copy the first one's to"
    status = Run.open("two").status()
    assert (status.state, status.restarts) == ("failed", 0), first + second
    assert status.error.startswith(sentence)
    assert machines[0].process.returncode == 2  # a person's mistake, said once


def tiny_weights(path: Path) -> bytes:
    """Other weights of the same model."""
    import io

    import torch

    weights = torch.load(path, weights_only=True)
    weights["lm_head.weight"] = weights["lm_head.weight"] + 1
    file = io.BytesIO()
    torch.save(weights, file)
    return file.getvalue()
