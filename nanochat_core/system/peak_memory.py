"""The most memory that a process had, and no other's: Linux's VmHWM, mapped file pages included.

getrusage's ru_maxrss would not do there: after a fork and exec it still holds the size of the process that forked, such
as the app that starts a run. For children it is the largest of all programs that were ever started.
"""

import math
import sys
from pathlib import Path


def peak_bytes(pid: int | None = None) -> float:
    """The most that a process (default: this one) had; NaN for another one where there is no /proc."""
    status = Path(f"/proc/{pid or 'self'}/status")
    if Path("/proc/self/status").exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024
    if pid is not None:
        return math.nan
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # kilobytes everywhere but on macOS
