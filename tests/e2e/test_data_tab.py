"""The Data tab in the real app: mend an uploaded file, edit it, see what is trained, save; two browsers, one file."""

import json

import pytest
from playwright.sync_api import expect

from nanochat_core.data.conversations import check
from tests.support.samples import GOOD, assistant, line, user
from tests.support.tiny import install_tiny_model

BROKEN = '{"messages": [{"role": "user", "content": "Broken"}, {"role": "assistant", "content": "no end}'
SCRIPT = "<img src=x onerror=\"document.title='run'\"><script>document.title='run'</script>"


@pytest.fixture
def tokenizer(home):
    """The app counts with the tokenizer of a model, so there must be one."""
    return install_tiny_model(home)


def open_app(app, page):
    page.goto(app.url)
    page.locator("#data-pick").wait_for()


def pick(page, name):
    page.locator("#data-pick input").click()
    page.get_by_role("option", name=name, exact=True).click()
    page.locator("#data-turn-0-text").wait_for()


def wait_for_status(page, text):
    page.wait_for_function("text => document.querySelector('#data-status').innerText.includes(text)", arg=text)


def choose(page, number):
    """A conversation of the list, from 0."""
    page.get_by_role("radio").nth(number).click()
    words = f"line {number + 1}"
    page.wait_for_function("text => document.querySelector('#data-heading')?.innerText.endsWith(text)", arg=words)


def press_save(page):
    page.locator("#data-save:not([disabled])").click()


def save(page):
    """Press Save, and wait until all is saved."""
    press_save(page)
    page.locator("#data-status").get_by_text("saved", exact=True).wait_for()  # and not "not saved"


def first_contents(path):
    return [json.loads(text)["messages"][-1]["content"] for text in path.read_text().splitlines()]


def test_a_file_with_one_bad_line_is_mended_edited_and_saved(app, home, tokenizer, tmp_path, open_browser):
    app.start()
    page = open_browser()
    open_app(app, page)
    upload = tmp_path / "bakery.jsonl"
    upload.write_text("\n".join([GOOD, BROKEN, line(user(SCRIPT), assistant("fine"))]) + "\n", encoding="utf-8")
    page.locator("#data-upload input[type=file]").set_input_files(upload)
    page.locator("#data-row-problems").get_by_text("Line 2:").wait_for()
    wait_for_status(page, "1 line with errors")
    assert not (home / "data" / "bakery.jsonl").exists()

    page.locator("#data-raw textarea").fill(f'{BROKEN[:-1]}"}}]}}')
    page.locator("#data-raw-apply").click()
    wait_for_status(page, "can be trained on")
    page.locator("#data-turn-1-text textarea").fill("mended three fruits")
    page.locator("#data-tokens .run.trained").get_by_text("three").first.wait_for()
    choose(page, 2)
    expect(page.locator("#data-turn-0-text textarea")).to_have_value(SCRIPT)
    save(page)
    page.locator("#data-save[disabled]").wait_for()
    saved = home / "data" / "bakery.jsonl"
    assert check(saved).verdict == "accept"
    assert first_contents(saved) == ["yo", "mended three fruits", "fine"]
    assert page.title() == "nanochat studio"  # what stands in the data is text, never run


def test_each_problem_is_fixed_by_its_own_button_and_all_by_one(app, home, tokenizer, open_browser):
    two = line(user("a"), user("b"), assistant("c"))
    (home / "data").mkdir(exist_ok=True)
    (home / "data" / "mine.jsonl").write_text(
        "\n".join([GOOD, two, two.replace('"c"', '"d"'), two.replace('"c"', '"e"')]) + "\n"
    )
    app.start()
    page = open_browser()
    open_app(app, page)
    pick(page, "mine.jsonl")
    wait_for_status(page, "3 lines with errors")
    page.locator('#data-problems button[data-row="2"][data-kind="wrong_order"]').click()
    wait_for_status(page, "2 lines with errors")
    page.locator("#data-fix-everything").get_by_text("Fix all that a rule can fix (2 lines)").click()
    wait_for_status(page, "can be trained on")
    page.locator("#data-fix-everything").wait_for(state="hidden")


