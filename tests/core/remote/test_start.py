"""Before a job runs: the machines to choose from, refusals, and answers that never came."""

from dataclasses import replace

import pytest

from nanochat_core.remote import jobs
from nanochat_core.remote.repository import RemoteRepo
from nanochat_core.remote.start import start_remote_run, timeout_seconds
from nanochat_core.remote.sync import sync_remote_run
from nanochat_core.runs.run import Run
from tests.core.remote.following import start
from tests.support.fake_jobs import TOKEN


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
