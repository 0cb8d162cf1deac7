"""A run's model taken elsewhere from the Evaluate tab: exported for transformers, published on a hub on loopback."""

import pytest
from playwright.sync_api import expect
from transformers import AutoTokenizer

from tests.e2e.pages import choose_option, open_page
from tests.support.fake_hub import FakeHub, serving
from tests.support.published_run import TOKEN, make_run

REPO = "me/my-bakery"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty hub that the app is logged in to, and no other."""
    with serving(FakeHub(REPO)) as hub:
        hub.token = TOKEN
        environment = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "HF_TOKEN": TOKEN}
        for name, value in {**environment, "HF_HUB_DISABLE_XET": "1"}.items():
            monkeypatch.setenv(name, value)
        yield hub


def test_export_and_publish(app, hub, home, open_browser):
    make_run(home)
    app.start("--tab", "evaluate")
    page = open_page(app, open_browser)
    choose_option(page, "#eval_run", "mine")
    page.locator("#out_fold button").first.click()
    page.locator("#out_export").click()
    expect(page.locator("#out_said")).to_contain_text("The export of mine is done.")
    assert len(AutoTokenizer.from_pretrained(home / "models" / "exported" / "mine")) > 0
    page.locator("#out_export").click()  # nothing is ever overwritten
    expect(page.locator("#out_said .bad")).to_contain_text("exported/mine")
    choose_option(page, "#out_form", "GGUF Q8_0")
    page.locator("#out_export").click()
    expect(page.locator("#out_said")).to_contain_text("ollama create mine")
    assert (home / "models" / "exported" / "mine-gguf-q8_0" / "mine-Q8_0.gguf").is_file()
    page.locator("#out_publish").click()
    expect(page.locator("#out_said .bad")).to_contain_text("The repository is ''")
    page.locator("#out_repo input, #out_repo textarea").first.fill(REPO)
    page.locator("#out_publish").click()
    page.reload()  # it goes on
    page.locator("#out_fold button").first.click()
    expect(page.locator("#out_said")).to_contain_text("The publication of mine is done.")
    assert {"README.md", "model.safetensors", "tokenizer.pkl"} <= hub.files.keys()
    assert "my secrets" not in hub.files["README.md"].decode()
