"""Small inputs that people's files stand for: each is judged as the README of its folder says.

The inputs lie in tests/field_cases; where the folder they come from lies beside the repository, it is read as well,
so that a new case is a new folder. What is true of every file holds for new ones too.
"""

import json
from pathlib import Path
from typing import NamedTuple

import pytest

from nanochat_core.data.conversations import check, load_conversations
from nanochat_core.data.repair.file import fix_file
from nanochat_core.data.report import REPAIR
from nanochat_core.paths import PROJECT_ROOT
from tests.support.tiny import tiny_tokenizer

FOLDERS = [PROJECT_ROOT / "tests" / "field_cases", PROJECT_ROOT.parent / "shared" / "field-cases"]
NOT_DATA = {"resume_settings", "serve_like_training", "check_length"}
"""Folders that are no files for `check` alone."""
FILES = [
    path
    for folder in FOLDERS
    if folder.is_dir()
    for path in sorted(folder.glob("*/*"))
    if path.name != "README.md" and path.parent.name not in NOT_DATA
]

Talk = list[tuple[str, str]]
FRUIT: Talk = [("user", "Name a fruit."), ("assistant", "A plum.")]
KETTLE: Talk = [("user", "Is the kettle hot?"), ("assistant", "Yes, take care.")]
OPEN: Talk = [("user", "When do you open?"), ("assistant", "At seven.")]
HELLO: Talk = [("user", "Hello"), ("assistant", "Good day.")]


class Case(NamedTuple):
    verdict: str
    said: tuple[str, ...] = ()
    """In the report of `check`."""
    fixed: list[Talk] | None = None
    """What --fix writes; None when it refuses."""
    done: tuple[str, ...] = ()
    """In the report of --fix."""
    untrained: tuple[str, ...] = ()


CASES = {
    "do_not_train_marks/message_train_false.jsonl": Case("accept", ("1 answer marked",), untrained=("Granite.",)),
    "do_not_train_marks/message_weight_0.jsonl": Case("accept", ("1 answer marked",), untrained=("Granite.",)),
    "formats_without_a_way_out/chat_export_tree.json": Case(
        "reject", ("ChatGPT export", REPAIR), [FRUIT], ("branches",)
    ),
    "formats_without_a_way_out/chatml_text.jsonl": Case("reject", ("ChatML", REPAIR), [FRUIT]),
    "formats_without_a_way_out/cohere_roles.jsonl": Case("reject", (REPAIR,), [[("system", "Be brief."), *FRUIT]]),
    "formats_without_a_way_out/dolly.jsonl": Case(
        "reject",
        ("Dolly", REPAIR),
        [[("user", "What is the code?\n\nThe shed opens with 4711."), ("assistant", "4711")]],
    ),
    "formats_without_a_way_out/gemini.jsonl": Case("reject", ("Gemini", REPAIR), [[("system", "Be brief."), *FRUIT]]),
    "formats_without_a_way_out/instruction_response.json": Case("reject", (REPAIR,), [FRUIT]),
    "formats_without_a_way_out/messages_in_a_string.jsonl": Case("reject", (REPAIR,), [FRUIT]),
    "formats_without_a_way_out/orca.jsonl": Case("reject", ("Orca", REPAIR), [[("system", "Be brief."), *FRUIT]]),
    "lines_of_a_one_line_array/one_line.json": Case(
        "reject",
        ("Record 4 of the array",),
        [[("user", f"Question {n}"), ("assistant", f"Answer {n}")] for n in range(3)],
        ("records 1, 2, 3", "Record 4 of the array"),
    ),
    "lost_context/prompt_input.jsonl": Case(
        "reject", (REPAIR,), [[("user", "Say it in English.\n\nHaus"), ("assistant", "house")]]
    ),
    "lost_context/query_history.jsonl": Case(
        "reject", (REPAIR,), [[*FRUIT, ("user", "And another?"), ("assistant", "A pear.")]]
    ),
    "lost_context/system_prompt.jsonl": Case(
        "reject", (REPAIR,), [[("system", "You are a pirate."), ("user", "Hello"), ("assistant", "Arr!")]]
    ),
    "media/images.jsonl": Case("accept_with_warning", ("pictures, sound and video", "<image>", "'images'", "Line 1")),
    "negative_examples/alpaca_kto_tag.json": Case(
        "reject", ("marked as bad (kto_tag: false)",), [KETTLE], ("LEFT OUT",)
    ),
    "negative_examples/messages_label_false.jsonl": Case("reject", ("Line 1: This example is marked",), [KETTLE]),
    "order_without_a_rule/two_systems.jsonl": Case(
        "reject", (REPAIR,), [[("system", "Be brief.\n\nBe polite."), *HELLO]], ("Joined neighbouring", "line 1")
    ),
    "order_without_a_rule/two_users.jsonl": Case(
        "reject", (REPAIR,), [[("user", "Hello\n\nAre you there?"), ("assistant", "Yes.")]], ("Joined", "line 1")
    ),
    "plain_chat_log/chat.txt": Case("reject", ("plain text (chat) file",)),
    "preference_pairs/alpaca.json": Case("reject", ("preference pair", REPAIR), [FRUIT], ("rejected",)),
    "preference_pairs/prompt_lists.jsonl": Case("reject", ("preference pair", REPAIR), [FRUIT], ("rejected",)),
    "preference_pairs/sharegpt.json": Case(
        "reject",
        ("preference pair", REPAIR),
        [[("user", "Hello"), ("assistant", "Hello. What do you need?"), *FRUIT]],
        ("rejected",),
    ),
    "promised_fix_fails/data_wrapper.json": Case("reject", (REPAIR,), [HELLO]),
    "promised_fix_fails/human_assistant_pairs.jsonl": Case(
        "reject", (REPAIR,), [[*HELLO, ("user", "Bye"), ("assistant", "Farewell.")]]
    ),
    "promised_fix_fails/text_parts.jsonl": Case("reject", (REPAIR,), [HELLO]),
    "prompt_completion_lists/list_and_text.jsonl": Case("reject", (REPAIR,), [FRUIT]),
    "prompt_completion_lists/lists.jsonl": Case(
        "reject", (REPAIR,), [[("user", "Hello"), ("assistant", "Old reply."), *FRUIT]], ("trained too",)
    ),
    "reasoning/thinking.jsonl": Case("accept_with_warning", ("'thinking'", "not its reasoning")),
    "sorted_file/sorted.jsonl": Case("accept"),
    "system_beside_messages/both.jsonl": Case(
        "reject",
        (REPAIR,),
        [[("system", "You are a pirate.\n\nStay polite."), ("user", "Hello"), ("assistant", "Arr!")]],
        ("Joined",),
    ),
    "system_beside_messages/system.jsonl": Case(
        "accept_with_warning",
        ("does not use 'system'", REPAIR),
        [[("system", "You are a pirate."), ("user", "Hello"), ("assistant", "Arr!")]],
    ),
    "tables_at_the_command_line/excel_sep.csv": Case("reject", ("table", REPAIR), [OPEN]),
    "tables_at_the_command_line/known.csv": Case(
        "reject", ("table", REPAIR), [[("user", "When do you open?"), ("assistant", "At seven, daily.")]]
    ),
    "tables_at_the_command_line/unknown_columns.csv": Case(
        "reject", ("table", "the columns ticket, customer_text, our_reply", "prompt and completion")
    ),
    "tool_calls_become_silence/empty_content.jsonl": Case("reject", ("Message 2: tool calls",)),
    "tool_calls_become_silence/round_trip.jsonl": Case("reject", ("Messages 2 and 3: tool calls",)),
}


