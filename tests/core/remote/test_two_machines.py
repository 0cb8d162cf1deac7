"""Two jobs of the hub that train one run together, in a network of their own; the jobs of the stand-in really train."""

import json
import socket

import pytest
from huggingface_hub import HfApi

from nanochat_core.remote import jobs
from nanochat_core.training.finetune import finetune
from tests.core.remote.following import followed, start
from tests.support.fake_jobs import TOKEN, until
from tests.support.short_training import changed


@pytest.mark.processes
def test_two_jobs_train_together(config, hub):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        hub.first_machine = (hub.first_machine[0], f"127.0.0.1:{free.getsockname()[1]}")
    run = start(config, worker="nanochat_core.training.worker", nodes=2)
    networks = [job.spec["network"] for job in hub.jobs]
    assert [network["aliases"] for network in networks] == [["machine-0"], ["machine-1"]]
    assert len({network["group"] for network in networks}) == 1
    assert run.read_launch()["job"] == hub.jobs[0].id
    status = followed(run, lambda status: status.is_over)
    assert (status.state, status.step, status.nodes_wanted) == ("finished", 12, 2), run.log_tail()
    assert "2 processes" in run.log_tail(400)
    local = finetune(changed(config, output_tag="local"))
    ours, theirs = (each.metrics()["train_loss"].dropna().tolist() for each in (local, run))
    assert theirs == pytest.approx(ours, abs=3e-4)
    until(lambda: hub.jobs[1].stage == "COMPLETED")
    assert TOKEN not in json.dumps([{**job.spec, "secrets": None} for job in hub.jobs])


def test_where_the_second_job_is_refused_the_first_is_cancelled(config, hub, monkeypatch):
    hub.stuck = ("SCHEDULING", None)
    submit = jobs.submit

    def refused(api, namespace, label, *what):
        if label.endswith("-1-1"):
            raise ValueError("There is no credit left.")
        return submit(api, namespace, label, *what)

    monkeypatch.setattr(jobs, "submit", refused)
    with pytest.raises(ValueError, match="no credit left"):
        start(config, nodes=2)
    assert [job.stage for job in hub.jobs] == ["CANCELED"]


def test_a_client_that_knows_no_network_is_refused_in_a_sentence(config, hub, monkeypatch):
    monkeypatch.setattr(HfApi, "run_job", lambda self, image, command: None)
    with pytest.raises(ValueError, match=r"cannot let jobs find each other. Update it"):
        start(config, nodes=2)
    assert hub.jobs == []
