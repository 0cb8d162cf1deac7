"""What comes from the Hugging Face Hub: a model in the Train tab, a dataset in the Data tab; a hub on loopback."""

import json

import pytest
from playwright.sync_api import expect

from nanochat_core.data.conversations import load_conversations
from tests.e2e.pages import open_page, press_until
from tests.support.fake_hub import FakeHub, serving
from tests.support.tiny import install_tiny_model

REPO = "somebody/nanochat-tiny"


@pytest.fixture
def only_hub(tmp_path, monkeypatch):
    """Makes a hub the only one that the app knows."""

    def only(hub):
        environment = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}
        for name, value in environment.items():
            monkeypatch.setenv(name, value)

    return only


@pytest.fixture
def hub(tmp_path, only_hub):
    """A repository with a tiny model."""
    install_tiny_model(tmp_path)
    files = {path.name: path.read_bytes() for path in (tmp_path / "models").rglob("*") if path.is_file()}
    with serving(FakeHub(REPO, files)) as hub:
        only_hub(hub)
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


@pytest.fixture
def talks(only_hub):
    """A dataset of three ShareGPT conversations, the last without an answer."""
    turns = [[("human", f"question {number}"), ("gpt", f"answer {number}")] for number in range(3)]
    rows = [{"conversations": [{"from": who, "value": text} for who, text in turn]} for turn in turns]
    del rows[2]["conversations"][1]
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    with serving(FakeHub("somebody/talks", {"train.jsonl": content}, "dataset")) as hub:
        only_hub(hub)
        yield hub


def test_a_dataset_is_looked_at_before_it_is_saved(app, talks, home, open_browser):
    app.start()
    page = open_page(app, open_browser)
    page.locator("#data-example").click()  # what a newcomer does first
    expect(page.locator("#data-status")).to_contain_text("120 conversations")
    page.locator("#data-hub-fold button").first.click()
    page.locator("#data-hub-repo input, #data-hub-repo textarea").first.fill("somebody/nothing")
    page.locator("#data-hub-import").click()
    expect(page.locator("#data-hub-said .bad")).to_contain_text("somebody/nothing")
    page.locator("#data-hub-repo input, #data-hub-repo textarea").first.fill("somebody/talks")
    press_until(page, "#data-hub-import", "#data-hub-said .good")
    expect(page.locator("#data-hub-said")).to_contain_text("Read 3 rows of somebody/talks; not saved yet")
    expect(page.locator("#data-hub-said")).to_contain_text("LEFT OUT")
    expect(page.locator("#data-status")).to_contain_text("2 conversations")
    assert not (home / "data" / "talks.jsonl").exists()
    page.locator("#data-save:not([disabled])").click()
    expect(page.locator("#data-save")).to_be_disabled()
    assert len(load_conversations(home / "data" / "talks.jsonl")) == 2
