"""Strangers' files are read in a process of their own, within limits; the app gets the same lines and sentences."""

import json
import os
import sys

import pytest

from nanochat_core.system import spawn
from studio.datasets import apart, sessions
from studio.datasets.importing import read_lines
from tests.support.fake_hub import FakeHub, serving
from tests.support.samples import GOOD

pytestmark = pytest.mark.processes

FILES = {
    "lines.jsonl": f"{GOOD}\n\n{GOOD}\n",
    "array.json": f"[{GOOD}, {GOOD}]",
    "table.csv": 'prompt,completion\na,"b\nc"\nd,e\n',
    "broken.jsonl": '{"messages": [\n' + GOOD + "\n",
    "pairs.jsonl": '{"prompt": "a", "completion": "b"}\n',
    "empty.jsonl": "",
}


@pytest.mark.parametrize("name", FILES)
def test_the_lines_are_those_of_a_reading_here(tmp_path, name, monkeypatch):
    path = tmp_path / name
    path.write_text(FILES[name], encoding="utf-8")
    expected = read_lines(path)
    monkeypatch.setattr(apart, "read_lines", None)  # what is called in this process
    assert apart.read_apart(path, name) == expected


@pytest.mark.parametrize(("name", "content"), [("a.csv", b"x,y\n1,2\n"), ("b.json", b"PK\x03\x04"), ("c.csv", b"\xff")])
def test_the_sentences_are_the_same(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=name) as here:
        read_lines(path)
    with pytest.raises(ValueError, match=name) as there:
        apart.read_apart(path, name)
    assert str(there.value) == str(here.value)


@pytest.fixture
def with_limits(monkeypatch):
    """Lets the process have other limits than usual."""

    def limit(**limits):
        program = "import sys; from studio.datasets import apart\n"
        program += "".join(f"apart.{name} = {value}\n" for name, value in limits.items())
        program += "sys.exit(apart.main(sys.argv[1:]))"

        def started(command, **options):
            assert command[:3] == [sys.executable, "-m", "studio.datasets.apart"]
            return spawn.spawn([sys.executable, "-c", program, *command[3:]], **options)

        monkeypatch.setattr(apart, "spawn", started)

    return limit


@pytest.mark.skipif(sys.platform != "linux", reason="no other system limits the memory of a process")
def test_what_takes_too_much_memory_is_a_sentence_and_the_app_lives(home, tmp_path, with_limits):
    with_limits(MEMORY_BYTES=150 << 20)
    path = tmp_path / "bomb.json"
    path.write_text("[" + ",".join(['{"messages": "' + "a" * 100_000 + '"}'] * 1500) + "]")
    with pytest.raises(ValueError, match=r"bomb\.json cannot be read: unpacked it takes more than an import may"):
        sessions.open_upload(path, "bomb.json")


def test_what_unpacks_to_too_much_text_is_a_sentence(home, tmp_path, with_limits):
    with_limits(UNPACKED_BYTES=1000)
    path = tmp_path / "long.jsonl"
    path.write_text(f"{GOOD}\n" * 100)
    with pytest.raises(ValueError, match="takes more than an import may"):
        sessions.open_upload(path, "long.jsonl")


def test_what_takes_too_long_is_a_sentence(home, tmp_path, with_limits):
    with_limits(PROCESSOR_SECONDS=1, read_lines="lambda path: [None for _ in iter(int, 1)]")
    path = tmp_path / "slow.jsonl"
    path.write_text(f"{GOOD}\n")
    with pytest.raises(ValueError, match="takes more than an import may"):
        sessions.open_upload(path, "slow.jsonl")


def test_the_process_that_reads_a_file_has_no_secrets(tmp_path, with_limits, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with_limits(read_lines="lambda path: apart.Imported([], [str({**__import__('os').environ})], False)")
    (environment,) = apart.read_apart(tmp_path, "x").notes
    assert "NANOCHAT_STUDIO_HOME" in environment
    assert "hf_secret" not in environment


@pytest.fixture
def hub(tmp_path, monkeypatch):
    talks = [{"prompt": f"question {number}", "completion": f"answer {number}"} for number in range(50)]
    files = {"train.jsonl": "".join(json.dumps(talk) + "\n" for talk in talks).encode()}
    with serving(FakeHub("me/talks", files, repo_type="dataset")) as hub:
        for name in [name for name in os.environ if name.startswith("HF_")]:
            monkeypatch.delenv(name)
        for name, value in {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1"}.items():
            monkeypatch.setenv(name, value)
        yield hub


def test_a_dataset_of_the_hub_is_imported_apart(home, tmp_path, hub):
    counts = []
    result = apart.import_apart("me/talks", tmp_path / "talks.jsonl", 45, counts.append)
    assert (result.repo, result.rows) == ("me/talks", 45)
    assert counts == [20, 40]
    assert any("45 conversations" in line for line in result.said)
    assert len((tmp_path / "talks.jsonl").read_bytes().splitlines()) == 45
    hub.files = {"test.csv": b"a,b"}
    with pytest.raises(ValueError, match="no parquet or JSONL"):
        apart.import_apart("me/talks", tmp_path / "other.jsonl", None, counts.append)
