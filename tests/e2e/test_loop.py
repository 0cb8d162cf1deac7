"""The teaching loop in the real app: train, see what was lost, find the row, fix it, train again, compare, report."""

import json
import re

import pytest
from playwright.sync_api import expect

from nanochat_core.runs.run import Run
from tests.e2e.accessible import violations
from tests.e2e.pages import choose_option, open_page, open_tab
from tests.support.small_cafe import LOST, RIGHT, SETTINGS, WRONG, WRONG_LINE, install_practice_model, write_cafe

TRAINING = 600_000
"""ms: half a minute on an idle machine."""

DECIDED = "left => !document.querySelector('#data-review .review-head')?.innerText.includes(`${left} to decide`)"


@pytest.fixture
def cafe(home):
    install_practice_model(home)
    return write_cafe(home)


def test_the_loop(app, cafe, home, open_browser, tmp_path):
    app.start()
    page = open_page(app, open_browser, 1280)
    take_the_tour(page)
    train(page)
    expect(page.locator("#watch_status .note.good")).to_contain_text("7 learnt, 1 lost of 8 questions")
    find_the_row_that_did_it(page)
    fix_it(page, cafe)
    review_by_keys(page, cafe)
    train(page)
    compare_both(page)
    report_opens_without_network(page, open_browser, tmp_path)
    chat_is_ready(page)
    for tab in ("Data", "Train", "Evaluate", "Chat"):
        open_tab(page, tab)
        page.wait_for_timeout(500)
        assert violations(page) == [], tab


def take_the_tour(page):
    """By keys alone; it comes by itself, is remembered, and can be called again."""
    expect(page.locator("#tour")).to_contain_text("1 of 5")
    page.locator("#tour_next").focus()
    for step, tab in ((2, "Train"), (3, "Evaluate"), (4, "Evaluate"), (5, "Chat")):
        page.keyboard.press("Enter")
        expect(page.locator("#tour")).to_contain_text(f"{step} of 5")
        expect(page.get_by_role("tab", name=tab, exact=True)).to_have_attribute("aria-selected", "true")
    assert violations(page) == []
    page.keyboard.press("Enter")
    expect(page.locator("#tour_next")).to_be_hidden()
    page.reload()
    page.locator("#tour_open").wait_for()
    expect(page.locator("#tour_next")).to_be_hidden()
    page.locator("#tour_open").click()
    expect(page.locator("#tour")).to_contain_text("1 of 5")
    page.keyboard.press("Escape")
    expect(page.locator("#tour_next")).to_be_hidden()


def train(page):
    """With the settings of `SETTINGS`, as the form is filled by hand, to the end."""
    open_tab(page, "Train")
    runs = len(Run.list())
    for name, value in SETTINGS.items():
        field = page.locator(f"#set_{name} input")
        field.fill(str(value))
        field.press("Tab")
    page.locator("#train_counts .facts").get_by_text("cut", exact=False).first.wait_for()
    page.locator("#train_start").click()
    expect(page.locator("#train_said")).to_contain_text("has been started")
    expect(page.locator("#watch_next")).to_be_hidden()
    page.locator("#watch_status .badge.finished").wait_for(timeout=TRAINING)
    assert len(Run.list()) == runs + 1
    expect(page.locator("#watch_next")).to_be_visible()


def find_the_row_that_did_it(page):
    """From the sentence in Train to the lost question, and from its reply to the row in Data."""
    page.locator("#watch_evaluate").click()
    expect(page.locator("#eval_proof .verdict")).to_contain_text("7 learnt, 1 lost: too few questions to tell")
    lost = page.locator("#eval_proof .flips.lost")
    lost.get_by_text(LOST).click()
    expect(lost.locator(".replies")).to_contain_text(WRONG)
    lost.get_by_role("button", name="Which rows taught this reply?").click()
    expect(page.locator("#eval_behind .traced-reply u").first).to_contain_text("capital of France")
    row = page.locator("#eval_behind .traced-row").first
    expect(row).to_contain_text(WRONG)
    assert violations(page) == []
    row.get_by_role("button", name=f"Open line {WRONG_LINE} in Data").click()
    expect(page.locator("#data-turn-1-text textarea")).to_have_value(WRONG)


def fix_it(page, cafe):
    page.locator("#data-turn-1-text textarea").fill(RIGHT)
    page.locator("#data-save:not([disabled])").click()
    page.locator("#data-save[disabled]").wait_for()
    assert json.loads(cafe.read_text().splitlines()[WRONG_LINE - 1])["messages"][1]["content"] == RIGHT


def review_by_keys(page, cafe):
    """The doctor's findings of the run, decided and taken back by single keys."""
    lines = len(cafe.read_text().splitlines())
    open_tab(page, "Evaluate")
    page.locator("#eval_look").click()
    expect(page.locator("#eval_found .findings li").first).to_be_visible()
    page.locator("#eval_review").click()
    head = page.locator("#data-review .review-head")
    expect(head).to_contain_text("to decide")
    left = int(re.search(r"([\d,]+) to decide", head.inner_text())[1].replace(",", ""))
    page.locator("#data-review section").focus()
    page.keyboard.press("d")
    page.wait_for_function(
        "left => !document.querySelector('#data-review .review-head')?.innerText.includes(`${left} to decide`)",
        arg=left,
    )
    page.keyboard.press("u")
    expect(head).to_contain_text(f"{left} to decide")
    page.keyboard.press("k")
    page.wait_for_function(
        "left => !document.querySelector('#data-review .review-head')?.innerText.includes(`${left} to decide`)",
        arg=left,
    )
    assert len(cafe.read_text().splitlines()) == lines  # nothing is written before it is saved


def compare_both(page):
    """The second run beside the first: what was lost is learnt, by the answers that both have given already."""
    expect(page.locator("#watch_status .note.good")).to_contain_text(", 0 lost of 8 questions")
    page.locator("#watch_evaluate").click()
    expect(page.locator("#eval_model input")).to_have_value(re.compile("cafe-2"))
    choose_option(page, "#eval_other", "cafe:")
    expect(page.locator("#eval_proof .verdict")).to_contain_text("1 learnt, 0 lost")
    expect(page.locator("#eval_proof .flips.learnt")).to_contain_text("1 question that only cafe-2 answers")


def report_opens_without_network(page, open_browser, tmp_path):
    """The page that was downloaded shows all it has to a browser that has no network."""
    with page.expect_download() as download:
        page.locator("#eval_report").click()
    path = tmp_path / "report.html"
    download.value.save_as(path)
    reader = open_browser(1280)
    reader.context.set_offline(offline=True)
    asked = []
    reader.on("request", lambda request: asked.append(request.url))
    reader.goto(path.as_uri())
    expect(reader.locator("body")).to_contain_text("cafe-2")
    expect(reader.locator("svg").first).to_be_visible()
    assert asked == [path.as_uri()]
    assert violations(reader) == []


def chat_is_ready(page):
    """Base and tuned, chosen by the click in Train, and in memory before anything was said."""
    open_tab(page, "Train")
    page.locator("#watch_chat").click()
    expect(page.locator("#chat_model_0 input")).to_have_value(re.compile("d5"))
    expect(page.locator("#chat_model_1 input")).to_have_value(re.compile("cafe-2"))
    for side in (0, 1):
        expect(page.locator(f"#chat_about_{side}")).to_contain_text("In memory")
