"""Rejected answers of a data file: each stands beside the answer that replaced it, and is learned not to be given."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from nanochat_core.data.chunk import LineMarks
from nanochat_core.data.formats.names import REJECTED
from nanochat_core.data.line import judge_line
from nanochat_core.data.reader import MAX_PIECE_BYTES, open_data
from nanochat_core.data.tokens.file import TokenFile
from nanochat_core.tokenizer.rendering import Rejected, Rendering
from nanochat_core.tokenizer.tokenizer import Tokenizer

# Such a key is written in many ways ("rejectedResponse"), which the rules know; this only passes over other lines.
_MAY_HOLD = re.compile("|".join({name.replace("_", ".?") for name in REJECTED}).encode(), re.IGNORECASE)


def rejected_answers(
    path: str | Path, tokens: TokenFile, tokenizer: Tokenizer, max_seq_len: int
) -> tuple[Mapping[int, tuple[Rejected, ...]], int]:
    """(the rejected answers by the number of their conversation in the file, how many do not fit max_seq_len).

    path: the file that `tokens` was made of. ValueError when it has changed meanwhile, so far as that shows.
    """
    rendering, found, left_out = Rendering(tokenizer), {}, 0
    with open_data(path) as file:
        for row, at in enumerate(tokens.facts["line"].tolist()):
            file.seek(at)
            line = file.readline(MAX_PIECE_BYTES)
            if not _MAY_HOLD.search(line):
                continue
            judged, _, _ = judge_line(LineMarks().strip(1, line))
            if len(judged) != 1:
                raise ValueError(f"{path} has changed while it was in use. Put the old content back, or start again.")
            wanted = sum("rejected" in message and message.get("train", True) for message in judged[0])
            rejected = rendering.rejected(tokens.ids(row), judged[0], max_seq_len) if wanted else []
            left_out += wanted - len(rejected)
            if rejected:
                found[row] = tuple(rejected)
    return found, left_out


def count_of(rejected: Mapping[int, tuple[Rejected, ...]], rows: np.ndarray) -> int:
    """How many of the rejected answers belong to these conversations."""
    return sum(len(rejected.get(row, ())) for row in rows.tolist())
