"""Each layout of data/README.md: one conversation in, the same words and roles out, and no word lost without a word."""

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nanochat_core.data.conversations import check, load_conversations
from nanochat_core.data.repair.file import fix_file
from nanochat_core.data.report import REPAIR
from nanochat_core.paths import PROJECT_ROOT
from studio.datasets.importing import read_lines
from tests.support.layouts import LAYOUTS, readme_table
from tests.support.tiny import tiny_tokenizer

WORDS = st.lists(st.text("abcdefghijklmnopqrstuvwxyzäéß日", min_size=1, max_size=6), min_size=1, max_size=5).map(
    " ".join
)
"""Texts without marks: a layout that marks turns by text cannot hold its own marks."""
TALKS = st.tuples(WORDS, st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=3))


def expected(layout, system, exchanges):
    said = [("system", system)] if layout.has_system else []
    for question, answer in exchanges if layout.has_turns else exchanges[:1]:
        said += [("user", question), ("assistant", answer)]
    return said


def talk_of(messages):
    """An answer in one text part is that text."""
    return [
        (
            one["role"],
            one["content"] if isinstance(one["content"], str) else "|".join(part["text"] for part in one["content"]),
        )
        for one in messages
    ]


@pytest.mark.parametrize("name", LAYOUTS)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(TALKS)
def test_the_same_words_and_roles_come_out(name, talk):
    layout, (system, exchanges) = LAYOUTS[name], talk
    wanted = expected(layout, system, exchanges)
    text = layout.write(system if layout.has_system else "", exchanges if layout.has_turns else exchanges[:1])
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder) / layout.name, Path(folder) / "out.jsonl"
        path.write_text(text, encoding="utf-8")
        report = fix_file(path, out)
        assert report.left_out == 0, report.summary()
        assert [talk_of(one["messages"]) for one in load_conversations(out)] == [wanted]
        found = check(path, tiny_tokenizer())
        if found.verdict == "reject" and not name.startswith("rows with"):
            assert all(REPAIR in problem.fix for problem in found.problems if problem.level == "error")
        if {problem.kind for problem in found.problems} & {"unknown_role", "content_not_text", "malformed_part"}:
            return  # opened as it is, with a Fix for each
        opened = [json.loads(data) for _, data in read_lines(path).lines]
        assert [talk_of(one["messages"] if isinstance(one, dict) else one) for one in opened] == [wanted]


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_text_beside_a_layout_is_named(name, tmp_path):
    layout = LAYOUTS[name]
    text = layout.write("Be brief." if layout.has_system else "", [("Name a fruit.", "A plum.")])
    if not text.startswith("{") or "\n" in text:
        return
    path, out = tmp_path / "data.jsonl", tmp_path / "out.jsonl"
    path.write_text(json.dumps({**json.loads(text), "remark": "told on the phone last week"}))
    fix_file(path, out)
    assert "told on the phone" in out.read_text()
    assert "does not use 'remark'" in check(out, tiny_tokenizer()).summary()


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("mark", ["label", "kto_tag"])
def test_a_bad_example_is_left_out_in_every_layout(name, mark, tmp_path):
    layout = LAYOUTS[name]
    text = layout.write("Be brief." if layout.has_system else "", [("Name a fruit.", "A stone.")])
    if not text.startswith("{") or "\n" in text:
        return
    path, out = tmp_path / "data.jsonl", tmp_path / "out.jsonl"
    good = json.dumps({**json.loads(layout.write("", [("Name a fruit.", "A plum.")])), mark: True})
    path.write_text(good + "\n" + json.dumps({**json.loads(text), mark: False}))
    assert "Line 2: This example is marked as bad" in check(path, tiny_tokenizer()).summary()
    report = fix_file(path, out)
    assert (report.written, report.left_out) == (1, 1)
    assert "stone" not in out.read_text()


def test_the_readme_shows_every_layout():
    assert len(LAYOUTS) >= 30
    assert readme_table() in (PROJECT_ROOT / "data" / "README.md").read_text(encoding="utf-8")
