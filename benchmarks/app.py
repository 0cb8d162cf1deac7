"""What the app costs: its start beside `import gradio` alone, browsers that watch a run, a large dataset in the page.

    python -m benchmarks.app [start watch large] [--pairs 5] [--seconds 20] [--conversations 100000]

Needs the tests' packages and Chromium (`make chromium`). The app is a process of its own and the browser a real one;
what is timed is from a click until the page shows the answer. Start-ups are interleaved, A B A B, and compared by
their ratio.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.data_tab import write_dataset
from nanochat_core.runs.run import Run
from nanochat_core.system import processes
from tests.e2e.browser import chromium_path
from tests.e2e.invented import invent_run
from tests.e2e.real_app import ROOT, RealApp

BROWSERS = (0, 1, 3)

# Measured by the page itself: from the click, or the last letter typed, until the line above the list has changed.
_UNTIL_SHOWN = """([selector, text]) => new Promise(done => {
    const field = document.querySelector(selector), note = document.querySelector("#data-list-note");
    const before = note.innerText, began = performance.now();
    new MutationObserver(() => note.innerText !== before && done(performance.now() - began)).observe(
        note, {childList: true, subtree: true, characterData: true});
    if (text === null) return field.click();
    const proto = field.tagName === "INPUT" ? HTMLInputElement.prototype : HTMLTextAreaElement.prototype;
    Object.getOwnPropertyDescriptor(proto, "value").set.call(field, text);
    field.dispatchEvent(new Event("input", {bubbles: true}));
})"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", help="start, watch, large; all of them without it")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--conversations", type=int, default=100_000)
    options = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path())
        parts = {
            "start": lambda: start_up(browser, options.pairs),
            "watch": lambda: watching(browser, options.seconds),
            "large": lambda: large_dataset(browser, options.conversations),
        }
        for name in options.what or parts:
            parts[name]()
        browser.close()


def start_up(browser: Browser, pairs: int) -> None:
    """Seconds from the start of the program until its page answers, beside those of `import gradio`."""
    alone, ours, usable = [], [], []
    environment = {**os.environ, "GRADIO_ANALYTICS_ENABLED": "False"}
    for _ in range(pairs):
        began = time.monotonic()
        subprocess.run([sys.executable, "-c", "import gradio"], check=True, env=environment, cwd=ROOT)
        alone.append(time.monotonic() - began)
        with tempfile.TemporaryDirectory() as home:
            app = RealApp(Path(home))
            began = time.monotonic()
            app.start()
            ours.append(time.monotonic() - began)
            page = browser.new_page()
            began = time.monotonic()
            page.goto(app.url)
            page.locator("#data-pick input").click()
            page.get_by_role("option").first.wait_for()
            usable.append(time.monotonic() - began)
            page.close()
            app.close()
    ratios = [mine / theirs for mine, theirs in zip(ours, alone)]
    print(f"import gradio: {_spread(alone)} s; the app's page answers: {_spread(ours)} s; ratio {_spread(ratios)}")
    print(f"from opening the page until its first list has opened: {_spread(usable)} s", flush=True)


def watching(browser: Browser, seconds: float) -> None:
    """Share of one core that the app takes while browsers watch a run of one step per second."""
    with tempfile.TemporaryDirectory() as home:
        os.environ["NANOCHAT_STUDIO_HOME"] = home
        run = invent_run("bakery", "running", 2000, 1000)
        run.write_launch(**processes.identity().to_dict())  # this program stands for the run, which so is alive
        app = RealApp(Path(home)).start("--tab", "train")
        over = threading.Event()
        stepping = threading.Thread(target=_step, args=(run, over))
        stepping.start()
        server, shares, pages = psutil.Process(app.process.pid), {}, []
        try:
            for count in BROWSERS:
                while len(pages) < count:
                    pages.append(browser.new_context().new_page())
                    pages[-1].goto(app.url)
                    pages[-1].locator("#watch_chart polyline").first.wait_for()
                time.sleep(5)
                shares[count] = _share(server, seconds)
            app.kill()
            began = time.monotonic()
            app.start("--tab", "train")
            page = browser.new_context().new_page()
            pages.append(page)
            page.goto(app.url)
            page.locator("#watch_stop").wait_for()
            print(f"killed and started again, it shows the run with Stop after {time.monotonic() - began:.1f} s")
        finally:
            over.set()
            stepping.join()
            for page in pages:
                page.context.close()
            app.close()
    each = (shares[BROWSERS[-1]] - shares[0]) / BROWSERS[-1]
    told = ", ".join(f"{count} browsers {share:.1%}" for count, share in shares.items())
    print(f"share of one core: {told}; so {each:.1%} for each browser", flush=True)


