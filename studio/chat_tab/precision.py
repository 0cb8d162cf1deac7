"""In which precision the chat's models are held: what is offered on this machine, and what a choice means."""

from functools import cache

from nanochat_core.system.hardware import find_hardware
from studio.models.processes import AS_IT_IS, AUTOMATIC, FASTEST
from studio.models.zero_gpu import is_zero_gpu
from studio.space.access import is_visitor

MEASURED = "fastest here"
"""The choice of the dtype in which this machine writes the fastest."""
INFO = (
    "Automatic is float32 for a small model on a CPU, else bfloat16. Another choice loads the model again with your "
    "next message."
)
INT8_INFO = (
    "int8 and int4 round the weights to a quarter and a seventh of float32's memory. With a C compiler they also write "
    "faster on most processors: fastest here measures once, in a second, which of the four does on this one. They "
    "changed the perplexity of the starter's replies by 0.04% and 0.3%."
)


@cache
def choices() -> list[str]:
    """What can be chosen; int8 and int4 are for a CPU; models go to a GPU where there is one; ZeroGPU's are shared."""
    if is_zero_gpu():
        return [AUTOMATIC]
    hardware = find_hardware()
    has_gpu = bool(hardware.gpus) or hardware.apple
    return [AUTOMATIC, "float32", "bfloat16", *([] if has_gpu else ["int8", "int4", MEASURED])]


def info() -> str:
    """The line under the field."""
    return f"{INFO} {INT8_INFO}" if "int8" in choices() else INFO


def offered(value: object) -> str:
    """`value` where it can be chosen here, else automatic: a kept chat may come from another machine."""
    return value if value in choices() else AUTOMATIC


def dtype_of(value: str | None) -> str | None:
    """The dtype that a choice asks for: None for automatic, AS_IT_IS for visitors, who share the model.

    ValueError when it cannot be had here.
    """
    if is_visitor():
        return AS_IT_IS
    if value in (None, AUTOMATIC):
        return None
    if value not in choices():
        raise ValueError(f"The precision '{value}' cannot be had here. Choose {', '.join(choices())} in Settings.")
    return FASTEST if value == MEASURED else value
