"""Why a run died: the cause among its consequences, and one sentence for the person."""

import re

import pytest

from nanochat_core.config import FinetuneConfig
from nanochat_core.runs.failures import (
    CLOSING_SECONDS,
    FailedElsewhere,
    Failure,
    explain,
    last_exception,
    root_cause,
    told_cause,
)

ADVICE = (
    "\nSearch for `cudaErrorX' in https://docs.nvidia.com/cuda/cuda-runtime-api/group__CUDART__TYPES.html."
    "\nCUDA kernel errors might be asynchronously reported at some other API call.\nFor debugging consider passing "
    "CUDA_LAUNCH_BLOCKING=1\nCompile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.\n"
)
LOST = "RuntimeError: [gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:1234"


@pytest.mark.parametrize(
    ("failures", "rank"),
    [
        ([Failure(0, 1, LOST, 99), Failure(1, -9, "", 100)], 1),
        ([Failure(0, 1, LOST, 100), Failure(1, 1, "ValueError: x", 100)], 1),
        ([Failure(0, -15, "", 100), Failure(1, 1, "ValueError: x", 100)], 1),
        ([Failure(0, -9, "", 100 + CLOSING_SECONDS), Failure(1, 1, "ValueError: x", 100)], 1),
        ([Failure(0, -9, "", 100 + CLOSING_SECONDS), Failure(1, -9, "", 100)], 1),
        ([Failure(0, -9, LOST, 101), Failure(1, -9, "", 100)], 1),  # it was slow to leave
        ([Failure(0, 1, LOST, 100), Failure(1, -15, "ValueError: x", 99)], 1),  # so was the one to blame
        ([Failure(0, -15, "", 100)], 0),
        ([Failure(1, 1, "ValueError: x", 101), Failure(0, 1, "ValueError: y", 100)], 0),
    ],
)
def test_the_cause_comes_before_its_consequences(failures, rank):
    assert root_cause(failures).rank == rank
    assert root_cause(reversed(failures)).rank == rank


@pytest.mark.parametrize(
    ("exitcode", "message", "error", "remedy"),
    [
        (-9, "", "rank 3.*SIGKILL.*memory", "runs resume mine.*device_batch_size"),
        (-15, "", "SIGTERM", "runs resume mine"),
        (-11, "", "crashed .SIGSEGV", "log.txt"),
        (-7, "", "SIGBUS.*shared memory", "Free some space"),
        (-60, "", "signal 60|SIGRT", "log.txt"),
        (1, "torch.OutOfMemoryError: CUDA out of memory. Tried", "out of memory on its device", "device_batch_size"),
        (1, f"torch.AcceleratorError: CUDA error: out of memory{ADVICE}", "out of memory.*device", "device_batch_size"),
        (1, f"torch.AcceleratorError: CUDA error: an illegal access{ADVICE}", r"an illegal access\)", "nvidia-smi"),
        (1, "RuntimeError: could not create a primitive", "ran out of memory", "device_batch_size"),
        (1, "PermissionError: [Errno 13] Permission denied: '/x/y'", "'/x/y'", "permissions, then resume"),
        (1, "MemoryError", "ran out of memory", "device_batch_size"),
        (1, "OSError: [Errno 28] No space left on device: '/x'", "disk is full", "Free some space"),
        (1, "torch.distributed.DistBackendError: NCCL error in: x", "talk to each other", "NCCL_DEBUG"),
        (1, "ModuleNotFoundError: No module named 'psutil'", "incomplete .*psutil", "make install"),
        (1, "ValueError: There is no model 'x'. Run it.", "^There is no model 'x'. Run it.$", "Correct this"),
        (1, "Traceback ...\nKeyError: 'a {brace}'", "failed: KeyError: 'a {brace}'[.]$", "log.txt"),
        (3, "", "exit status 3", "log.txt"),
        (-9, "MemoryError: x", "ran out of memory", "device_batch_size"),
    ],
)
def test_each_kind_has_its_sentence_and_remedy(exitcode, message, error, remedy):
    told = explain(Failure(3, exitcode, message), "mine", FinetuneConfig("x"))
    for text, pattern in zip((told.error, told.remedy), (error, remedy), strict=True):
        assert re.search(pattern, text), text
        assert "{who}" not in text


@pytest.mark.parametrize(
    ("exitcode", "message", "retry"),
    [
        (-9, "", {"device_batch_size": 4}),
        (-11, "", None),
        (-15, "", None),
        (1, "torch.OutOfMemoryError: CUDA out of memory. Tried", {"device_batch_size": 4}),
        (1, "MemoryError", {"device_batch_size": 4}),
        (1, "OSError: [Errno 28] No space left on device: '/x'", None),
        (1, "RuntimeError: invalid device ordinal", {"nproc": 1}),
        (1, "torch.distributed.DistBackendError: NCCL error in: x", {"nproc": 1}),
        (1, "Diverged: The loss is no number.", {"init_lr_frac": 0.2}),
        (1, "ValueError: There is no model 'x'. Run it.", None),
        (1, "KeyError: 'a'", None),
    ],
)
def test_what_a_new_try_would_change_is_a_field(exitcode, message, retry):
    config = FinetuneConfig("x", device_batch_size=8, init_lr_frac=0.4)
    assert explain(Failure(0, exitcode, message), "mine", config).retry == retry


@pytest.mark.parametrize(("length", "retry"), [(512, {"max_seq_len": 256}), (32, None)])
def test_less_memory_than_a_batch_of_one_is_a_shorter_context(length, retry):
    config = FinetuneConfig("x", device_batch_size=1, max_seq_len=length)
    assert explain(Failure(0, -9), "mine", config).retry == retry


@pytest.mark.parametrize("cause", [Failure(5, 1, "ValueError: A: b.\n2"), Failure(3, -9)])
def test_the_cause_elsewhere_stands_for_what_it_brought_about(cause):
    here = Failure(0, 1, f"FailedElsewhere: {FailedElsewhere(cause)}", 100.0)
    killed = Failure(1, -9, "", 104.0)  # by torchrun, because of the first
    assert told_cause(here) == cause
    assert told_cause(killed) == killed
    assert root_cause([told_cause(killed), told_cause(here)]) == cause


def test_the_last_exception_of_a_log():
    log = "step 1\nTraceback (most recent call last):\nValueError: first\n[rank1]: torch.OutOfMemoryError: CUDA\nbye\n"
    assert last_exception(log) == "torch.OutOfMemoryError: CUDA"
    assert last_exception("nothing: here\n") == ""


def test_where_a_training_diverged_the_rate_to_lower_is_one_that_it_has():
    for method, rate in (("full", "init_lr_frac"), ("lora", "lora_lr")):
        told = explain(Failure(0, 1, "Diverged: Oh."), "mine", FinetuneConfig("x", method=method))
        assert f"learning rates ({rate})" in told.remedy
        assert list(told.retry) == [rate]
