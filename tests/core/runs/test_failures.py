"""Why a run died: the cause among its consequences, and one sentence for the person."""

import re

import pytest

from nanochat_core.runs.failures import CLOSING_SECONDS, Failure, explain, last_exception, root_cause

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
        (1, "MemoryError", "ran out of memory", "device_batch_size"),
        (1, "OSError: [Errno 28] No space left on device: '/x'", "disk is full", "Free some space"),
        (1, "torch.distributed.DistBackendError: NCCL error in: x", "talk to each other", "NCCL_DEBUG"),
        (1, "ModuleNotFoundError: No module named 'psutil'", "incomplete .*psutil", "make install"),
        (1, "ValueError: There is no model 'x'. Run it.", "^There is no model 'x'. Run it.$", "Correct this"),
        (1, "Traceback ...\nKeyError: 'a {brace}'", "failed: KeyError: 'a {brace}'", "log.txt"),
        (3, "", "exit status 3", "log.txt"),
        (-9, "MemoryError: x", "ran out of memory", "device_batch_size"),
    ],
)
def test_each_kind_has_its_sentence_and_remedy(exitcode, message, error, remedy):
    told = explain(Failure(3, exitcode, message), "mine")
    for text, pattern in zip(told, (error, remedy), strict=True):
        assert re.search(pattern, text), text
        assert "{who}" not in text


def test_the_last_exception_of_a_log():
    log = "step 1\nTraceback (most recent call last):\nValueError: first\n[rank1]: torch.OutOfMemoryError: CUDA\nbye\n"
    assert last_exception(log) == "torch.OutOfMemoryError: CUDA"
    assert last_exception("nothing: here\n") == ""
