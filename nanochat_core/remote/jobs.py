"""Jobs on the Hugging Face Hub: machines and their prices; start, look at, cancel one, and say why it ended."""

import contextlib
import inspect
import itertools
import re
import shlex
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from huggingface_hub import HfApi, get_token
from huggingface_hub.hf_api import JobHardwareInfo, JobInfo

from nanochat_core.hub.errors import requesting, told_plainly

IMAGE = "pytorch/pytorch:2.10.0-cuda12.8-cudnn9-runtime"
"""Has Python, torch and CUDA; what else is needed is installed when the job begins."""

_HOURS = {"second": 1 / 3600, "minute": 1 / 60, "hour": 1.0}
_OVER = ("COMPLETED", "CANCELED", "ERROR", "DELETED")
_BILLING = "add a way to pay or credit in the hub's billing settings"
_RESUME = "Resume from the last checkpoint that was pushed: `python -m nanochat_core runs resume {tag}`"
_TOKEN_NAME = "HF_TOKEN"
_LABEL = "nanochat-run"


@dataclass(frozen=True)
class Hardware:
    """One kind of machine that can be rented."""

    flavor: str
    """Its name for a start, such as a100-large."""
    title: str
    cpu: str
    ram: str
    gpu: str | None
    """Model of the GPU; None for a machine without one."""
    gpus: int
    """How many GPUs; 0 without one."""
    gpu_memory: str | None
    """Memory of the GPUs, all together, such as "80 GB"."""
    price_per_hour: float | None
    """US dollars; None when the hub states the price in a unit that we do not know."""

    @property
    def processes(self) -> int:
        """Training processes: one a GPU."""
        return max(1, self.gpus)

    def __str__(self) -> str:
        gpu = f"{self.gpus} x {self.gpu}, {self.gpu_memory}" if self.gpu else "no GPU"
        price = "price unknown" if self.price_per_hour is None else f"${self.price_per_hour:.2f} an hour"
        return f"{self.flavor}: {gpu}, {self.cpu}, {self.ram}, {price}"


@dataclass(frozen=True)
class Job:
    """A job as the hub last stated it."""

    id: str
    stage: str
    """SCHEDULING, RUNNING, COMPLETED, CANCELED, ERROR or DELETED."""
    message: str | None = None
    url: str | None = None

    @property
    def is_over(self) -> bool:
        return self.stage in _OVER


def connect(token: str | None = None) -> HfApi:
    """A client with `token`, or with the one that this machine is logged in with. ValueError when there is neither."""
    token = token or get_token()
    if not token:
        raise ValueError(
            "Nobody is logged in to the hub. Log in with `hf auth login`, with a token that may write repositories "
            "and run jobs."
        )
    return HfApi(token=token)


def hardware(token: bool | str | None = None) -> list[Hardware]:
    """Every machine that jobs can rent, cheapest first. No login is needed. ValueError when the hub does not answer."""
    with told_plainly(requesting("list its machines")):
        found = [_hardware(info) for info in HfApi(token=token or get_token()).list_jobs_hardware()]
    return sorted(found, key=lambda item: (item.price_per_hour is None, item.price_per_hour or 0, item.flavor))


def _hardware(info: JobHardwareInfo) -> Hardware:
    accelerator = info.accelerator
    hours = _HOURS.get(info.unit_label.rstrip("s").lower())
    return Hardware(
        flavor=info.name,
        title=info.pretty_name,
        cpu=info.cpu,
        ram=info.ram,
        gpu=accelerator.model if accelerator else None,
        gpus=int(accelerator.quantity) if accelerator else 0,
        gpu_memory=accelerator.vram if accelerator else None,
        price_per_hour=info.unit_cost_usd / hours if hours else None,
    )


def find_hardware(flavor: str, token: bool | str | None = None) -> Hardware:
    """The machine called `flavor`. ValueError that lists what there is."""
    machines = hardware(token)
    found = next((item for item in machines if item.flavor == flavor), None)
    if found is None:
        names = ", ".join(item.flavor for item in machines)
        raise ValueError(f"There is no flavor '{flavor}'. Choose one of {names}.")
    return found


@dataclass(frozen=True)
class Network:
    """By which jobs of a run find each other."""

    group: str
    alias: str
    """The name by which the others reach this job."""

    def options(self) -> dict[str, Any]:
        """What the client takes for it. ValueError where it is too old to know it."""
        if "network_group" not in inspect.signature(HfApi.run_job).parameters:
            raise ValueError(
                f"huggingface_hub {version('huggingface_hub')} cannot let jobs find each other. Update it "
                "(`pip install --upgrade huggingface_hub`), or train on one machine."
            )
        return {"network_group": self.group, "network_aliases": [self.alias]}


