"""One download of a model at a time, in a thread of the app, so that it continues when the browser is closed."""

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from nanochat_core.hub.downloading import download, repository_size
from nanochat_core.hub.files import check_repo
from studio.parts import html


@dataclass
class _Download:
    """What is known of it."""

    repo: str
    began: float = field(default_factory=time.monotonic)
    done: int = 0
    total: int = 0
    folder: Path | None = None
    error: str = ""

    @property
    def is_over(self) -> bool:
        return bool(self.folder or self.error)


_lock = threading.Lock()
_last: _Download | None = None


def size(repo: str) -> str:
    """What a download would fetch, as a note."""
    try:
        return html.note(repository_size((repo or "").strip()).summary())
    except ValueError as error:
        return html.note(str(error), "bad")


def start(repo: str) -> None:
    """Begin. ValueError for what is no repository's name, and while another download runs."""
    global _last
    repo = (repo or "").strip()
    check_repo(repo)
    with _lock:
        if _last is not None and is_active():
            raise ValueError(f"{_last.repo} is being downloaded. Wait until that has ended.")
        _last = _Download(repo)
    threading.Thread(target=_fetch, args=(_last,), name="download", daemon=True).start()


def is_active() -> bool:
    """Whether a download is running."""
    return _last is not None and not _last.is_over


def shown() -> str:
    """The last download as it is now; "" when there was none."""
    one = _last
    if one is None:
        return ""
    if one.error:
        return html.note(one.error, "bad")
    if one.folder:
        return html.note(f"{one.repo} is here, verified. Choose it as the base model, or talk to it in Chat.", "good")
    if not one.total:
        return html.note(f"Asking the hub for {one.repo} ...")
    seconds = time.monotonic() - one.began
    left = (one.total - one.done) * seconds / one.done if one.done else None
    text = f"{one.repo}: {html.size(one.done)} of {html.size(one.total)}, {html.duration(left)} left"
    return html.bar(one.done, one.total, label="Downloaded") + html.lead(text)


def _fetch(one: _Download) -> None:
    def report(done: int, total: int) -> None:
        one.done, one.total = done, total

    try:
        one.folder = download(one.repo, report=report)
    except ValueError as error:
        one.error = str(error)
    except OSError as error:  # nothing is above a thread: what is not told here is told nowhere
        one.error = f"The download of {one.repo} failed: {error}. Try again; what is whole already is kept."
