"""Training in a job, with the real client against a hub on loopback whose jobs really train."""

import json
import os
import signal
from dataclasses import replace

import numpy as np
import psutil
import pytest

from nanochat_core.checkpoint.reading import read_weights
from nanochat_core.paths import steps, weights_path
from nanochat_core.remote.start import resume_remote_run
from nanochat_core.remote.sync import sync_remote_run
from nanochat_core.rows.record import record_of
from nanochat_core.runs.launcher import start_run
from nanochat_core.runs.run import Run
from nanochat_core.runs.snapshot import kept_lines
from nanochat_core.training.finetune import finetune
from tests.core.remote.following import followed, losses, start, watchers
from tests.support.fake_jobs import TOKEN, until

pytestmark = pytest.mark.processes


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
    lines = [line for _, line in kept_lines(run)]
    ours, theirs = (record_of(it, lines).losses for it in (local, run))
    for name in ("first", "first_step", "last", "visits"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))

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
