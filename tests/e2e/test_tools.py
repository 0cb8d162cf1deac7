"""The smaller tools of Train and Evaluate in the real app: measure, queue, retry, settings as a file, notes, names."""

import json

import pytest
from playwright.sync_api import expect

from nanochat_core.runs.run import Run
from nanochat_core.system import processes
from tests.e2e.invented import invent_run
from tests.e2e.pages import choose_option, open_page, open_tab
from tests.support.tiny import install_tiny_model, write_conversations


@pytest.fixture
def mine(home):
    """A dataset and a tiny downloaded model, which the form then takes by itself."""
    install_tiny_model(home)
    (home / "data").mkdir()
    return write_conversations(home / "data" / "mine.jsonl", 40)


def upload(page, button, path):
    with page.expect_file_chooser() as chooser:
        page.locator(button).click()
    chooser.value.set_files(path)


def test_measure_queue_and_settings_as_a_file(app, mine, open_browser, tmp_path):
    app.start("--tab", "train")
    page = open_page(app, open_browser)
    expect(page.locator("#train_counts .facts")).to_contain_text("36 / 4")
    page.locator("#train_probe").click()
    expect(page.locator("#train_probed")).to_contain_text("measur")
    expect(page.locator("#train_probed")).to_contain_text("real steps")
    expect(page.locator("#train_probed .facts")).to_contain_text("Peak memory")

    page.locator("#set_num_epochs input").fill("3")
    page.locator("#set_num_epochs input").blur()
    page.locator("#train_command_fold button").first.click()
    expect(page.locator("#train_command")).to_contain_text("--num_epochs 3")
    with page.expect_download() as download:
        page.locator("#train_save").click()
    saved = tmp_path / "settings.json"
    download.value.save_as(saved)
    assert json.loads(saved.read_text())["num_epochs"] == 3
    saved.write_text(saved.read_text().replace('"num_epochs": 3', '"num_epochs": 2'))
    upload(page, "#train_load", saved)
    expect(page.locator("#train_said")).to_contain_text("Settings loaded")
    expect(page.locator("#set_num_epochs input")).to_have_value("2")
    saved.write_text(saved.read_text().replace('"num_epochs": 2', '"num_epochs": "many"'))
    upload(page, "#train_load", saved)
    expect(page.locator("#train_said .bad")).to_contain_text("num_epochs")

    page.locator("#train_tag input, #train_tag textarea").first.fill("first")
    page.locator("#train_queue").click()
    page.locator("#watch_status .badge.finished").wait_for()  # nothing else trains, so it starts at once
    assert Run.open("first").status().step == Run.open("first").status().steps > 0


def test_a_failed_run_is_retried_with_the_change_it_names(app, mine, open_browser):
    chosen = {"data_path": str(mine), "model_tag": "tiny", "device_batch_size": 4, "init_lr_frac": 0.8}
    failed = invent_run("bakery", "failed", 120, 60, **chosen, replay_path=None)
    failed.write_status(
        error="The loss became infinite at step 60: it diverged.", remedy="Lower it.", retry={"init_lr_frac": 0.4}
    )
    failed.write_status(cause="diverged")
    app.start("--tab", "train")
    page = open_page(app, open_browser)
    expect(page.locator("#watch_status .note.bad")).to_contain_text("it diverged")
    page.locator("#watch_retry").click()
    expect(page.locator("#watch_said")).to_contain_text("Started again as bakery-2")
    page.locator("#watch_status .badge.finished").wait_for()
    again = Run.open("bakery-2").settings()
    assert again.init_lr_frac < failed.settings().init_lr_frac


def test_note_rename_delete_and_the_chart_as_files(app, home, open_browser):
    invent_run("bakery")
    invent_run("cellar", init_lr_frac=0.2)
    running = invent_run("oven", "running", 240, 96)
    running.write_launch(**processes.identity().to_dict())  # these tests stand for the run, which so is alive
    app.start()
    page = open_page(app, open_browser)
    page.wait_for_timeout(1500)  # until the page's load has filled the lists of a tab that is not open
    open_tab(page, "Evaluate")
    expect(page.locator("#eval_table")).to_contain_text("120 of 120")
    expect(page.locator("#eval_chart svg.wide polyline")).to_have_count(6)
    page.locator("#eval_run_fold button").first.click()
    choose_option(page, "#eval_run", "bakery")
    expect(page.locator("#eval_name input, #eval_name textarea").first).to_have_value("bakery")
    page.locator("#eval_note input, #eval_note textarea").first.fill("<b>higher</b> rate")
    page.locator("#eval_keep").click()
    expect(page.locator("#eval_table")).to_contain_text("<b>higher</b> rate")
    page.locator("#eval_name input, #eval_name textarea").first.fill("pastry")
    page.locator("#eval_rename").click()
    expect(page.locator("#eval_said")).to_contain_text("bakery is now called pastry")
    assert (home / "models" / "finetuned" / "pastry" / "metrics.jsonl").is_file()

    files = {"#eval_png": b"\x89PNG", "#eval_csv": b"run,", "#eval_notebook": b'{\n "cells": ['}
    for button, start in files.items():
        with page.expect_download() as download:
            page.locator(button).click()
        assert download.value.path().read_bytes().startswith(start)

    choose_option(page, "#eval_run", "oven")
    expect(page.locator("#eval_name input, #eval_name textarea").first).to_have_value("oven")
    for name, said in (("oven", "is training"), ("pastry", "is deleted")):
        choose_option(page, "#eval_run", name)
        expect(page.locator("#eval_name input, #eval_name textarea").first).to_have_value(name)
        page.locator("#eval_delete").click()
        page.locator("#eval_delete_yes").click()
        expect(page.locator("#eval_said")).to_contain_text(said)
    assert sorted(run.tag for run in Run.list()) == ["cellar", "oven"]
    running.write_status(state="stopped")
    running.launch_file.unlink()