def _step(run: Run, over: threading.Event) -> None:
    """One step per second, as a training writes it."""
    step = run.status().step
    while not over.wait(1):
        step += 1
        run.append_metrics({"step": step, "train_loss": 1.0 + 1 / step, "tokens_per_s": 1300.0, "time": time.time()})
        run.write_status(step=step, eta_seconds=2000.0 - step)
        with open(run.log_file, "a", encoding="utf-8") as log:
            log.write(f"step {step} of 2000\n")


def _share(process: psutil.Process, seconds: float) -> float:
    before, began = process.cpu_times(), time.monotonic()
    time.sleep(seconds)
    after = process.cpu_times()
    return (after.user + after.system - before.user - before.system) / (time.monotonic() - began)


def large_dataset(browser: Browser, conversations: int) -> None:
    """A large dataset in the Data tab: each answer in ms until the page shows it, and the app's memory."""
    with tempfile.TemporaryDirectory() as home:
        path = Path(home) / "data" / "large.jsonl"
        path.parent.mkdir()
        write_dataset(path, conversations)
        print(f"{conversations:,} conversations, {path.stat().st_size / 1e6:,.0f} MB")
        app = RealApp(Path(home)).start()
        try:
            page = browser.new_page()
            page.set_default_timeout(120_000)
            page.goto(app.url)
            page.wait_for_timeout(2000)
            _use(page, app, conversations)
        finally:
            app.close()


def _use(page: Page, app: RealApp, conversations: int) -> None:
    def timed(name: str, selector: str, text: str | None = None) -> None:
        print(f"{name:<36} {page.evaluate(_UNTIL_SHOWN, [selector, text]):>7,.0f} ms until shown", flush=True)
        page.wait_for_timeout(300)

    page.locator("#data-pick input").click()
    began = time.monotonic()
    page.get_by_role("option", name="large.jsonl").click()
    page.locator("#data-list-note").get_by_text("of ").wait_for()
    print(f"{'open':<36} {1000 * (time.monotonic() - began):>7,.0f} ms until shown")
    for when in ("while tokens are counted", "when all are counted"):
        print(f"{when}; {_memory(app)}")
        for text in ("bread cake", "no such words", "9999", ""):
            timed(f"search '{text}'", "#data-search input, #data-search textarea", text)
        for _ in range(3):
            timed("next page", "#data-next")
        timed("back", "#data-previous")
        page.wait_for_function(
            "() => !document.querySelector('#data-overview').innerText.includes('counted')", timeout=300_000
        )
    page.get_by_role("tab", name="Train", exact=True).click()
    began = time.monotonic()
    page.locator("#train_counts .facts").get_by_text(f"{conversations:,}", exact=True).wait_for()
    print(f"{'counts before the start (Train)':<36} {1000 * (time.monotonic() - began):>7,.0f} ms until shown")
    print(_memory(app))


def _memory(app: RealApp) -> str:
    status = Path(f"/proc/{app.process.pid}/status").read_text()
    now, most = (int(status.split(f"{name}:")[1].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))
    return f"memory of the app: {now:,.0f} MB, at most {most:,.0f} MB so far"


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    main()