def name_of(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def talks(path: Path) -> list[Talk]:
    return [[(one["role"], one["content"]) for one in talk["messages"]] for talk in load_conversations(path)]


def learned(path: Path) -> str:
    """All text that a training on the file says."""
    tokenizer, said = tiny_tokenizer(), []
    for talk in load_conversations(path):
        ids, mask = tokenizer.render_conversation(talk)
        said.append(tokenizer.decode([token for token, is_trained in zip(ids, mask) if is_trained]))
    return "\n".join(said)


def test_every_case_is_there():
    assert {name_of(path) for path in FILES if path.is_relative_to(FOLDERS[0])} == set(CASES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: "/".join(path.parts[-3:]))
def test_each_file_is_judged_as_its_folder_says(path, tmp_path):
    report = check(path, tiny_tokenizer())
    out = tmp_path / "fixed.jsonl"
    try:
        done = fix_file(path, out).summary()
    except ValueError as error:
        done = str(error)
    assert len(report.problems) <= 10  # never a fault for each line of something else
    if any(REPAIR in problem.fix for problem in report.problems):
        assert out.exists(), "what is promised is done"
        assert check(out, tiny_tokenizer()).verdict != "reject"
    case = CASES.get(name_of(path))
    if case is None:
        return
    assert report.verdict == case.verdict, report.summary()
    assert all(words in report.summary() for words in case.said), report.summary()
    assert all(words in done for words in case.done), done
    if case.fixed is not None:
        assert talks(out) == case.fixed
    else:
        assert out.exists() == (case.verdict != "reject")
    for text in case.untrained:
        assert text not in learned(path)
        assert text not in learned(out)
        assert "plum" in learned(out)


def test_rejected_answers_are_kept_beside_the_chosen_ones(tmp_path):
    for path in FILES:
        if path.parent.name == "preference_pairs":
            out = tmp_path / f"{path.stem}.jsonl"
            out.unlink(missing_ok=True)
            fix_file(path, out)
            for text in out.read_text().splitlines():
                assert json.loads(text)["messages"][-1]["rejected"] == "A stone."
            assert "stone" not in learned(out)
