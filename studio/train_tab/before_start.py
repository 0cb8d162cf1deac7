"""What the Train tab's handlers do, as plain functions: no gradio in here."""

from collections.abc import Callable
from pathlib import Path

from nanochat_core.config import FinetuneConfig
from nanochat_core.runs import as_code
from nanochat_core.runs.presets import with_preset
from nanochat_core.system.hardware import Hardware, find_hardware
from nanochat_core.training.needs import Needs
from studio.datasets.files import list_datasets
from studio.parts import html
from studio.runs import live
from studio.runs import queue as run_queue
from studio.runs.estimate import Estimate, estimate
from studio.train_tab import memory_view
from studio.train_tab.choices import base_settings, bases

_LARGE_BYTES = 2_000_000


def before_start(
    config: FinetuneConfig, hardware: Hardware, nproc: int, go_on: Callable[[], None] = lambda: None
) -> str:
    """The counts of a run in `nproc` processes before it starts and the memory it needs. ValueError when it cannot.

    go_on: called now and then while it counts; what it raises ends that.
    """
    counts = estimate(config, go_on)
    notes = "".join(html.note(sentence, "warn") for sentence in counts.warnings)
    plan = memory_view.plan_of(config, hardware, nproc, counts.longest)
    return html.facts(_counts(counts)) + notes + memory_view.memory_html(plan, config.memory)


def counting() -> str:
    """What stands in place of `before_start` until it is there: as tall, so that nothing below it moves."""
    return f'<div class="counting">{html.note("Counting the tokens of every conversation ...")}</div>'


def _counts(counts: Estimate) -> dict[str, str]:
    return {
        "Conversations": f"{counts.conversations:,}",
        "Train / validate": f"{counts.train:,} / {counts.validation:,}",
        "Replayed per epoch": f"{counts.replayed:,}",
        "Tokens per epoch": f"{counts.tokens_per_epoch:,}",
        "Trained tokens": f"{counts.trained_per_epoch:,}",
        "Rows cut": f"{counts.cut:,}",
        "Steps": f"{counts.steps:,}",
        "Disk, at most": f"{html.size(counts.disk_needed)} of {html.size(counts.disk_free)}",
    }


def probe_result(needs: Needs, nproc: int) -> str:
    """What was measured on one process, for `nproc` of them."""
    share = needs.peak_bytes / needs.device_bytes if needs.device_bytes else 0
    shown = {
        "Time, all steps": html.duration(needs.total_seconds / nproc),
        "Time per step": f"{needs.seconds_per_step / nproc:.2f} s",
        "Tokens per second": f"{needs.tokens_per_s * nproc:,.0f}",
        "Peak memory": f"{html.size(needs.peak_bytes)} of {html.size(needs.device_bytes)}",
        "Device": f"{needs.device}, {needs.dtype}",
        "Parameters": f"{needs.parameters:,}",
    }
    if share > 0.9:
        text = "Memory is nearly full: halve device_batch_size (the result stays the same) before the start."
        return html.facts(shown) + html.note(text, "warn")
    counted = f"Measured on {needs.measured_steps} real steps"
    text = f"{counted}; the time is divided by {nproc} processes." if nproc > 1 else f"{counted}."
    return html.facts(shown) + html.note(text, "good")


def codes(config: FinetuneConfig, nproc: int, devices: str) -> tuple[str, str]:
    """(shell command, notebook cell)."""
    return as_code.shell_command(config, nproc, devices), as_code.notebook_cell(config, nproc, devices)


def processes(hardware: Hardware, gpus: list[int], count: float | None) -> tuple[int, str]:
    """(number of processes, numbers of the GPUs as CUDA_VISIBLE_DEVICES has them) of what was ticked."""
    if not hardware.gpus:
        return max(1, int(count or 1)), ""
    chosen = sorted(gpus)
    if not chosen:
        raise ValueError("No GPU is ticked. Tick at least one, or set device_type to cpu in More settings.")
    every = [gpu.index for gpu in hardware.gpus]
    return len(chosen), "" if chosen == every else ",".join(map(str, chosen))


def gpu_choices(hardware: Hardware) -> list[tuple[str, int]]:
    """(label, index) of each GPU."""
    return [(f"GPU {gpu.index}: {gpu.name}, {gpu.memory / 1e9:.0f} GB", gpu.index) for gpu in hardware.gpus]


def queue_html() -> str:
    """The waiting runs, and what keeps the queue from starting them; "" when none waits."""
    entries = run_queue.waiting()
    if not entries:
        return ""
    shown = [f"{number}. {one.tag}" + (f": {one.error}" if one.error else "") for number, one in enumerate(entries, 1)]
    kind = "bad" if any(one.error for one in entries) else ""
    trouble = run_queue.trouble()
    return html.note("  ".join(shown), kind, "Waiting:") + (html.note(trouble, "bad") if trouble else "")


def watch_code(tag: str) -> str:
    """The calls behind the live view, Stop and Resume."""
    return (
        "from nanochat_core import Run, start_run\n\n"
        f"run = Run.open({tag!r})\n"
        "run.status()      # state, step, time left, error and remedy\n"
        "run.metrics()     # a pandas DataFrame, one row a step\n"
        "run.stop(wait=60) # save and stop\n"
        "start_run(run.settings(), resume=True)"
    )


def dataset_choices() -> list[tuple[str, str]]:
    """(label, path) of every dataset."""
    return [(dataset.label, str(dataset.path)) for dataset in list_datasets()]


def base_choices() -> list[tuple[str, str]]:
    """(label, value) of every base model; the label says whether training it fits this machine."""
    hardware = find_hardware()
    return [(", ".join(filter(None, (base.label, _fit(base.value, hardware)))), base.value) for base in bases()]


def _fit(base: str, hardware: Hardware) -> str:
    """Whether some mode fits under the model's own settings; "" for a model that does not tell its shape."""
    try:
        return memory_view.fit_words(memory_view.plan_of(with_preset(data_path="-", **base_settings(base)), hardware))
    except ValueError:
        return ""


def run_choices() -> list[tuple[str, str]]:
    """(label, tag) of every run, after the choice that follows whichever trains."""
    return [("The one that trains, else the newest", ""), *((tag, tag) for tag in live.run_tags())]


def takes_long(config: FinetuneConfig) -> bool:
    """Whether counting takes so long that a person should be told."""
    path = Path(config.data_path)
    return path.is_file() and path.stat().st_size > _LARGE_BYTES
