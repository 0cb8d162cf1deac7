"""A memory plan as text: bytes as cards are counted, and a table of all modes."""

from nanochat_core.memory.parts import GIB
from nanochat_core.memory.plan import Device, MemoryPlan, PlannedMode

PARTS = {
    "weights": "weights",
    "gradients": "gradients",
    "optimizer": "optimizer's state",
    "activations": "activations",
    "logits": "logits, and others for a moment",
    "staging": "work space of update and copies",
    "casts": "weights cast for products",
    "fixed": "driver and libraries (assumed)",
}
"""What each part is, in the order of a table."""


def gib(count: int) -> str:
    """Bytes in the powers of two in which cards are counted."""
    return f"{count / GIB:.1f} GiB"


def needed_here(mode: PlannedMode, device: Device) -> str:
    """What a mode takes of a device's memory and of the host's, such as `7.4 GiB + 11.5 GiB of the host's memory`."""
    card, host = device.split(mode.need)
    parts = [gib(card)] if device.card_bytes is not None else []
    if host:
        parts.append(f"{gib(host)} of the host's memory" if parts else gib(host))
    return " + ".join(parts)


def plan_rows(plan: MemoryPlan) -> list[list[str]]:
    """The plan as a table whose first row is its head: a column for each mode, a row for each part, then the sums."""
    needs = [mode.need for mode in plan.modes]
    rows = [["", *(need.memory for need in needs)]]
    for part, words in PARTS.items():
        if any(need.card.get(part) for need in needs):
            rows.append([words, *(f"{need.card[part] / GIB:.2f}" if need.card.get(part) else "" for need in needs)])
    rows.append(["on the card", *(gib(need.card_bytes) for need in needs)])
    rows.append(["in the host's memory", *(gib(need.host_bytes) if need.host_bytes else "" for need in needs)])
    rows.append(["there, while it saves", *(gib(need.host_bytes + need.saving) for need in needs)])
    return [*rows, ["fits", *("yes" if mode.fits else "no" for mode in plan.modes)]]


def as_text(rows: list[list[str]]) -> str:
    """Rows in columns for a terminal."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        [cell.ljust(widths[0]) if not place else cell.rjust(widths[place]) for place, cell in enumerate(row)]
        for row in rows
    )
    return "\n".join("  ".join(line).rstrip() for line in lines)


def verdict(plan: MemoryPlan) -> str:
    """Which mode is taken, or what to do when none fits, as a sentence."""
    if plan.chosen is not None:
        first = f"--memory auto takes {plan.chosen}, the first that fits {plan.device.name}."
        return f"{first} The result is the same in each."
    best, host = plan.best.need, plan.device.host_bytes
    if plan.device.card_fits(best) and host is not None:
        return (
            f"No mode fits this machine: {best.memory} fits {plan.device.name}, but takes "
            f"{gib(plan.device.host_needed(best))} of the host's memory while it saves, of {gib(host)}. "
            "Take a smaller model, --method lora, or a machine with more memory."
        )
    least = min(plan.modes, key=lambda mode: mode.need.card_bytes)
    return (
        f"No mode fits {plan.device.name}: {least.need.memory} needs {gib(least.need.card_bytes)}. Lower "
        "device_batch_size, target_examples_per_step or max_seq_len, or take a smaller model or a larger card."
    )
