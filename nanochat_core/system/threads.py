"""How a process's computing threads wait for each other: asleep, so that others may use the cores meanwhile."""

from collections.abc import MutableMapping


def share_cores(environment: MutableMapping[str, str]) -> None:
    """Let OpenMP's threads sleep instead of spin while they wait. To be set before torch is loaded.

    Spinning gains little on an idle machine. On a busy one the thread that is waited for does not get a core
    because the others burn it: with one other busy process on two cores a training step of the practice model's
    shape took more than 20 s spinning and 2 to 4 s asleep.
    """
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
