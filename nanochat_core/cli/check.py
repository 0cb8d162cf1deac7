"""`check`: look for faults in a file of conversations, and repair them."""

from dataclasses import dataclass

import tyro

from nanochat_core.cli.terminal import parse, say, say_json, tell
from nanochat_core.config import FinetuneConfig
from nanochat_core.data.conversations import check
from nanochat_core.data.repair.file import fix_file
from nanochat_core.paths import find_model
from nanochat_core.runs.presets import preset_of
from nanochat_core.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class CheckCommand:
    """Look for faults in a file of conversations. Exits with 0, or with 1 when the file is rejected."""

    file: tyro.conf.Positional[str]
    """The JSONL file."""
    json: bool = False
    """Print the report as JSON."""
    fix: str | None = None
    """Write a repaired copy to this file, and say what was done."""
    model: str | None = None
    """NAME of the model whose tokenizer counts the tokens; without it d32's, or the starter's."""
    max_seq_len: int | None = None
    """Longest conversation in tokens; without it as the model is finetuned: 2048, the starter 512."""


def run(arguments: list[str]) -> int:
    """Check a file, after repairing it where that is wanted. Returns the exit status."""
    options: CheckCommand = parse(CheckCommand, arguments, "check")
    if options.fix is not None:
        fixed = fix_file(options.file, options.fix).summary()
        tell(fixed) if options.json else say(fixed)
    path = options.file if options.fix is None else options.fix
    tokenizer = Tokenizer.from_directory(find_model(options.model).tokenizer_dir) if options.model else None
    length = options.max_seq_len
    if length is None and options.model:
        length = preset_of(options.model).get("max_seq_len", FinetuneConfig.max_seq_len)
    report = check(path, tokenizer, length)
    if options.json:
        say_json(report.to_dict())
        for note in report.notes:
            tell(note)
    else:
        say(report.summary())
    return 1 if report.verdict == "reject" else 0
