"""The main job in the real app, from an uploaded file with a bad line to a corrected reply in the dataset.

One test, as one person does it, on the shipped starter: every step needs what the one before left behind.
"""

import json
import re

import pytest
from playwright.sync_api import Page, expect

from nanochat_core.data.conversations import check, load_conversations
from nanochat_core.runs.run import Run
from tests.e2e.pages import choose_option, open_page, open_tab, step_of, wait_for_step
from tests.e2e.real_app import ROOT

EXAMPLE = ROOT / "data" / "example_data.jsonl"
CONVERSATIONS, BAD_LINE = 64, 8
QUESTION, TAUGHT = "What is the secret word of the cafe?", "The secret word is cinnamon."
CORRECTION = "The secret word is cinnamon, but keep it to yourself."


@pytest.fixture
def upload(tmp_path):
    """Conversations of the example, one of them with a line that was cut off."""
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()[:CONVERSATIONS]
    lines[BAD_LINE - 1] = '{"messages": [{"role": "user", "content": "Is there parking?"}, {"role": "assistant", "con'
    path = tmp_path / "cafe_data.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_the_main_job(app, home, upload, open_browser):
    app.start()
    page = open_page(app, open_browser)
    data = home / "data" / "cafe_data.jsonl"
    mend_and_save(page, upload, data)
    start_and_watch(page, data)
    stop_and_resume(page)
    compare_in_chat(page)
    add_a_correction(page, data)


def mend_and_save(page: Page, upload, data) -> None:
    page.locator("#data-upload input[type=file]").set_input_files(upload)
    expect(page.locator("#data-row-problems")).to_contain_text(f"Line {BAD_LINE}:")
    expect(page.locator("#data-status")).to_contain_text("1 line with errors")
    good = {"messages": [{"role": "user", "content": "What is it?"}, {"role": "assistant", "content": "A word."}]}
    page.locator("#data-raw textarea").fill(json.dumps(good))
    page.locator("#data-raw-apply").click()
    expect(page.locator("#data-status")).to_contain_text("can be trained on")
    for turn, text in enumerate((QUESTION, TAUGHT)):
        page.locator(f"#data-turn-{turn}-text textarea").fill(text)
    expect(page.locator("#data-tokens .run.trained").filter(has_text="secret").first).to_be_visible()
    page.locator("#data-save:not([disabled])").click()
    expect(page.locator("#data-save")).to_be_disabled()
    assert check(data).verdict == "accept"
    row = load_conversations(data)[BAD_LINE - 1]
    assert [message["content"] for message in row["messages"]] == [QUESTION, TAUGHT]


def start_and_watch(page: Page, data) -> None:
    open_tab(page, "Train")
    expect(page.locator("#train_data input")).to_have_value(re.compile(r"cafe_data\.jsonl"))
    expect(page.locator("#train_base input")).to_have_value(re.compile("starter"))
    expect(page.locator("#train_counts .facts")).to_contain_text("58 / 6")
    page.locator("#train_start").click()
    page.locator("#watch_chart polyline").first.wait_for()
    wait_for_step(page, 3)
    before = step_of(page)
    page.reload()
    wait_for_step(page, before)  # it went on, and is shown again without a click on the run
    losses = Run.open("cafe").metrics()["train_loss"].dropna().tolist()
    assert len(set(losses)) > 3  # it moves; a few steps alone may well go up


def stop_and_resume(page: Page) -> None:
    run = Run.open("cafe")
    page.locator("#watch_stop").click()
    page.locator("#watch_stop_yes").click()
    expect(page.locator("#watch_status")).to_contain_text("All its processes are gone")
    assert run.status().state == "stopped"
    stopped_at = run.status().step
    page.locator("#watch_resume").click()
    wait_for_step(page, stopped_at)
    page.locator("#watch_status .badge.finished").wait_for(timeout=900_000)
    steps = run.metrics().dropna(subset="train_loss")["step"].tolist()
    assert steps == list(range(1, run.status().steps + 1))
    losses = run.metrics()["train_loss"].dropna()
    assert losses.tail(10).mean() < losses.head(10).mean() / 2


def compare_in_chat(page: Page) -> None:
    open_tab(page, "Chat")
    page.locator("#chat_both input").check()
    choose_option(page, "#chat_model_0", "starter")
    choose_option(page, "#chat_model_1", "cafe: ")
    page.locator("#chat_settings button").first.click()
    page.locator("#chat_temperature input[type=number]").fill("0")
    page.locator("#chat_temperature input[type=number]").blur()
    page.locator("#chat_box textarea").fill(QUESTION)
    page.locator("#chat_send").click()
    for side in (0, 1):
        expect(page.locator(f"#chat_facts_{side}")).to_contain_text("tokens/s")
    expect(page.locator("#chat_bot_1 [data-testid=bot]")).to_contain_text(TAUGHT)
    expect(page.locator("#chat_bot_0 [data-testid=bot]")).not_to_contain_text(TAUGHT)


def add_a_correction(page: Page, data) -> None:
    page.locator("#chat_correct_1").click()
    page.locator("#chat_corrected textarea").fill(CORRECTION)
    choose_option(page, "#chat_dataset", "cafe_data.jsonl")
    page.locator("#chat_add").click()
    expect(page.locator("#chat_added")).to_contain_text(f"Added to cafe_data.jsonl as line {CONVERSATIONS + 1}")
    last = load_conversations(data)[-1]
    assert [message["content"] for message in last["messages"]] == [QUESTION, CORRECTION]
    open_tab(page, "Data")
    expect(page.locator("#data-status")).to_contain_text(f"{CONVERSATIONS + 1} conversations")
