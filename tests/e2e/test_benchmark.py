"""The measurement of the app's cost runs, in a small form; no figure is asserted."""

import subprocess
import sys


def test_the_app_is_measured():
    command = [sys.executable, "-m", "benchmarks.app", "--pairs", "1", "--seconds", "1", "--conversations", "300"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for told in ("the app's page answers", "for each browser", "counts before the start"):
        assert told in done.stdout
