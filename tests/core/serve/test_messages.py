"""What goes over the pipe to a model's process comes out as it went in, and needs no torch."""

import json
import subprocess
import sys

import pytest

from nanochat_core.engine.reply import Done, Notice, Text, ToolCall
from nanochat_core.serve import messages
from nanochat_core.serve.messages import Failure, Generate, Load, Loaded, Measure, Progress, Stop, from_json, to_json

EACH = [
    Load("starter", 7, "cpu", "int8"),
    Generate([{"role": "user", "content": "Hi"}], {"max_tokens": 5}),
    Measure({"data_path": "x.jsonl"}),
    Stop(),
    Progress(0.5, "Half"),
    Text("a"),
    ToolCall("1/0", None),
    Notice("Left out."),
    Done("stopped", 3, 0, 0.5),
    Loaded("starter", 7, 5, "cpu", "float32", "float32", 512, 0.1, 0),
    Failure("No."),
]


@pytest.mark.parametrize("message", EACH, ids=lambda message: type(message).__name__)
def test_a_message_comes_out_as_it_went_in(message):
    assert from_json(json.loads(json.dumps(to_json(message)))) == message


@pytest.mark.processes
def test_the_app_s_end_needs_no_torch():
    code = f"import sys, {messages.__name__}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
