"""How child processes are started."""

import os

from nanochat_core.paths import PROJECT_ROOT, home


def independent_environment() -> dict[str, str]:
    """Ours, plus what makes a process independent of the folder that it is started in."""
    paths = [str(PROJECT_ROOT), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "NANOCHAT_STUDIO_HOME": str(home()),
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "PYTHONSAFEPATH": "1",  # a file in that folder must not pass for a module
    }
