"""Which Chromium drives the tests; `python -m tests.e2e.browser` makes sure that there is one."""

import os
import shutil
import subprocess
import sys

from playwright.sync_api import sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def chromium_path() -> str | None:
    """The system's Chromium; None for the one that playwright keeps."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


def is_there() -> bool:
    """Whether the tests can start a browser."""
    if chromium_path():
        return True
    with sync_playwright() as playwright:
        return os.path.isfile(playwright.chromium.executable_path)


def install() -> int:
    """Install one where there is none: Debian's own, else playwright's. Returns an exit status."""
    if is_there():
        return 0
    ways = [[sys.executable, "-m", "playwright", "install", "chromium"]]
    if shutil.which("apt-get") and os.geteuid() == 0:
        ways.insert(0, ["sh", "-c", "apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium"])
    for way in ways:
        if subprocess.run(way, stdout=sys.stderr).returncode == 0 and is_there():
            return 0
    print(
        "The browser tests need Chromium, and it could not be installed here: install the system's package "
        "(`sudo apt-get install chromium`), then run `make test` again.",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    sys.exit(install())
