"""Rented machines in the Train tab, without a browser: prices, cost, what is said, what is not started here."""

import json
import shlex

import pytest

from nanochat_core.remote.jobs import Hardware
from nanochat_core.runs.presets import with_preset
from nanochat_core.runs.run import Run
from studio.runs import launching, live, rented, stops
from studio.train_tab import rent_panel
from studio.train_tab.choices import PRESETS, preset_values
from tests.e2e.invented import invent_run

MACHINES = [
    Hardware("cpu-basic", "CPU Basic", "2 vCPU", "16 GB", None, 0, None, 0.01),
    Hardware("a100x4", "4x A100", "48 vCPU", "568 GB", "A100", 4, "320 GB", 10.0),
    Hardware("odd", "Odd", "1 vCPU", "1 GB", None, 0, None, None),
]


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setattr(rented.jobs, "hardware", lambda token=None: MACHINES)


def test_machines_show_their_price(hub):
    assert rented.machines()[1] == ("a100x4: 4 x A100, 320 GB, 48 vCPU, 568 GB, $10.00 an hour", "a100x4")


@pytest.mark.parametrize(
    ("flavor", "limit", "said"),
    [
        ("a100x4", "90m", "At most $15.00: 1 h 30 min at $10.00 an hour"),
        ("a100x4", "90m", "4 training processes"),
        ("a100x4", "1s", "at least 300 seconds"),
        ("a100x4", "", "timeout"),
        ("tpu", "2h", "There is no flavor"),
        (None, "2h", "No machine is chosen"),
        ("odd", "2h", "states no price"),
    ],
)
def test_the_cost_is_said_before_the_start(hub, flavor, limit, said):
    assert said in rented.cost(flavor, limit)


def test_a_hub_that_does_not_answer_is_told_where_the_list_would_be(monkeypatch):
    def away(token=None):
        raise ValueError("The hub did not answer.")

    monkeypatch.setattr(rented.jobs, "hardware", away)
    with pytest.raises(ValueError, match="did not answer"):
        rent_panel.list_machines(None)


def test_the_same_as_a_command_and_as_a_cell(home):
    config = with_preset(data_path="data/my data.jsonl", model_tag="starter", output_tag="mine")
    shell, cell = rented.codes(config, "a100x4", "2h", " my-team ")
    words = shlex.split(shell)
    assert words[:5] == ["python", "-m", "nanochat_core", "remote", "start"]
    flags = dict(zip(words[5::2], words[6::2]))
    assert flags["--flavor"] == "a100x4"
    assert flags["--namespace"] == "my-team"
    assert flags["--data_path"] == "data/my data.jsonl"
    given = {}
    cell = cell.replace("from nanochat_core.remote.start import start_remote_run\n", "").replace("\nrun.status()", "")
    exec(cell, {"start_remote_run": lambda *positional, **named: given.update(named, config=positional[0])})
    assert given == {"config": config, "flavor": "a100x4", "timeout": "2h", "namespace": "my-team"}


def test_a_mistake_starts_nothing(hub, home):
    chosen = ["starter", "gone.jsonl", "mine", [], 1, *preset_values(PRESETS[0], "starter", "").values()]
    with pytest.raises(ValueError, match="No machine is chosen"):
        rent_panel.start_rented(None, "2h", "", *chosen)
    with pytest.raises(ValueError, match=r"gone\.jsonl"):
        rent_panel.start_rented("cpu-basic", "2h", "", *chosen)
    assert Run.list() == []


@pytest.fixture
def far_run(home):
    """A run whose job goes on elsewhere."""
    run = invent_run("far", "running", 100, 10)
    run.write_launch(
        kind="job",
        repo="me/nanochat-run-far-1",
        job="job1",
        flavor="a100x4",
        price_per_hour=10.0,
        url="https://hub.example/j?<b>",
    )
    assert run.is_remote()
    return run


def test_a_run_elsewhere_is_shown_with_its_job_and_keeps_no_run_here_waiting(far_run):
    view = live.look("far")
    assert "a100x4, $10.00 an hour" in view.status
    assert 'href="https://hub.example/j?&lt;b&gt;"' in view.status
    assert view.can_stop
    assert launching.active_run() is None
    far_run.write_launch(url="javascript:alert(1)")
    assert "javascript" not in rented.about(far_run)


@pytest.mark.processes
def test_trouble_with_the_hub_is_told_and_a_stop_is_a_request(far_run):
    before = live.look("far").signature
    far_run.write_status(trouble="The hub does not answer; it is asked again.")
    view = live.look("far")
    assert view.signature != before
    assert "is asked again" in view.status
    stops.stop(far_run)
    assert far_run.stop_file.exists()
    text, kind = stops.sentence(far_run, far_run.status())
    assert "it is cancelled" in text
    assert kind == "warn"


def test_a_failed_run_elsewhere_is_not_begun_anew_here(far_run):
    far_run.write_status(state="failed", error="Out of memory.", remedy="Lower it.", retry={"device_batch_size": 2})
    view = live.look("far")
    assert (view.retry, view.can_resume) == ("", True)
    assert json.loads(far_run.status_file.read_text())["state"] == "failed"
