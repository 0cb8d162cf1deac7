"""Training on a machine rented from the Hugging Face Hub, as the Train tab offers it: machines, cost, start."""

from typing import Any

from nanochat_core.config import FinetuneConfig
from nanochat_core.remote import jobs
from nanochat_core.remote.start import start_remote_run, timeout_seconds
from nanochat_core.runs import as_code
from nanochat_core.runs.as_code import named_settings, python_call
from nanochat_core.runs.run import Run
from studio.parts import html
from studio.runs import stops

LOGIN = (
    "As a Hugging Face Job: the settings, the data and this program go to a new private repository of yours, and what "
    "the machine makes comes back from there, also when this app is closed meanwhile. You need a login that may write "
    "repositories and run jobs: `hf auth login`, or HF_TOKEN."
)


def machines() -> list[tuple[str, str]]:
    """(label with its price, flavor) of every machine, cheapest first. ValueError when the hub does not answer."""
    return [(str(machine), machine.flavor) for machine in jobs.hardware()]


def cost(flavor: str | None, limit: str) -> str:
    """What the run can cost at most, as a note; a sentence in red when something is missing or wrong."""
    try:
        machine_name = _needed(flavor)
        seconds, machine = timeout_seconds(limit or ""), jobs.find_hardware(machine_name)
    except ValueError as error:
        return html.note(str(error), "bad")
    if machine.price_per_hour is None:
        return html.note("The hub states no price that we understand: look it up before you start.", "warn")
    most = machine.price_per_hour * seconds / 3600
    text = (
        f"At most ${most:.2f}: {html.duration(seconds)} at ${machine.price_per_hour:.2f} an hour, paid by the minute. "
        f"{machine.processes} training processes. Shortly before the limit the run saves and stops; it can be resumed."
    )
    return html.note(text)


def start(config: FinetuneConfig, flavor: str | None, limit: str, account: str) -> Run:
    """Send the run off. ValueError in a sentence."""
    run = start_remote_run(config, _needed(flavor), (account or "").strip() or None, limit or "")
    stops.forget(run.tag)
    return run


def codes(config: FinetuneConfig, flavor: str | None, limit: str, account: str) -> tuple[str, str]:
    """(shell command, notebook cell) that do the same."""
    where: dict[str, Any] = {"flavor": flavor or "FLAVOR", "timeout": limit}
    if (account or "").strip():
        where["namespace"] = account.strip()
    flags = {**where, **named_settings(config)}
    shell = as_code.joined(["python", "-m", "nanochat_core", "remote", "start"], flags)
    call = python_call("start_remote_run", where).replace("(\n", "(\n    config,\n", 1)
    cell = (
        "from nanochat_core import with_preset\nfrom nanochat_core.remote.start import start_remote_run\n\n"
        f"config = {python_call('with_preset', named_settings(config))}\nrun = {call}\nrun.status()"
    )
    return shell, cell


def about(run: Run) -> str:
    """Where a remote run is and what it costs, as a note; "" for a run of this machine."""
    if not run.is_remote():
        return ""
    launch, status = run.read_launch(), run.status()
    price = launch.get("price_per_hour")
    text = f"On a rented machine ({launch.get('flavor')}" + (f", ${price:.2f} an hour" if price else "") + ")"
    url = str(launch.get("url") or "")
    link = ""
    if url.startswith(("https://", "http://127.0.0.1:")):
        link = f' <a href="{html.escape(url)}" target="_blank" rel="noopener">the job on the hub</a>'
    trouble = status.trouble
    note = f'<div class="note">{html.escape(text)}{link}</div>'
    return note + (html.note(trouble, "warn") if trouble else "")


def _needed(flavor: str | None) -> str:
    if not flavor:
        raise ValueError("No machine is chosen. Choose one from the list.")
    return flavor
