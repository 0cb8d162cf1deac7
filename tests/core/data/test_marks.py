"""What a file says about its training is followed: marked answers are read and not learned, through the cache too."""

import json

import numpy as np
import pytest

from nanochat_core.config import FinetuneConfig
from nanochat_core.data.conversations import check, load_conversations
from nanochat_core.data.repair.file import fix_file
from nanochat_core.data.report import REPAIR
from nanochat_core.data.tokens.cache import tokenized
from nanochat_core.data.tokens.file import TokenFile
from nanochat_core.data.tokens.plan import Examples, split, validation_places
from nanochat_core.data.training_data import load_training_data
from nanochat_core.tokenizer.rendering import Rendering, render
from tests.support.samples import GOOD, assistant, conversation, line, system, user
from tests.support.tiny import tiny_tokenizer, write_conversations

NO = [
    {"train": False},
    {"trainable": False},
    {"loss": False},
    {"weight": 0},
    {"weight": 0.0},
    {"weight": "0"},
    {"loss_weight": 0},
    {"loss_mask": 0},
    {"masked": True},
    {"Train": "false"},
    {"label": False},
]
YES = [{"train": True}, {"weight": 1}, {"loss": "true"}, {"masked": False}, {"weight": None}]


GOOD_TURNS = json.loads(GOOD)["messages"]


def talk(mark, **record):
    marked = {**assistant("a stone"), **mark}
    return {**conversation(system("s"), user("a"), marked, user("b"), assistant("a plum")), **record}


def write(tmp_path, *talks):
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in talks))
    return path


def said(example):
    return tiny_tokenizer().decode(example.ids[example.mask])


@pytest.mark.parametrize("mark", NO, ids=str)
def test_a_marked_answer_is_not_learned(cached, tmp_path, mark):
    talks = [talk({}), talk(mark), json.loads(GOOD), talk(mark)]
    path = write(tmp_path, *talks)
    tokenizer = tiny_tokenizer()
    for limit in (2048, 20, 12, 9):
        for _ in range(2):  # made, then found in the cache
            tokens = tokenized(path, tokenizer, limit)
            found = [Examples(tokens, tokenizer, np.arange(4))[place] for place in range(4)]
            expected = render(load_conversations(path), tokenizer, limit)
            assert [(one.ids.tolist(), one.mask.tolist()) for one in found] == [
                (one.ids.tolist(), one.mask.tolist()) for one in expected
            ]
            assert tokens.facts["supervised"].tolist() == [one.supervised for one in expected]
    assert ["stone" in said(one) for one in expected] == [False] * 4  # cut so short that nothing is left
    whole = render(load_conversations(path), tokenizer, 2048)
    assert ["stone" in said(one) for one in whole] == [True, False, False, False]
    assert ["plum" in said(one) for one in whole] == [True, True, False, True]
    assert "2 answers marked as not to be trained" in check(path, tokenizer).summary()


@pytest.mark.parametrize("mark", YES, ids=str)
def test_a_mark_that_says_yes_changes_nothing(tmp_path, mark):
    path = write(tmp_path, talk(mark))
    assert check(path, tiny_tokenizer()).verdict == "accept"
    assert "stone" in said(render(load_conversations(path), tiny_tokenizer(), 2048)[0])


@pytest.mark.parametrize("mark", [{"train": False}, {"weight": 0}], ids=str)
def test_a_marked_conversation_teaches_nothing_and_that_is_said(cached, tmp_path, mark):
    other = {**conversation(user("c"), assistant("d"), user("e"), assistant("f")), **mark}
    path = write(tmp_path, talk({}), other, json.loads(GOOD))
    report = check(path, tiny_tokenizer())
    assert [(one.line, one.kind) for one in report.problems] == [(2, "nothing_to_learn")]
    data = load_training_data(FinetuneConfig(str(path)), tiny_tokenizer())
    assert len(data.train) + len(data.validation) == 2
    assert any("2 answers marked as not to be trained" in note for note in data.notes)


@pytest.mark.parametrize(
    "mark", [{"weight": -1}, {"mask": True}, {"train_detail": [{"train": False}]}, {"loss": [0, 1]}, {"train": "maybe"}]
)
def test_a_mark_that_cannot_be_followed_is_refused(tmp_path, mark):
    report = check(write(tmp_path, talk(mark)), tiny_tokenizer())
    assert {one.kind for one in report.problems if one.level == "error"} == {"unclear_mark"}


@pytest.mark.processes
def test_marks_in_workers_and_blocks_are_counted_through(cached, tmp_path, monkeypatch):
    from nanochat_core.data import reader
    from nanochat_core.data import survey as data_survey

    talks = [talk({"train": False} if number % 3 == 0 else {}) for number in range(50)]
    path = write(tmp_path, *talks)
    alone = tokenized(path, tiny_tokenizer(), 64)
    monkeypatch.setattr(reader, "BLOCK_BYTES", 700)
    monkeypatch.setattr(data_survey, "useful_workers", lambda size: 2)
    monkeypatch.setattr("nanochat_core.data.tokens.cache.CACHED_BYTES", 0)
    for place in cached.iterdir() if cached.is_dir() else ():
        place.unlink()
    apart = tokenized(path, tiny_tokenizer(), 64)
    assert isinstance(apart, TokenFile)
    assert apart.untrained.tolist() == alone.untrained.tolist()
    assert [start for start, *_ in apart.untrained.tolist()] == list(range(0, 50, 3))
    assert (apart.facts["supervised"] == alone.facts["supervised"]).all()


