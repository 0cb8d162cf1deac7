"""A run is one directory under models/finetuned: this file alone knows the names in it (but for the checkpoints')."""

from __future__ import annotations  # `list` inside the class is a method

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from nanochat_core.config import FinetuneConfig
from nanochat_core.paths import finetuned_dir, steps
from nanochat_core.runs import metrics, watching
from nanochat_core.runs.card import run_card
from nanochat_core.runs.job_watcher import stop_job
from nanochat_core.runs.record import run_record
from nanochat_core.runs.status import STATES, RunStatus, StopReport, derive
from nanochat_core.system import processes
from nanochat_core.system.files import last_lines, now, read_json, write_json
from nanochat_core.system.folder_names import check_tag, next_free_tag
from nanochat_core.system.processes import ProcessIdentity

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

_LEAVING_SECONDS = 20.0  # a run that has said "stopped" still needs a moment until its processes are gone
_TERM_SECONDS = 10.0


@dataclass(frozen=True)
class Run:
    """One run. Holds no state of its own: everything is read from the directory when asked."""

    tag: str
    path: Path = field(repr=False)

    # Files of the directory

    @property
    def config_file(self) -> Path:
        return self.path / "config.json"

    @property
    def launch_file(self) -> Path:
        return self.path / "launch.json"

    @property
    def status_file(self) -> Path:
        return self.path / "status.json"

    @property
    def metrics_file(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def log_file(self) -> Path:
        return self.path / "log.txt"

    @property
    def stop_file(self) -> Path:
        return self.path / "stop"

    @property
    def resume_dir(self) -> Path:
        return self.path / "resume"

    @property
    def evals_dir(self) -> Path:
        return self.path / "evals"

    # Making and finding runs

    @classmethod
    def create(cls, config: FinetuneConfig, record: dict[str, Any] | None = None) -> Run:
        """Make the directory and its config.json; the run is then queued.

        record: more to write there, merged into the entries of the same name. ValueError when the tag cannot be a
        folder, is taken, or the data file cannot be read.
        """
        run = cls(check_tag(config.output_tag), finetuned_dir() / config.output_tag)
        content = run_record(config.with_absolute_paths())
        for key, value in (record or {}).items():
            both_are_tables = isinstance(value, dict) and isinstance(content.get(key), dict)
            content[key] = {**content[key], **value} if both_are_tables else value
        run._make_directory()
        run.write_status(state="queued")
        write_json(run.config_file, metrics.plain(content))  # last: a directory with this file is a whole run
        return run

    def _make_directory(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self._came_to_nothing():
            shutil.rmtree(self.path)
        try:
            self.path.mkdir()
        except FileExistsError:
            if not self.path.is_dir() or any(self.path.iterdir()):
                free = next_free_tag(self.path.parent, self.tag)
                go_on = ", or go on with it: --resume" if self.config_file.is_file() else ""
                raise ValueError(
                    f"There is already a run '{self.tag}' in {self.path}. "
                    f"Choose another name: --output_tag {free}{go_on}."
                ) from None

    def _came_to_nothing(self) -> bool:
        """True for a run that ended before its first step, on a fault in the data say: its name is free again."""
        return self._is_run() and self.status().is_over and not self.metrics_file.exists() and not steps(self.path)

    @classmethod
    def open(cls, tag: str) -> Run:
        """The run called `tag`. ValueError when there is none."""
        run = cls(check_tag(tag), finetuned_dir() / tag)
        if not run._is_run():
            tags = ", ".join(known.tag for known in cls.list()) or "none yet"
            raise ValueError(f"There is no run '{tag}' in {run.path.parent}. Runs there: {tags}.")
        return run

    @classmethod
    def free_tag(cls, tag: str) -> str:
        """`tag` itself while no run has it, else with a number: mine, mine-2, mine-3. For cells that are run again."""
        folder = finetuned_dir()
        return next_free_tag(folder, tag) if (folder / check_tag(tag)).exists() else tag

    @classmethod
    def list(cls) -> list[Run]:
        """All runs, newest first. Folders that are no runs, or were left half made, are passed over."""
        folder = finetuned_dir()
        paths = folder.iterdir() if folder.is_dir() else ()
        runs = [run for run in (cls(path.name, path) for path in paths) if run._is_run()]
        return sorted(runs, key=lambda run: (str(run.record().get("created", "")), run.tag), reverse=True)

    def _is_run(self) -> bool:
        return isinstance(read_json(self.config_file).get("settings"), dict)

    # Reading

    def record(self) -> dict[str, Any]:
        """config.json: settings, versions, data (path, sha256, rows), base_model, created."""
        return read_json(self.config_file)

    def settings(self) -> FinetuneConfig:
        """The settings that the run was made with. ValueError when config.json was edited into something else."""
        return FinetuneConfig.from_dict(self.record().get("settings", {}))

    def status(self) -> RunStatus:
        """Where the run is now; `interrupted` when its process is gone without a last word."""
        if self.is_remote():  # whoever keeps in touch with the job writes here when it is gone
            return derive(
                read_json(self.status_file),
                launched=True,
                alive=True,
                stop_requested=self.stop_requested(),
                tag=self.tag,
            )
        launcher = self.launcher()
        written = read_json(self.status_file)
        if launcher is not None and not processes.is_alive(launcher):
            written = read_json(self.status_file)  # it may have written its last word just before it went
            return derive(written, launched=True, alive=False, stop_requested=self.stop_requested(), tag=self.tag)
        return derive(written, launcher is not None, launcher is not None, self.stop_requested(), self.tag)

    def is_remote(self) -> bool:
        """True when a job on the hub trains the run; what it writes is then copied to this directory."""
        return self.read_launch().get("kind") == "job"

    def has_begun(self) -> bool:
        """True once the trainer has taken over: from then on there may be something to save."""
        return read_json(self.status_file).get("state") not in ("queued", "starting")

    def metrics(self) -> pandas.DataFrame:
        """All metrics so far, one row a line; the contract's columns are there even when it is empty."""
        return metrics.table(self.metrics_file)

    def plot(self, x: str = "step", **options: Any) -> Figure:
        """The chart of the losses by x: step, epoch, tokens or minutes. Options as of `plot_runs`."""
        from nanochat_core.show.charts import plot_runs  # noqa: PLC0415  a second that only charts need

        return plot_runs(self, x=x, **options)

    def _repr_html_(self) -> str:
        return run_card(self.tag, self.status(), self.record(), metrics.seconds(self.metrics_file))

    def log_tail(self, n: int = 50) -> str:
        """The last `n` lines of the output; of a progress bar's many states only the last."""
        return last_lines(self.log_file, n)

    # Writing, for the launcher and the trainer's rank 0

    def write_status(self, **changes: Any) -> None:
        """Merge `changes` into status.json, with a new heartbeat. One writer at a time: rank 0, or its launcher."""
        assert changes.get("state", "queued") in STATES, changes
        present = read_json(self.status_file)
        write_json(self.status_file, metrics.plain({**present, **changes, "heartbeat": time.time()}))

    def append_metrics(self, values: dict[str, Any]) -> None:
        """Append one line to metrics.jsonl; `step` is required, NaN and infinities are written as null."""
        assert isinstance(values.get("step"), int), values
        metrics.append(self.metrics_file, values)

    def rewind_metrics(self, step: int) -> None:
        """Drop the metrics after `step`, before a resumed run writes them again."""
        metrics.rewind(self.metrics_file, step)

    def stop_requested(self) -> bool:
        """True once anyone has asked for "save and stop"."""
        return self.stop_file.exists()

    def request_stop(self) -> None:
        """Ask for "save and stop"; the trainer looks at every block of data that it reads, and at every step."""
        self.stop_file.touch()

    def clear_stop(self) -> None:
        """Forget an earlier request, before a resumed run begins."""
        self.stop_file.unlink(missing_ok=True)

    # Its processes

    def read_launch(self) -> dict[str, Any]:
        """launch.json, empty when the run was never launched: pid, start, boot_id, command, detached, ..."""
        return read_json(self.launch_file)

    def write_launch(self, **values: Any) -> None:
        """Merge `values` into launch.json, atomically."""
        write_json(self.launch_file, metrics.plain({**self.read_launch(), **values}))

    def launcher(self) -> ProcessIdentity | None:
        """The process that stands for the run: its supervisor, or the process that trains by itself."""
        return ProcessIdentity.from_dict(self.read_launch())

    def processes(self) -> list[ProcessIdentity]:
        """Living processes of the run, orphans included. A program that trains it by itself counts until it is over."""
        launch = self.read_launch()
        launcher = ProcessIdentity.from_dict(launch)
        found = processes.marked(self.path)
        if launch.get("detached"):
            found = processes.tree(launcher) + found
        elif launcher is not None and processes.is_alive(launcher) and not self.status().is_over:
            found = [launcher, *found]
        return list({who.pid: who for who in found}.values())

    def claim(self, command: list[str], detached: bool = False) -> None:
        """Make this process the run's only trainer. ValueError while another one lives.

        A run that has just said it is over gets a moment to leave. detached: the process is a supervisor of its own,
        which may be signalled; a notebook or a terminal's program that trains by itself may not.
        """
        with self.claimed():
            me = processes.identity().to_dict()
            write_json(self.launch_file, {**me, "command": command, "detached": detached, "started": now()})

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Within it, no other process can claim the run, and none is running. ValueError when one is."""
        with FileLock(self.path / ".launch.lock", timeout=60):
            others = [who for who in self.processes() if who.pid != os.getpid()]
            if others and self.status().is_over:
                others = processes.wait_gone(others, _LEAVING_SECONDS)
            if others:
                raise ValueError(
                    f"Run '{self.tag}' is already running (pid {others[0].pid}). "
                    f"Wait for it, or stop it first: `python -m nanochat_core runs stop {self.tag}`."
                )
            yield

    def wait(self, timeout: float | None = None) -> RunStatus:
        """Wait until the run is over and its launcher is gone, at most `timeout` seconds. Returns the status then.

        A notebook that trained it by itself is not waited for: it goes on living.
        """
        limit = time.monotonic() + (float("inf") if timeout is None else timeout)
        while True:
            status = self.status()
            launcher = self.launcher() if self.read_launch().get("detached") else None
            gone = launcher is None or not processes.is_alive(launcher)
            if (status.is_over and gone) or time.monotonic() >= limit:
                return status
            time.sleep(0.1)

    def watch(self) -> RunStatus:
        """Wait until the run is over and show how it goes: a progress bar in a notebook, a line in a terminal.

        Interrupting it ends the watching only; the run goes on.
        """
        return watching.watch(self)

    def stop(self, wait: float | None = None, kill: bool = False) -> StopReport:
        """Ask the run to save and stop; one that has not begun to train is ended at once.

        wait: seconds to wait for its processes to be gone; without it the request is all.
        kill: what is left then gets SIGTERM and, after 10 s more, SIGKILL; the report says what remains.
        """
        if self.is_remote():
            return stop_job(self, wait, kill)
        if not self.status().is_over:
            self.request_stop()
            if not self.has_begun():
                self._end_before_training()
        if wait is None:
            return StopReport(self.status().state)
        alive = processes.wait_gone(self._stoppable(), wait)
        killed: list[ProcessIdentity] = []
        if alive and kill:
            self._signal_supervisor()
            killed = processes.wait_gone(alive, _TERM_SECONDS)
            alive = processes.kill({who.pid: who for who in [*killed, *self._stoppable()]}.values())
            if not alive and killed:
                self._say_killed()
        return StopReport(self.status().state, tuple(killed), tuple(alive))

    def _end_before_training(self) -> None:
        """Nothing can be saved yet, and loading a large model would only delay the look at the stop file."""
        self._signal_supervisor()
        processes.wait_gone(self._stoppable(), _TERM_SECONDS)
        if not self.has_begun() and not processes.is_alive(self.launcher()):
            self.write_status(state="stopped")

    def _stoppable(self) -> list[ProcessIdentity]:
        """Processes of the run that exist for it alone: never a notebook or an app that trains by itself."""
        alone = self.read_launch().get("detached")
        launcher = self.launcher()
        return [who for who in self.processes() if alone or launcher is None or who.pid != launcher.pid]

    def _signal_supervisor(self) -> None:
        launcher = self.launcher()
        if launcher is not None and self.read_launch().get("detached"):
            processes.terminate(launcher)

    def _say_killed(self) -> None:
        if self.status().state == "interrupted":
            self.write_status(
                state="stopped",
                error="The run did not stop by itself and was ended by force; its last checkpoint remains.",
                remedy=f"Go on from the last checkpoint with `python -m nanochat_core runs resume {self.tag}`.",
            )
