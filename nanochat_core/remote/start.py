"""Start and resume a run whose training happens in a job on the Hugging Face Hub, in the same run directory."""

import contextlib
import re
import secrets
import shlex
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from filelock import Timeout
from huggingface_hub import HfApi
from huggingface_hub.errors import HTTPError

from nanochat_core.config import FinetuneConfig
from nanochat_core.data.conversations import check
from nanochat_core.hub.errors import requesting, told_plainly
from nanochat_core.remote import jobs
from nanochat_core.remote.inputs import WORKER_MODULE, base_model, code_files, command, inputs
from nanochat_core.remote.repository import RemoteRepo
from nanochat_core.remote.state import RemoteLaunch, RemoteState
from nanochat_core.remote.sync import REMOTE_FILE, WATCHER_LOG, alone, sync_remote_run
from nanochat_core.runs.job_watcher import start_watcher
from nanochat_core.runs.launcher import create_run
from nanochat_core.runs.nodes import PORT, Nodes
from nanochat_core.runs.run import Run
from nanochat_core.runs.snapshot import keep_data
from nanochat_core.runs.status import NOTHING_WRONG

PUSH_SECONDS = 60.0
"""The hub allows only so many commits an hour; one a minute is well below."""
POLL_SECONDS = 20.0

_FIRST = "machine-0"
"""The name by which the jobs of a run reach the first one."""
_SHORTEST_SECONDS = 300
_TIMEOUT = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def start_remote_run(  # noqa: PLR0913  all but the first are options
    config: FinetuneConfig,
    flavor: str,
    namespace: str | None = None,
    timeout: str | int = "2h",
    token: str | None = None,
    image: str = jobs.IMAGE,
    watch: bool = True,
    push_seconds: float = PUSH_SECONDS,
    poll_seconds: float = POLL_SECONDS,
    worker: str = WORKER_MODULE,
    nodes: int = 1,
) -> Run:
    """Train `config` on a rented machine; returns when the job is submitted. `Run.status` tells how it goes.

    flavor: one of `jobs.hardware()`; one process a GPU. namespace: the user or organisation that pays; without it, the
    token's owner. timeout: seconds, or "90m", "2h"; shortly before it the run saves and stops by itself. token:
    without it this machine's login. watch: start the process that copies status, metrics and log here until the run
    is over; without it somebody must call `sync_remote_run` now and then.
    nodes: so many machines of that kind, each a job, which find each other in a network of their own.
    Code, data and state go through a new private repository of the namespace. Raises ValueError with a remedy; what
    had been made until then is removed again.
    """
    seconds = timeout_seconds(timeout)
    _check_data(config)
    base = base_model(config)
    api = jobs.connect(token)
    machine = jobs.find_hardware(flavor, api.token)
    namespace = namespace or _owner(api)
    run = create_run(config)
    keep_data(run, Path(config.data_path))  # where there is no room, whoever looks for the rows is told
    repo = RemoteRepo(api, f"{namespace}/{_repo_name(run.tag)}")
    launch = RemoteLaunch(
        repo=repo.name,
        namespace=namespace,
        flavor=flavor,
        image=image,
        timeout_seconds=seconds,
        nproc=machine.processes,
        attempt=1,
        label=_label(repo.name, 1),
        submitted=time.time(),
        push_seconds=push_seconds,
        poll_seconds=poll_seconds,
        price_per_hour=_price(machine, nodes),
        nodes=nodes,
    )
    try:
        with alone(run):
            run.write_launch(**launch.to_dict())  # from here on a start that is broken off is noticed as one
            with told_plainly(requesting(f"make the repository {repo.name}")):
                repo.create()
            _submit(run, repo, launch, inputs(run.record(), base), worker)
    except ValueError as error:
        run.write_status(state="failed", error=str(error), remedy="Correct this, then start again under the same name.")
        with contextlib.suppress(HTTPError):  # it was never there, or the hub is away: the first error is what matters
            repo.delete()
        raise
    if watch:
        start_watcher(run.tag, run.path / WATCHER_LOG, token)
    return run


def resume_remote_run(  # noqa: PLR0913  all but the first are options
    tag: str,
    flavor: str | None = None,
    timeout: str | int | None = None,
    token: str | None = None,
    image: str | None = None,
    watch: bool = True,
    worker: str = WORKER_MODULE,
) -> Run:
    """Resume a stopped, failed or interrupted remote run in a new job, from the last checkpoint that was pushed.

    What is not given stays as it was. Raises ValueError when the run is no remote one, is not over, or has finished.
    """
    run = Run.open(tag)
    if not run.is_remote():
        raise ValueError(
            f"Run '{tag}' is trained on this machine. Resume it with: "
            f"`python -m nanochat_core runs resume {shlex.quote(tag)}`."
        )
    status = sync_remote_run(run, token)
    if status.state == "finished":
        raise ValueError(
            f"Run '{tag}' has finished, there is nothing left to resume. To train its model further, start a new run "
            f"from it: --from_finetuned {shlex.quote(tag)} --output_tag NAME."
        )
    if not status.is_over:
        trouble = status.trouble
        raise ValueError(
            trouble
            or f"Run '{tag}' is not over ({status.state}). Stop it first: "
            f"`python -m nanochat_core runs stop {shlex.quote(tag)}`."
        )
    api = jobs.connect(token)
    before = RemoteLaunch.from_dict(run.read_launch())
    machine = jobs.find_hardware(flavor or before.flavor, api.token)
    attempt = before.attempt + 1
    launch = replace(
        before,
        flavor=machine.flavor,
        image=image or before.image,
        timeout_seconds=timeout_seconds(timeout) if timeout is not None else before.timeout_seconds,
        nproc=machine.processes,
        attempt=attempt,
        label=_label(before.repo, attempt),
        submitted=time.time(),
        price_per_hour=_price(machine, before.nodes),
        job=None,
        url=None,
    )
    try:
        with alone(run):
            if RemoteLaunch.from_dict(run.read_launch()).attempt != before.attempt:
                raise ValueError(
                    f"Run '{tag}' has just been resumed by somebody else. Look: `runs show {shlex.quote(tag)}`."
                )
            _submit(run, RemoteRepo(api, before.repo), launch, code_files(), worker, status.state)
    except Timeout as error:
        raise ValueError(f"Another process is busy with run '{tag}'. Repeat in a minute.") from error
    if watch:
        start_watcher(run.tag, run.path / WATCHER_LOG, token)
    return run