def test_parts_of_a_marked_answer_are_not_learned():
    parts = [{"type": "python", "text": "1+1"}, {"type": "python_output", "text": "2"}, {"type": "text", "text": "two"}]
    messages = [user("a"), {**assistant(parts), "train": False}, user("b"), assistant("plum")]
    ids, mask = tiny_tokenizer().render_conversation(messages)
    rendering = Rendering(tiny_tokenizer())
    assert rendering.trained(np.array(ids), messages).tolist() == [bool(one) for one in mask]
    assert tiny_tokenizer().decode([token for token, one in zip(ids, mask) if one]).startswith("plum")


# What validates


def test_the_split_is_spread_over_the_file_stable_and_by_the_seed():
    places = validation_places(100, 0.1).tolist()
    assert [place // 10 for place in places] == list(range(10))  # one of each tenth
    assert places == validation_places(100, 0.1).tolist()
    assert places != validation_places(100, 0.1, "spread", 7).tolist()
    assert validation_places(100, 0.1, "tail").tolist() == list(range(90, 100))
    for count in range(30):
        for share in (0.01, 0.1, 0.5, 0.99):
            found = validation_places(count, share).tolist()
            assert len(found) == len(set(found)) == len(validation_places(count, share, "tail"))
            assert all(0 <= place < count for place in found)


def test_a_sorted_file_is_validated_with_both_of_its_kinds(cached, tmp_path):
    talks = [conversation(user(f"q {n}"), assistant("early" if n < 90 else "late")) for n in range(100)]
    path = write(tmp_path, *talks)
    data = load_training_data(FinetuneConfig(str(path)), tiny_tokenizer())
    answers = [data.conversations[one.index]["messages"][1]["content"] for one in data.validation]
    assert {"early", "late"} == set(answers)
    assert "10 to validate with, spread over the file by the seed (number " in data.notes[0]
    tail = load_training_data(FinetuneConfig(str(path), split="tail"), tiny_tokenizer())
    assert "the last 10 of the file to validate with" in tail.notes[0]


def test_lists_and_token_files_are_split_alike(cached, tmp_path):
    path = write_conversations(tmp_path / "data.jsonl", 30)
    examples = Examples(tokenized(path, tiny_tokenizer(), 64), tiny_tokenizer())
    for how in ("spread", "tail"):
        for one, other in zip(split(examples, 0.2, how), split(list(examples), 0.2, how), strict=True):
            assert [example.index for example in one] == [example.index for example in other]


def test_a_run_of_before_keeps_the_tail(home, tmp_path):
    from nanochat_core.runs.run import Run

    folder = home / "models" / "finetuned" / "old"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"settings": {"data_path": "x.jsonl", "output_tag": "old"}}))
    assert Run.open("old").settings().split == "tail"
    assert FinetuneConfig("x.jsonl").split == "spread"


def test_what_is_not_used_is_named_once_with_its_rows(tmp_path):
    path = write(tmp_path, *[talk({}, notes="what was said on the phone", n=number) for number in range(30)])
    report = check(path, tiny_tokenizer())
    (problem,) = [one for one in report.problems if one.kind == "unused_key"]
    assert problem.line == 1
    assert "'notes'" in problem.message
    assert "30 rows (lines 1, 2, 3" in problem.message
    assert report.counts["unused_key"] == 1


@pytest.mark.parametrize(
    ("key", "value"), [("status", "rejected"), ("label", "Undesirable"), ("split", "test"), ("split", "validation")]
)
def test_a_word_that_says_no_is_named(tmp_path, key, value):
    others = {**talk({}), key: "approved" if key != "split" else "train"}
    path = write(tmp_path, others, {**conversation(user("b"), assistant("c")), key: value})
    (problem,) = check(path, tiny_tokenizer()).problems
    assert (problem.line, problem.level) == (2, "warning")
    assert f"'{key}'" in problem.message
    assert value.lower() in problem.message.lower()


def test_lists_that_are_not_for_training_are_told_apart(tmp_path):
    path, out = tmp_path / "data.json", tmp_path / "out.jsonl"
    path.write_text(json.dumps({"train": [talk({})], "test": [conversation(user("b"), assistant("c"))]}))
    fix_file(path, out)
    (problem,) = check(out, tiny_tokenizer()).problems
    assert (problem.line, problem.kind) == (2, "held_out")
    assert "(test)" in problem.message


def test_a_system_text_that_is_said_already_needs_no_word(tmp_path):
    path = write(
        tmp_path, {**conversation(system("Be brief. Be kind."), user("a"), assistant("b")), "system": "Be brief."}
    )
    assert check(path, tiny_tokenizer()).verdict == "accept"


