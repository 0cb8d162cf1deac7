"""What a training needs of the machine's memory, before it starts: a badge on each mode and model, the whole plan."""

from collections.abc import Sequence

from nanochat_core.config import FinetuneConfig
from nanochat_core.memory.plan import MemoryPlan, plan_memory, this_device, training_of
from nanochat_core.memory.shapes import shape_of
from nanochat_core.memory.tables import needed_here, plan_rows
from nanochat_core.system.hardware import Hardware
from studio.parts import html


def plan_of(
    config: FinetuneConfig, hardware: Hardware, nproc: int = 1, lengths: Sequence[int] | None = None
) -> MemoryPlan:
    """The plan of `config` here, in `nproc` processes. lengths: as of `training_of`. ValueError without a model."""
    device = this_device(hardware, config.device_type)
    return plan_memory(training_of(config, shape_of(config).shape, nproc, lengths), device)


def fit_words(plan: MemoryPlan, memory: str = "auto") -> str:
    """Whether a mode fits, `auto` being the first that does: the words of a badge."""
    where = "machine" if plan.device.card_bytes is None else "card"
    fits = plan.chosen is not None if memory == "auto" else plan.mode(memory).fits
    return f"fits your {where}" if fits else f"too large for your {where}"


def memory_html(plan: MemoryPlan, memory: str) -> str:
    """A row for each mode with its badge, the one that is chosen marked; behind a fold, what the memory is for."""
    taken = plan.chosen if memory == "auto" else memory
    rows = "".join(_mode(plan, mode.need.memory, mode.need.memory == taken) for mode in plan.modes)
    header, *body = plan_rows(plan)
    table = f'<div class="table-frame">{html.table(header, body, even=False)}</div>'
    said = "" if taken is None or plan.mode(taken).fits else html.note(_remedy(plan), "warn")
    return (
        f'<div class="memory"><h3>Memory</h3><ul class="modes">{rows}</ul>{said}'
        f"<details><summary>What the memory is for</summary>{table}</details></div>"
    )


def _mode(plan: MemoryPlan, memory: str, is_taken: bool) -> str:
    mode = plan.mode(memory)
    kind = "fits" if mode.fits else "too-large"
    mark = ' aria-current="true"' if is_taken else ""
    needed = html.escape(needed_here(mode, plan.device))
    return f"<li{mark}><b>{memory}</b> {needed} <span class='badge {kind}'>{fit_words(plan, memory)}</span></li>"


def _remedy(plan: MemoryPlan) -> str:
    if plan.chosen:
        return f"This mode needs more memory than there is. Choose {plan.chosen}, or auto: the result is the same."
    return "No mode fits. Lower device_batch_size or max_seq_len (More settings), or choose a smaller base model."
