"""The run directory: created once, read tolerantly, stopped for certain."""

import json
import math
import os
import subprocess
import sys
import time

import numpy
import pytest

from nanochat_core import processes
from nanochat_core.config import FinetuneConfig
from nanochat_core.metrics import COLUMNS
from nanochat_core.runs import Run


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "mydata.jsonl"
    path.write_text('{"messages": []}\n\n{"messages": []}\n')
    return path


@pytest.fixture
def run(home, data):
    return Run.create(FinetuneConfig(data_path=str(data), output_tag="mine"))


@pytest.fixture
def sleeper():
    """Starts processes that sleep (and ignore SIGTERM when asked); all are gone after the test."""
    started = []

    def start(environment=None, stubborn=False):
        ignore = "signal.signal(signal.SIGTERM, signal.SIG_IGN);" if stubborn else ""
        code = f"import signal, time; {ignore} print('ready', flush=True); time.sleep(60)"
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, env={**os.environ, **(environment or {})}
        )
        started.append(process)
        assert process.stdout.readline() == b"ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def supervised(run, process, state="running"):
    """Make `process` the run's supervisor, as the launcher records it."""
    run.write_launch(**processes.identity(process.pid).to_dict(), detached=True)
    run.write_status(state=state)


def test_create_records_settings_data_versions_and_base(run, data):
    record = run.record()
    assert run.settings() == FinetuneConfig(data_path=str(data), output_tag="mine")
    assert record["base_model"] == "pretrained/d32"
    assert record["data"]["rows"] == 2
    assert len(record["data"]["sha256"]) == 64
    assert "torch" in record["versions"]
    assert run.status().state == "queued"


def test_paths_are_kept_absolute_for_a_resume_from_elsewhere(home, data, monkeypatch):
    monkeypatch.chdir(data.parent)
    run = Run.create(FinetuneConfig(data_path=data.name, replay_path="other.jsonl"))
    assert run.settings().data_path == str(data)
    assert run.settings().replay_path == str(data.parent / "other.jsonl")
    assert run.settings().questions_path is None


def test_create_merges_the_record_given(home, data):
    record = {"data": {"rows": 7, "validation": 1}, "world_size": 2, "loss": math.nan}
    run = Run.create(FinetuneConfig(data_path=str(data)), record)
    assert run.record()["data"]["rows"] == 7
    assert len(run.record()["data"]["sha256"]) == 64
    assert run.record()["world_size"] == 2
    assert run.record()["loss"] is None


def test_create_refuses_an_existing_run_and_names_a_free_tag(run, data):
    (run.path.parent / "mine-2").mkdir()
    with pytest.raises(ValueError, match=r"already a run 'mine'.*--output_tag mine-3.*--resume"):
        Run.create(run.settings())


def test_create_refuses_a_folder_with_files_of_others_but_takes_an_empty_one(home, data):
    folder = home / "models" / "finetuned" / "mine"
    folder.mkdir(parents=True)
    (folder / "model_000010.pt").touch()
    with pytest.raises(ValueError, match="--output_tag mine-2"):
        Run.create(FinetuneConfig(data_path=str(data), output_tag="mine"))
    (folder / "model_000010.pt").unlink()
    assert Run.create(FinetuneConfig(data_path=str(data), output_tag="mine")).path == folder


def test_create_says_when_the_data_is_missing_and_leaves_nothing(home, tmp_path):
    with pytest.raises(ValueError, match=r"gone\.jsonl cannot be read.*data_path"):
        Run.create(FinetuneConfig(data_path=str(tmp_path / "gone.jsonl")))
    assert Run.list() == []
    assert not (home / "models").exists()


BAD_TAGS = ["", " ", "..", ".", ".hidden", "a/b", "a\\b", "../up", "-x", "a" * 101, "ü" * 51, "con", "NUL.txt", "Com1"]
BAD_TAGS += ["a:b", "a\nb", "a\x00b", "end.", "end ", "\ud800", "a*b"]


@pytest.mark.parametrize("tag", BAD_TAGS)
def test_a_tag_that_is_no_folder_name_is_refused(home, data, tag):
    with pytest.raises(ValueError, match=r"output_tag .*Use letters"):
        Run.create(FinetuneConfig(data_path=str(data), output_tag=tag))
    with pytest.raises(ValueError, match="output_tag"):
        Run.open(tag)


@pytest.mark.parametrize("tag", ["my-bakery-2", "Bäckerei", "v1.0", "with space", "console", "a" * 100])
def test_ordinary_tags_are_taken(home, data, tag):
    assert Run.create(FinetuneConfig(data_path=str(data), output_tag=tag)).tag == tag
    assert Run.open(tag).tag == tag


