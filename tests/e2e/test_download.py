"""A model fetched from the Train tab: the real hub client, a hub on loopback, a reload of the page in the middle."""

import pytest
from playwright.sync_api import expect

from tests.e2e.pages import open_page
from tests.fake_hub import FakeHub, serving
from tests.tiny import install_tiny_model

REPO = "somebody/nanochat-tiny"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A repository with a tiny model, and an app that knows no other hub."""
    install_tiny_model(tmp_path)
    files = {path.name: path.read_bytes() for path in (tmp_path / "models").rglob("*") if path.is_file()}
    with serving(FakeHub(REPO, files)) as hub:
        environment = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield hub


def test_look_download_and_choose(app, hub, home, open_browser):
    app.start("--tab", "train")
    page = open_page(app, open_browser)
    page.locator("#download_fold button").first.click()
    repo, said = page.locator("#download_repo input, #download_repo textarea").first, page.locator("#download_said")
    repo.fill("../etc")
    page.locator("#download_start").click()
    expect(said.locator(".bad")).to_contain_text("../etc")
    repo.fill(REPO)
    page.locator("#download_size").click()
    expect(said).to_contain_text(f"from {REPO}")
    page.locator("#download_start").click()
    page.reload()
    page.locator("#download_fold button").first.click()
    expect(page.locator("#download_said")).to_contain_text("is here, verified")
    page.locator("#train_base input").click()
    page.get_by_role("option", name="tiny (sft)").click()
    expect(page.locator("#train_counts .facts")).to_contain_text("108 / 12")
