"""The Train and Evaluate tabs in the real app: start, watch, reload, a second browser, a killed app, stop, resume."""

import json

import pytest
from playwright.sync_api import expect

from nanochat_core.runs.claiming import run_processes
from nanochat_core.runs.run import Run
from tests.e2e.pages import step_of, wait_for_step
from tests.support.tiny import install_tiny_model


@pytest.fixture
def mine(home):
    """A dataset and a tiny downloaded model, which the form then takes by itself.

    With answers so long that 800 steps last until the app was killed and started again, on a fast machine, too.
    """
    install_tiny_model(home)
    path = home / "data" / "mine.jsonl"
    path.parent.mkdir()
    turns = [[("user", f"What is {i} and {i}?"), ("assistant", f"It is {2 * i}. " * 40)] for i in range(64)]
    rows = [{"messages": [{"role": role, "content": text} for role, text in turn]} for turn in turns]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_run_from_start_to_finish(app, mine, open_browser):
    app.start("--tab", "train")
    page = open_browser()
    page.goto(app.url)
    facts, start = page.locator("#train_counts .facts"), page.locator("#train_start")
    start.wait_for()
    place = start.bounding_box()["y"]
    facts.get_by_text("58 / 6").wait_for()  # counted before anything was pressed
    assert start.bounding_box()["y"] == pytest.approx(place, abs=40)  # their place was kept
    page.locator("#set_num_epochs input").fill("200")
    page.locator("#set_num_epochs input").press("Tab")
    facts.get_by_text("800", exact=True).wait_for()
    page.locator("#train_tag input, #train_tag textarea").first.fill("mine")
    page.locator("#train_start").click()
    page.locator("#watch_chart polyline").first.wait_for(timeout=180_000)
    wait_for_step(page, step_of(page))
    page.reload()
    wait_for_step(page, 1)
    other = open_browser(390, 844)
    other.goto(app.url)
    wait_for_step(other, step_of(page))
    wait_for_step(page, step_of(other))

    app.kill()
    before = Run.open("mine").status().step
    app.start("--tab", "train")
    again = open_browser()
    again.goto(app.url)
    again.locator("#watch_status").get_by_text("mine", exact=True).wait_for()
    wait_for_step(again, before)
    wait_for_step(page, before)  # the open page reconnects by itself

    again.locator("#watch_stop").click()
    again.locator("#watch_stop_yes").click()
    again.locator("#watch_status").get_by_text("All its processes are gone").wait_for()
    run = Run.open("mine")
    assert run_processes(run) == []
    assert run.status().state == "stopped"
    other.locator("#watch_status .badge.stopped").wait_for()

    again.locator("#watch_resume").click()
    again.locator("#watch_status .badge.finished").wait_for(timeout=600_000)
    assert run.status().step == 800
    steps = run.metrics().dropna(subset="train_loss")["step"].tolist()
    assert steps == list(range(1, 801))

    again.get_by_role("tab", name="Evaluate", exact=True).click()
    again.locator("#eval_table").get_by_text("800 of 800").wait_for()
    expect(again.locator("#eval_chart svg.wide polyline")).to_have_count(2)
    with again.expect_download() as download:
        again.locator("#eval_csv").click()
    assert len(download.value.path().read_text().splitlines()) > 800


def test_a_mistake_is_told_in_place_and_nothing_starts(app, mine, open_browser):
    app.start("--tab", "train")
    page = open_browser()
    page.goto(app.url)
    page.locator("#train_counts .facts").wait_for()
    page.locator("#set_val_split, #train_tag").first.wait_for()
    page.locator("#train_tag input, #train_tag textarea").first.fill("../out")
    page.locator("#train_start").click()
    page.locator("#train_said .bad").get_by_text("output_tag").wait_for()
    with open(mine, "a") as file:
        file.write('{"messages": [{"role": "user"}]}\n')
    page.locator("#set_num_epochs input").fill("2")
    page.locator("#set_num_epochs input").press("Tab")
    page.locator("#train_counts .bad").get_by_text("ine 65").wait_for()
    assert Run.list() == []