def test_open_names_the_runs_there_are(run):
    with pytest.raises(ValueError, match=r"no run 'other'.*Runs there: mine"):
        Run.open("other")


def test_list_is_newest_first_and_passes_over_other_folders(run, data):
    newer = Run.create(FinetuneConfig(data_path=str(data), output_tag="a-newer"))
    folder = run.path.parent
    (folder / "file").touch()
    (folder / "empty").mkdir()
    for name, text in {
        "torn": '{"settings": {"da',
        "array": "[1]",
        "foreign": '{"model": 1}',
        "binary": "\x00",
    }.items():
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(text)
    assert Run.list() == [newer, run]


def test_list_without_any_folder_is_empty(home):
    assert Run.list() == []


def test_status_merges_and_beats(run):
    before = time.time()
    run.write_status(state="starting", steps=20)
    run.write_status(step=3, best_val_loss=math.inf, note="hello")
    status = run.status()
    assert (status.step, status.steps, status.best_val_loss, status.more) == (3, 20, None, {"note": "hello"})
    assert before <= status.heartbeat <= time.time()


def test_a_live_state_without_its_process_is_interrupted(run, sleeper):
    process = sleeper()
    for state in ("queued", "starting", "running", "stopping"):
        supervised(run, process, state)
        assert run.status().state == state
    process.kill()  # not waited for: a zombie has ended, too
    assert processes.wait_gone([run.launcher()], 10) == []
    for state in ("queued", "starting", "running", "stopping"):
        run.write_status(state=state)
        assert run.status().state == "interrupted"
        assert "runs resume mine" in run.status().remedy
    for state in ("finished", "stopped", "failed"):
        run.write_status(state=state)
        assert run.status().state == state


@pytest.mark.parametrize(
    "change", [{"create_time": 1.0}, {"boot_id": "another boot"}, {"pid": -5}, {"pid": "x"}, {"create_time": None}]
)
def test_a_reused_pid_is_not_the_run(run, sleeper, change):
    supervised(run, sleeper())
    run.write_launch(**change)
    assert run.status().state == "interrupted"


def test_a_stop_request_shows_before_the_trainer_has_seen_it(run, sleeper):
    supervised(run, sleeper())
    run.request_stop()
    assert run.status().state == "stopping"
    run.clear_stop()
    assert run.status().state == "running"


@pytest.mark.parametrize("text", ["", "[]", "\x00\xff", '{"state": "dancing"}', '{"state": 3, "step"'])
def test_a_foreign_status_file_does_not_break_the_reader(run, text):
    run.status_file.write_text(text)
    assert run.status().state == "queued"


def test_metrics_of_a_new_run_have_every_column(run):
    frame = run.metrics()
    assert tuple(frame.columns) == COLUMNS
    assert len(frame) == 0


def test_metrics_skip_torn_lines_and_keep_nan_as_missing(run):
    run.append_metrics({"step": 1, "train_loss": 2.5, "extra": "x"})
    with open(run.metrics_file, "ab") as file:
        file.write(b'{"step": 2, "train_l')  # killed in the middle of a line
    run.append_metrics({"step": 2, "train_loss": math.nan, "val_loss": math.inf})
    run.append_metrics({"step": 3, "train_loss": 1.5})
    with open(run.metrics_file, "ab") as file:
        file.write(b'[1]\n5\n\xff\xfe\n{"no": 1}\n{"step": 4, "tr')
    frame = run.metrics()
    assert frame["step"].tolist() == [1, 2, 3]
    assert frame["train_loss"].fillna(-1).tolist() == [2.5, -1, 1.5]
    assert frame["val_loss"].isna().all()
    assert frame.columns[-1] == "extra"
    assert "NaN" not in run.metrics_file.read_text(errors="replace")


def test_metrics_take_scalars_of_arrays(run):
    run.append_metrics({"step": 1, "train_loss": numpy.float32(0.5), "tokens": numpy.int64(7)})
    assert json.loads(run.metrics_file.read_text()) == {"step": 1, "train_loss": 0.5, "tokens": 7}


def test_rewind_drops_what_a_resumed_run_writes_again(run):
    for step in range(1, 6):
        run.append_metrics({"step": step, "train_loss": float(step)})
    with open(run.metrics_file, "ab") as file:
        file.write(b'{"step": 6, "tr')
    run.rewind_metrics(3)
    run.append_metrics({"step": 4, "train_loss": 40.0})
    assert run.metrics()["train_loss"].tolist() == [1.0, 2.0, 3.0, 40.0]


