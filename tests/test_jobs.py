"""Training in a job, with the real client against a hub on loopback whose jobs really train."""

import os
import signal
import time
from pathlib import Path

import huggingface_hub
import psutil
import pytest
from huggingface_hub import constants

from nanochat_core.config import FinetuneConfig
from nanochat_core.paths import steps
from nanochat_core.remote_run import resume_remote_run, start_remote_run
from nanochat_core.remote_sync import sync_remote_run
from nanochat_core.runs import Run
from nanochat_core.training import finetune
from tests.fake_jobs import TOKEN, FakeJobs, serving, until
from tests.tiny import install_tiny_model, write_conversations

HELD_AT = 6


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with serving(FakeJobs(tmp_path / "jobs")) as hub:
        for name in [name for name in os.environ if name.startswith("HF_")]:
            monkeypatch.delenv(name)
        environment = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        hub.environment = {"PYTHONPATH": str(Path(__file__).parent)}
        yield hub


@pytest.fixture
def config(home, tmp_path):
    data = write_conversations(tmp_path / "mydata.jsonl", 24)
    return FinetuneConfig(
        str(data),
        model_tag=install_tiny_model(home),
        output_tag="mine",
        device_type="cpu",
        dtype="float32",
        max_seq_len=64,
        target_examples_per_step=4,
        num_iterations=12,
        eval_every=4,
    )


def start(config, **more):
    options = {"timeout": "2h", "token": TOKEN, "watch": False, "push_seconds": 0.2, "poll_seconds": 0.2}
    return start_remote_run(config, "cpu-basic", **{**options, "worker": "held_worker", **more})


def followed(run, condition):
    """Look at the hub until the condition holds for the run's status."""
    return until(lambda: condition(status := sync_remote_run(run, TOKEN)) and status)


def test_start_stop_resume_to_the_end_has_the_losses_of_an_uninterrupted_run(config, hub):
    hub.environment["HOLD_AT"] = str(HELD_AT)
    run = start(config)
    followed(run, lambda status: len(run.metrics()) >= HELD_AT)
    run.request_stop()
    status = followed(run, lambda status: status.is_over)
    assert status.state == "stopped", run.log_tail()
    assert steps(run.path)[-1] == HELD_AT
    resume_remote_run("mine", token=TOKEN, watch=False, worker="held_worker")
    assert followed(run, lambda status: status.is_over).state == "finished"
