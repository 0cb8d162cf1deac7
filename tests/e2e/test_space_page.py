"""A Space's page in a real browser: what a visitor sees in place of the controls, and what its owner sees."""

import pytest
from playwright.sync_api import expect

from tests.e2e.pages import PATIENCE
from tests.support.space_app import SpaceApp, cookie

OWNERS = ("#chat_load_0", "#chat_unload_0", "#chat_correct_0", "#chat_both")


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    home = tmp_path_factory.mktemp("space") / "home"
    home.mkdir()
    app = SpaceApp(home)
    yield app
    app.close()


@pytest.fixture
def open_page(chromium, space):
    """Opens the Space's page, as somebody who has signed in or not; what gradio asks of the hub stays unanswered."""
    contexts = []

    def opened(name=None):
        context = chromium.new_context(viewport={"width": 1280, "height": 900})
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        context.route(lambda url: not url.startswith(space.base), lambda route: route.abort())
        if name:
            session = {"name": "session", "value": cookie(name)["session"], "domain": "127.0.0.1", "path": "/"}
            context.add_cookies([{**session, "secure": True, "sameSite": "None"}])
        page = context.new_page()
        page.goto(space.base)
        page.locator("#chat_about_0").get_by_text("memory").first.wait_for()
        return page

    yield opened
    for context in contexts:
        context.close()


def test_a_visitor_chats_and_reads(open_page):
    page = open_page()
    expect(page.locator("#space_who")).to_contain_text("You may chat with the practice model")
    for one in OWNERS:
        expect(page.locator(one)).to_be_hidden()
    page.fill("#chat_box textarea", "What is the capital of France?")
    page.click("#chat_send")
    page.locator("#chat_bot_0").get_by_text("Paris").wait_for()
    for tab, name in (("data", "Data"), ("train", "Train"), ("evaluate", "Evaluate")):
        page.click(f"#{tab}_tab-button")
        page.get_by_text(f"Only the owner of this Space can use {name}.").wait_for()
        expect(page.locator(f"#{tab}_tab button:visible")).to_have_count(0)
    assert page.get_by_test_id("toast-body").count() == 0


def test_the_owner_sees_the_studio(open_page):
    page = open_page("ann")
    page.get_by_text("Signed in as ann: this Space is yours").wait_for()
    expect(page.locator("#space_who")).to_contain_text("Everything made here is lost when this Space restarts")
    page.locator("#chat_load_0").wait_for()
    page.click("#train_tab-button")
    page.locator("#train_start").wait_for()
    page.get_by_text("Counted with the base model").wait_for()
    page.click("#data_tab-button")
    page.get_by_text("Pick your data").wait_for()
    assert page.get_by_text("Only the owner of this Space can use").count() == 0
    assert page.get_by_test_id("toast-body").count() == 0
