"""Being asked to stop: SIGTERM and SIGINT set a flag that the trainer looks at, block by block and step by step."""

import contextlib
import signal
import threading
from collections.abc import Iterator


class StoppedEarly(Exception):
    """The run was asked to stop while there was nothing to save yet."""


class StopFlag:
    """Whether this process was asked to save and stop."""

    def __init__(self) -> None:
        self.is_set = False

    def set(self, *_: object) -> None:
        """Take note of a signal; its arguments do not matter."""
        self.is_set = True


@contextlib.contextmanager
def stop_signals() -> Iterator[StopFlag]:
    """A flag that SIGTERM and the first Ctrl-C set; a second Ctrl-C interrupts as usual.

    Python delivers signals to the main thread only; in any other thread the flag stays for others to set.
    """
    flag = StopFlag()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return

    def interrupted(*_: object) -> None:
        flag.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {signal.SIGTERM: flag.set, signal.SIGINT: interrupted}
    before = {number: signal.signal(number, handler) for number, handler in before.items()}
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
