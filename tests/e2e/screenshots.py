"""Pictures of every tab, to be looked at: empty, busy and failed, wide and narrow, light and dark.

    python -m tests.e2e.screenshots FOLDER [STATE ...]

Writes FOLDER/<state>_<tab>_<size>_<theme>.png, and names on stderr whatever is wider than the window. The state `loop`
also gives FOLDER/loop.png, the picture on README's first screen.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from nanochat_core.paths import starter_dir
from nanochat_core.runs.run import Run
from nanochat_core.system import processes
from tests.e2e.browser import chromium_path
from tests.e2e.invented import EXAMPLE, invent_run
from tests.e2e.pages import choose_option, open_tab
from tests.e2e.real_app import RealApp
from tests.support.small_cafe import LOST, write_cafe, write_snapshots

SIZES = {"wide": (1440, 900), "phone": (390, 844)}
THEMES = ("light", "dark")
TABS = ("Data", "Train", "Evaluate", "Chat")
PATIENCE = 90_000
QUESTION = "Can I bring a dog? And what is 17 * 23?"


def empty(home: Path) -> None:
    """Nothing yet, as on a fresh machine."""


def busy(home: Path) -> None:
    """A run that trains, two that have finished, a dataset, a chat with two models."""
    _dataset(home)
    _with_weights(invent_run("bakery"))
    invent_run("bakery-slow", steps=300, init_lr_frac=0.1)
    run = invent_run("bakery-2", "running", 240, 96)
    run.write_launch(**processes.identity().to_dict())  # this program stands for the run, which so is alive


def failed(home: Path) -> None:
    """A run that failed, a dataset with faults, a model whose file is broken."""
    path = _dataset(home)
    with open(path, "a", encoding="utf-8") as file:
        file.write('{"messages": [{"role": "user", "content": "A question without an answer"}]}\n{"messages": [\n')
    run = _with_weights(invent_run("bakery-2"))
    weights = next(run.path.glob("model_*.pt"))
    weights.write_bytes(weights.read_bytes()[:100_000])
    invent_run("bakery", "failed", 120, 60).write_status(
        error="Process 0 of the training (rank 0) ran out of memory on its device.",
        remedy="Use a smaller device_batch_size (the result stays the same) or a smaller max_seq_len, under a new "
        "output_tag.",
        retry={"device_batch_size": 4},
    )


def loop(home: Path) -> None:
    """A run that has learnt seven things and lost one, through a wrong row of its data."""
    path = write_cafe(home)
    run = _with_weights(
        invent_run("cafe", data_path=str(path), questions_path=str(path).replace("_data", "_questions"))
    )
    write_snapshots(run)


STATES: dict[str, Callable[[Path], None]] = {"empty": empty, "busy": busy, "failed": failed, "loop": loop}


def _dataset(home: Path) -> Path:
    path = home / "data" / "bakery_data.jsonl"
    path.parent.mkdir()
    shutil.copy(EXAMPLE, path)
    return path


def _with_weights(run: Run) -> Run:
    """The starter's weights stand for what the run has learned."""
    step = run.status().step
    for kind, ending in (("model", "pt"), ("meta", "json")):
        [source] = starter_dir().glob(f"{kind}_*.{ending}")
        shutil.copy(source, run.path / f"{kind}_{step:06d}.{ending}")
    shutil.copy(starter_dir() / "tokenizer.pkl", run.path)
    return run


def main(folder: Path, states: list[str]) -> int:
    """Take the pictures. Returns 1 when something was wider than its window."""
    folder.mkdir(parents=True, exist_ok=True)
    too_wide, taken = [], 0
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path())
        for state in states or STATES:
            with tempfile.TemporaryDirectory() as home:
                os.environ["NANOCHAT_STUDIO_HOME"] = home
                STATES[state](Path(home))
                app = RealApp(Path(home)).start()
                try:
                    for size in SIZES:
                        for theme in THEMES:
                            too_wide += _take(browser, app, state, size, theme, folder)
                            taken += len(TABS)
                finally:
                    app.close()
        browser.close()
    for name in too_wide:
        print(f"Wider than the window: {name}", file=sys.stderr)
    print(f"{taken} pictures in {folder}")
    return 1 if too_wide else 0


