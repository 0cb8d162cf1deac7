"""Importing datasets with the real client from a hub on loopback: every format, streamed, and every fault said."""

import json
import random
import subprocess
import sys

import pytest

from nanochat_core.data.conversations import check, load_conversations
from tests.support.fake_hub import FakeHub, serving
from tests.support.hub_process import Terminal, run_command
from tests.support.samples import assistant, conversation, parquet, system, user

pytestmark = pytest.mark.processes

REPO = "me/talks"
PROGRAM = """
import json, os, sys
from nanochat_core.hub.datasets import import_dataset
for line in sys.stdin:
    call = json.loads(line)
    os.environ["HF_TOKEN"] = call.pop("token", "")
    try:
        done = import_dataset(report=lambda *told: None, **call)
        told = {"rows": done.rows, "written": done.repaired.written, "summary": done.summary()}
    except ValueError as error:
        told = {"said": str(error)}
    print(json.dumps(told), flush=True)
"""


@pytest.fixture(scope="module")
def server():
    with serving(FakeHub(REPO)) as hub:
        yield hub


@pytest.fixture(scope="module")
def importer(server, tmp_path_factory):
    importer = Terminal(server, tmp_path_factory.mktemp("importer"), PROGRAM)
    yield importer
    importer.close()


@pytest.fixture
def hub(server):
    """A hub with an empty dataset, at the same address for every test."""
    url = server.url
    server.__init__(REPO, {"README.md": b"# talks\n"}, "dataset")
    server.url = url
    return server


@pytest.fixture
def imported(hub, home, importer):
    """Runs imports, given as their arguments; the answers as tables."""

    def imported(*calls):
        return [
            importer.ask({"repo": REPO, "out": str(home / f"{number}.jsonl"), **call})
            for number, call in enumerate(calls)
        ]

    return imported


