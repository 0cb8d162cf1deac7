"""Tables of any program: what is read, what is left out and said, and what is no table."""

import io
import json

import pytest

from nanochat_core.data.conversations import check, load_conversations
from nanochat_core.data.file_kinds import foreign_kind
from nanochat_core.data.formats.table import rows_of
from nanochat_core.data.repair.file import fix_file
from tests.support.tiny import tiny_tokenizer


@pytest.fixture
def fixed(tmp_path):
    def run(text, name="data.csv"):
        path, out = tmp_path / name, tmp_path / "out.jsonl"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        report = fix_file(path, out)
        return report, [[one["content"] for one in talk["messages"]] for talk in load_conversations(out)], out

    return run


def test_rows_with_other_cells_than_the_header_are_left_out_and_said(fixed):
    report, talks, _ = fixed('prompt,completion\nWhen?,At seven, daily.\nWhere?,"Here, in the yard."\n')
    assert talks == [["Where?", "Here, in the yard."]]
    assert "Line 2: This row has 3 cells, and there are 2 columns." in report.summary()


@pytest.mark.parametrize(
    ("rows", "read", "fault"),
    [
        (
            'When?,At seven.\nWhere?,"In the yard.\nHow?,Well.\nWho?,Ann.\n',
            [["When?", "At seven."]],
            "Line 3: A quote that opens here is never closed",
        ),
        (
            'When?,At seven.\nWhere?,"In the yard.',
            [["When?", "At seven."]],
            "Line 3: A quote that opens here is never closed.",
        ),
        (
            '"Say \\"hi\\" to Ann","Hi, Ann."\n5" or 6"?,"The ""5"" fits."\n',
            [['5" or 6"?', 'The "5" fits.']],
            "Line 2: A quote inside a text in quotes ends it too early.",
        ),
    ],
)
def test_quotes_that_do_not_match_are_named_with_their_line_rather_than_read_wrongly(fixed, rows, read, fault):
    report, talks, _ = fixed(f"prompt,completion\n{rows}")
    assert talks == read
    assert fault in report.summary()


@pytest.mark.parametrize("header", ["question,answer,answer", "question,answer,Answer", "question,question,answer"])
def test_two_columns_of_one_name_are_refused(header, tmp_path):
    path = tmp_path / "data.csv"
    path.write_text(f"{header}\nAre you open?,Yes.,Ja.\n")
    (problem,) = check(path).problems
    assert "Two columns are called" in problem.fix
    with pytest.raises(ValueError, match="Two columns are called"):
        fix_file(path, tmp_path / "out.jsonl")


def test_blanks_around_quotes_are_none_of_the_text(fixed):
    report, talks, _ = fixed(
        'prompt, completion\n"When, please?", "At seven, ""daily""."\n"Where?" ,"Here."\n Who? , Ann\n'
    )
    assert [[one.strip() for one in talk] for talk in talks] == [
        ["When, please?", 'At seven, "daily".'],
        ["Where?", "Here."],
        ["Who?", "Ann"],
    ]
    assert report.left_out == 0


def test_two_columns_of_one_name_that_is_not_read_do_no_harm(fixed):
    assert fixed("question,answer,n,n\nAre you open?,Yes.,1,2\n")[1] == [["Are you open?", "Yes."]]


def test_line_breaks_of_windows_in_a_cell_are_line_breaks(fixed):
    _, talks, _ = fixed('prompt,completion\r\n"one\r\ntwo","A\r\nB"\r\n')
    assert talks == [["one\ntwo", "A\nB"]]


def test_the_names_of_the_columns_are_no_conversation_where_tables_were_joined(fixed):
    report, talks, _ = fixed("\ufeffprompt,completion\nWhen?,At seven.\n\ufeffprompt,completion\nWhere?,Here.\n")
    assert talks == [["When?", "At seven."], ["Where?", "Here."]]
    assert "Line 3: This row repeats the names of the columns" in report.summary()


def test_empty_rows_above_the_names_are_passed_over(fixed):
    _, talks, _ = fixed(";;\n\nquestion;answer;\nWhen?;At seven, daily.;\n")
    assert talks == [["When?", "At seven, daily."]]


