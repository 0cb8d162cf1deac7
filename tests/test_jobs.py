"""Training in a job, with the real client against a hub on loopback whose jobs really train."""

import contextlib
import json
import os
import re
import signal
import threading
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from huggingface_hub import HfApi, constants

from nanochat_core import jobs, remote_sync
from nanochat_core.checkpoint import read_weights
from nanochat_core.config import FinetuneConfig
from nanochat_core.launcher import start_run
from nanochat_core.paths import steps, weights_path
from nanochat_core.remote_push import Pusher
from nanochat_core.remote_repo import RemoteRepo
from nanochat_core.remote_run import resume_remote_run, start_remote_run, timeout_seconds
from nanochat_core.remote_state import RemoteState
from nanochat_core.remote_sync import sync_remote_run
from nanochat_core.runs import Run
from nanochat_core.training import finetune
from tests.fake_jobs import TOKEN, FakeJobs, serving, until
from tests.tiny import install_tiny_model, write_conversations


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The hub, and a client in this process and in every new one that knows no other; nobody is logged in."""
    with serving(FakeJobs(tmp_path / "jobs")) as hub:
        for name in [name for name in os.environ if name.startswith("HF_")]:
            monkeypatch.delenv(name)
        environment = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        hub.environment = {"PYTHONPATH": str(Path(__file__).parent)}
        yield hub


@pytest.fixture
def config(home, tmp_path):
    data = write_conversations(tmp_path / "mydata.jsonl", 24)
    settings = {"max_seq_len": 64, "target_examples_per_step": 4, "num_iterations": 12, "eval_every": 4}
    tag = install_tiny_model(home)
    return FinetuneConfig(
        str(data), model_tag=tag, output_tag="mine", device_type="cpu", dtype="float32", save_every=4, **settings
    )


def start(config, **more):
    options = {"timeout": "2h", "token": TOKEN, "watch": False, "push_seconds": 0.5, "poll_seconds": 0.5}
    return start_remote_run(config, "cpu-basic", **{**options, "worker": "held_worker", **more})


@pytest.fixture
def stuck_run(config, hub):
    """Starts a run whose job stays in a stage."""

    def stuck_run(stage="RUNNING", message=None):
        hub.stuck = (stage, message)
        return start(config)

    return stuck_run


def followed(run, condition):
    """Look at the hub until the condition holds for the run's status."""
    return until(lambda: condition(status := sync_remote_run(run, TOKEN)) and status, every=0.5)


def losses(run):
    """(step, training loss, validation loss) of every line, in the order of the file."""
    return run.metrics()[["step", "train_loss", "val_loss"]].fillna(-1).values.tolist()


def watchers(run):
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if process.info["cmdline"] and process.info["cmdline"][1:] == ["-m", "nanochat_core.remote_watch", run.tag]:
            if process.cwd() == str(run.path):
                found.append(process)
    return found


# The whole way


