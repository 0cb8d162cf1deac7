"""A whole training step on meta tensors, followed by torch's MemTracker: bytes without memory, in seconds for d32.

Meta tensors take the GPU's way through the code. Two of a GPU's fused kernels must be stood in for, because a meta
device chooses others: attention, which would count T x T weights, and RMS norm, which would count its parts.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributed._tools.mem_tracker import MemTracker

from nanochat_core.compute.ranks import Ranks
from nanochat_core.config import FinetuneConfig
from nanochat_core.memory.counts import Training
from nanochat_core.model.adapters import attach, new_adapter
from nanochat_core.model.gpt import GPT
from nanochat_core.tokenizer.rendering import Example
from nanochat_core.training.modes.build import build_mode
from nanochat_core.training.step import TrainingStep

META = torch.device("meta")


class _Attention(torch.autograd.Function):
    """What a fused kernel keeps for its gradient: its inputs, its output, and a number for each row and head."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out, sums = torch.empty_like(q), torch.empty(q.shape[:3], dtype=torch.float32, device=q.device)
        ctx.save_for_backward(q, k, v, out, sums)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.empty_like(tensor) for tensor in ctx.saved_tensors[:3])


class _Norm(torch.autograd.Function):
    """What the fused RMS norm keeps: its input, and a number for each row."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x, torch.empty((*x.shape[:-1], 1), dtype=torch.float32, device=x.device))
        return torch.empty_like(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return torch.empty_like(ctx.saved_tensors[0])


@contextlib.contextmanager
def fused_kernels() -> Iterator[None]:
    """In the block a meta device has the two kernels of a GPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(F, "scaled_dot_product_attention", lambda q, k, v, **options: _Attention.apply(q, k, v))
        patch.setattr(F, "rms_norm", lambda x, shape, eps=None: _Norm.apply(x))
        yield


class _NoModules:
    """In place of what follows the modules: it holds on to what enters them, and its table takes most of the time."""

    is_bw = False

    def register_user_hooks(self, *hooks: Any) -> None:
        """Nobody calls them."""

    def clear_user_hooks(self) -> None:
        """There are none."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: Any) -> None:
        pass


class ByteTracker(MemTracker):
    """MemTracker's count of all tensors, without its table of modules."""

    def __init__(self) -> None:
        super().__init__()
        self._mod_tracker = _NoModules()


def tracked_peak(training: Training, micro_batches: int, memory: str, lengths: Sequence[int] = (), **options) -> int:
    """The most bytes of tensors on the device in a step of conversations of the same length, one a micro-batch.

    With the host's, which is played by the same device. lengths: of the conversations of a single micro-batch instead.
    options: of the TrainingStep.
    """
    config = FinetuneConfig("-", method="lora") if training.is_adapted else FinetuneConfig("-")
    ranks = Ranks(0, 1, META)
    with META, ByteTracker() as tracker:
        model = GPT(training.shape, getattr(torch, training.dtype))
        if training.is_adapted:
            model.to(model.compute_dtype)
            attach(model, new_adapter(model, config.lora_modules, config.lora_rank, config.lora_alpha, 0))
    with fused_kernels():
        with tracker:
            step = TrainingStep(model, build_mode(memory, model, config, ranks), ranks, max(1, len(lengths)), **options)
            step.accumulate(_examples([16]))
            step.update()  # from here on there is all that lasts
        with tracker:  # the peak begins again
            step.accumulate(_examples(lengths or [training.step_tokens // micro_batches] * micro_batches))
            step.update()
    return tracker.get_tracker_snapshot("peak")[META]["Total"]


def _examples(lengths: Sequence[int]) -> list[Example]:
    return [
        Example(np.zeros(tokens + 1, np.int32), np.ones(tokens + 1, bool), index)
        for index, tokens in enumerate(lengths)
    ]
