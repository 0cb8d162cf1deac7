"""Following a job: how it ends, stops, resumes, and a hub that is away."""

import re
import threading

import pytest

from nanochat_core.remote import sync
from nanochat_core.remote.start import resume_remote_run
from nanochat_core.remote.sync import sync_remote_run
from tests.support.fake_jobs import TOKEN


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
    assert "resumed by somebody else" in refused or "is not over" in refused


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
    monkeypatch.setattr(sync, "STOP_SECONDS", 0.0)
    sync_remote_run(run, TOKEN)
    status = sync_remote_run(run, TOKEN)
    assert (hub.jobs[0].stage, status.state) == ("CANCELED", "stopped")
    assert "before it had saved" in status.error


def test_a_hub_that_is_away_is_said_in_the_status_and_forgotten_when_it_is_back(stuck_run, hub):
    run = stuck_run()
    hub.refusals.append(("GET /api/jobs", 503, {}))
    status = sync_remote_run(run, TOKEN)
    assert (status.state, "trouble of its own" in status.trouble) == ("queued", True)
    with pytest.raises(ValueError, match="trouble of its own"):
        resume_remote_run("mine", token=TOKEN)
    hub.refusals.clear()
    assert sync_remote_run(run, TOKEN).trouble is None
    with pytest.raises(ValueError, match="is not over"):
        resume_remote_run("mine", token=TOKEN)


def test_one_at_a_time_follows_a_run(stuck_run, hub):
    run = stuck_run()
    with sync.alone(run):
        before = len(hub.requests)
        assert sync_remote_run(run, TOKEN).state == "queued"
        assert len(hub.requests) == before