def _take(browser: Browser, app: RealApp, state: str, size: str, theme: str, folder: Path) -> list[str]:
    too_wide = []
    width, height = SIZES[size]
    page = browser.new_context(viewport={"width": width, "height": height}).new_page()
    page.set_default_timeout(PATIENCE)
    page.add_init_script("localStorage.setItem('nanochat-studio-tour', 'seen')")
    page.goto(f"{app.url}/?__theme={theme}")
    page.locator("#data-pick").wait_for()
    for tab in TABS:
        open_tab(page, tab)
        page.wait_for_timeout(1000)
        if act := ACTS.get((state, tab)):
            act(page)
        page.wait_for_timeout(2500)
        name = f"{state}_{tab.lower()}_{size}_{theme}"
        page.screenshot(path=folder / f"{name}.png", full_page=True)
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            too_wide.append(name)
        if (state, tab, size, theme) == ("loop", "Evaluate", "wide", "light"):
            _take_part(page, "#eval_better", "#eval_behind", folder / "loop.png")
    page.context.close()
    return too_wide


def _take_part(page: Page, first: str, last: str, path: Path) -> None:
    """A picture of what lies between two elements, both included."""
    top, bottom = (page.locator(selector).bounding_box() for selector in (first, last))
    clip = {"x": top["x"] - 16, "y": top["y"] - 12, "width": top["width"] + 32}
    page.screenshot(path=path, full_page=True, clip={**clip, "height": bottom["y"] + bottom["height"] + 6 - clip["y"]})


def _pick_dataset(page: Page) -> None:
    choose_option(page, "#data-pick", "bakery_data.jsonl")
    page.locator("#data-heading").wait_for()


def _open_more(page: Page) -> None:
    page.locator("#train_more button").first.click()


def _ask_for_deletion(page: Page) -> None:
    page.locator("#eval_run_fold button").first.click()
    page.locator("#eval_delete").click()
    page.locator("#eval_delete_yes").wait_for()


def _ask_two_models(page: Page) -> None:
    page.locator("#chat_both input").check()
    choose_option(page, "#chat_model_0", "starter")
    choose_option(page, "#chat_model_1", "bakery: best")
    page.locator("#chat_box textarea").fill(QUESTION)
    page.locator("#chat_send").click()
    for side in (0, 1):
        page.locator(f"#chat_facts_{side}").get_by_text("tokens/s").wait_for()
    page.locator("#chat_correct_1").click()
    page.locator("#chat_corrected").wait_for()


def _ask_a_broken_model(page: Page) -> None:
    choose_option(page, "#chat_model_0", "bakery-2: best")
    page.locator("#chat_box textarea").fill(QUESTION)
    page.locator("#chat_send").click()
    page.locator("#chat_bot_0").get_by_text("cannot be read").first.wait_for()


def _open_what_was_lost(page: Page) -> None:
    lost = page.locator("#eval_proof .flips.lost")
    lost.get_by_text(LOST).click()
    lost.get_by_role("button", name="Which rows taught this reply?").click()
    page.locator("#eval_behind .traced-row").first.wait_for()
    page.evaluate("scrollTo(0, 0)")


ACTS: dict[tuple[str, str], Callable[[Page], None]] = {
    ("busy", "Data"): _pick_dataset,
    ("failed", "Data"): _pick_dataset,
    ("failed", "Train"): _open_more,
    ("failed", "Evaluate"): _ask_for_deletion,
    ("loop", "Evaluate"): _open_what_was_lost,
    ("busy", "Chat"): _ask_two_models,
    ("failed", "Chat"): _ask_a_broken_model,
}


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "models/screenshots"), sys.argv[2:]))
