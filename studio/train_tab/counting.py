"""What a page of the Train tab counts now: a newer choice that is counted otherwise ends it, as it takes the processor.

The page asks for one count at a time and for the last choice after it, so it is another event that tells of the choice.
"""

import threading
from collections.abc import Callable
from typing import Any


class Superseded(Exception):
    """Something else is chosen by now: nobody waits for this count any more."""


class Counting:
    """One page's; a gr.State holds it, and gives each page its own copy."""

    def __init__(self) -> None:
        self._of: Any = None
        self._over = threading.Event()

    def __deepcopy__(self, memo: dict[int, Any]) -> "Counting":
        return Counting()

    def begin(self, of: Any) -> Callable[[], None]:
        """Counting begins. What is returned is to be called now and then: it raises Superseded when it is to end."""
        self._of, self._over = of, threading.Event()
        over = self._over

        def go_on() -> None:
            if over.is_set():
                raise Superseded

        return go_on

    def chosen(self, of: Any) -> None:
        """This is chosen by now; what counts something else ends at its next call."""
        if of != self._of:
            self._over.set()
