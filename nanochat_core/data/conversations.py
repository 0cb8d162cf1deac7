"""Training data: a JSONL file -> checked conversations -> a JSONL file.

`check` and `load_conversations` read the file in one pass and by the same rules: nothing is ever trained silently
on part of a file. README.md in data/ describes the format for the person who writes it.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

from nanochat_core.config import default_max_seq_len
from nanochat_core.data.chunk import Block, Wanted
from nanochat_core.data.line import to_line, write_data
from nanochat_core.data.report import Problem, Report
from nanochat_core.data.survey import survey
from nanochat_core.tokenizer.tokenizer import Tokenizer

__all__ = ["Problem", "Report", "check", "load_conversations", "save_conversations"]


def check(path: str | Path, tokenizer: Tokenizer | None = None, max_seq_len: int | None = None) -> Report:
    """Everything that is wrong with a data file, or worth knowing, with line numbers; reads it without keeping it.

    Lengths are counted with `tokenizer` and compared with `max_seq_len`; without them, as the model that `finetune`
    would take has it. ValueError only when the file cannot be opened: missing, a folder, not readable.
    """
    return survey(path, Wanted(tokenizer, default_max_seq_len() if max_seq_len is None else max_seq_len))


def load_conversations(
    path: str | Path, tokenizer: Tokenizer | None = None, max_seq_len: int = 2048
) -> list[dict[str, Any]]:
    """The conversations of a file as {"messages": [{"role", "content"}, ...]}, other keys left out.

    But for "train": False beside an answer that is not to be learned, and "rejected", the answer that it replaced.

    ValueError with the report's summary when the file is rejected.
    """
    conversations: list[dict[str, Any]] = []

    def keep(block: Block) -> None:
        conversations.extend({"messages": messages} for messages in block.kept)

    report = survey(path, Wanted(tokenizer, max_seq_len, keep=True), keep)
    if report.verdict == "reject":
        raise ValueError(report.summary())
    return conversations


def save_conversations(path: str | Path, conversations: Iterable[dict[str, Any] | list[Any]]) -> None:
    """Write conversations as JSONL in UTF-8, all or nothing. Drafts may be saved: it is `check` that judges.

    ValueError names the first that is no conversation at all, or says why the file cannot be written.
    """

    def write(file: BinaryIO) -> None:
        for number, conversation in enumerate(conversations, 1):
            if not isinstance(conversation, dict | list):
                raise ValueError(
                    f"Conversation {number} cannot be saved: give a dict with messages, or a list of them."
                )
            try:
                file.write(to_line(conversation))
            except (ValueError, TypeError, RecursionError) as error:
                raise ValueError(f"Conversation {number} cannot be saved: {error}. Its texts must be text.") from error

    write_data(Path(path), write)
