"""A process that reads a stranger's file gets no more memory, disk and processor time than it may need.

What is packed can unpack to any size, and a reader written in C may ask for it all at once; only the system holds that.
Small as it is, this module stands alone: `files` is for what everybody reads and writes.
"""

import sys

MEMORY_BYTES = 6 << 30
"""Address space; readers of parquet map a good part of a gigabyte before they begin."""
UNPACKED_BYTES = 1 << 30
"""Text that an import in the app may come to."""
PROCESSOR_SECONDS = 900


def confine(memory_bytes: int, file_bytes: int | None = None, processor_seconds: int | None = None) -> None:
    """Limit this process, for good: beyond it comes MemoryError, OSError (EFBIG), or its end by SIGXCPU.

    Where the system has no such limits (Windows, and the memory's on macOS), nothing happens.
    """
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415  not on Windows

    wanted = {"RLIMIT_AS": memory_bytes, "RLIMIT_FSIZE": file_bytes, "RLIMIT_CPU": processor_seconds}
    if sys.platform == "darwin":
        del wanted["RLIMIT_AS"]
    for name, most in wanted.items():
        kind = getattr(resource, name)
        hard = resource.getrlimit(kind)[1]
        if most is not None:
            most = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.setrlimit(kind, (most, most))
