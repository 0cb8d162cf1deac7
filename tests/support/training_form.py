"""The Train tab's form, filled in, and data to train on."""

import json

from studio.train_tab import choices

ROWS = [
    {"messages": [{"role": "user", "content": f"Question {i}?"}, {"role": "assistant", "content": f"Answer {i}. " * i}]}
    for i in range(1, 41)
]


def write_form_data(home) -> str:
    """A file of the ROWS under `home`, by its path."""
    path = home / "data" / "mine_data.jsonl"
    path.parent.mkdir()
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return str(path)


def form(**changes):
    """The form as it comes, but for the changes."""
    values = choices.preset_values(choices.PRESETS[0], "starter", "")
    return {**values, **changes}
