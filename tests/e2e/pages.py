"""What a person does with the page, in words: open it, go to a tab, choose from a list, follow the steps of a run."""

import re

from playwright.sync_api import Page
from playwright.sync_api import TimeoutError as NotYet

PATIENCE = 120_000
"""ms: a model's process imports torch, on a machine that may have other things to do."""


def open_page(app, open_browser, width: int = 1440, height: int = 900) -> Page:
    """The app in a browser of its own, its first events done."""
    page = open_browser(width, height)
    page.goto(app.url)
    page.locator("#data-pick, #train_base, #eval_table, #chat_box").first.wait_for()
    return page


def open_tab(page: Page, name: str) -> None:
    """Data, Train, Evaluate or Chat."""
    page.get_by_role("tab", name=name, exact=True).click()


def choose_option(page: Page, dropdown: str, text: str) -> None:
    """Type into a list's field and click the first option with this text, as soon as there is one."""
    field = page.locator(f"{dropdown} input")
    field.click()
    field.fill(text)
    page.get_by_role("option").filter(has_text=text).first.click()


def press_until(page: Page, button: str, shown: str) -> None:
    """Click until it has begun: gradio drops a click that comes while the last words of the one before arrive."""
    while True:
        page.locator(button).click()
        try:
            page.locator(shown).first.wait_for(timeout=5000)
            return
        except NotYet:
            continue


def step_of(page: Page) -> int:
    """The step that the Train tab shows."""
    return int(re.search(r"Step\s+(\d+) of", page.locator("#watch_status").inner_text())[1])


def wait_for_step(page: Page, step: int) -> None:
    """Until the Train tab shows a later step than this."""
    text = "(document.querySelector('#watch_status')?.innerText ?? '')"
    reached = f"step => Number(({text}.match(/Step\\s+(\\d+)/) || [])[1]) > step"
    page.wait_for_function(reached, arg=step, timeout=180_000)
