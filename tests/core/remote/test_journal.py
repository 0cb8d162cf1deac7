"""The two ends of the journal: what the job pushes, and what is fetched, killed at any point."""

import contextlib

import pytest
from huggingface_hub import HfApi

from nanochat_core.paths import steps
from nanochat_core.remote.push import Pusher
from nanochat_core.remote.repository import RemoteRepo
from nanochat_core.remote.state import RemoteState
from nanochat_core.remote.sync import sync_remote_run
from nanochat_core.runs.claiming import claim
from nanochat_core.runs.run import Run
from tests.support.fake_jobs import TOKEN


@pytest.fixture
def pushing(stuck_run, hub, home, tmp_path, monkeypatch):
    """(the run here, the same run as its job sees it, what pushes it)."""
    run = stuck_run()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NANOCHAT_STUDIO_HOME", str(tmp_path / "jobs-home"))
        there = Run("mine", tmp_path / "jobs-home" / "models" / "finetuned" / "mine")
        there.path.mkdir(parents=True)
        claim(there, ["a job"])
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
    assert (status.state, "arrived damaged" in status.trouble) == ("running", True)
    assert steps(run.path) == []
    hub.damaged.clear()
    assert sync_remote_run(run, TOKEN).state == "finished"
    assert (run.path / "model_000002.pt").read_bytes() == b"one"
