"""A run in a job on the stand-in hub: started, followed, and looked at."""

import psutil

from nanochat_core.remote.start import start_remote_run
from nanochat_core.remote.sync import sync_remote_run
from tests.support.fake_jobs import TOKEN, until


def start(config, **more):
    options = {"timeout": "2h", "token": TOKEN, "watch": False, "push_seconds": 0.5, "poll_seconds": 0.5}
    return start_remote_run(config, "cpu-basic", **{**options, "worker": "held_worker", **more})


def followed(run, condition):
    """Look at the hub until the condition holds for the run's status."""
    return until(lambda: condition(status := sync_remote_run(run, TOKEN)) and status, every=0.5)


def losses(run):
    """(step, training loss, validation loss) of every line, in the order of the file."""
    return run.metrics()[["step", "train_loss", "val_loss"]].fillna(-1).values.tolist()


def watchers(run):
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if process.info["cmdline"] and process.info["cmdline"][1:] == ["-m", "nanochat_core.remote.watcher", run.tag]:
            if process.cwd() == str(run.path):
                found.append(process)
    return found