def test_stopped_killed_and_resumed_the_run_ends_with_the_losses_of_an_uninterrupted_one(config, hub):
    hub.environment["HOLD_AT"] = "6"
    run = start(config, watch=True)
    launch = run.read_launch()
    assert (launch["kind"], launch["job"], launch["flavor"]) == ("job", "job0001", "cpu-basic")
    until(lambda: run.metrics()["step"].max() == 6)  # through the watcher
    assert run.status().state == "running"
    assert run.status().best_val_loss is not None

    # A hub that takes nothing for a while harms nobody.
    hub.refusals.append(("commit/main", 503, {}))
    refused = len(hub.requests)
    until(lambda: sum("commit/main" in line for line in hub.requests[refused:]) >= 2)
    hub.refusals.clear()

    # The app, and whoever follows the run, are killed; the job goes on, and the next stop starts a watcher anew.
    (watcher,) = watchers(run)
    os.kill(watcher.pid, signal.SIGKILL)
    psutil.wait_procs([watcher], timeout=30)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_TOKEN", TOKEN)
        report = Run.open("mine").stop(wait=120)
    assert report.state == "stopped", run.log_tail()
    assert run.status().step == 6
    assert steps(run.path) == [4, 6]
    assert "Stopped after step 6" in run.log_tail()
    with pytest.raises(ValueError, match=r"`python -m nanochat_core remote resume mine`"):
        start_run(run.settings(), resume=True)

    # The machine is taken away two steps after the checkpoint of step 8.
    hub.environment["HOLD_AT"] = "10"
    resume_remote_run("mine", token=TOKEN, watch=False, worker="held_worker")
    followed(run, lambda status: run.metrics()["step"].max() == 10)
    hub.end(hub.jobs[1], "ERROR", "Job timeout")
    status = sync_remote_run(run, TOKEN)
    assert status.state == "interrupted"
    assert "time limit of 2 h" in status.error
    assert "runs resume mine" in status.remedy
    assert steps(run.path) == [4, 8]

    del hub.environment["HOLD_AT"]
    resume_remote_run("mine", token=TOKEN, watch=False, worker="held_worker")
    assert followed(run, lambda status: status.is_over).state == "finished", run.log_tail()
    local = finetune(replace(config, output_tag="local"))
    assert losses(run) == losses(local)
    assert steps(run.path) == steps(local.path)
    ours, theirs = (read_weights(weights_path(it.path, 12)) for it in (local, run))
    assert all(ours[name].equal(theirs[name]) for name in ours)

    # No request was made in vain, and the token was seen by nobody.
    asked = len(hub.requests)
    assert sync_remote_run(run, TOKEN).state == "finished"
    assert len(hub.requests) == asked
    assert hub.repo.private
    for job in hub.jobs:
        assert job.spec["secrets"] == {"HF_TOKEN": TOKEN}
        assert job.spec["timeoutSeconds"] == 7200
        assert TOKEN not in json.dumps({**job.spec, "secrets": None})
        assert "tiktoken" in (job.folder / "pip.txt").read_text()
    written = [path.read_bytes() for path in run.path.rglob("*") if path.is_file()]
    assert not any(TOKEN.encode() in content for content in [*written, *hub.repo.files.values()])
    with pytest.raises(ValueError, match="has finished"):
        resume_remote_run("mine", token=TOKEN)


# Before a start


def test_machines_are_listed_with_gpu_memory_and_price_an_hour(hub):
    cheap, fast = jobs.hardware()
    assert (cheap.flavor, cheap.gpu, cheap.processes) == ("cpu-basic", None, 1)
    assert (fast.flavor, fast.gpu, fast.gpus, fast.gpu_memory, fast.processes) == ("a100x4", "A100", 4, "320 GB", 4)
    assert fast.price_per_hour == pytest.approx(10.0, abs=0.001)
    assert "$10.00 an hour" in str(fast)


def test_a_start_that_cannot_work_is_refused_before_anything_is_made(config, hub, tmp_path):
    with pytest.raises(ValueError, match=r"no flavor 'h900'\. Choose one of cpu-basic, a100x4"):
        start_remote_run(config, "h900", token=TOKEN)
    with pytest.raises(ValueError, match="timeout is '10 parsecs'"):
        start(config, timeout="10 parsecs")
    with pytest.raises(ValueError, match="hf auth login"):
        start(config, token=None)
    with pytest.raises(ValueError, match="no model 'pretrained/none'"):
        start(replace(config, model_tag="none"))
    faulty = tmp_path / "faulty.jsonl"
    faulty.write_text('{"messages": []}\n')
    with pytest.raises(ValueError, match="rejected"):
        start(replace(config, data_path=str(faulty)))
    assert Run.list() == []
    assert hub.repos == {}
    assert [timeout_seconds(it) for it in (600, "90m", "1.5h", "1d")] == [600, 5400, 5400, 86400]