def test_log_tail(run):
    assert run.log_tail(3) == ""
    run.log_file.write_bytes(b"one\ntwo\r\n10%\r50%\r100%\nlast \xff\n")
    assert run.log_tail(3) == "two\n100%\nlast \ufffd"
    run.log_file.write_bytes(b"x" * 5000 + b"\nend\n")
    assert run.log_tail(2) == "end"


def test_a_second_process_cannot_claim_a_running_run(run, sleeper):
    process = sleeper()
    supervised(run, process)
    with pytest.raises(ValueError, match=rf"already running \(pid {process.pid}\).*runs stop mine"):
        run.claim(["train"])
    process.kill()
    process.wait()
    run.claim(["train"])
    assert run.launcher() == processes.identity()
    assert run.read_launch()["command"] == ["train"]
    run.claim(["again"])  # by the same process


def test_an_orphan_of_the_run_keeps_it_claimed(run, sleeper):
    orphan = sleeper({processes.RUN_VARIABLE: str(run.path)})
    assert [who.pid for who in run.processes()] == [orphan.pid]
    with pytest.raises(ValueError, match=f"pid {orphan.pid}"):
        run.claim(["train"])


def test_a_run_that_is_over_gets_a_moment_to_leave(run, sleeper):
    process = sleeper()
    supervised(run, process, "stopped")
    leaving = subprocess.Popen([sys.executable, "-c", f"import os, time; time.sleep(0.5); os.kill({process.pid}, 9)"])
    run.claim(["train"])
    leaving.wait()
    assert run.launcher() == processes.identity()


def test_of_two_claims_at_once_one_wins(run):
    code = (
        "import sys, time\nfrom nanochat_core.runs import Run\nsys.stdin.readline()\n"
        "try:\n    Run.open('mine').claim(['x'])\n    print('won', flush=True)\n"
        "except ValueError:\n    print('lost', flush=True)\nsys.stdin.readline()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    rivals = [subprocess.Popen([sys.executable, "-c", code], **pipes) for _ in range(3)]
    for rival in rivals:
        rival.stdin.write("go\n")
        rival.stdin.flush()
    answers = sorted(rival.stdout.readline().strip() for rival in rivals)
    for rival in rivals:
        rival.communicate("end\n")
    assert answers == ["lost", "lost", "won"]


def test_stop_of_a_queued_run_needs_no_process(run):
    assert run.stop().state == "stopped"
    assert run.wait(5).state == "stopped"


def test_stop_of_a_finished_run_leaves_no_request(run):
    run.write_status(state="finished")
    assert run.stop(wait=1).state == "finished"
    assert not run.stop_requested()


def test_stop_ends_the_supervisor_of_a_run_that_has_not_begun(run, sleeper):
    process = sleeper()
    supervised(run, process, "starting")
    report = run.stop(wait=10)
    assert process.wait() < 0
    assert report.alive == ()


def test_stop_asks_only_and_reports_what_still_runs(run, sleeper):
    process = sleeper()
    supervised(run, process)
    report = run.stop(wait=0.2)
    assert run.stop_requested()
    assert [who.pid for who in report.alive] == [process.pid]
    assert report.state == "stopping"


def test_stop_with_kill_ends_even_stubborn_processes_and_orphans(run, sleeper, monkeypatch):
    monkeypatch.setattr("nanochat_core.runs._TERM_SECONDS", 0.5)
    process, orphan = sleeper(stubborn=True), sleeper({processes.RUN_VARIABLE: str(run.path)}, stubborn=True)
    supervised(run, process)
    report = run.stop(wait=0.1, kill=True)
    assert report.alive == ()
    assert {who.pid for who in report.killed} == {process.pid, orphan.pid}
    assert run.processes() == []
    assert report.state == "stopped"
    assert "ended by force" in run.status().error


def test_stop_never_kills_a_program_that_trains_by_itself(run):
    run.claim(["notebook"])
    run.write_status(state="running")
    report = run.stop(wait=0.1, kill=True)  # this very process
    assert report.killed == report.alive == ()
    assert run.stop_requested()


def test_wait_ends_when_the_process_goes_or_the_time_is_up(run, sleeper):
    process = sleeper()
    supervised(run, process)
    assert run.wait(0.2).state == "running"
    process.kill()
    assert run.wait(10).state == "interrupted"


def test_end_tree_ends_grandchildren(sleeper):
    code = (
        "import subprocess, sys, time; p = subprocess.Popen(['sleep', '60']); print(p.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    child = processes.identity(int(parent.stdout.readline()))
    assert processes.end_tree(processes.identity(parent.pid)) == []
    assert not processes.is_alive(child)
    parent.wait()
    parent.stdout.close()


def test_reading_runs_does_not_load_torch():
    code = "import sys, nanochat_core.runs; assert 'torch' not in sys.modules and 'pandas' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
