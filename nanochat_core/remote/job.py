"""What runs inside a job: fetch data and state, train by the usual launcher, push to the hub meanwhile, heed a stop."""

import argparse
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.errors import HTTPError

from nanochat_core.config import PATH_SETTINGS
from nanochat_core.hub import downloading
from nanochat_core.paths import finetuned_dir
from nanochat_core.remote.inputs import WORKER_MODULE
from nanochat_core.remote.push import Pusher
from nanochat_core.remote.repository import RemoteRepo, stop_path
from nanochat_core.remote.state import STOP_SECONDS
from nanochat_core.runs.claiming import run_processes
from nanochat_core.runs.launcher import join_run, start_run
from nanochat_core.runs.nodes import Nodes
from nanochat_core.runs.run import Run
from nanochat_core.system.files import write_json

ASK_SECONDS = 10.0
"""Between two looks for a request to stop."""

_LOOK_SECONDS = 0.2
_TIME_IS_UP = "The job's time limit was near, so the run saved and stopped by itself."
_LAST_TRIES = 30
_LAST_WAIT_SECONDS = 20.0


def main(arguments: list[str] | None = None) -> int:
    """Train the run of a repository. Returns 0 when it finished or stopped and the hub has everything, else 1."""
    parser = argparse.ArgumentParser(prog="python -m nanochat_core.remote.job")
    parser.add_argument("folder", type=Path, help="where to work; it has the code already")
    parser.add_argument("repo")
    parser.add_argument("--attempt", type=int, required=True)
    parser.add_argument("--nproc", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True, help="the job's time limit")
    parser.add_argument("--push_seconds", type=float, required=True)
    parser.add_argument("--worker", default=WORKER_MODULE)
    parser.add_argument("--nnodes", type=int, default=1)
    parser.add_argument("--node_rank", type=int, default=0)
    parser.add_argument("--rdzv_endpoint", default="")
    options = parser.parse_args(arguments)
    deadline = time.monotonic() + options.seconds - saving_seconds(options.seconds)
    token = os.environ.get("HF_TOKEN", "")
    repo = RemoteRepo(HfApi(token=token), options.repo)
    os.environ["NANOCHAT_STUDIO_HOME"] = str(options.folder / "home")
    run = prepare(repo, options.folder)
    os.environ.pop("HF_TOKEN", None)  # the training has no use for it
    nodes = Nodes(options.nnodes, options.node_rank, options.rdzv_endpoint)
    if nodes.rank > 0:
        join_run(run.settings(), options.nproc, nodes, options.worker)
    pusher = Pusher(run, repo, options.attempt, options.folder / "sending", token)
    _patiently(pusher.begin)
    signal.signal(signal.SIGTERM, lambda *_: run.request_stop())  # the machine is taken away: save what can be saved
    start_run(run.settings(), nproc=options.nproc, resume=True, worker=options.worker, nodes=nodes)
    if _look_after(run, pusher, deadline, options.push_seconds) and run.status().state == "stopped":
        run.write_status(error=_TIME_IS_UP, remedy=f"Resume it: `python -m nanochat_core runs resume {run.quoted}`.")
    is_pushed = _push_last(pusher)
    return 0 if is_pushed and run.status().state in ("finished", "stopped") else 1


def saving_seconds(limit: float) -> float:
    """How long before the job's time limit the run saves and stops by itself: a tenth, or what that needs."""
    return min(STOP_SECONDS, limit / 10)


def prepare(repo: RemoteRepo, folder: Path) -> Run:
    """Bring data, base model and the run's state, as far as an earlier job has pushed it, to this machine."""
    _patiently(lambda: _fetch_home(repo, folder))
    record = json.loads((folder / "record.json").read_bytes())
    download = record.pop("download")
    if download:
        downloading.download(**download)
    home = folder / "home"
    for name in PATH_SETTINGS:
        if record["settings"].get(name):
            record["settings"][name] = str(home / record["settings"][name])
    record["data"]["path"] = record["settings"]["data_path"]
    tag = record["settings"]["output_tag"]
    run = Run(tag, finetuned_dir() / tag)
    run.path.mkdir(parents=True, exist_ok=True)
    run.write_status(state="queued")
    write_json(run.config_file, record)
    return run


def _fetch_home(repo: RemoteRepo, folder: Path) -> None:
    commit = repo.head()
    files = [file for file in repo.list("", commit) if file.path == "record.json"]
    for file in [*files, *repo.list("home", commit, recursive=True)]:
        if not (folder / file.path).is_file():  # fetched by the try before
            repo.fetch(file, folder / file.path, commit)


def _patiently(action: Callable[[], Any]) -> None:
    """Repeat what the hub did not do; after some minutes give up: nothing has been trained yet."""
    for remaining in reversed(range(8)):
        try:
            action()
            return
        except (HTTPError, OSError, RuntimeError, ValueError) as error:
            if not remaining:
                raise
            print(f"The hub did not answer ({type(error).__name__}: {error}). It is tried again.", flush=True)
            time.sleep(30 / (1 + remaining))


def _look_after(run: Run, pusher: Pusher, deadline: float, push_seconds: float) -> bool:
    """Push every now and then until the run's processes are gone, and let another thread heed requests to stop.

    True when it was asked to stop because the job's time limit was near.
    """
    requests = StopRequests(run, pusher.repo, pusher.attempt, deadline, min(ASK_SECONDS, push_seconds))
    requests.start()
    pushed, wait = 0.0, push_seconds  # the first push is at once: it says that the machine is there
    while not (run.wait(_LOOK_SECONDS).is_over and not run_processes(run)):
        if time.monotonic() - pushed > wait:
            wait = push_seconds if pusher.push() else min(wait * 2, 600.0)
            pushed = time.monotonic()
    return requests.is_late


class StopRequests(threading.Thread):
    """In a thread of its own, so that a request is heard also while a large checkpoint is being sent.

    Passes on to the run a request in the repository, or that the job's time limit is near. Ends with the first.
    """

    def __init__(self, run: Run, repo: RemoteRepo, attempt: int, deadline: float, ask_seconds: float):
        """deadline: by `time.monotonic`, when the run must begin to save."""
        super().__init__(name="stop-requests", daemon=True)
        self.run_, self.repo, self.attempt = run, repo, attempt
        self.deadline, self.ask_seconds = deadline, ask_seconds
        self.is_late = False
        """The run was asked to stop because of the deadline."""

    def run(self) -> None:
        """Ask until the run is to stop."""
        asked = time.monotonic()
        while not self.run_.stop_requested():
            time.sleep(_LOOK_SECONDS)
            now = time.monotonic()
            self.is_late = now > self.deadline
            if now - asked > self.ask_seconds:
                asked = now
                if self._is_wanted():
                    self.run_.request_stop()
            if self.is_late:
                self.run_.request_stop()

    def _is_wanted(self) -> bool:
        path = stop_path(self.attempt)
        try:
            return any(file.path == path for file in self.repo.list(path.rpartition("/")[0]))
        except (HTTPError, OSError) as error:
            print(f"The hub did not say whether to stop ({type(error).__name__}: {error}).", flush=True)
            return False


def _push_last(pusher: Pusher) -> bool:
    """The end of the log and the last checkpoint are worth many tries: afterwards this machine is gone."""
    for remaining in reversed(range(_LAST_TRIES)):
        if pusher.push(is_last=True):
            return True
        if remaining:
            time.sleep(_LAST_WAIT_SECONDS)
    return False


if __name__ == "__main__":
    sys.exit(main())
