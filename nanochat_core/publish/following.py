"""Publish a run's checkpoints while it trains, from a process beside it: no fault of the hub can stop the training."""

import time
from collections.abc import Callable

from nanochat_core.paths import steps
from nanochat_core.publish.publishing import Publication, publish
from nanochat_core.runs.run import Run

LOOK_EVERY_SECONDS = 2.0
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 5.0, 600.0
LAST_TRIES = 8
"""How often it is tried after the end of the run; while the run trains there is no last try."""


def publish_following(  # noqa: PLR0913  all but the first two are options
    tag: str,
    repo: str,
    public: bool = False,
    with_data: bool = False,
    every_minutes: float = 10.0,
    dtype: str | None = None,
    say: Callable[[str], None] = print,
    first_wait: float = FIRST_WAIT_SECONDS,
    gguf: str | None = None,
) -> Publication:
    """Publish each new complete checkpoint of the run, at most one in `every_minutes`, until the run is over.

    The last one comes with transformers' files, and with a GGUF file where `gguf` says its quantization. A failure is
    said and tried again, after `first_wait` seconds and then ever longer; ValueError when it still fails some tries
    after the end, or when the run leaves no checkpoint.
    """
    run = Run.open(tag)
    published: Publication | None = None
    next_time, wait, last_tries = 0.0, 0.0, 0
    while True:
        is_over = run.status().is_over  # asked before the checkpoints: what is saved later is seen the next time
        newest = max(steps(run.path), default=None)
        if is_over and newest is None:
            raise ValueError(f"Run '{tag}' has ended without a checkpoint: there is nothing to publish.")
        is_new = newest is not None and (published is None or newest != published.step)
        if (is_over or is_new) and (time.monotonic() >= next_time or (is_over and not wait)):
            try:
                published = publish(f"finetuned/{tag}", repo, public, with_data, newest, is_over, dtype, say, gguf)
            except ValueError as error:
                last_tries += is_over
                if last_tries == LAST_TRIES:
                    raise
                wait = min(2 * wait or first_wait, LONGEST_WAIT_SECONDS)
                say(f"Not published: {error} Next try in {wait:.0f} s; the training is not touched by this.")
                next_time = time.monotonic() + wait
            else:
                say(published.summary())
                next_time, wait = time.monotonic() + 60 * every_minutes, 0.0
                if is_over:
                    return published
        time.sleep(LOOK_EVERY_SECONDS)
