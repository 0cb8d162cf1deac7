"""The Data tab as code: under each of its steps the nanochat_core calls that do the same, to copy into a cell."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from nanochat_core.paths import shipped
from studio.data_tab.view import Measure
from studio.datasets.session import Session

SHOWN_BYTES = 3_000
"""A longer conversation is read from the file instead of being written into the code."""


@dataclass(frozen=True)
class Codes:
    """One text for each step."""

    bring: str
    save: str
    tokens: str
    fix: str
    whole: str


NAMES = tuple(field.name for field in fields(Codes))


def codes(session: Session | None, row: int | None, source: str, measure: Measure) -> Codes:
    """source: path of the opened file, "" when it is not on disk yet."""
    start = _path(session, source)
    read = [*start, *_tokenizer(measure)]
    length = measure.max_seq_len
    return Codes(
        bring=_text(
            "from nanochat_core.data.repair.file import fix_file",
            *start,
            "# ShareGPT, Alpaca, prompt and completion become conversations; the original stays as it is.",
            'print(fix_file(path, path.with_name(f"{path.stem}-imported.jsonl")).summary())',
        ),
        save=_text(
            "from nanochat_core import load_conversations, save_conversations",
            *read,
            f"conversations = load_conversations(path, tokenizer, {length})",
            "save_conversations(path, conversations)  # all or nothing",
        ),
        tokens=_text(
            *_json_import(session, row),
            "from nanochat_core import show_tokens",
            *read,
            f"conversation = {_conversation(session, row)}",
            f"show_tokens(tokenizer, conversation, {length})",
        ),
        fix=_text(
            "from nanochat_core import check",
            "from nanochat_core.data.repair.file import fix_file",
            *read,
            f"print(check(path, tokenizer, {length}).summary())",
            'print(fix_file(path, path.with_name(f"{path.stem}-fixed.jsonl")).summary())',
        ),
        whole=_text(
            "from nanochat_core import load_conversations, render",
            "from nanochat_core.data.tokens.plan import split",
            *read,
            f"conversations = load_conversations(path, tokenizer, {length})",
            f"examples = [one for one in render(conversations, tokenizer, {length}) if one.mask[1:].any()]",
            f"train, validation = split(examples, {measure.val_split!r})",
            "for part in (train, validation):",
            "    learned = sum(int(one.mask[1:].sum()) for one in part)",
            '    print(len(part), "conversations,", learned, "tokens are learned")',
        ),
    )


def _text(*lines: str) -> str:
    """Imports first, as one block."""
    imports = sorted({line for line in lines if line.startswith(("from ", "import "))}, key=_module)
    return "\n".join([*imports, "", *(line for line in lines if line not in imports)])


def _module(line: str) -> tuple[bool, str]:
    return line.startswith("from "), line.split()[1]


def _path(session: Session | None, source: str) -> list[str]:
    path = Path(source) if source else None
    if session is None or (path and path.parent == shipped("data") and session.path is None):
        name = path.name if path else "example_data.jsonl"
        return ["from nanochat_core import find_file", f"path = find_file({f'data/{name}'!r})"]
    comment = "" if path and not session.is_dirty else "  # save it first"
    return ["from nanochat_core.paths import home", f'path = home() / "data" / {session.name!r}{comment}']


def _tokenizer(measure: Measure) -> list[str]:
    return [
        "from nanochat_core import Tokenizer",
        "from nanochat_core.paths import find_model",
        f"tokenizer = Tokenizer.from_directory(find_model({measure.model!r}).tokenizer_dir)",
    ]


def _value(session: Session | None, row: int | None) -> Any:
    """The shown conversation when it fits into the code; else None."""
    if session is None or not session.has(row) or len(session.rows.data[row]) > SHOWN_BYTES:
        return None
    return session.rows.value(row) if session.rows.messages(row) is not None else None


def _conversation(session: Session | None, row: int | None) -> str:
    value = _value(session, row)
    if value is not None:
        return repr(value)
    line = session.rows.line[row] if session is not None and session.has(row) else 1
    return f'json.loads(path.read_bytes().split(b"\\n")[{max(line, 1) - 1}])'


def _json_import(session: Session | None, row: int | None) -> list[str]:
    return [] if _value(session, row) is not None else ["import json"]