def test_turns_undo_and_reload(app, home, tokenizer, open_browser):
    path = home / "data" / "mine.jsonl"
    path.parent.mkdir()
    path.write_text(f"{GOOD}\n{GOOD}\n")
    app.start()
    page = open_browser()
    open_app(app, page)
    pick(page, "mine.jsonl")
    page.locator("#data-add-turn").click()
    page.locator("#data-turn-2-text textarea").fill("one more")
    wait_for_status(page, "1 line with errors")  # it ends with the user now
    page.reload()
    page.locator("#data-turn-2-text").wait_for()  # unsaved work is found again
    expect(page.locator("#data-turn-2-text textarea")).to_have_value("one more")
    page.locator("#data-undo").get_by_text("typing").wait_for()
    page.locator("#data-undo").click()
    page.locator("#data-undo").get_by_text("adding a turn").wait_for()
    page.locator("#data-undo").click()
    wait_for_status(page, "can be trained on")
    page.locator("#data-undo[disabled]").wait_for()
    page.locator("#data-kind input").click()
    page.get_by_role("option", name="repeated conversation: 1").click()
    page.locator("#data-fix-all:not([disabled])").click()
    wait_for_status(page, "1 conversation")
    assert path.read_text() == f"{GOOD}\n{GOOD}\n"


def test_the_second_browsers_save_is_a_conflict_and_nothing_is_lost(app, home, tokenizer, open_browser):
    path = home / "data" / "mine.jsonl"
    path.parent.mkdir()
    path.write_text(f"{GOOD}\n")
    app.start()
    pages = [open_browser(), open_browser()]
    for page, text in zip(pages, ("from one", "from two"), strict=True):
        open_app(app, page)
        pick(page, "mine.jsonl")
        page.locator("#data-turn-1-text textarea").fill(text)
        wait_for_status(page, "not saved")
    one, two = pages
    save(one)
    one.locator("#data-save[disabled]").wait_for()
    press_save(two)
    two.locator("#data-conflict-text").get_by_text("changed elsewhere").wait_for()
    expect(two.locator("#data-turn-1-text textarea")).to_have_value("from two")
    two.locator("#data-save-as").click()
    two.locator("#data-save[disabled]").wait_for()
    assert first_contents(path) == ["from one"]
    assert first_contents(home / "data" / "mine-2.jsonl") == ["from two"]


def draft_text(home):
    """What the journals of unsaved changes hold."""
    return "".join(path.read_text() for path in (home / "data" / ".drafts").glob("*/journal.jsonl"))


def test_unsaved_edits_survive_a_crash_of_the_app(app, home, tokenizer, open_browser):
    path = home / "data" / "mine.jsonl"
    path.parent.mkdir()
    path.write_text(f"{GOOD}\n")
    app.start()
    page = open_browser()
    open_app(app, page)
    pick(page, "mine.jsonl")
    page.locator("#data-turn-0-text textarea").fill("a new beginning")
    page.locator("#data-list label").get_by_text("a new beginning").wait_for()  # the list follows what is typed
    page.locator("#data-turn-1-text textarea").fill("not saved yet")
    page.locator("#data-undo").get_by_text("typing in turn 2").wait_for()
    app.kill()
    page.locator("#data-turn-1-text textarea").fill("typed while the app was away")  # the same page, still open
    page.locator("#data-editor-note").get_by_text("does not answer").wait_for()
    app.start()
    page.reload()  # as gradio does by itself, whether or not the app has been told by then
    expect(page.locator("#data-turn-1-text textarea")).to_have_value("typed while the app was away")
    page.locator("#data-undo").get_by_text("typing in turn 2").wait_for()
    assert "typed while the app was away" in draft_text(home)
    app.kill()
    app.start()

    other = open_browser()  # it knows nothing of the first
    page.context.close()
    open_app(app, other)
    pick(other, "mine.jsonl")
    other.locator("#data-draft-text").get_by_text("There are unsaved changes to mine.jsonl from").wait_for()
    expect(other.locator("#data-turn-1-text textarea")).to_have_value("yo")
    other.locator("#data-draft-take").click()
    other.wait_for_function(
        "() => document.querySelector('#data-turn-1-text textarea').value === 'typed while the app was away'"
    )
    save(other)
    other.locator("#data-save[disabled]").wait_for()
    assert first_contents(path) == ["typed while the app was away"]
    assert not any((home / "data" / ".drafts").iterdir())
