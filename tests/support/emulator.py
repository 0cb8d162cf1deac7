"""AArch64's compiler and emulator, for its kernels on another processor; run as a module, it installs them."""

import os
import platform
import shutil
import subprocess
import sys

COMPILER, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"
PACKAGES = ("gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross", "qemu-user")
"""Debian's names."""
REMEDY = (
    f"The kernels for AArch64 are tested with {COMPILER} and {EMULATOR}. Install them "
    f"(`sudo apt-get install {' '.join(PACKAGES)}`), then run `make test` again."
)


def is_arm() -> bool:
    """Whether this processor is one, and needs no emulator."""
    return platform.machine() in ("aarch64", "arm64")


def is_there() -> bool:
    """Whether the kernels for AArch64 can be run here."""
    return is_arm() or bool(shutil.which(COMPILER) and shutil.which(EMULATOR))


def install() -> int:
    """Install them where they are not there. Returns an exit status."""
    if is_there():
        return 0
    if shutil.which("apt-get") and os.geteuid() == 0:
        install = f"apt-get update -qq && apt-get install -y -qq --no-install-recommends {' '.join(PACKAGES)}"
        if subprocess.run(["sh", "-c", install], stdout=sys.stderr).returncode == 0 and is_there():
            return 0
    print(REMEDY, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(install())
