"""The most memory that the measured process had, from where it is told to begin.

By itself and without torch, whose memory would be measured with it.
"""

from pathlib import Path

from nanochat_core.system.processes import peak_bytes


def forget_peak() -> float:
    """Let this process's peak start again at what it has now, which is returned."""
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")  # proc(5)
    return peak_bytes()
