"""Starting, stopping and dying, with real processes and real signals."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from nanochat_core.cli.main import main
from nanochat_core.config import FinetuneConfig
from nanochat_core.runs.claiming import run_processes
from nanochat_core.runs.launcher import create_run, start_run
from nanochat_core.runs.run import Run
from nanochat_core.system import processes
from nanochat_core.system.processes import ProcessIdentity

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parents[3]
SUPPORT = ROOT / "tests" / "support"


@pytest.fixture
def config(home, tmp_path, monkeypatch):
    """Settings whose base model exists, as far as a start looks; every process of the test's runs is ended after it."""
    folder = home / "models" / "pretrained" / "chatsft_checkpoints" / "tiny"
    folder.mkdir(parents=True)
    (folder / "model_000001.pt").touch()
    (folder / "meta_000001.json").touch()
    data = tmp_path / "mydata.jsonl"
    data.write_text('{"messages": []}\n')
    monkeypatch.setenv("PYTHONPATH", str(SUPPORT))
    yield FinetuneConfig(data_path=str(data), model_tag="tiny", output_tag="mine")
    for run in Run.list():
        assert processes.kill(run_processes(run)) == []


@pytest.fixture
def start(config, monkeypatch):
    """Starts the run with a fake worker that does what `mode` says."""

    def start(mode, nproc=1, resume=False, tag="mine"):
        monkeypatch.setenv("FAKE_WORKER", mode)
        return start_run(replace(config, output_tag=tag), nproc=nproc, resume=resume, worker="fake_worker")

    return start


def until(condition, seconds=60):
    """Wait for something that must happen; the limit is only there to end a broken test."""
    limit = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < limit, "it did not happen"
        time.sleep(0.05)
    return found


def ranks(run, count):
    """Identities of the ranks once all of them train."""
    until(lambda: run.status().state == "running" and len(list(run.path.glob("rank?"))) == count)
    pids = [json.loads((run.path / f"rank{rank}").read_text())["pid"] for rank in range(count)]
    return [processes.identity(pid) for pid in pids]


