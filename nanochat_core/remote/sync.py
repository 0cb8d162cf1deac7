"""Copy a remote run's status, metrics, log and last checkpoint into its directory; pass a stop on; one at a time.

All that is known is in the directory: the next process resumes where a killed one was.
"""

import contextlib
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from filelock import FileLock, Timeout
from huggingface_hub.errors import HTTPError

from nanochat_core.hub.errors import requesting, told_plainly
from nanochat_core.hub.files import RemoteFile, is_same
from nanochat_core.paths import adapter_path, meta_path, steps, weights_path
from nanochat_core.remote import jobs
from nanochat_core.remote.repository import (
    RemoteRepo,
    journal_folder,
    journal_path,
    run_folder,
    stop_path,
)
from nanochat_core.remote.state import STOP_SECONDS, RemoteLaunch, RemoteState
from nanochat_core.runs import metrics
from nanochat_core.runs.failures import last_exception
from nanochat_core.runs.job_watcher import CANCEL
from nanochat_core.runs.run import Run
from nanochat_core.runs.status import RunStatus
from nanochat_core.system.files import read_json, write_atomically, write_json

REMOTE_FILE = "remote.json"
WATCHER_LOG = "watcher.log"

_NEVER_STARTED_SECONDS = 300.0
_OVER = ("finished", "stopped", "failed", "interrupted")


@contextlib.contextmanager
def alone(run: Run, timeout: float = 60) -> Iterator[None]:
    """Within it nobody else follows or starts the run. Raises filelock.Timeout when somebody does for too long."""
    with FileLock(run.path / ".remote.lock", timeout=timeout):
        yield


def sync_remote_run(run: Run, token: str | None = None) -> RunStatus:
    """Bring the run's directory up to what the hub has now, and return its status.

    A few small requests; none when the run is over, or while another process does the same. What keeps it from the
    hub does not raise: it stands in the status as `trouble`, and the next call tries again. Never for a run that
    is trained on this machine (ValueError).
    """
    if not run.is_remote():
        raise ValueError(f"Run '{run.tag}' is trained on this machine: there is nothing to fetch from the hub.")
    try:
        with alone(run, timeout=0):
            if not run.status().is_over:
                _follow(run, token)
    except Timeout:
        pass  # another one is at it
    return run.status()


def _follow(run: Run, token: str | None) -> None:
    launch = RemoteLaunch.from_dict(run.read_launch())
    try:
        follower = _Follower(run, launch, RemoteRepo(jobs.connect(token), launch.repo))
        with told_plainly(requesting(f"follow the run in {launch.repo}")):
            follower.follow()
    except (ValueError, OSError, HTTPError, RuntimeError) as error:
        _write_status(run, {"trouble": str(error)})
        return
    if run.status().trouble:
        _write_status(run, {"trouble": None})


