"""A run is one directory under models/finetuned: this file alone knows the names in it (but for the checkpoints')."""

from __future__ import annotations  # `list` inside the class is a method

import contextlib
import shlex
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nanochat_core.config import PATH_SETTINGS, FinetuneConfig
from nanochat_core.paths import find_moved, finetuned_dir, steps
from nanochat_core.runs import curves, metrics, stopping, watching
from nanochat_core.runs.card import run_card
from nanochat_core.runs.claiming import is_trained
from nanochat_core.runs.failures import without_last_word
from nanochat_core.runs.folders import is_left_over, make_folder, put_aside, refuse_links
from nanochat_core.runs.status import LAST_WORDS, STATES, RunStatus, StopReport, derive
from nanochat_core.runs.stopping import silence
from nanochat_core.system import processes
from nanochat_core.system.disk import DiskFull
from nanochat_core.system.files import last_lines, read_json, write_atomically, write_json
from nanochat_core.system.folder_names import check_tag, next_free_tag
from nanochat_core.system.processes import ProcessIdentity

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

ROWS = "rows.jsonl"
"""How well the model knew each row: the name of the file in a run's folder."""
_RESERVED_BYTES = 1 << 16


@dataclass(frozen=True)
class Run:
    """One run. Holds no state of its own: everything is read from the directory when asked."""

    tag: str
    path: Path = field(repr=False)

    @property
    def quoted(self) -> str:
        """The tag as one word of a shell command: it may hold blanks."""
        return shlex.quote(self.tag)

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
    def rows_file(self) -> Path:
        return self.path / ROWS

    @property
    def data_file(self) -> Path:
        return self.path / "data.jsonl.gz"

    @property
    def unpacked_data_file(self) -> Path:
        """While the run is trained on its copy of the data: the file itself is another one by now.

        It is deleted afterwards, so its name is none that a person would give to a copy of their own.
        """
        return self.path / ".unpacked.jsonl"

    @property
    def trace_dir(self) -> Path:
        return self.path / "trace"

    @property
    def log_file(self) -> Path:
        return self.path / "log.txt"

    @property
    def stop_file(self) -> Path:
        return self.path / "stop"

    @property
    def reserve_file(self) -> Path:
        return self.path / ".reserve"

    @property
    def resume_dir(self) -> Path:
        return self.path / "resume"

    @property
    def evals_dir(self) -> Path:
        return self.path / "evals"

    # Making and finding runs

    @classmethod
    def create(cls, tag: str, record: dict[str, Any]) -> Run:
        """Make the directory of run `tag` with its config.json; the run is then queued.

        record: what is remembered of how the run was made, as `record.run_record` gives it. ValueError when the tag
        cannot be a folder or is taken.
        """
        run = cls(check_tag(tag), finetuned_dir() / tag)
        refuse_links(run.path)
        run._make_room()
        status = {"state": "queued", "heartbeat": time.time()}
        try:
            make_folder(run.path, {"status.json": status, "config.json": metrics.plain(record)})
        except FileExistsError:
            resume = ", or resume it: --resume" if run.config_file.is_file() else ""
            raise ValueError(
                f"There is already a run '{tag}' in {run.path}. "
                f"Choose another name: --output_tag {shlex.quote(next_free_tag(run.path.parent, tag))}{resume}."
            ) from None
        return run

    def _make_room(self) -> None:
        """Put aside what came to nothing before its first step, on a fault in the data say: the name is free again."""
        if self.path.is_dir() and (self._came_to_nothing() or (not self._is_run() and is_left_over(self.path))):
            put_aside(self.path)

    def _came_to_nothing(self) -> bool:
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
        runs = [run for run in (cls(path.name, path) for path in paths) if run.tag[0] != "." and run._is_run()]
        return sorted(runs, key=lambda run: (str(run.record().get("created", "")), run.tag), reverse=True)

    def _is_run(self) -> bool:
        return isinstance(read_json(self.config_file).get("settings"), dict)

    # Reading

    def record(self) -> dict[str, Any]:
        """config.json: settings, versions, data (path, sha256, rows), base_model, base_step, created.

        The paths in it are those of today, as far as `find_moved` finds the files.
        """
        record = read_json(self.config_file)
        for part, names in (("settings", PATH_SETTINGS), ("data", ("path",))):
            if isinstance(values := record.get(part), dict):
                moved = {name: find_moved(values[name]) for name in names if isinstance(values.get(name), str)}
                record[part] = {**values, **moved}
        return record

    def settings(self) -> FinetuneConfig:
        """The settings that the run was made with. ValueError when config.json was edited into something else."""
        # A run of before `split` was a setting validates with the tail of its file, also when it is resumed.
        try:
            return FinetuneConfig.from_dict({"split": "tail", **self.record().get("settings", {})})
        except ValueError as error:
            raise ValueError(f"{self.config_file} cannot be used: {error}") from error

    def status(self) -> RunStatus:
        """Where the run is now; `interrupted` when its process is gone without a last word."""
        if self.is_remote():  # the job's watcher writes here when it is gone
            return derive(
                read_json(self.status_file),
                launched=True,
                alive=True,
                stop_requested=self.stop_requested(),
                tag=self.tag,
            )
        launcher = self.launcher()
        written = read_json(self.status_file)
        alive = launcher is not None and is_trained(self)
        if launcher is not None and not alive:
            written = read_json(self.status_file)  # it may have written its last word just before it went
        status = derive(
            written,
            launched=launcher is not None,
            alive=alive,
            stop_requested=self.stop_requested(),
            tag=self.tag,
            silence=silence(self.path, written) if alive else None,
        )
        return without_last_word(status, self.path) if status.state == "interrupted" else status

    def has_ended(self) -> bool:
        """Whether the run has said that it is over: for another machine, which cannot see whether its process lives."""
        return read_json(self.status_file).get("state") in LAST_WORDS

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
        return curves.plot_runs(self, x=x, **options)

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
        beats = {"heartbeat": time.time(), "beat": time.monotonic()}
        content = metrics.plain({**present, **changes, **beats})
        try:
            write_json(self.status_file, content)
        except DiskFull:
            self.reserve_file.unlink(missing_ok=True)  # kept for a last word
            write_json(self.status_file, content)

    def reserve(self) -> None:
        """Keep room on the disk for a last word, should it be full by then."""
        write_atomically(self.reserve_file, bytes(_RESERVED_BYTES))

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

    def wait(self, timeout: float | None = None) -> RunStatus:
        """Wait until the run is over and its launcher is gone, at most `timeout` seconds. Returns the status then.

        A notebook that trained it by itself is not waited for: it stays alive.
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

        Interrupting it ends the watching only; the run continues.
        """
        return watching.watch(self)

    def stop(self, wait: float | None = None, kill: bool = False) -> StopReport:
        """Ask the run to save and stop: see `stopping.stop`."""
        return stopping.stop(self, wait, kill)


def run_at(folder: Path) -> Run | None:
    """The run whose directory `folder` is; None where it is no run's."""
    with contextlib.suppress(ValueError):
        run = Run.open(folder.name)
        return run if run.path.resolve() == folder.resolve() else None
    return None
