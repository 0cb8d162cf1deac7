"""Serve the page: gradio's server with our theme, closed to other pages, and quiet."""

import threading

from starlette.middleware import Middleware

from nanochat_core.paths import home
from nanochat_core.remote.start import keep_following
from nanochat_core.system.files import remove_leftovers
from nanochat_core.system.foreign_requests import RefuseForeign, is_loopback
from studio.app import build_app
from studio.parts.uploads import DEFAULT_UPLOAD
from studio.runs import queue as run_queue
from studio.space import home as space_home
from studio.space.access import current_space
from studio.space.doors import OwnersDoors
from studio.space.guesses import SlowGuesses
from studio.theme import CSS_FILES, theme

_IDLE_SECONDS = 0.05  # gradio looks for work every millisecond, which costs 5% of a core while nothing happens


def serve(
    host: str,
    port: int,
    tab: str = "data",
    share: bool = False,
    auth: tuple[str, str] | None = None,
    max_upload: int = DEFAULT_UPLOAD,
) -> int:
    """Serve until the program is ended. max_upload: bytes of the largest file that a browser may send. Returns 0."""
    space = current_space()
    settled = space_home.settle() if space else None
    demo = build_app(tab, settled, max_upload)
    any_host = share or space is not None or not is_loopback(host)
    guards = [Middleware(RefuseForeign, any_host=any_host, own_names=space.hosts if space else ())]
    if auth:
        guards.append(Middleware(SlowGuesses))
    if space:
        guards.append(Middleware(OwnersDoors))
    print((settled and settled.warning) or f"Everything made here is kept in {home()}.")
    if any_host and space is None and auth is None:
        print("Anyone who can reach this address can train and delete models here. --auth USER:PASSWORD asks for both.")
    demo.launch(
        server_name=host,
        server_port=port,
        share=share,
        auth=auth,
        max_file_size=max_upload,
        theme=theme(),
        css_paths=CSS_FILES,
        run_history=False,
        footer_links=[],
        ssr_mode=False,
        quiet=True,
        prevent_thread_lock=True,
        _frontend=False,  # else gradio asks its own page with 3 s of patience, and gives up on a busy machine
        app_kwargs={"middleware": guards},
    )
    if hasattr(getattr(demo, "_queue", None), "sleep_when_free"):
        demo._queue.sleep_when_free = _IDLE_SECONDS
    shown = f"[{host}]" if ":" in host else host
    print(f"nanochat studio is at http://{shown}:{port}" + (f" and {demo.share_url}" if share else ""), flush=True)
    for folder in (home(), home() / "data", home() / "models"):
        remove_leftovers(folder)
    leaving = threading.Event()
    run_queue.keep_going(leaving)
    keep_following()  # rented machines that still train
    demo.block_thread()
    leaving.set()
    return 0