class _Follower:
    """One look at one run. Whatever is done is noted in the state at once."""

    def __init__(self, run: Run, launch: RemoteLaunch, repo: RemoteRepo):
        self.run, self.launch, self.repo = run, launch, repo
        self.state_file = run.path / REMOTE_FILE
        self.state = RemoteState.read(self.state_file)

    def follow(self) -> None:
        job = self._job()
        if job is None:
            return
        if not job.id:
            _write_status(self.run, self._never_started())
            return
        if job.stage != self.state.stage:
            _write_status(self.run, {"stage": job.stage})  # a run that is queued waits for a machine, say
        self._note(stage=job.stage, looked=time.time())
        if self.run.stop_requested() and not job.is_over:
            self._pass_stop_on(job)
        while self._take_entries():
            pass
        if self.state.last_status is None and job.is_over:
            self._note(last_status=self._without_last_word(job))
        if self.state.last_status is not None:
            self._finish(self.state.last_status)

    # The job

    def _job(self) -> jobs.Job | None:
        """The job as it is now; None when it is not known yet whether there is one."""
        launch, api = self.launch, self.repo.api
        if launch.job is not None:
            try:
                return jobs.look_up(api, launch.namespace, launch.job)
            except ValueError as error:
                if getattr(getattr(error.__cause__, "response", None), "status_code", None) == 404 and self._is_ours():
                    return jobs.Job(launch.job, "DELETED")
                raise
        job = jobs.find(api, launch.namespace, launch.label)  # whoever started it was killed before the answer came
        if job is not None:
            self.run.write_launch(job=job.id, url=job.url)
            return job
        if time.time() - launch.submitted < _NEVER_STARTED_SECONDS:
            return None
        return jobs.Job("", "DELETED")

    def _is_ours(self) -> bool:
        """That the token sees the repository tells a job that is gone from a token that may not see it."""
        self.repo.head()
        return True

    def _pass_stop_on(self, job: jobs.Job) -> None:
        """Ask once; cancel a job that has nothing to save yet, that takes too long, or when a person wants it now."""
        sent = self.state.stop_sent
        is_late = sent is not None and time.time() - max(sent, self.state.heard or 0.0) > STOP_SECONDS
        wants_now = self.run.stop_file.read_text() == CANCEL
        if self.state.is_cancelled:
            return
        if job.stage == "SCHEDULING" or is_late or wants_now:
            jobs.cancel(self.repo.api, self.launch.namespace, job.id)
            self._note(is_cancelled=True)
        elif self.state.stop_sent is None:
            self.repo.commit({stop_path(self.launch.attempt): b"stop\n"}, "Save and stop")
            self._note(stop_sent=time.time())

    def _never_started(self) -> dict[str, Any]:
        error = "The job was never started: the start broke off before the hub took it."
        remedy = (
            f"Start it again; a run that had begun before: `python -m nanochat_core runs resume {self.run.quoted}`."
        )
        return {"state": "failed", "error": error, "remedy": remedy, "trouble": None}

    def _without_last_word(self, job: jobs.Job) -> dict[str, Any]:
        """The status of a run whose job is over and has not said how."""
        launch = self.launch
        has_begun = metrics_size(self.run) > 0 and self.state.entries > 0
        hours = launch.timeout_seconds / 3600
        state, error, remedy = jobs.why_over(job.stage, job.message, self.run.tag, has_begun, f"{hours:g} h")
        if self.state.is_cancelled:
            state, error = "stopped", "The job was cancelled before it had saved; what it pushed before is kept."
        if not has_begun:
            with contextlib.suppress(ValueError):  # the log may be gone with the job, and is a help only
                lines = jobs.last_log_lines(self.repo.api, launch.namespace, job.id)
                self._append_log("".join(f"{line}\n" for line in lines))
                if cause := last_exception("\n".join(lines)):
                    error += f" Its log ends with: {cause}."
        return {"state": state, "error": error, "remedy": remedy, "eta_seconds": None}

    # Its journal

    def _take_entries(self) -> bool:
        """Take the entries that are there, in order. True when there may be more in the next folder."""
        attempt, number = self.launch.attempt, self.state.entries + 1
        folder = journal_folder(attempt, number)
        files = {file.path: file for file in self.repo.list(folder)}
        while (path := journal_path(attempt, number)) in files:
            self._take(files[path])
            number += 1
        return journal_folder(attempt, number) != folder

    def _take(self, file: RemoteFile) -> None:
        target = self.run.path / ".entry.json"
        self.repo.fetch(file, target)
        entry = json.loads(target.read_bytes())
        target.unlink()
        self._append_metrics(entry["metrics"], entry.get("rewind"))
        self._append_log(entry["log"])
        status = entry["status"]
        if entry["is_last"]:
            self.state.last_status = status
        elif status["state"] not in _OVER:
            _write_status(self.run, status)
        self._note(entries=self.state.entries + 1, heard=time.time())

    def _append_metrics(self, rows: list[dict[str, Any]], rewind: int | None) -> None:
        path = self.run.metrics_file
        kept = _head(path, self.state.metrics_bytes)
        new = "".join(json.dumps(row) + "\n" for row in rows).encode()
        if rewind is not None:
            # Also right when we were killed after this and before it was noted: the rows come again.
            write_atomically(path, kept)
            metrics.rewind(path, rewind)
            kept = path.read_bytes()
            write_atomically(path, kept + new)
        elif new or metrics_size(self.run) != len(kept):
            _cut_and_append(path, len(kept), new)
        self.state.metrics_bytes = len(kept) + len(new)

    def _append_log(self, text: str) -> None:
        path = self.run.log_file
        start = min(self.state.log_bytes, path.stat().st_size if path.is_file() else 0)
        new = text.encode()
        _cut_and_append(path, start, new)
        self.state.log_bytes = start + len(new)

    # Its end

    def _finish(self, status: dict[str, Any]) -> None:
        """Fetch the checkpoints, then write the last word: a run that has finished can be talked to."""
        self._fetch_checkpoints()
        _write_status(self.run, {**status, "trouble": None})

    def _fetch_checkpoints(self) -> None:
        commit = self.repo.head()
        folder = run_folder(self.run.tag)
        files = {file.path.removeprefix(f"{folder}/"): file for file in self.repo.list(folder, commit, recursive=True)}
        wanted = [name for name in files if not name.startswith("resume/")]
        for name in sorted(wanted, key=lambda name: (name.startswith("meta_"), name)):  # a meta makes a model whole
            target = self.run.path / PurePosixPath(name)
            if not is_same(files[name], target):
                self.repo.fetch(files[name], target, commit)
        for step in steps(self.run.path):  # those that the trainer has replaced
            if any(name.startswith("meta_") for name in files) and meta_path(self.run.path, step).name not in files:
                meta_path(self.run.path, step).unlink()
                weights = weights_path(self.run.path, step)
                weights.with_name(f"{weights.name}.sha256").unlink(missing_ok=True)
                weights.unlink(missing_ok=True)
                shutil.rmtree(adapter_path(self.run.path, step), ignore_errors=True)

    def _note(self, **changes: Any) -> None:
        for name, value in changes.items():
            setattr(self.state, name, value)
        self.state.write(self.state_file)


def metrics_size(run: Run) -> int:
    """Bytes of the run's metrics file; 0 when there is none."""
    return run.metrics_file.stat().st_size if run.metrics_file.is_file() else 0


def _head(path: Path, size: int) -> bytes:
    if not path.is_file():
        return b""
    with open(path, "rb") as file:
        return file.read(size)


def _cut_and_append(path: Path, size: int, content: bytes) -> None:
    """Append in a single write; what a killed process has left beyond `size` goes first."""
    with open(path, "ab", buffering=0) as file:
        file.truncate(size)
        file.write(content)


def _write_status(run: Run, changes: dict[str, Any]) -> None:
    """Merge into status.json. The heartbeat is the job's own: it tells when the training was last heard of."""
    write_json(run.status_file, metrics.plain({**read_json(run.status_file), **changes}))