def keep_following(token: str | None = None) -> list[Run]:
    """Start the watcher of every remote run that is not over, for an app that was started again. Returns these runs.

    Those that are watched already stay as they are. token: as for `start_remote_run`.
    """
    going_on = [run for run in Run.list() if run.is_remote() and not run.status().is_over]
    for run in going_on:
        start_watcher(run.tag, run.path / WATCHER_LOG, token)
    return going_on


def timeout_seconds(timeout: str | int) -> int:
    """The time limit of a job in seconds, from a number of seconds or text such as "90m", "2h" or "1d"."""
    match = _TIMEOUT.fullmatch(str(timeout).strip().lower())
    seconds = float(match[1]) * _UNITS[match[2]] if match else 0
    if seconds < _SHORTEST_SECONDS:
        raise ValueError(
            f"The timeout is '{timeout}': give at least {_SHORTEST_SECONDS} seconds, such as 90m, 2h or 1d."
        )
    return int(seconds)


def _submit(
    run: Run,
    repo: RemoteRepo,
    launch: RemoteLaunch,
    files: Mapping[str, Path | bytes],
    worker: str,
    state_before: str | None = None,
) -> None:
    """Send `files` and start the job. launch.json is there before the job is, so that none is ever forgotten.

    state_before: what a resumed run is again when its job cannot be started.
    """
    with told_plainly(requesting(f"send the run to {repo.name}")):
        repo.commit(files, f"Run {run.tag}, job {launch.attempt}")
    state_file = run.path / REMOTE_FILE
    metrics_bytes = RemoteState.read(state_file).metrics_bytes
    run.clear_stop()
    RemoteState(metrics_bytes=metrics_bytes, log_bytes=_size(run.log_file)).write(state_file)
    run.write_launch(**replace(launch, submitted=time.time()).to_dict())
    run.write_status(state="queued", eta_seconds=None, **NOTHING_WRONG)
    try:
        job = _submit_all(repo.api, launch, worker)
    except ValueError as error:
        if state_before is not None:
            run.write_status(state=state_before, error=str(error), remedy="Correct this, then resume again.")
        raise
    run.write_launch(job=job.id, url=job.url)


def _submit_all(api: HfApi, launch: RemoteLaunch, worker: str) -> jobs.Job:
    """Start a job for each machine; the first one's. When one of them is refused, those before it are cancelled."""
    started: list[jobs.Job] = []
    try:
        for rank in range(launch.nodes):
            nodes = Nodes(launch.nodes, rank, f"{_FIRST}:{PORT}") if launch.nodes > 1 else Nodes(1)
            label = f"{launch.label}-{rank}" if rank else launch.label
            network = jobs.Network(launch.label, f"machine-{rank}") if launch.nodes > 1 else None
            arguments, seconds = command(launch, worker, nodes), launch.timeout_seconds
            where = (launch.flavor, seconds, launch.image, network)
            started.append(jobs.submit(api, launch.namespace, label, arguments, *where))
    except ValueError:
        for job in started:
            with contextlib.suppress(ValueError):
                jobs.cancel(api, launch.namespace, job.id)
        raise
    return started[0]


def _price(machine: jobs.Hardware, nodes: int) -> float | None:
    return None if machine.price_per_hour is None else nodes * machine.price_per_hour


def _check_data(config: FinetuneConfig) -> None:
    """A fault in the data is told here, not minutes later by a machine that costs money."""
    report = check(config.data_path, max_seq_len=config.max_seq_len)
    if report.verdict == "reject":
        raise ValueError(report.summary())


def _owner(api: HfApi) -> str:
    with told_plainly(requesting("say whose token this is")):
        return api.whoami()["name"]


def _repo_name(tag: str) -> str:
    """A name that no other run's repository has, also one of the same tag from another machine."""
    plain = re.sub(r"[^A-Za-z0-9_.-]+|-{2,}|\.{2,}", "-", tag)[:50].strip("-.")
    return f"nanochat-run-{plain or 'run'}-{secrets.token_hex(4)}"


def _label(repo: str, attempt: int) -> str:
    """Short, and of plain characters: what else a label may hold is not documented."""
    return f"{repo.rpartition('-')[2]}-{attempt}"


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
