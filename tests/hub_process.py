"""Running the real client against the hub on loopback: in a process of its own, as it reads the hub's address when it
is imported."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def environment(hub, folder: Path, **more: str) -> dict[str, str]:
    """Ours without any login or setting of the hub's client, and with the hub on loopback."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    own = {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "hf"), "HF_HUB_DISABLE_XET": "1", "PYTHONPATH": str(ROOT)}
    return kept | own | more


def run_program(hub, folder: Path, program: str, *arguments: str, **more: str) -> subprocess.CompletedProcess:
    """`program` (Python), run to its end."""
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(
        command, env=environment(hub, folder, **more), capture_output=True, text=True, timeout=180, check=False
    )


def run_command(hub, folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess:
    """`python -m nanochat_core ...`, run to its end."""
    program = "import sys; from nanochat_core.__main__ import main; sys.exit(main(sys.argv[1:]))"
    return run_program(hub, folder, program, *arguments, **more)