@pytest.mark.parametrize(
    ("refused", "status", "said"),
    [
        ("POST /api/jobs", 401, "does not know your token"),
        ("POST /api/jobs", 402, "wants to be paid.*billing settings"),
        ("POST /api/jobs", 403, "forbids you to start a job for me.*namespace"),
        ("POST /api/jobs", 404, "spelling of the namespace"),
        ("POST /api/jobs", 429, "too many requests"),
        ("POST /api/jobs", 500, "trouble of its own"),
        ("POST /api/repos/create", 403, "forbids you to make the repository"),
        ("commit/main", 403, "forbids you to send the run"),
    ],
)
def test_each_refusal_is_a_sentence_and_leaves_the_name_free(config, hub, refused, status, said):
    hub.refusals.append((refused, status, {}))
    with pytest.raises(ValueError, match=said):
        start(config)
    assert hub.repos == {}
    assert Run.open("mine").status().state == "failed"
    hub.refusals.clear()
    hub.stuck = ("RUNNING", None)
    assert start(config).status().state == "queued"


def test_a_job_whose_answer_was_lost_is_found_again_and_no_second_one_is_started(config, hub):
    hub.stuck = ("RUNNING", None)
    hub.lost_answers.append("POST /api/jobs")
    assert start(config).read_launch()["job"] == "job0001"


def test_a_run_whose_starter_was_killed_before_the_answer_finds_its_job(stuck_run, hub):
    run = stuck_run()
    run.write_launch(job=None, url=None)
    sync_remote_run(run, TOKEN)
    assert run.read_launch()["job"] == "job0001"
    run.write_launch(job=None, label="other", submitted=0)
    assert sync_remote_run(run, TOKEN).state == "failed"
    assert "never started" in run.status().error
    assert len(hub.jobs) == 1


def test_a_start_that_is_killed_while_it_sends_is_noticed_and_the_name_is_free_again(config, hub, monkeypatch):
    def killed(repo):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RemoteRepo, "create", killed)
        with pytest.raises(KeyboardInterrupt):
            start(config)
    run = Run.open("mine")
    assert sync_remote_run(run, TOKEN).state == "queued"
    run.write_launch(submitted=0)
    assert sync_remote_run(run, TOKEN).state == "failed"
    hub.stuck = ("RUNNING", None)
    assert start(config).status().state == "queued"


def test_several_gpus_get_a_process_each_and_the_command_has_the_time_limit(config, hub):
    hub.stuck = ("RUNNING", None)
    start_remote_run(config, "a100x4", namespace="team", timeout="90m", token=TOKEN, watch=False)
    (job,) = hub.jobs
    assert {"--nproc=4", "--seconds=5400", "--attempt=1"} <= set(job.spec["command"])
    assert job.spec["dockerImage"] == jobs.IMAGE
    assert next(iter(hub.repos)).startswith("team/nanochat-run-mine-")


# While it runs


@pytest.mark.parametrize(
    ("stage", "message", "state", "said"),
    [
        ("ERROR", "Job timeout", "interrupted", "time limit of 2 h.*larger timeout"),
        ("ERROR", "insufficient credit", "interrupted", "lack of credit.*billing"),
        ("ERROR", "failed to pull image", "failed", "image could not be fetched.*--image"),
        ("ERROR", "exit code 1", "failed", "before the training began.*exit code 1.*RuntimeError: no disk"),
        ("CANCELED", None, "interrupted", "cancelled on the hub"),
        ("DELETED", None, "interrupted", "deleted on the hub"),
    ],
)
def test_a_job_that_ends_by_itself_says_why_and_can_be_resumed(stuck_run, hub, stage, message, state, said):
    run = stuck_run("SCHEDULING")
    assert sync_remote_run(run, TOKEN).state == "queued"
    hub.log_lines = ["Traceback ...", "RuntimeError: no disk"]
    hub.jobs[0].stage, hub.jobs[0].message = stage, message
    status = sync_remote_run(run, TOKEN)
    assert status.state == state
    assert re.search(said, f"{status.error} {status.remedy}"), status
    assert "RuntimeError: no disk" in run.log_tail()
    hub.stuck = ("RUNNING", None)
    again = resume_remote_run("mine", token=TOKEN, watch=False)
    assert again.status().state == "queued"
    assert "--attempt=2" in hub.jobs[1].spec["command"]
    assert hub.jobs[1].spec["command"][4] == hub.repo_name


