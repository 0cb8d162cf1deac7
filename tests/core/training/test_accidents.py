"""What happens to a training: a closed terminal, a second trainer, a full disk, rates that destroy, other settings."""

import contextlib
import dataclasses
import json
import os
import pty
import signal
import subprocess
import sys
import time

import pytest
from filelock import FileLock

from nanochat_core import Run, finetune
from nanochat_core.__main__ import main
from nanochat_core.paths import PROJECT_ROOT
from nanochat_core.runs import stopping
from nanochat_core.runs.claiming import run_processes
from nanochat_core.runs.launcher import start_run
from nanochat_core.system import processes
from nanochat_core.training.recorder import Pace
from nanochat_core.training.saving import Progress
from nanochat_core.training.step import TrainingStep
from tests.support.short_training import changed, short_training

pytestmark = pytest.mark.processes


@pytest.fixture
def config(home):
    yield short_training(home)
    for run in Run.list():
        assert processes.kill(who for who in run_processes(run) if who.pid != os.getpid()) == []


def _flags(config) -> list[str]:
    values = {name: value for name, value in config.to_dict().items() if value not in (None, False)}
    return [f"--{name}" if value is True else f"--{name}={value}" for name, value in values.items()]


def _wait_for_step(run_tag: str, step: int) -> Run:
    limit = time.monotonic() + 90
    while time.monotonic() < limit:
        with contextlib.suppress(ValueError):
            run = Run.open(run_tag)
            if run.status().step >= step:
                return run
        time.sleep(0.05)
    raise AssertionError("it did not train")


def test_a_closed_terminal_saves_and_stops(config):
    """A real terminal: its other end is closed while a plain `finetune` trains in it."""
    long = changed(config, num_iterations=100_000, output_tag="closed")
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(PROJECT_ROOT)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests themselves may run under nohup
        os.execv(sys.executable, [sys.executable, "-m", "nanochat_core", "finetune", *_flags(long)])
    run = _wait_for_step("closed", 3)
    os.close(terminal)
    limit = time.monotonic() + 60
    while (ended := os.waitpid(pid, os.WNOHANG)) == (0, 0):
        if time.monotonic() > limit:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)
    assert ended == (pid, 0)
    status = run.status()
    assert status.state == "stopped"
    assert (run.path / f"model_{status.step:06d}.pt").is_file()
    assert status.eta_seconds is None


def test_a_second_trainer_in_the_same_folder_is_refused(config, monkeypatch):
    with FileLock(Run.open(_stopped(config, monkeypatch)).path / ".trainer.lock"):
        monkeypatch.setattr("nanochat_core.training.finetune._LOCK_SECONDS", 0.1)
        with pytest.raises(ValueError, match="Another process is training run 'straight'"):
            finetune(changed(config, resume=True))
    assert Run.open("straight").status().state == "stopped"
    assert finetune(changed(config, resume=True)).status().state == "finished"


def _stopped(config, monkeypatch) -> str:
    with monkeypatch.context() as patch:
        patch.setattr(Run, "stop_requested", lambda run: run.metrics()["train_loss"].count() >= 6)
        return finetune(config).tag


def test_a_notebook_whose_training_ended_without_a_word_does_not_train_for_ever(config, monkeypatch):
    """This very process is the notebook: it lives, and its training has died without being able to say so."""
    write_status, silent = Run.write_status, []

    def until_failing(run, **changes):
        silent.append(changes.get("state") == "failed")
        if any(silent):
            raise OSError(5, "Input/output error")
        write_status(run, **changes)

    monkeypatch.setattr(Run, "write_status", until_failing)
    monkeypatch.setattr(TrainingStep, "update", lambda step: 1 / 0)
    with pytest.raises(OSError, match="Input/output"):
        finetune(config)
    run = Run.open("straight")
    assert json.loads(run.status_file.read_text())["state"] == "running"
    assert run.status().state == "interrupted"


@pytest.mark.parametrize("error", [RuntimeError("CUDA out of memory. Tried 2 GiB"), KeyError("a fault of ours")])
def test_whatever_ends_a_training_in_a_terminal_its_last_words_are_a_sentence(config, monkeypatch, capsys, error):
    def fail(step):
        raise error

    monkeypatch.setattr(TrainingStep, "update", fail)
    assert main(["finetune", *_flags(config)]) == 1
    said, run = capsys.readouterr(), Run.open("straight")
    status = run.status()
    assert said.out.endswith(f"{status.error} {status.remedy}\n")
    assert "Traceback" not in said.out + said.err
    assert f"{type(error).__name__}: {error}" in run.log_file.read_text()  # where the remedy sends a person
    assert "Traceback" in run.log_file.read_text()
    with pytest.raises(type(error)) as told:  # and a notebook ends its own traceback with it
        finetune(changed(config, output_tag="other"))
    other = Run.open("other").status()
    assert told.value.__notes__[-1].endswith(f"{other.error} {other.remedy}")


@pytest.mark.parametrize("changes", [{"matrix_lr": 0.5}, {"num_iterations": 80}, {"model_tag": "other"}, {"seed": 7}])
def test_a_resume_with_other_settings_is_refused_with_what_differs(config, monkeypatch, changes, capsys):
    _stopped(config, monkeypatch)
    [(name, value)] = changes.items()
    own = getattr(config, name)
    wanted = changed(config, **changes, resume=True)
    with pytest.raises(ValueError, match=rf"made with, and these differ: {name} is {own}, not {value}\."):
        finetune(wanted)
    assert main(["finetune", *_flags(wanted)]) == 2
    assert f"{name} is {own}, not {value}" in capsys.readouterr().err
    assert Run.open("straight").status().state == "stopped"


