"""The real app, a headless Chromium, and a page whose requests are all looked at."""

from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect, sync_playwright

from nanochat_core.runs.run import Run
from tests.e2e.browser import chromium_path
from tests.e2e.pages import PATIENCE
from tests.e2e.real_app import RealApp


@pytest.fixture(scope="module")
def chromium():
    """The system's Chromium, or playwright's own."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path())
        expect.set_options(timeout=PATIENCE)
        yield browser
        browser.close()


@pytest.fixture
def app(home):
    """The app, not yet started; afterwards it and all runs are ended."""
    real = RealApp(home)
    yield real
    if real.process is not None:
        real.close()
    for run in Run.list():
        run.stop(wait=0, kill=True)


@pytest.fixture
def open_browser(chromium):
    """Makes pages in browsers of their own. Fails the test when any request left this machine."""
    contexts, elsewhere = [], []

    def note(request):
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "blob", "file") and parts.hostname != "127.0.0.1":
            elsewhere.append(request.url)

    def make(width=1440, height=900):
        context = chromium.new_context(viewport={"width": width, "height": height}, accept_downloads=True)
        context.set_default_timeout(PATIENCE)
        context.on("request", note)
        contexts.append(context)
        return context.new_page()

    yield make
    for context in contexts:
        context.close()
    assert elsewhere == [], "requests left 127.0.0.1"