def test_a_run_trains_detached_to_its_end_and_leaves_no_process(start, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = start("count")
    launch = run.read_launch()
    assert processes.is_alive(ProcessIdentity.from_dict(launch))
    assert launch["command"][1:5] == ["-u", "-m", "nanochat_core.runs.supervisor", "mine"]
    assert os.getsid(launch["pid"]) == launch["pid"] != os.getsid(0)
    assert run.wait(60).state == "finished"
    assert run.status().step == 3
    assert run.metrics()["step"].tolist() == [1, 2, 3]
    assert "counted" in run.log_tail()
    assert processes.wait_gone(run_processes(run), 5) == []
    assert not (run.path / ".ranks").exists()
    worker = json.loads((run.path / "rank0").read_text())
    assert worker["cwd"] == str(run.path)
    assert worker["MASTER_ADDR"] == "127.0.0.1"
    with pytest.raises(ValueError, match=r"has finished.*--from_finetuned mine"):
        start("count", resume=True)
    with pytest.raises(ValueError, match="already a run 'mine'"):
        start("count")


def test_stop_then_resume_with_two_ranks_and_no_second_launch_meanwhile(start):
    run = start("wait", nproc=2)
    workers = ranks(run, 2)
    assert {who.pid for who in workers} | {run.launcher().pid} <= {who.pid for who in run_processes(run)}
    with pytest.raises(ValueError, match=f"already running \\(pid {run.launcher().pid}\\)"):
        start("wait", resume=True)
    report = run.stop(wait=30)
    assert (report.state, report.killed, report.alive) == ("stopped", (), ())
    assert (run.path / "saved").exists()
    again = start("count", resume=True)
    assert again.wait(60).state == "finished"
    assert not again.stop_requested()


def test_sigterm_to_the_supervisor_saves_and_stops(start):
    run = start("wait")
    ranks(run, 1)
    os.kill(run.launcher().pid, signal.SIGTERM)
    assert run.wait(60).state == "stopped"
    assert (run.path / "saved").exists()


def test_stop_before_training_ends_the_run_at_once(start):
    run = start("slow")
    until(lambda: len(run_processes(run)) == 2 and run.status().state == "starting")
    run.unpacked_data_file.touch()  # by the trainer, which is ended before it can remove it
    report = run.stop(wait=30)
    assert not run.unpacked_data_file.exists()
    assert (report.state, report.alive) == ("stopped", ())
    assert run.log_tail(1).startswith("Stopped before the training began. Resume it: ")
    again = start("slow", resume=True)  # and right after the start, before any handler is in place
    assert again.stop(wait=30).state == "stopped"


def test_a_killed_rank_fails_the_run_with_its_rank_and_cause_though_the_others_hang(start):
    run = start("stubborn", nproc=2)
    workers = ranks(run, 2)
    os.kill(workers[1].pid, signal.SIGKILL)
    status = run.wait(60)
    assert status.state == "failed"
    assert "rank 1" in status.error
    assert "memory" in status.error
    assert "device_batch_size" in status.remedy
    assert status.rank == 1
    assert processes.wait_gone(workers, 5) == []


def test_a_rank_that_raises_fails_the_run_with_the_cause(start):
    run = start("fail:RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB", nproc=2)
    status = run.wait(60)
    assert (status.state, status.rank) == ("failed", 1)
    assert "rank 1" in status.error
    assert "out of memory" in status.error


def test_the_last_words_on_the_terminal_are_what_failed_and_what_to_do(start, config, monkeypatch, capsys):
    """After the log, which ends with the tracebacks of all ranks."""
    monkeypatch.setenv("FAKE_WORKER", "fail:RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB")
    monkeypatch.setattr("nanochat_core.cli.finetune.start_run", partial(start_run, worker="fake_worker"))
    words = ["--data_path", config.data_path, "--model_tag", "tiny", "--output_tag", "mine"]
    assert main(["finetune", *words, "--nproc", "2"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("Error: Process 1 of the training (rank 1) ran out of memory on its device. Resume with ")
    assert "runs resume mine --memory layerwise" in said
    log = Run.open("mine").log_file
    log.write_text("Traceback (most recent call last)\n")
    assert main(["runs", "show", "mine"]) == 0
    shown = capsys.readouterr().out
    assert "Traceback" not in shown
    assert f"log: {log}" in shown


def test_a_run_is_resumed_in_another_memory_mode(start, monkeypatch, capsys):
    start("fail:RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB").wait(60)
    monkeypatch.setattr("nanochat_core.cli.runs.start_run", partial(start_run, worker="fake_worker"))
    assert main(["runs", "resume", "mine", "--memory", "swapped"]) == 2
    assert "memory is 'swapped': use auto or one of plain" in capsys.readouterr().err
    assert Run.open("mine").settings().memory == "auto"
    assert main(["runs", "resume", "mine", "--memory", "offloaded"]) == 0
    assert Run.open("mine").settings().memory == "offloaded"
    Run.open("mine").wait(60)


def test_what_the_trainer_said_stays_and_silence_is_a_failure(start):
    runs = start("say:The loss became NaN.", tag="says"), start("silent", tag="silent")
    said, silent = (run.wait(60) for run in runs)
    assert (said.state, said.error, said.remedy) == ("failed", "The loss became NaN.", "Do it.")
    assert silent.state == "failed"
    assert "ended without a result" in silent.error


def test_workers_end_when_their_supervisor_is_killed(start):
    run = start("stubborn", nproc=2)
    workers = ranks(run, 2)
    os.kill(run.launcher().pid, signal.SIGKILL)
    until(lambda: run.status().state == "interrupted")
    assert processes.wait_gone(workers, 30) == []
    assert not (run.path / "saved").exists()


def test_workers_save_first_when_their_supervisor_is_killed(start):
    run = start("wait")
    workers = ranks(run, 1)
    os.kill(run.launcher().pid, signal.SIGKILL)
    assert processes.wait_gone(workers, 30) == []
    assert (run.path / "saved").exists()
    assert run.status().state == "interrupted"


def test_a_run_outlives_the_program_that_started_it(start, config, tmp_path):
    program = (
        "from nanochat_core.config import FinetuneConfig\nfrom nanochat_core.runs.launcher import start_run\n"
        f"start_run(FinetuneConfig.from_dict({config.to_dict()!r}), worker='fake_worker')\n"
        "import os, signal; os.killpg(0, signal.SIGKILL)"
    )
    environment = {
        **os.environ,
        "FAKE_WORKER": "wait",
        "PYTHONPATH": f"{ROOT}:{SUPPORT}",
    }
    ended = subprocess.run([sys.executable, "-c", program], env=environment, start_new_session=True, cwd=tmp_path)
    assert ended.returncode == -signal.SIGKILL
    run = Run.open("mine")
    ranks(run, 1)
    os.kill(run.launcher().pid, signal.SIGINT)
    assert run.wait(60).state == "stopped"


def test_a_supervisor_whose_starter_was_killed_too_early_names_itself(config, monkeypatch):
    monkeypatch.setenv("FAKE_WORKER", "count")
    run = create_run(config)
    command = [sys.executable, "-m", "nanochat_core.runs.supervisor", "mine", "--worker=fake_worker"]
    paths = f"{ROOT}:{SUPPORT}"
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": paths}, stdout=subprocess.DEVNULL)
    assert process.wait() == 0
    assert run.status().state == "finished"
    assert run.read_launch()["pid"] == process.pid
    assert run.read_launch()["command"][1:4] == ["-m", "nanochat_core.runs.supervisor", "mine"]


def test_a_missing_base_model_or_nonsense_is_refused_before_anything_is_made(config):
    with pytest.raises(ValueError, match="no model 'pretrained/none'"):
        start_run(FinetuneConfig(data_path=config.data_path, model_tag="none"))
    with pytest.raises(ValueError, match="at least one process"):
        start_run(config, nproc=0)
    with pytest.raises(ValueError, match="nproc is 5000: this machine has work for"):
        start_run(config, nproc=5000)
    with pytest.raises(ValueError, match="no run 'mine'"):
        start_run(config, resume=True)
    assert Run.list() == []


def test_starting_a_run_does_not_load_torch():
    code = "import sys, nanochat_core.runs.launcher, nanochat_core.runs.stopping; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