@pytest.mark.parametrize("key", ["completion", "response", "answer"])
def test_an_answer_beside_the_messages_is_taken_rather_than_their_last_question_dropped(tmp_path, key):
    asked = {**conversation(user("a"), assistant("b"), user("c")), key: "a plum"}
    path, out = write(tmp_path, asked), tmp_path / "out.jsonl"
    assert all(REPAIR in one.fix for one in check(path, tiny_tokenizer()).problems)
    report = fix_file(path, out)
    assert load_conversations(out) == [conversation(user("a"), assistant("b"), user("c"), assistant("a plum"))]
    assert f'Took "{key}", which stood beside the messages, as their answer' in report.summary()


@pytest.mark.parametrize("nothing", ["[]", "{}", None, [], ""])
def test_a_key_that_holds_nothing_needs_no_word(tmp_path, nothing):
    path = write(tmp_path, {**conversation(user("a"), assistant("b")), "tools": nothing, "images": nothing})
    assert check(path, tiny_tokenizer()).verdict == "accept"


def test_text_beside_the_messages_that_stands_in_them_needs_no_word(tmp_path):
    path = write(
        tmp_path, {**conversation(user("how do you do today"), assistant("b")), "prompt": "how do you do today"}
    )
    assert check(path, tiny_tokenizer()).verdict == "accept"


@pytest.mark.parametrize("key", ["label", "category", "rating_class", "n", "lang"])
def test_a_persons_own_keys_stay_silent(tmp_path, key):
    path = write(
        tmp_path,
        *[
            {**json.loads(line(user(str(n)), assistant("b"))), key: value}
            for n, value in enumerate(["billing", 3, 1.5, "x"])
        ],
    )
    assert check(path, tiny_tokenizer()).verdict == "accept"


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"context": "The shed opens with 4711."}, "a\n\nThe shed opens with 4711."),
        ({"input": "Haus"}, "a\n\nHaus"),
        ({"history": [["q", "r"]]}, "q"),
        ({"system_prompt": "be brief"}, "be brief"),
        ({"instructions": "be brief"}, "be brief"),
    ],
)
def test_text_beside_the_messages_is_named_and_brought_in(tmp_path, record, message):
    path, out = write(tmp_path, {**conversation(user("a"), assistant("b")), **record}), tmp_path / "out.jsonl"
    report = check(path, tiny_tokenizer())
    assert report.verdict == "accept_with_warning"
    assert REPAIR in report.problems[0].fix
    fix_file(path, out)
    assert load_conversations(out)[0]["messages"][0]["content"] == message
    assert check(out, tiny_tokenizer()).verdict == "accept"


def test_what_has_no_place_in_the_messages_stays_beside_them_and_is_named(tmp_path):
    path = write(tmp_path, {**conversation(user("a"), assistant("b")), "context": {"x": 1}, "mask_history": True})
    assert {one.kind for one in check(path, tiny_tokenizer()).problems} == {"text_beside", "unused_key"}
    report = fix_file(path, tmp_path / "out.jsonl")
    assert (report.written, report.left_out) == (1, 0)
    assert (tmp_path / "out.jsonl").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    "record",
    [
        {"instruction": "q", "output": ["good", "bad"]},
        {"question": "q", "context": {"a": 1}, "answer": "x"},
        {"prompt": "q", "history": 5, "completion": "x"},
        {"chosen": "good", "rejected": "bad"},
        {"prompt": "q", "chosen": [], "rejected": "bad"},
        {
            "prompt": "q",
            "answers": [{"answer": "a", "model": "m", "rank": 1}, {"answer": "b", "model": "n", "rank": 2}],
        },
        {"system": "s", "chat": "USER: q\n\nASSISTANT: <call> f\n\nFUNCTION RESPONSE: 3\n\nASSISTANT: a"},
        {"prompt": ["q", "r"], "completion": ["a", "b"]},
        {"prompt": {"0": "q", "1": "r"}, "completion": {"0": "a", "1": "b"}},
        {"messages": [GOOD_TURNS, GOOD_TURNS]},
        {"messages": [user("q")], "response": "a", "answer": "b"},
    ],
)
def test_words_that_cannot_be_placed_are_refused_with_a_sentence(tmp_path, record):
    path = write(tmp_path, record, json.loads(GOOD))
    assert not any(REPAIR in one.fix for one in check(path, tiny_tokenizer()).problems)
    report = fix_file(path, tmp_path / "out.jsonl")
    assert (report.written, report.left_out) == (1, 1)
    assert report.problems


def test_a_training_says_what_the_check_warns_of(cached, tmp_path):
    talks = [talk({}, tools=[{"name": "f"}], n=number) for number in range(3)]
    path = write(tmp_path, *talks, {**conversation(user("<image>"), assistant("b")), "system": "be brief"})
    data = load_training_data(FinetuneConfig(str(path)), tiny_tokenizer())
    (note,) = [one for one in data.notes if one.startswith("Worth a look in data.jsonl:")]
    assert all(words in note for words in ("1 x unused key", "1 x media", "1 x system beside", "2 x repeated"))
