"""Chat in the real app: base and tuned side by side, stopped in mid-reply, and a bad answer made a training row."""

import json
import re
import time
import urllib.request

import psutil
import pytest
from playwright.sync_api import Page, expect

from nanochat_core.data.conversations import load_conversations
from tests.e2e.pages import PATIENCE
from tests.e2e.real_app import RealApp
from tests.support.tiny import install_tiny_model

HOSTILE = (
    '<img src=http://127.0.0.1:9/a.png onerror="window.ran = 1"> <script>window.ran = 2</script> '
    "![x](http://127.0.0.1:9/b.png) <b>bold?</b>"
)


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    """The app with two small models that never tire of talking; the base is large enough to be caught at it."""
    home = tmp_path_factory.mktemp("chat-home")
    large = {"n_layer": 8, "n_head": 4, "n_kv_head": 4, "n_embd": 512}
    install_tiny_model(home, tag="base", never_ends=True, sequence_len=4096, **large)
    install_tiny_model(home, tag="tuned", sequence_len=4096, seed=3)
    app = RealApp(home).start("--tab", "chat")
    yield app
    app.close()


@pytest.fixture
def page(app, open_browser):
    """The Chat tab in a browser of its own."""
    page = open_browser()
    page.goto(app.url)
    expect(page.locator("#chat_about_0")).to_contain_text("emory")
    return page


def choose(page: Page, side: int, name: str) -> None:
    field = page.locator(f"#chat_model_{side} input")
    field.fill(name)
    field.press("Enter")
    field.blur()
    expect(page.locator(f"#chat_about_{side}")).to_contain_text("emory")


def set_longest(page: Page, tokens: int) -> None:
    if not page.locator("#chat_max_tokens").is_visible():
        page.locator("#chat_settings button").first.click()
    field = page.locator("#chat_max_tokens input[type=number]")
    field.fill(str(tokens))
    field.press("Enter")
    field.blur()


def ask(page: Page, text: str) -> None:
    page.locator("#chat_box textarea").fill(text)
    page.locator("#chat_send").click()
    expect(page.locator("#chat_box textarea")).to_have_value("")  # the reply has begun


def wait_for_reply(page: Page, side: int = 0) -> None:
    expect(page.locator(f"#chat_facts_{side}")).to_contain_text("tokens/s")
    expect(page.locator("#chat_send")).to_be_visible()


def replies(page: Page, side: int):
    return page.locator(f"#chat_bot_{side} [data-testid=bot]")


def wait_until_idle(app: RealApp) -> None:
    """Until none of the app's processes computes."""
    workers, limit = psutil.Process(app.process.pid).children(), time.monotonic() + PATIENCE / 1000
    while max(worker.cpu_percent(interval=1) for worker in workers) >= 50:
        assert time.monotonic() < limit, "a model's process goes on computing"


def settled(page: Page, side: int) -> list[str]:
    """What a side has said, once the page draws no more of it; several bubbles where it used the calculator."""
    before, now = None, replies(page, side).all_inner_texts()
    while now != before or not "".join(now).strip("… \n"):
        page.wait_for_timeout(500)
        before, now = now, replies(page, side).all_inner_texts()
    return now


def test_base_and_tuned_side_by_side_then_a_correction(page, app):
    page.locator("#chat_both input").check()
    choose(page, 0, "pretrained/base")
    choose(page, 1, "pretrained/tuned")
    set_longest(page, 24)
    ask(page, "Hello, who are you?")
    wait_for_reply(page, 0)
    wait_for_reply(page, 1)
    said = [settled(page, side) for side in (0, 1)]
    assert said[0] != said[1]
    expect(page.locator("#chat_about_1")).to_contain_text("In memory")
    page.locator("#chat_correct_1").click()
    expect(page.locator("#chat_corrected textarea")).to_be_visible()
    page.locator("#chat_corrected textarea").fill("I am the tuned one.")
    page.locator("#chat_add").click()
    expect(page.locator("#chat_added")).to_contain_text("Added to corrections.jsonl as line 1")
    [row] = load_conversations(app.home / "data" / "corrections.jsonl")
    assert [message["content"] for message in row["messages"]] == ["Hello, who are you?", "I am the tuned one."]
    page.reload()
    expect(replies(page, 1)).to_have_text(said[1], use_inner_text=True)  # a model that babbles writes markup, too
    expect(page.locator("#chat_model_1 input")).to_have_value("pretrained/tuned")
    page.locator("#chat_unload_1").click()
    expect(page.locator("#chat_about_1")).to_contain_text(re.compile(r"Unloaded: \d+ MB given back"))