def test_two_resumes_at_once_start_one_job(stuck_run, hub):
    run = stuck_run("CANCELED")
    sync_remote_run(run, TOKEN)
    hub.stuck = ("RUNNING", None)
    outcomes = []

    def resume():
        try:
            outcomes.append(resume_remote_run("mine", token=TOKEN, watch=False).tag)
        except ValueError as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=resume) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(hub.jobs) == 2
    refused = next(text for text in outcomes if text != "mine")
    assert "resumed by somebody else" in refused or "still goes on" in refused


def test_a_job_whose_log_is_gone_is_over_all_the_same(stuck_run, hub):
    run = stuck_run("ERROR", "exit code 1")
    hub.refusals.append(("/logs", 404, {}))
    assert sync_remote_run(run, TOKEN).state == "failed"


def test_a_stop_before_the_machine_is_there_cancels_the_job(stuck_run, hub):
    run = stuck_run("SCHEDULING")
    run.request_stop()
    sync_remote_run(run, TOKEN)
    assert sync_remote_run(run, TOKEN).state == "stopped"
    assert hub.jobs[0].stage == "CANCELED"


def test_a_stop_is_asked_for_once_and_after_its_time_the_job_is_cancelled(stuck_run, hub, monkeypatch):
    run = stuck_run()
    run.request_stop()
    for _ in range(3):
        sync_remote_run(run, TOKEN)
    assert [path for path in hub.repo.files if path.startswith("requests/")] == ["requests/0001/stop"]
    assert len(hub.repo.commits) == 3
    assert hub.jobs[0].stage == "RUNNING"
    monkeypatch.setattr(remote_sync, "STOP_SECONDS", 0.0)
    sync_remote_run(run, TOKEN)
    status = sync_remote_run(run, TOKEN)
    assert (hub.jobs[0].stage, status.state) == ("CANCELED", "stopped")
    assert "before it had saved" in status.error


def test_a_hub_that_is_away_is_said_in_the_status_and_forgotten_when_it_is_back(stuck_run, hub):
    run = stuck_run()
    hub.refusals.append(("GET /api/jobs", 503, {}))
    status = sync_remote_run(run, TOKEN)
    assert (status.state, "trouble of its own" in status.more["trouble"]) == ("queued", True)
    with pytest.raises(ValueError, match="trouble of its own"):
        resume_remote_run("mine", token=TOKEN)
    hub.refusals.clear()
    assert sync_remote_run(run, TOKEN).more["trouble"] is None
    with pytest.raises(ValueError, match="still goes on"):
        resume_remote_run("mine", token=TOKEN)


def test_one_at_a_time_follows_a_run(stuck_run, hub):
    run = stuck_run()
    with remote_sync.alone(run):
        before = len(hub.requests)
        assert sync_remote_run(run, TOKEN).state == "queued"
        assert len(hub.requests) == before


# The two ends of the journal


@pytest.fixture
def pushing(stuck_run, hub, home, tmp_path, monkeypatch):
    """(the run here, the same run as its job sees it, what pushes it)."""
    run = stuck_run()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NANOCHAT_STUDIO_HOME", str(tmp_path / "jobs-home"))
        there = Run("mine", tmp_path / "jobs-home" / "models" / "finetuned" / "mine")
        there.path.mkdir(parents=True)
        there.claim(["a job"])
    repo = RemoteRepo(HfApi(token=TOKEN), hub.repo_name)
    pusher = Pusher(there, repo, 1, tmp_path / "sending", TOKEN)
    pusher.begin()
    return run, there, pusher


