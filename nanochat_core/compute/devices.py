"""The device of a computation: which one, its number format, its memory, and how a processor is set for training."""

import ctypes
import sys

import psutil
import torch

from nanochat_core.system.processes import peak_bytes

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
"""The names of glibc's malloc.h."""


def choose_device(device_type: str, local_rank: int = 0) -> torch.device:
    """The device for `device_type` (auto, cuda, mps, cpu). ValueError when it is not there."""
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device_type == "auto":
        device_type = next(name for name, is_there in present.items() if is_there)
    if device_type not in present:
        raise ValueError(f"There is no device called {device_type!r}. Use auto, {', '.join(present)}.")
    if not present[device_type]:
        there = ", ".join(name for name, is_there in present.items() if is_there)
        raise ValueError(f"This machine has no {device_type} device that torch can use. Use --device_type {there}.")
    if device_type != "cuda":
        return torch.device(device_type)
    if local_rank >= torch.cuda.device_count():
        raise ValueError(
            f"{local_rank + 1} processes were started but there are {torch.cuda.device_count()} GPUs. "
            "Start one process per GPU."
        )
    return torch.device("cuda", local_rank)


def choose_compute_dtype(wanted: str, device: torch.device) -> torch.dtype:
    """bf16 where it was asked for and the device computes faster with it than with fp32; else fp32."""
    if wanted == "float32" or not _computes_bf16(device):
        return torch.float32
    return torch.bfloat16


def _computes_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":  # without one of these, bf16 products are emulated and slower than fp32
        is_limited = torch.backends.cpu.get_cpu_capability() in ("DEFAULT", "AVX2")  # maybe by ATEN_CPU_CAPABILITY
        has_products = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        return has_products and not is_limited
    return True


def peak_memory(device: torch.device) -> float:
    """The most bytes so far: of a CUDA device what torch has asked for, else what this process had."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_bytes()


def all_memory(device: torch.device) -> int:
    """The bytes that the device has, used or free; other devices than CUDA's share the machine's."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return psutil.virtual_memory().total


def free_memory(device: torch.device) -> int:
    """The bytes that this process can have of a CUDA device: what nobody has taken, and what it holds already."""
    return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)


def prepare_cpu() -> None:
    """Settings of this process with which training on a CPU is faster, and its results the same."""
    _keep_freed_memory()
    _choose_products()


def _keep_freed_memory() -> None:
    """Let glibc hand freed blocks out again instead of back to the system: a page's first touch costs 10 reads."""
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "mallopt"):
        library.mallopt(_M_MMAP_MAX, 0)
        library.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def _choose_products() -> None:
    """oneDNN for fp32 products where it is faster than torch's usual library and computes in fp32 all the same.

    The setting allows it to round to bf16 first, and on some processors it does: so a product is tried.
    """
    torch.set_float32_matmul_precision("medium")
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(256, 256, generator=generator) for _ in range(2))
    exact = a.double() @ b.double()
    if ((a @ b).double() - exact).norm() > 1e-6 * exact.norm():
        torch.set_float32_matmul_precision("highest")
