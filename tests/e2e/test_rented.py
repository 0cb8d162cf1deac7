"""A run on a rented machine from the Train tab: the real hub client, a hub on loopback whose job really trains."""

import re

import pytest
from playwright.sync_api import expect

from nanochat_core.paths import steps
from nanochat_core.runs.run import Run
from tests.e2e.pages import open_page, wait_for_step
from tests.support.fake_jobs import TOKEN, FakeJobs, serving
from tests.support.tiny import install_tiny_model, write_conversations


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub with jobs, which the app is logged in to."""
    with serving(FakeJobs(tmp_path / "jobs")) as hub:
        environment = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "HF_TOKEN": TOKEN}
        for name, value in {**environment, "HF_HUB_DISABLE_XET": "1"}.items():
            monkeypatch.setenv(name, value)
        yield hub


def test_start_watch_kill_the_app_stop_and_resume(app, hub, home, open_browser):
    install_tiny_model(home)
    (home / "data").mkdir()
    write_conversations(home / "data" / "mine.jsonl", 24)
    app.entry = ("-m", "tests.e2e.impatient_app")
    app.start("--tab", "train")
    page = open_page(app, open_browser)
    page.locator("#train_counts .facts").wait_for()  # nothing above the list moves any more
    page.locator("#set_num_epochs input").fill("2000")
    page.locator("#set_num_epochs input").press("Tab")
    page.locator("#rent_fold button").first.click()
    page.locator("#rent_machine input").click()
    page.get_by_role("option", name="cpu-basic: no GPU").click()
    expect(page.locator("#rent_cost")).to_contain_text("At most $0.02: 2 h 00 min at $0.01 an hour")
    page.locator("#rent_limit input, #rent_limit textarea").first.fill("soon")
    expect(page.locator("#rent_cost .bad")).to_contain_text("The timeout is 'soon'")
    page.locator("#rent_limit input, #rent_limit textarea").first.fill("90m")
    expect(page.locator("#rent_cost")).to_contain_text("1 h 30 min")
    page.locator("#rent_start").click()
    expect(page.locator("#watch_status")).to_contain_text("On a rented machine (cpu-basic, $0.01 an hour)")
    wait_for_step(page, 0)
    app.kill()
    before = Run.open("mine").status().step
    app.start("--tab", "train")
    wait_for_step(page, before)  # the open page reconnects by itself

    page.locator("#watch_stop").click()
    page.locator("#watch_stop_yes").click()
    page.locator("#watch_status .badge.stopped").wait_for()
    run = Run.open("mine")
    stopped_at = run.status().step
    assert stopped_at in steps(run.path)  # its checkpoint is here
    page.locator("#watch_resume").click()
    wait_for_step(page, stopped_at)
    recorded = run.metrics().dropna(subset="train_loss")["step"].tolist()
    assert recorded == list(range(1, len(recorded) + 1))
    assert not re.search(TOKEN, app.output + run.log_file.read_text())
    run.stop()
    page.locator("#watch_status .badge.stopped").wait_for()
