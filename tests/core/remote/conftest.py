"""A hub with jobs on loopback, settings of a run, and runs whose job stays where it is."""

import os
from pathlib import Path

import pytest
from huggingface_hub import constants

from nanochat_core.config import FinetuneConfig
from tests.core.remote.following import start
from tests.support.fake_jobs import FakeJobs, serving
from tests.support.tiny import install_tiny_model, write_conversations


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
        hub.environment = {"PYTHONPATH": str(Path(__file__).parents[2] / "support")}
        yield hub


@pytest.fixture
def config(home, tmp_path):
    data = write_conversations(tmp_path / "mydata.jsonl", 24)
    settings = {"max_seq_len": 64, "target_examples_per_step": 4, "num_iterations": 12, "eval_every": 4}
    tag = install_tiny_model(home)
    return FinetuneConfig(
        str(data), model_tag=tag, output_tag="mine", device_type="cpu", dtype="float32", save_every=4, **settings
    )


@pytest.fixture
def stuck_run(config, hub):
    """Starts a run whose job stays in a stage."""

    def stuck_run(stage="RUNNING", message=None):
        hub.stuck = (stage, message)
        return start(config)

    return stuck_run
