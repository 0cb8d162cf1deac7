"""The tokens of some lines of a dataset, and whether they fit, exactly as the training has them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from nanochat_core.data.length import LengthCheck, refused
from nanochat_core.data.line import Messages, judge_line
from nanochat_core.data.report import Fault
from nanochat_core.tokenizer.rendering import LONGEST_IN_A_BATCH, Rendering


class Length(NamedTuple):
    """The length of one conversation."""

    tokens: int
    """All of them; 0 when the tokenizer refuses it."""
    trained: int
    """Tokens within max_seq_len that the model learns to say."""
    fault: Fault | None


def lengths(lines: Sequence[bytes], rendering: Rendering, max_seq_len: int) -> list[Length]:
    """The length of each line, none of which has an error. They are tokenized together."""
    conversations = [judge_line(data)[0][0] for data in lines]
    ids = rendering.ids(conversations)
    check = LengthCheck(rendering.tokenizer, max_seq_len)
    return [
        Length(0, 0, refused(found))
        if isinstance(found, ValueError)
        else Length(len(found), trained, _fault(check, rendering, messages, len(data), found))
        for data, messages, found, trained in zip(
            lines, conversations, ids, _trained(rendering, conversations, ids, max_seq_len)
        )
    ]


def _trained(
    rendering: Rendering,
    conversations: Sequence[Messages],
    ids: Sequence[np.ndarray | ValueError],
    max_seq_len: int,
) -> list[int]:
    kept = [found[:max_seq_len] for found in ids if not isinstance(found, ValueError)]
    counts = iter(rendering.supervised(np.concatenate(kept), np.array([*map(len, kept)])).tolist() if kept else ())
    return [
        0 if isinstance(found, ValueError) else next(counts) - _marked(rendering, found[:max_seq_len], messages)
        for messages, found in zip(conversations, ids)
    ]


def _marked(rendering: Rendering, ids: np.ndarray, messages: Messages) -> int:
    """Tokens of answers that are marked as not to be trained."""
    stretches = rendering.untrained(ids, messages)
    return int(sum(rendering.mask(ids)[start:end].sum() for start, end in stretches))


def _fault(
    check: LengthCheck, rendering: Rendering, messages: Messages, line_bytes: int, ids: np.ndarray
) -> Fault | None:
    if len(ids) <= check.max_seq_len:
        return None
    if line_bytes > LONGEST_IN_A_BATCH:  # tokenized once more, no further than a check of the file does it
        return check.fault(messages, line_bytes)
    return check.too_long(messages, ids, bool(rendering.trained(ids[: check.max_seq_len], messages).any()))