def write_step(there, step):
    there.write_status(state="running", step=step, steps=9)
    there.append_metrics({"step": step, "train_loss": 1.0 / step})
    with open(there.log_file, "a") as log:
        log.write(f"step {step}, {TOKEN}\n")


def test_what_the_hub_did_not_take_or_took_unknowingly_arrives_once(pushing, hub):
    run, there, pusher = pushing
    write_step(there, 1)
    hub.refusals.append(("commit/main", 503, {}))
    assert not pusher.push()
    write_step(there, 2)
    hub.refusals.clear()
    hub.lost_answers.append("commit/main")
    assert not pusher.push()
    sync_remote_run(run, TOKEN)
    write_step(there, 3)
    assert pusher.push()
    sync_remote_run(run, TOKEN)
    assert run.metrics()["step"].tolist() == [1, 2, 3]
    assert run.log_tail().splitlines() == [f"step {step}, (token)" for step in (1, 2, 3)]
    assert (run.status().state, run.status().step) == ("running", 3)


def test_whoever_follows_may_be_killed_at_any_point_and_nothing_is_lost_or_doubled(pushing, monkeypatch):
    run, there, pusher = pushing
    write = RemoteState.write
    for step in (1, 2, 3):
        write_step(there, step)
        pusher.push()
        if step == 2:  # as after a resume: steps that were noted before come again
            write_step(there, 2)
            pusher._first = True
        for number_of_writes in range(3):

            def killed(state, path, countdown=[number_of_writes]):  # noqa: B006 - a counter
                if not countdown[0]:
                    raise KeyboardInterrupt
                countdown[0] -= 1
                write(state, path)

            with monkeypatch.context() as patch:
                patch.setattr(RemoteState, "write", killed)
                with contextlib.suppress(KeyboardInterrupt):
                    sync_remote_run(run, TOKEN)
        with open(run.log_file, "a") as log, open(run.metrics_file, "a") as file:
            log.write("torn")  # as a killed process leaves it
            file.write('{"step": ')
    write_step(there, 4)
    pusher.push()
    sync_remote_run(run, TOKEN)
    assert run.metrics()["step"].tolist() == [1, 2, 3, 4]
    assert "torn" not in run.log_tail()


def test_checkpoints_are_pushed_whole_replaced_and_fetched_verified(pushing, hub):
    run, there, pusher = pushing
    folder = "home/models/finetuned/mine"
    write_step(there, 1)
    (there.path / "model_000001.pt").write_bytes(b"one")
    pusher.push()
    assert f"{folder}/model_000001.pt" not in hub.repo.files  # its description is not there yet
    (there.path / "meta_000001.json").write_text("{}")
    (there.path / "resume").mkdir()
    (there.path / "resume" / "state_000001.pt").write_bytes(b"state one")
    pusher.push()
    assert {f"{folder}/{name}" for name in ("model_000001.pt", "resume/state_000001.pt")} <= set(hub.repo.files)
    for name in ("model_000001.pt", "meta_000001.json", "resume/state_000001.pt"):
        (there.path / name).rename(there.path / name.replace("000001", "000002"))
    hub.lost_answers.append("commit/main")
    assert not pusher.push()  # though it was done
    there.write_status(state="finished", step=2)
    hub.damaged.add(f"{folder}/model_000002.pt")
    pusher.push(is_last=True)
    assert sorted(name for name in hub.repo.files if name.startswith(folder)) == [
        f"{folder}/{name}" for name in ("meta_000002.json", "model_000002.pt", "resume/state_000002.pt")
    ]
    assert not any(f"{folder}/model_000001.pt" in commit for commit in hub.repo.commits)  # nor is it in the history
    status = sync_remote_run(run, TOKEN)
    assert (status.state, "arrived damaged" in status.more["trouble"]) == ("running", True)
    assert steps(run.path) == []
    hub.damaged.clear()
    assert sync_remote_run(run, TOKEN).state == "finished"
    assert (run.path / "model_000002.pt").read_bytes() == b"one"