def test_another_precision_loads_the_model_anew_and_is_remembered(page, app):
    choose(page, 0, "pretrained/base")
    set_longest(page, 5)
    ask(page, "First")
    wait_for_reply(page)
    expect(page.locator("#chat_about_0")).to_contain_text("float32")
    page.locator("#chat_precision input").click()
    page.get_by_role("option", name="int8").click()
    ask(page, "Second")
    expect(page.locator("#chat_about_0")).to_contain_text("int8")
    expect(replies(page, 0)).to_have_count(2)
    page.reload()
    page.locator("#chat_settings button").first.click()
    expect(page.locator("#chat_precision input")).to_have_value("int8")


def test_stop_in_mid_reply_frees_the_model(page, app):
    choose(page, 0, "pretrained/base")
    set_longest(page, 2048)
    ask(page, "Tell me everything.")
    expect(page.locator("#chat_facts_0")).to_contain_text("Writing")
    page.locator("#chat_stop").click()
    expect(page.locator("#chat_facts_0")).to_contain_text("stopped")
    tokens = int(re.search(r"([\d,]+) tokens?", page.locator("#chat_facts_0").inner_text())[1].replace(",", ""))
    assert tokens < 2048
    wait_until_idle(app)  # nothing is generated any more
    set_longest(page, 5)
    page.locator("#chat_retry").click()
    expect(page.locator("#chat_facts_0")).to_contain_text("5 tokens")
    expect(page.locator("#chat_seed input")).to_have_value("2")


def test_edit_and_clear(page, app):
    choose(page, 0, "pretrained/base")
    set_longest(page, 5)
    ask(page, "First")
    wait_for_reply(page)
    page.locator("#chat_edit").click()
    expect(page.locator("#chat_box textarea")).to_have_value("First")
    ask(page, "First, please")
    expect(page.locator("#chat_bot_0 [data-testid=user]")).to_have_text("First, please")
    wait_for_reply(page)
    ask(page, "Second")
    wait_for_reply(page)
    page.locator("#chat_bot_0 [data-testid=user]").first.click()
    expect(page.locator("#chat_said")).to_contain_text("Message 1 is picked")
    page.locator("#chat_edit").click()
    expect(page.locator("#chat_box textarea")).to_have_value("First, please")
    expect(page.locator("#chat_said")).to_contain_text("replaces message 1 and what came after it (1 more message)")
    page.locator("#chat_clear").click()
    expect(page.locator("#chat_bot_0")).to_contain_text("Nothing said yet")


def test_reload_in_mid_reply_stops_the_model_and_keeps_what_was_said(page, app):
    choose(page, 0, "pretrained/base")
    set_longest(page, 2048)
    ask(page, "Tell me everything.")
    page.wait_for_function("document.querySelector('#chat_bot_0 [data-testid=bot]')?.innerText.length > 40")
    page.locator("#chat_box textarea").fill("Are you")
    page.reload()
    page.wait_for_function("document.querySelector('#chat_bot_0 [data-testid=bot]')?.innerText.length > 40")
    expect(page.locator("#chat_box textarea")).to_have_value("Are you")
    expect(page.locator("#chat_facts_0")).to_contain_text("stopped")
    set_longest(page, 5)
    ask(page, "Are you free?")
    expect(page.locator("#chat_bot_0 [data-testid=bot]")).to_have_count(2)
    wait_for_reply(page)


def test_what_is_chosen_and_sent_before_the_page_is_restored_stays(app, open_browser):
    with urllib.request.urlopen(f"{app.url}/config") as answer:
        events = json.load(answer)["dependencies"]
    [restore] = [e["id"] for e in events if e["api_name"].startswith("restore") and len(e["outputs"]) > 10]
    page, late = open_browser(), []

    def hold(route):
        if json.loads(route.request.post_data)["fn_index"] == restore and not late:
            late.append(route)
        else:
            route.continue_()

    page.route("**/queue/join*", hold)
    page.goto(app.url)
    choose(page, 0, "pretrained/base")
    set_longest(page, 5)
    ask(page, "Am I too early?")
    wait_for_reply(page)
    [request] = late
    with page.expect_response(lambda response: response.request == request.request):
        request.continue_()
    ask(page, "Am I still here?")
    expect(replies(page, 0)).to_have_count(2)
    wait_for_reply(page)
    assert page.locator("#chat_model_0 input").input_value() == "pretrained/base"
    page.reload()
    expect(replies(page, 0)).to_have_count(2)


def test_nothing_of_a_text_is_run_or_fetched(page, app):
    choose(page, 0, "pretrained/base")
    set_longest(page, 5)
    ask(page, HOSTILE)
    wait_for_reply(page)
    shown = page.locator("#chat_bot_0 [data-testid=user]")
    expect(shown).to_contain_text("<b>bold?</b>")
    assert shown.locator("img, script, b").count() == 0
    assert page.evaluate("window.ran") is None
    chat = json.loads(next(path.read_text() for path in (app.home / "chats").iterdir() if "bold?" in path.read_text()))
    assert chat["turns"][0]["user"] == HOSTILE
