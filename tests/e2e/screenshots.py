"""Pictures of every tab, to be looked at: empty, busy and failed, wide and narrow, light and dark.

    python -m tests.e2e.screenshots FOLDER

Writes FOLDER/<state>_<tab>_<size>_<theme>.png, and names on stderr whatever is wider than the window.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from nanochat_core import processes
from tests.e2e.browser import chromium_path
from tests.e2e.invented import EXAMPLE, invent_run
from tests.e2e.real_app import RealApp

SIZES = {"wide": (1440, 900), "phone": (390, 844)}
THEMES = ("light", "dark")
TABS = ("Data", "Train", "Evaluate", "Chat")


def empty(home: Path) -> None:
    """Nothing yet, as on a fresh machine."""


def busy(home: Path) -> None:
    """A run that trains, two that have finished, a dataset."""
    _dataset(home)
    invent_run("bakery")
    invent_run("bakery-slow", steps=300, init_lr_frac=0.1)
    run = invent_run("bakery-2", "running", 240, 96)
    run.write_launch(**processes.identity().to_dict())  # this program stands for the run, which so is alive


def failed(home: Path) -> None:
    """A run that failed, and a dataset with faults."""
    path = _dataset(home)
    with open(path, "a", encoding="utf-8") as file:
        file.write('{"messages": [{"role": "user", "content": "A question without an answer"}]}\n{"messages": [\n')
    invent_run("bakery", "failed", 120, 60).write_status(
        error="Process 0 of the training (rank 0) ran out of memory on its device.",
        remedy="Use a smaller device_batch_size (the result stays the same) or a smaller max_seq_len, under a new "
        "output_tag.",
    )


STATES: dict[str, Callable[[Path], None]] = {"empty": empty, "busy": busy, "failed": failed}


def _dataset(home: Path) -> Path:
    path = home / "data" / "bakery_data.jsonl"
    path.parent.mkdir()
    shutil.copy(EXAMPLE, path)
    return path


def main(folder: Path) -> int:
    """Take all pictures. Returns 1 when something was wider than its window."""
    folder.mkdir(parents=True, exist_ok=True)
    too_wide = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path())
        for state, prepare in STATES.items():
            with tempfile.TemporaryDirectory() as home:
                os.environ["NANOCHAT_STUDIO_HOME"] = home
                prepare(Path(home))
                app = RealApp(Path(home)).start()
                try:
                    too_wide += _take(browser, app, state, folder)
                finally:
                    app.close()
        browser.close()
    for name in too_wide:
        print(f"Wider than the window: {name}", file=sys.stderr)
    print(f"{len(list(folder.glob('*.png')))} pictures in {folder}")
    return 1 if too_wide else 0


def _take(browser: Browser, app: RealApp, state: str, folder: Path) -> list[str]:
    too_wide = []
    for size, (width, height) in SIZES.items():
        for theme in THEMES:
            page = browser.new_page(viewport={"width": width, "height": height})
            page.set_default_timeout(90_000)
            page.goto(f"{app.url}/?__theme={theme}")
            for tab in TABS:
                page.get_by_role("tab", name=tab, exact=True).click()
                _settle(page, tab, state)
                name = f"{state}_{tab.lower()}_{size}_{theme}"
                page.screenshot(path=folder / f"{name}.png", full_page=True)
                if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
                    too_wide.append(name)
            page.close()
    return too_wide


def _settle(page: Page, tab: str, state: str) -> None:
    """Wait until the tab shows what it has."""
    page.wait_for_timeout(1000)
    if tab == "Data" and state != "empty" and not page.locator("#data-status").get_by_text("conversation").count():
        page.locator("#data-pick input").click()
        page.get_by_role("option", name="bakery_data.jsonl").click()
    page.wait_for_timeout(2500)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("models/screenshots")))
