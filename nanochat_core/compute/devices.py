"""Which device and which number format a computation uses."""

import torch


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
            "Start one process a GPU."
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
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return True