def jsonl(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def talk(number):
    return conversation(user(f"question {number}"), assistant(f"answer {number}"))


def share(number, **more):
    turns = [("human", f"question {number}"), ("gpt", f"answer {number}")]
    return {"conversations": [{"from": role, "value": text, **more} for role, text in turns]}


TALKS = [talk(number) for number in range(4)]
OTHER_KEYS = {"prompt": "question", "prompt_id": "x", "score": 0.5}
FILES = {
    "messages in parquet": ("data/train-0.parquet", parquet([{**OTHER_KEYS, **each} for each in TALKS])),
    "messages in JSONL": ("train.jsonl", jsonl(*({**OTHER_KEYS, **each} for each in TALKS))),
    "ShareGPT in parquet": (
        "default/train/0.parquet",
        parquet([{"id": n, **share(n, weight=None), "system": None} for n in range(4)]),
    ),
    "ShareGPT in JSONL": ("sharegpt.jsonl", jsonl(*(share(n) for n in range(4)))),
    "ShareGPT in parquet, a list for each key": (
        "data/train.parquet",
        parquet(
            [{"conversations": {"from": ["human", "gpt"], "value": [f"question {n}", f"answer {n}"]}} for n in range(4)]
        ),
    ),
    "Alpaca in parquet": (
        "data/train-00000-of-00001-a09b74b3ef9c3b56.parquet",
        parquet(
            [
                {"instruction": (q := f"question {n}"), "input": "", "output": (a := f"answer {n}"), "text": q + a}
                for n in range(4)
            ]
        ),
    ),
    "Alpaca in one JSON array": (
        "alpaca_data.json",
        json.dumps(
            [{"instruction": f"question {n}", "input": "", "output": f"answer {n}"} for n in range(4)], indent=1
        ).encode(),
    ),
    "prompt and completion": (
        "train.parquet",
        parquet([{"prompt": f"question {n}", "completion": f"answer {n}"} for n in range(4)]),
    ),
}


@pytest.mark.parametrize("kind", FILES)
def test_every_format_becomes_the_same_conversations(hub, home, imported, kind):
    name, content = FILES[kind]
    hub.files[name] = content
    whole, limited = imported({}, {"limit": 2})
    assert (whole["rows"], whole["written"]) == (4, 4), whole
    assert (limited["rows"], limited["written"]) == (2, 2), limited
    assert load_conversations(home / "0.jsonl") == TALKS
    assert [json.loads(line) for line in (home / "1.jsonl").read_text().splitlines()] == TALKS[:2]
    assert check(home / "0.jsonl").verdict == "accept"


def test_no_word_that_the_answer_needs_is_left_behind(hub, home, imported):
    hub.files["data/train.parquet"] = parquet([{"instruction": "Is it kind?", "text": "Thank you", "output": "yes"}])
    (told,) = imported({})
    assert load_conversations(home / "0.jsonl") == [conversation(user("Is it kind?\n\nThank you"), assistant("yes"))]
    hub.files["data/train.parquet"] = parquet([{"question": "Which?", "choices": ["a stone", "a plum"], "answer": 1}])
    (told,) = imported({"out": str(home / "choices.jsonl")})
    assert "only names one of the choices" in told["said"]


def test_what_is_dropped_is_said_with_its_row_and_why(hub, home, imported):
    hub.files["train.jsonl"] = jsonl(
        talk(0),
        {"messages": [user("no answer")]},
        {"messages": [system("s"), assistant("hello"), user("q"), assistant("a"), user("bye")]},
        {"messages": [user("q"), {"role": "tool", "content": "t"}, assistant("a")]},
    )
    hub.files["train.jsonl"] += b"{broken\n" + jsonl(talk(5))
    (told,) = imported({})
    assert (told["rows"], told["written"]) == (6, 3)
    for words in ("LEFT OUT", "Line 2: ", "Line 4: ", "Line 5: ", "DROPPED a first message", "(line 3)", "accepted"):
        assert words in told["summary"], told["summary"]
    assert load_conversations(home / "0.jsonl")[1] == conversation(system("s"), user("q"), assistant("a"))


def test_a_small_limit_fetches_a_small_part(hub, home, imported):
    words = random.Random(0)
    rows = [conversation(user(words.randbytes(1000).hex()), assistant("a")) for _ in range(8000)]
    for number in range(2):
        hub.files[f"data/train-{number}.parquet"] = parquet(rows, row_group_size=1000)
    hub.files["data/test-0.parquet"] = parquet(rows[:10])
    (told,) = imported({"limit": 10})
    assert (told["rows"], told["written"]) == (10, 10), told
    assert hub.sent["data/train-0.parquet"] < len(hub.files["data/train-0.parquet"]) / 4
    assert len(hub.ranges) < 10
    assert hub.sent["data/train-1.parquet"] == hub.sent["data/test-0.parquet"] == 0
    assert load_conversations(home / "0.jsonl") == rows[:10]
    hub.files = {"train.jsonl": jsonl(*rows)}
    (told,) = imported({"limit": 10, "out": str(home / "lines.jsonl")})
    assert told["written"] == 10, told
    assert hub.sent["train.jsonl"] < len(hub.files["train.jsonl"]) / 4


def test_a_connection_cut_twice_is_taken_up_again(hub, home, imported):
    rows = [talk(number) for number in range(60_000)]
    hub.files["train.jsonl"] = content = jsonl(*rows)
    assert len(content) > 5 << 20
    hub.cut["train.jsonl"] = [1_500_000, 4_000_000]
    (told,) = imported({"limit": 1_000_000})
    assert (told["rows"], told["written"]) == (60_000, 60_000), told
    assert hub.cut["train.jsonl"] == []
    assert len(load_conversations(home / "0.jsonl")) == 60_000


def test_nothing_is_overwritten_and_nothing_is_left_of_a_failed_import(hub, home, imported):
    hub.files["train.jsonl"] = jsonl({"messages": [user("no answer")]})
    (home / "mine.jsonl").write_text("mine")
    before = sorted(home.rglob("*"))
    calls = [
        {"out": str(home / "mine.jsonl")},
        {},
        {"limit": 0},
        {"out": str(home / "no" / "folder.jsonl")},
        {"repo": "../etc"},
        {"split": "validation"},
        {"config": "other"},
    ]
    sentences = [told["said"] for told in imported(*calls)]
    expected = ["exists already", "Nothing in the dataset", "at least 1", "no folder", "owner/name", "train", "other"]
    assert [word for word, said in zip(expected, sentences) if word not in said] == [], sentences
    assert sorted(path for path in home.rglob("*") if "hf" not in path.parts) == before
    assert (home / "mine.jsonl").read_text() == "mine"


def test_columns_that_are_no_conversation_are_named(hub, home, imported):
    hub.files["train.parquet"] = parquet([{"text": "a", "label": 1}])
    (told,) = imported({})
    assert "columns text, label" in told["said"]
    hub.files = {"train.jsonl": jsonl(*({"text": "a", "label": 1} for _ in range(5000)))}
    (told,) = imported({})
    assert "columns text, label" in told["said"]
    hub.files = {"train.parquet": b"PAR1 nonsense PAR1", "data.csv": b"a,b"}
    (told,) = imported({})
    assert "cannot be read as parquet" in told["said"]
    hub.files = {"data.csv": b"a,b", "README.md": b""}
    (told,) = imported({})
    assert "no parquet or JSONL files (it has .csv, .md)" in told["said"]


@pytest.mark.parametrize(
    ("status", "headers", "files_only", "words"),
    [
        (403, {"X-Error-Code": "GatedRepo"}, True, ["asked for first", "hf auth login"]),
        (401, {"X-Error-Code": "RepoNotFound"}, False, ["401", "private or does not exist"]),
        (404, {"X-Error-Code": "RepoNotFound"}, False, ["no dataset me/talks", "spelling"]),
        (403, {}, True, ["forbids you to read"]),
        (429, {}, False, ["429", "some minutes"]),
    ],
)
def test_every_refusal_of_the_hub_has_its_sentence(hub, home, imported, status, headers, files_only, words):
    hub.files |= {"train.jsonl": jsonl(talk(0)), "b/train.parquet": parquet(TALKS)}
    hub.refusal, hub.refuses_files_only = (status, headers), files_only
    (told,) = imported({})
    assert [word for word in words if word not in told["said"]] == [], told
    assert not (home / "0.jsonl").exists()
    if files_only:
        del hub.files["b/train.parquet"]
        assert [word for word in words if word not in imported({})[0]["said"]] == []


def test_a_private_dataset_needs_its_owners_login(hub, home, imported):
    hub.files["train.jsonl"] = jsonl(*TALKS)
    hub.visibility, hub.token = "private", "hf_owner"
    assert "no dataset" in imported({})[0]["said"]
    assert imported({"token": "hf_owner"})[0]["written"] == 4


@pytest.mark.parametrize(
    ("variables", "words"),
    [({"HF_ENDPOINT": "http://127.0.0.1:9"}, "cannot be reached"), ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE")],
)
def test_a_hub_that_is_down_or_switched_off_is_said(hub, home, variables, words):
    process = run_command(hub, home, "import-dataset", REPO, str(home / "x.jsonl"), **variables)
    assert process.returncode == 2
    assert words in process.stderr


def test_importing_loads_no_torch():
    code = "import sys, nanochat_core.hub.datasets; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_command_says_sizes_first_and_the_report_last(hub, home):
    hub.files["train.jsonl"] = jsonl(*TALKS)
    out = str(home / "talks.jsonl")
    process = run_command(hub, home, "import-dataset", REPO, out, "--limit", "3")
    assert process.returncode == 0, process.stderr
    lines = process.stdout.splitlines()
    assert lines[0].startswith("me/talks: 1 file, 0.0 MB.")
    assert "Read 3 rows of me/talks." in lines
    assert f"Wrote 3 conversations to {out}." in lines
    again = run_command(hub, home, "import-dataset", REPO, out)
    assert (again.returncode, again.stdout) == (2, "")
    assert again.stderr.startswith("Error: ")
    assert len(again.stderr.splitlines()) == 1
