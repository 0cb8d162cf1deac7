"""A whole training step on meta tensors, followed by torch's MemTracker: bytes without memory, in seconds for d32.

Meta tensors take the GPU's way through the code. Two of a GPU's fused kernels must be stood in for, because a meta
device chooses others: attention, which would count T x T weights, and RMS norm, which would count its parts.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributed._tools.mem_tracker import MemTracker

from nanochat_core.compute.ranks import Ranks
from nanochat_core.config import FinetuneConfig
from nanochat_core.memory.parts import Training
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


class ByteTracker(MemTracker):
    """MemTracker without its table of modules, which takes most of its time and no module that is called twice."""

    def _ignore(self, *_: Any) -> None:
        """In place of a hook that keeps statistics of a module."""

    _pre_fw_hook = _post_fw_hook = _pre_bw_hook = _post_bw_hook = _ignore


def tracked_peak(training: Training, conversations: int, micro_batch: int) -> int:
    """The most bytes of tensors on the device in a step of equally long conversations, the optimizer's state there."""
    length = training.step_tokens // conversations + 1
    examples = [Example(np.zeros(length, np.int32), np.ones(length, bool), index) for index in range(conversations)]
    tracker = ByteTracker()
    with fused_kernels(), tracker:
        with META:
            model = GPT(training.shape, getattr(torch, training.dtype))
        ranks = Ranks(0, 1, META)
        step = TrainingStep(model, build_mode("plain", model, FinetuneConfig("-"), ranks), ranks, micro_batch)
        step.update()  # makes the optimizers' state
        step.accumulate(examples)
        step.update()
    return tracker.get_tracker_snapshot("peak")[META]["Total"]
