"""Which rows, in the real app: the review by keys alone, and from a reply in Chat to the row that taught it."""

import json
import re
import shutil

import pytest
from playwright.sync_api import expect

from nanochat_core.paths import starter_dir
from nanochat_core.runs import row_losses
from nanochat_core.runs.snapshot import keep_data
from studio.chat_tab.state import Chat, Reply, Turn
from tests.e2e.invented import invent_run
from tests.e2e.pages import open_page, open_tab
from tests.e2e.test_data_tab import pick, save
from tests.support.planted import talk, write
from tests.support.tiny import install_tiny_model

TALKS = [
    talk("When do you open?", "We open at 7 am."),
    talk("When do you open?", "We open at 9 am."),
    talk("Where are you?", "We are in the old mill."),
    talk("Where are you, please?", "We are in the old mill."),
    talk("Who bakes?", "N/A"),
    talk("Who pays?", "..."),
    talk("Which bread is there?", "There is rye and spelt."),
]


@pytest.fixture
def data(home):
    folder = home / "data"
    folder.mkdir(exist_ok=True)
    return write(folder / "mine.jsonl", TALKS)


def _answers(path) -> list[str]:
    return [json.loads(line)["messages"][-1]["content"] for line in path.read_text(encoding="utf-8").splitlines()]


def _head(page, words: str) -> None:
    page.locator("#data-review .review-head").filter(has_text=words).wait_for()


def test_the_review_is_done_by_keys_alone(app, home, data, open_browser):
    install_tiny_model(home)
    app.start()
    page = open_page(app, open_browser)
    pick(page, "mine.jsonl")
    page.locator("#data-review-look").focus()
    page.keyboard.press("Enter")
    _head(page, "4 to decide")
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('#data-review section')"):
            break
    _head(page, "Same question, another answer")
    merge = page.locator("#data-review-merge")
    expect(merge).to_have_text(re.compile("^Merge into line 1"))  # what the card proposes, until a row is chosen
    page.keyboard.press("2")  # the second of its rows
    expect(merge).to_have_text(re.compile("^Merge into this"))
    page.keyboard.press("d")
    _head(page, "3 to decide")
    page.keyboard.press("u")
    _head(page, "4 to decide")
    page.keyboard.press("k")
    _head(page, "3 to decide")
    page.keyboard.press("s")
    page.keyboard.press("d")
    _head(page, "2 to decide")
    page.keyboard.press("e")
    page.locator("#data-heading").filter(has_text="line").wait_for()
    page.wait_for_function("document.activeElement.closest('#data-review') !== null")
    save(page)
    assert len(_answers(data)) == len(TALKS) - 1
    assert [answer for answer in _answers(data) if answer.startswith("We open")] == [
        "We open at 7 am.",
        "We open at 9 am.",
    ]


def test_a_click_on_what_is_underlined_shows_its_row_and_another_opens_it(app, home, data, open_browser):
    run = invent_run("mine", data_path=str(data))
    for kind, ending in (("model", "pt"), ("meta", "json")):
        [source] = starter_dir().glob(f"{kind}_*.{ending}")
        shutil.copy(source, run.path / f"{kind}_000120.{ending}")
    shutil.copy(starter_dir() / "tokenizer.pkl", run.path)
    row_losses.begin(run.rows_file, len(TALKS), [])
    row_losses.note(run.rows_file, 1, [(number, 1.0, 4) for number in range(len(TALKS))])
    assert keep_data(run, data) is None
    run.write_status(best_step=120)
    chat = Chat(Chat.new_id())
    said = Reply(
        "mine: best and last (step 120)", [{"type": "text", "text": "Sure, there is rye and spelt."}], is_written=True
    )
    chat.turns.append(Turn("Which bread is there?", [said, None]))
    chat.save()
    app.start()
    page = open_browser()
    page.add_init_script(f"localStorage.setItem('nanochat-studio-chat', '{chat.id}')")
    page.goto(app.url)
    open_tab(page, "Chat")
    span = page.locator("#chat_taught_0 button[data-span]")
    span.filter(has_text="there is rye and spelt").or_(span.filter(has_text="rye and spelt")).first.click()
    page.locator("#chat_taught_0 .taught-rows").get_by_text("Which bread is there?").wait_for()
    page.get_by_role("button", name="Open line 7").click()
    page.locator("#data-heading").filter(has_text="line 7").wait_for()
    expect(page.locator("#data-turn-1-text textarea")).to_have_value("There is rye and spelt.")