def submit(  # noqa: PLR0913  what the hub asks of a job
    api: HfApi,
    namespace: str,
    label: str,
    command: list[str],
    flavor: str,
    timeout_seconds: int,
    image: str,
    network: Network | None = None,
) -> Job:
    """Start a job that runs `command` in `image`, for at most `timeout_seconds` (the hub's own default is 30 min).

    The token goes along as a secret, which the hub encrypts: never in the command or the plain environment.
    label: by which `find` finds the job again; when the answer to this request is lost, this is tried at once. network:
    for one of several jobs that train together.
    """
    try:
        return _submit(api, namespace, label, command, flavor, timeout_seconds, image, network)
    except ValueError:
        with contextlib.suppress(ValueError):
            if job := find(api, namespace, label):
                return job
        raise


def _submit(  # noqa: PLR0913  what the hub asks of a job
    api: HfApi,
    namespace: str,
    label: str,
    command: list[str],
    flavor: str,
    timeout_seconds: int,
    image: str,
    network: Network | None,
) -> Job:
    options = network.options() if network else {}
    with told_plainly(requesting(f"start a job for {namespace}")):
        info = api.run_job(
            image=image,
            command=command,
            env={"PIP_BREAK_SYSTEM_PACKAGES": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "PYTHONUNBUFFERED": "1"},
            secrets={_TOKEN_NAME: api.token},
            flavor=flavor,
            timeout=timeout_seconds,
            labels={_LABEL: label},
            namespace=namespace,
            **options,
        )
    return _job(info)


def find(api: HfApi, namespace: str, label: str) -> Job | None:
    """The job that was started with `label`; None when there is none."""
    with told_plainly(requesting(f"look for the job of {label}")):
        return next((_job(info) for info in api.list_jobs(labels={_LABEL: label}, namespace=namespace)), None)


def look_up(api: HfApi, namespace: str, job_id: str) -> Job:
    """The job as it is now."""
    with told_plainly(requesting(f"look at job {job_id}")):
        return _job(api.inspect_job(job_id=job_id, namespace=namespace))


def cancel(api: HfApi, namespace: str, job_id: str) -> None:
    """End the job at once, whatever it does. What it has pushed stays."""
    with told_plainly(requesting(f"cancel job {job_id}")):
        api.cancel_job(job_id=job_id, namespace=namespace)


def last_log_lines(api: HfApi, namespace: str, job_id: str, count: int = 60) -> list[str]:
    """The end of the job's own output, which also has what happened before the training began."""
    with told_plainly(requesting(f"read the log of job {job_id}")):
        lines = api.fetch_job_logs(job_id=job_id, namespace=namespace, tail=count)
        return [line.rstrip("\n") for line in itertools.islice(lines, count)]


def why_over(stage: str, message: str | None, tag: str, has_begun: bool, limit: str) -> tuple[str, str, str]:
    """(state, what happened, what to do) for the run `tag` whose job is over without the run's own last word.

    stage, message: as the hub states them. has_begun: steps of the training have arrived. limit: the job's time
    limit, such as "2 h". What was pushed before is kept in every case.
    """
    text = (message or "").strip()
    said = f" The hub says: {text}." if text else ""
    tag = shlex.quote(tag)  # it stands in commands only
    resume = _RESUME.format(tag=tag)
    if re.search(r"time[d -]*out|deadline", text, re.IGNORECASE):
        return "interrupted", f"The job reached its time limit of {limit}.", f"{resume}, with a larger timeout."
    if re.search(r"credit|billing|payment|quota|402", text, re.IGNORECASE):
        return "interrupted", f"The job was ended for lack of credit.{said}", f"On the hub, {_BILLING}. {resume}."
    if stage == "CANCELED":
        return "interrupted", f"The job was cancelled on the hub.{said}", f"{resume}."
    if stage == "DELETED":
        return "interrupted", "The job was deleted on the hub.", f"{resume}."
    if not has_begun and re.search(r"image|manifest|pull", text, re.IGNORECASE):
        return (
            "failed",
            f"The job's image could not be fetched.{said}",
            f"Try again, with another image if it repeats: `python -m nanochat_core remote resume {tag} --image NAME`.",
        )
    if has_begun:
        return (
            "interrupted",
            f"The job ended without saying why: its machine was lost, or memory ran out.{said}",
            (f"{resume}."),
        )
    return (
        "failed",
        f"The job ended before the training began.{said}",
        f"The end of log.txt has the job's own messages. Then: `python -m nanochat_core runs resume {tag}`.",
    )


def _job(info: JobInfo) -> Job:
    stage = str(getattr(info.status.stage, "value", info.status.stage))
    return Job(info.id, stage, info.status.message, info.url)