def test_a_resume_from_other_data_is_refused(config, monkeypatch, tmp_path):
    _stopped(config, monkeypatch)
    other = tmp_path / "other.jsonl"
    other.write_bytes((tmp_path / "home" / "data.jsonl").read_bytes())
    with pytest.raises(ValueError, match=r"data_path is .*data\.jsonl, not .*other\.jsonl"):
        finetune(changed(config, data_path=str(other), resume=True))


def test_rates_that_destroy_the_model_are_said_with_the_remedy(config, capsys):
    run = finetune(changed(config, matrix_lr=5.0, embedding_lr=50.0, unembedding_lr=50.0, weight_decay=0.0))
    warning = run.status().warning
    assert "no better than a uniform guess" in warning
    assert "lower init_lr_frac" in warning
    assert warning in capsys.readouterr().out
    assert finetune(changed(config, output_tag="good")).status().warning is None


def test_a_full_disk_while_saving_is_a_sentence_and_the_run_resumes(config):
    """A real process whose files may not grow beyond a checkpoint's size, as with a quota."""
    code = (
        "import resource, sys\nfrom nanochat_core.__main__ import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))\nsys.exit(main(sys.argv[1:]))"
    )
    words = [sys.executable, "-c", code, "finetune", *_flags(config)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=PROJECT_ROOT, check=False)
    run = Run.open("straight")
    status = run.status()
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert status.state == "failed"
    for text in (status.error, done.stderr + done.stdout):
        assert f"{run.path}/model_00" in text
        assert "cannot be written: a limit on the size of files is reached. It needs " in text
        assert "are free there" in text
    assert not list(run.path.rglob("*.tmp"))
    assert finetune(changed(config, resume=True)).status().state == "finished"


def test_a_disk_without_room_for_the_run_is_said_at_its_start(config, monkeypatch, capsys):
    monkeypatch.setattr("nanochat_core.system.disk.free_bytes", lambda path: 1000)
    for start in (finetune, start_run):
        with pytest.raises(ValueError, match=r"Run 'straight' needs .* in .*, and 1 kB are free there"):
            start(config)
    assert main(["finetune", *_flags(config)]) == 2
    assert capsys.readouterr().err.startswith("Error: Run 'straight' needs")
    assert Run.list() == []


def test_a_folder_that_cannot_be_written_is_a_sentence(config, home):
    (home / "models" / "finetuned").write_text("a file in the place of the folder")
    for start in (finetune, start_run):
        with pytest.raises(ValueError, match=r"models/finetuned.* cannot be written .*NANOCHAT_STUDIO_HOME"):
            start(config)


def test_a_rank_that_hangs_is_told_by_name_and_ended_by_a_stop(config, monkeypatch):
    """Two real ranks, of which one never finishes its part of the fifth step."""
    run = start_run(changed(config, output_tag="held"), nproc=2, worker="tests.support.hanging_rank")
    _wait_for_step("held", 1)
    monkeypatch.setattr("nanochat_core.runs.status.STALLED_SECONDS", 4.0)
    monkeypatch.setattr("nanochat_core.runs.status.STALLED_STEPS", 1.0)
    limit = time.monotonic() + 60
    while run.status().state != "stalled" and time.monotonic() < limit:
        time.sleep(0.1)
    status = run.status()
    assert status.state == "stalled"
    assert "no sign of life for" in status.error
    assert status.rank == 1
    assert "rank 1" in status.error
    assert not status.is_over
    monkeypatch.setattr(stopping, "_TERM_SECONDS", 2.0)
    report = run.stop(wait=1.0, kill=True)
    assert report.alive == ()
    assert run.status().state == "stopped"


def _environment(pid: int) -> dict[str, str]:
    with open(f"/proc/{pid}/environ", "rb") as file:
        return dict(entry.partition("=")[::2] for entry in file.read().decode().split("\0") if entry)


def test_a_killed_supervisor_with_a_rank_that_hangs_is_one_answer(config, monkeypatch):
    """Stop ends what is left; until then the run runs, for everyone."""
    run = start_run(changed(config, num_iterations=100_000, output_tag="left"))
    _wait_for_step("left", 3)
    [rank] = [process for process in run_processes(run) if _environment(process.pid).get("RANK") == "0"]
    os.kill(rank.pid, signal.SIGSTOP)
    assert processes.kill([run.launcher()]) == []
    assert run.status().state == "running"
    for resume in (start_run, finetune):  # what is refused changes nothing either
        with pytest.raises(ValueError, match="already running"):
            resume(changed(run.settings(), memory="layerwise", resume=True))
    assert run.settings().memory == config.memory
    monkeypatch.setattr(stopping, "_TERM_SECONDS", 1.0)
    assert run.stop(wait=1.0, kill=True).alive == ()
    assert run.status().state == "stopped"


def test_the_time_left_counts_validations_and_checkpoints():
    pace = Pace(validation=10.0)
    pace.note_save(4.0)
    progress = Progress(step=10, seconds=20.0)
    # 10 steps of 2 s, validations at 12, 15, 18 and 20, and one save in ten steps.
    assert pace.left(progress, 20, 3) == pytest.approx(20 + 40 + 4)
    assert pace.left(dataclasses.replace(progress, step=20), 20, 3) == 0
    assert pace.left(Progress(), 20, 3) is None
