"""The device that gpu_check measures: a CUDA card, whose memory can be limited to play a smaller one, or a CPU."""

import gc
from typing import Protocol

import torch

PEAK_FLOPS = {
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "H200": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L40": 181e12,
    "L4": 121e12,
    "A10G": 70e12,
    "A10": 125e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
}
"""Dense bf16 FLOP/s with sums in fp32, by the makers' data sheets; the first name that is part of a card's counts."""


class Measured(Protocol):
    """What is asked of a device."""

    device: torch.device
    total: int | None
    """Bytes of its memory; None for a CPU, whose memory is not limited or counted here."""

    def describe(self) -> str:
        """Its name, and what computes on it."""

    def play(self, card_bytes: int, outside: int) -> None:
        """Refuse tensors more than a card of that size would have room for, `outside` of it being taken otherwise."""

    def forget_peak(self) -> None:
        """Let the peak begin again at what there is now."""

    def peak(self) -> int | None:
        """The most bytes of tensors since then."""

    def outside(self) -> int | None:
        """Bytes of the card that this process has beyond the allocator's: driver and libraries."""

    def wait(self) -> None:
        """Return when everything has been computed."""

    def peak_flops(self) -> float | None:
        """By the data sheet."""


class Cuda:
    """The first CUDA device."""

    def __init__(self) -> None:
        self.device = torch.device("cuda", 0)
        torch.cuda.set_device(self.device)
        self.total: int | None = torch.cuda.get_device_properties(self.device).total_memory

    def describe(self) -> str:
        """Card, torch, CUDA."""
        major, minor = torch.cuda.get_device_capability(self.device)
        name = torch.cuda.get_device_name(self.device)
        return f"{name} (compute capability {major}.{minor}), torch {torch.__version__}, CUDA {torch.version.cuda}"

    def play(self, card_bytes: int, outside: int) -> None:
        """The fraction is of the whole card, and holds for what the allocator reserves."""
        assert self.total is not None
        torch.cuda.set_per_process_memory_fraction(min(1.0, (card_bytes - outside) / self.total), self.device)

    def forget_peak(self) -> None:
        """After what nobody holds any more has been given back."""
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self.device)

    def peak(self) -> int | None:
        """Of the tensors, not of the allocator's blocks."""
        return torch.cuda.max_memory_allocated(self.device)

    def outside(self) -> int | None:
        """What is not free, but for the allocator's blocks; other programs are in it, too."""
        free = torch.cuda.mem_get_info(self.device)[0]
        assert self.total is not None
        return self.total - free - torch.cuda.memory_reserved(self.device)

    def wait(self) -> None:
        """All streams."""
        torch.cuda.synchronize(self.device)

    def peak_flops(self) -> float | None:
        """None for a card that is not in the list."""
        name = torch.cuda.get_device_name(self.device)
        return next((flops for part, flops in PEAK_FLOPS.items() if part in name), None)


class Cpu:
    """For a run that only shows that everything works."""

    def __init__(self) -> None:
        self.device = torch.device("cpu")
        self.total: int | None = None

    def describe(self) -> str:
        """No name: nothing is claimed of it."""
        return f"CPU, torch {torch.__version__}"

    def play(self, card_bytes: int, outside: int) -> None:
        """A CPU plays no card."""

    def forget_peak(self) -> None:
        """Tensors are not counted here."""

    def peak(self) -> int | None:
        """Not counted."""
        return None

    def outside(self) -> int | None:
        """Not counted."""
        return None

    def wait(self) -> None:
        """A CPU has computed when it returns."""

    def peak_flops(self) -> float | None:
        """Not known."""
        return None


def find_device(wanted: str = "auto") -> Measured:
    """The CUDA card where there is one. ValueError when it is wanted and not there."""
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return Cpu()
    if not torch.cuda.is_available():
        raise ValueError("torch finds no CUDA card here. Run it where there is one, or with --device cpu.")
    return Cuda()
