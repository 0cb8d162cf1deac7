"""The most memory that a process had, and no other's: Linux's VmHWM, mapped file pages included.

getrusage's ru_maxrss would not do: after a fork and exec it still holds the size of the process that forked, and for
children it is the largest of all programs that were ever started, a compiler asked for its version among them.
"""

import math
from pathlib import Path


def peak_bytes(pid: int | None = None) -> float:
    """The most that a process (default: this one) had since its start or `forget_peak`; NaN where there is no /proc."""
    status = Path(f"/proc/{pid or 'self'}/status")
    if not Path("/proc/self/status").exists():  # macOS
        return math.nan
    return int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024


def forget_peak() -> float:
    """Let this process's peak begin anew at what it has now, which is returned."""
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")  # proc(5)
    return peak_bytes()