def test_a_title_above_the_names_is_named_once(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("Our questions,\n\nquestion,answer\n" + "When?,At seven.\n" * 50)
    (problem,) = check(path).problems
    assert "the names of its columns (question, answer) are not at its top" in problem.message
    with pytest.raises(ValueError, match="Remove the lines above them"):
        fix_file(path, tmp_path / "out.jsonl")


@pytest.mark.parametrize("content", [b"", b"\n \n", b",,\n,,\n"])
def test_a_blank_table_is_said_to_be_blank(content):
    with pytest.raises(ValueError, match=r"mine\.csv holds no table: it is blank\. Export it again"):
        list(rows_of(io.BytesIO(content), "mine.csv"))


def test_verdicts_and_marks_of_a_table_are_meant(fixed, tmp_path):
    report, talks, _ = fixed("prompt,completion,label\nWhen?,At seven.,True\nWhere?,Nowhere.,False\n")
    assert talks == [["When?", "At seven."]]
    assert "marked as bad" in report.summary()


def test_columns_that_are_not_known_stay_beside_and_are_named_once(fixed):
    _, _, out = fixed("prompt,completion,remark\n" + "".join(f"q {n},a,he told us on the phone\n" for n in range(9)))
    report = check(out, tiny_tokenizer())
    assert "'remark'" in report.summary()
    assert report.counts == {"unused_key": 1}


def test_rows_that_answer_another_become_one_conversation_a_branch(fixed):
    report, talks, out = fixed(
        "id,parent_id,prompt,completion\n1,,one,A\n2,1,two,B\n3,1,other,C\n4,,alone,D\n5,2,three,E\n"
    )
    assert talks == [["one", "A", "other", "C"], ["alone", "D"], ["one", "A", "two", "B", "three", "E"]]
    assert "Joined the rows" in report.summary()
    learned = [
        message["content"]
        for text in out.read_text().splitlines()
        for message in json.loads(text)["messages"]
        if message["role"] == "assistant" and message.get("train", True)
    ]
    assert sorted(learned) == list("ABCDE")  # what two branches share is learned once


@pytest.mark.parametrize(
    ("key", "places"),
    [
        ("turn", ["3", "1", "10", "2"]),
        ("created_at", ["2024-05-01 10:03", "2024-05-01 10:01", "2024-05-01 10:04", "2024-05-01 10:02"]),
        ("timestamp", ["1714557803.5", "1714557801", "1714557804", "1714557802"]),
    ],
)
def test_rows_of_a_talk_are_put_in_the_order_that_they_tell(fixed, key, places):
    said = [("user", "two"), ("user", "one"), ("assistant", "B"), ("assistant", "A")]
    rows = "".join(f"t1,{place},{role},{text}\n" for place, (role, text) in zip(places, said))
    report, talks, _ = fixed(f"conversation_id,{key},role,content\n{rows}")
    assert talks == [["one", "A", "two", "B"]]
    assert f'in the order of their "{key}"' in report.summary()


@pytest.mark.parametrize(
    "places", ["1,1,1,1", "x,y,z,w", "12.5.24 9:03,12.5.24 9:01,12.5.24 9:04,1.6.24 9:02", "3,2,,"]
)
def test_rows_that_tell_no_order_stay_as_they_stand(fixed, places):
    said = [("user", "one"), ("assistant", "A"), ("user", "two"), ("assistant", "B")]
    rows = "".join(f"t1,{place},{role},{text}\n" for place, (role, text) in zip(places.split(","), said))
    report, talks, _ = fixed(f"conversation_id,date,role,content\n{rows}")
    assert talks == [["one", "A", "two", "B"]]
    assert "in the order" not in report.summary()


def test_pairs_of_one_conversation_are_turns_of_it_with_what_is_said_of_each(fixed, tmp_path):
    rows = (
        "t1,2,Be brief.,two,B,good\nt1,1,Be brief.,one,A,good\nt2,1,Be brief.,three,C,good\nt1,3,Be brief.,no,D,bad\n"
    )
    rows = rows.replace("good", "true").replace("bad", "false")
    _, talks, out = fixed(f"conversation_id,turn,system,question,answer,approved\n{rows}")
    assert talks == [["Be brief.", "one", "A", "two", "B", "no", "D"], ["Be brief.", "three", "C"]]
    marked = [one["content"] for talk in load_conversations(out) for one in talk["messages"] if "train" in one]
    assert marked == ["D"]


def test_rows_of_no_talk_stand_alone(fixed):
    _, talks, _ = fixed("conversation_id,question,answer\n1,one,A\n,two,B\n,three,C\n1,four,D\n")
    assert talks == [["one", "A", "four", "D"], ["two", "B"], ["three", "C"]]


def test_pairs_that_stand_alone_are_not_said_to_be_joined(fixed):
    report, talks, _ = fixed("conversation_id,question,answer\n1,one,A\n2,two,B\n")
    assert talks == [["one", "A"], ["two", "B"]]
    assert "Joined" not in report.summary()


def test_a_verdict_on_a_row_of_a_chain_is_heeded(fixed):
    _, _, out = fixed("id,parent_id,prompt,completion,label\n1,,one,A,true\n2,1,two,B,false\n3,2,three,C,true\n")
    marked = [one["content"] for talk in load_conversations(out) for one in talk["messages"] if "train" in one]
    assert marked == ["B"]


def test_a_row_whose_parent_is_not_in_the_file_is_said(fixed):
    report, talks, _ = fixed("id,parent_id,prompt,completion\n1,,one,A\n2,1,two,B\n9,8,and then?,C\n")
    assert talks == [["one", "A", "two", "B"], ["and then?", "C"]]
    assert "BEGUN IN THE MIDDLE, since a row answers one that is not in the file: 1 row (line 4)." in report.summary()


def test_deleted_rows_are_not_learned(fixed):
    rows = [
        {"message_id": "1", "parent_id": None, "role": "prompter", "text": "a"},
        {"message_id": "2", "parent_id": "1", "role": "assistant", "text": "no", "deleted": True},
        {"message_id": "3", "parent_id": "2", "role": "prompter", "text": "b"},
        {"message_id": "4", "parent_id": "3", "role": "assistant", "text": "yes", "deleted": False},
    ]
    _, talks, out = fixed("".join(json.dumps(row) + "\n" for row in rows), "rows.jsonl")
    assert talks == [["a", "no", "b", "yes"]]
    assert [message.get("train", True) for message in load_conversations(out)[0]["messages"]] == [
        True,
        False,
        True,
        True,
    ]


def test_rows_of_a_talk_are_one_fault_for_the_file(tmp_path):
    path = tmp_path / "data.jsonl"
    row = {"conversation_id": "t", "role": "user", "text": "a"}
    path.write_text("".join(json.dumps({**row, "n": n}) + "\n" for n in range(500)))
    (problem,) = check(path).problems
    assert "So in 500 rows" in problem.message


def test_a_column_of_marked_texts_is_read(fixed):
    marked = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nyo<|im_end|>"
    _, talks, _ = fixed(f'text\n"{marked}"\n')
    assert talks == [["hi", "yo"]]


def test_prose_is_one_sentence(tmp_path):
    path = tmp_path / "story.txt"
    path.write_text("Once upon a time there was a king.\nHe had a daughter, and she lived far away.\n" * 200)
    assert [problem.kind for problem in check(path).problems] == ["plain_text"]


def test_a_circle_of_rows_ends(fixed):
    with pytest.raises(ValueError, match="nothing was written"):
        fixed("id,parent_id,role,text\n1,2,user,a\n2,1,assistant,b\n")


@pytest.mark.parametrize(
    "text",
    [
        "hello\nworld\n",
        "Dear Ann, how are you?\nI am well, thank you.\n",
        "x,y\n",
        "1,2\n3,4\n",
        '{"a": 1}\n{"b": 2}\n',
        "",
    ],
)
def test_what_is_no_table(text):
    fault = foreign_kind(text.encode())
    assert fault is None or fault.kind != "table"


@pytest.mark.parametrize(
    "text",
    [
        "Ann: Are you open?\nBob: Yes.\nAnn: Fine.\n",
        "10:01 - Ann: Are you open?\n10:02 - Bob: Yes, from seven.\n",
        "[10:01:02] Ann: Are you open?\n[10:01:09] Bob: Yes.\nand on Sundays too\n",
        "2024-01-02 10:00 Ann: Are you open?\n2024-01-02 10:01 Bob: Yes.\n",
        "12.05.24, 10:01 - Иван: Привет, вы открыты?\n12.05.24, 10:02 - Магазин: Да, с семи.\n",
        "\u200e[12/05/2024, 10:01:00\u202fAM] Ängel: Hi\n[12/05/2024, 10:02:00\u202fAM] Shop: \u200eimage omitted\n",
    ],
)
def test_a_plain_chat_is_one_sentence(text, tmp_path):
    path = tmp_path / "chat.txt"
    path.write_text(text)
    report = check(path)
    assert [problem.kind for problem in report.problems] == ["plain_text"]
