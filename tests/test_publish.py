"""Publishing with the real client to a hub on loopback: what arrives, what never leaves, and every fault said."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from nanochat_core.checkpoint import read_weights
from nanochat_core.config import FinetuneConfig
from nanochat_core.paths import steps
from nanochat_core.runs import Run
from nanochat_core.scrubbing import without_paths
from tests.fake_hub import FakeHub, serving
from tests.hub_process import ROOT, Terminal, environment
from tests.test_hub_datasets import parquet
from tests.tiny import install_tiny_model, tiny_model, tiny_tokenizer, write_conversations

REPO = "me/mine"
TOKEN = "hf_SeCrEtSeCrEt"
ALWAYS = {"README.md", "nanochat_studio.json", "tokenizer.pkl", "token_bytes.pt"}
OF_RUN = {"metrics.jsonl", "curves.png", "NOTICE"}
EXPORTED = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}


@pytest.fixture(scope="module")
def server():
    with serving(FakeHub(REPO)) as hub:
        yield hub


@pytest.fixture(scope="module")
def terminal(server, tmp_path_factory):
    terminal = Terminal(server, tmp_path_factory.mktemp("terminal"))
    yield terminal
    terminal.close()


@pytest.fixture
def hub(server):
    """An empty hub at the same address for every test."""
    url = server.url
    server.__init__(REPO)
    server.url, server.token = url, TOKEN
    return server


@pytest.fixture
def published(hub, home, terminal):
    """Runs `publish` with its arguments: (exit status, standard output, standard error)."""

    def published(*arguments):
        arguments = arguments or ("--model", "finetuned/mine", REPO)
        return terminal.run("publish", *arguments, HF_TOKEN=TOKEN, NANOCHAT_STUDIO_HOME=str(home))

    return published


def make_run(home, tag="mine", state="finished", step=40, generation="A"):
    """A run as the trainer leaves it: record, metrics, one checkpoint, scores and replies."""
    data = write_conversations(home / "my secrets.jsonl")
    run = Run.create(
        FinetuneConfig(str(data), model_tag="starter", output_tag=tag, questions_path=str(data), matrix_lr=0.0125),
        {"original_base": "starter"},
    )
    for number in (0, 20, 40):
        run.append_metrics({"step": number, "val_loss": 3.0 - number / 40, "val_bpb": 1.0})
        run.append_metrics({"step": number + 1, "train_loss": 3.0})
    snapshot = {"replies": [["Which word is number 1?", "Word 1"]], "new": {"correct": 3, "total": 30}, "old": None}
    run.evals_dir.mkdir()
    for name, correct in (("before", 3), ("after", 26)):
        snapshot["new"]["correct"] = correct
        (run.evals_dir / f"{name}.json").write_text(json.dumps(snapshot))
    save(run, step, generation)
    run.write_status(state=state, step=step, steps=40)
    return run


def save(run, step, generation="A"):
    from nanochat_core.checkpoint import save_checkpoint
    from nanochat_core.saving import save_tokenizer

    meta = {"user_config": run.settings().to_dict(), "val_loss": 2.0}
    save_tokenizer(run.path, tiny_tokenizer())
    save_checkpoint(run.path, step, tiny_model(generation, seed=step), meta)


def test_a_run_is_published_whole_and_private(home, hub, published):
    run = make_run(home)
    status, out, err = published()
    assert status == 0, err
    assert "private: only you can see it" in out
    assert hub.visibility == "private"
    assert set(hub.files) == ALWAYS | OF_RUN | EXPORTED | {"model_000040.pt", "meta_000040.json"}
    assert hub.files["model_000040.pt"] == (run.path / "model_000040.pt").read_bytes()
    assert hub.files["curves.png"].startswith(b"\x89PNG")
    assert hub.files["tokenizer.pkl"] == (run.path / "tokenizer.pkl").read_bytes()
    assert len(hub.commits) == 1, "half a model must never be seen"
    record = json.loads(hub.files["nanochat_studio.json"])
    assert record["data"] == {key: run.record()["data"][key] for key in ("sha256", "rows")}
    assert record["settings"]["matrix_lr"] == 0.0125
    assert not list((home / "models").glob(".publishing-*/*"))


def test_the_card_tells_what_the_record_tells(home, hub, published):
    run = make_run(home)
    assert published()[0] == 0
    card = hub.files["README.md"].decode()
    facts = [
        "nanochat studio's practice model (starter)",
        f"`{run.record()['data']['sha256']}`",
        "12 conversations, not published",
        "| `matrix_lr` | `0.0125` |",
        "| Validation loss | 3.0000 | 2.0000 |",
        "| New questions answered | 3 of 30 | 26 of 30 |",
        "![Training and validation loss by step](curves.png)",
        "python -m nanochat_core download --repo me/mine --tag mine",
        'AutoModelForCausalLM.from_pretrained("me/mine")',
        "python -m scripts.chat_cli -i sft -g mine",
        "practice model of 5 million parameters",
        "library_name: transformers",
    ]
    assert [fact for fact in facts if fact not in card] == [], card


def test_an_earlier_step_is_told_with_its_own_figures(home, hub, published):
    save(make_run(home), 20)
    assert published("--model", "finetuned/mine", REPO, "--step", "20")[0] == 0
    card = hub.files["README.md"].decode()
    assert "| Validation loss | 3.0000 | 2.5000 |" in card
    assert "New questions" not in card
    assert {"model_000020.pt", "meta_000020.json"} < set(hub.files)


def test_neither_data_nor_token_nor_paths_ever_leave(home, hub, published):
    make_run(home)
    assert published()[0] == 0
    everything = b"\n".join([*hub.files.values(), *hub.bodies])
    for secret in (TOKEN, str(home), str(ROOT), os.path.expanduser("~") + "/", "my secrets", "Which word is number"):
        assert secret.encode() not in everything, secret
    assert "data.jsonl" not in hub.files


def test_the_data_goes_along_when_asked_for(home, hub, published):
    make_run(home)
    assert published("--model", "finetuned/mine", REPO, "--with-data")[0] == 0
    assert hub.files["data.jsonl"] == (home / "my secrets.jsonl").read_bytes()
    assert "in `data.jsonl` here" in hub.files["README.md"].decode()
    (home / "my secrets.jsonl").write_text("changed")
    status, out, err = published("--model", "finetuned/mine", REPO, "--with-data")
    assert (status, out) == (2, "")
    assert "has changed since the training" in err


def test_what_was_published_can_be_downloaded_and_loaded_by_both(home, hub, published, terminal, tmp_path):
    run = make_run(home)
    assert published()[0] == 0
    elsewhere = tmp_path / "elsewhere"
    status, _, err = terminal.run("download", "--repo", REPO, NANOCHAT_STUDIO_HOME=str(elsewhere), HF_TOKEN=TOKEN)
    assert status == 0, err
    folder = elsewhere / "models" / "pretrained" / "chatsft_checkpoints" / "mine"
    ours, theirs = (read_weights(place / "model_000040.pt") for place in (run.path, folder))
    assert all(theirs[name].equal(tensor) for name, tensor in ours.items())
    from transformers import AutoModelForCausalLM

    for name, content in hub.files.items():
        (elsewhere / name).write_bytes(content)
    model = AutoModelForCausalLM.from_pretrained(elsewhere)
    assert model.config.model_type == "nanochat"


def test_publishing_again_replaces_its_own_files_and_nobody_elses(home, hub, published):
    run = make_run(home)
    assert published()[0] == 0
    save(run, 80)
    hub.files["notes.md"] = b"written on the hub"
    hub.files["README.md"] += b"\nlicense chosen on the hub\n"
    status, out, err = published()
    assert status == 0, err
    assert "The card was changed on the hub" in out
    assert hub.commits[1]["deleted"] == ["meta_000040.json", "model_000040.pt"]
    assert {"model_000080.pt", "notes.md"} <= set(hub.files)
    assert hub.files["README.md"].endswith(b"chosen on the hub\n")
    assert published()[0] == 0
    assert hub.files["README.md"].endswith(b"chosen on the hub\n")


def test_another_model_never_takes_its_place(home, hub, published):
    make_run(home)
    assert published()[0] == 0
    before = dict(hub.files)
    status, _, err = published("--model", "starter", REPO)
    assert status == 2
    assert "holds another model, finetuned/mine. Choose a new name for starter." in err
    hub.files["nanochat_studio.json"] = b"edited"
    assert "another model, unknown" in published()[2]
    assert hub.files == before | {"nanochat_studio.json": b"edited"}


def test_a_generation_without_a_transformers_model_is_published_without_it(home, hub, published):
    make_run(home, generation="E")
    status, out, err = published()
    assert status == 0, err
    assert "transformers has no model of generation E" in out
    assert set(hub.files) == ALWAYS | OF_RUN | {"model_000040.pt", "meta_000040.json"}
    card = hub.files["README.md"].decode()
    assert 'load_model("pretrained/mine")' in card
    assert "AutoModel" not in card
    assert "library_name" not in card


def test_a_downloaded_model_is_published_too(home, hub, published):
    install_tiny_model(home, "d4")
    (home / "models" / "pretrained" / "chatsft_checkpoints" / "d4" / "token_bytes.pt").unlink()
    assert published("--model", "pretrained/d4", REPO, "--public", "--dtype", "bfloat16")[0] == 0
    assert hub.visibility == "public"
    assert set(hub.files) == ALWAYS | EXPORTED | {"model_000007.pt", "meta_000007.json"}


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda hub: setattr(hub, "token", "another"), ["401", "may write"]),
        (lambda hub: setattr(hub, "refusal", (403, {})), ["forbids you to write to me/mine", "403"]),
        (lambda hub: setattr(hub, "refusal", (429, {})), ["429", "some minutes"]),
        (lambda hub: setattr(hub, "exists", True), ["is public", "--public"]),
        (
            lambda hub: (setattr(hub, "exists", True), setattr(hub, "visibility", "private"), hub.files.update(a=b"")),
            ["not published from here (a)", "new name"],
        ),
        (lambda hub: hub.refused_commits.append(413), ["413"]),
    ],
)
def test_every_refusal_is_one_sentence_and_changes_nothing(home, hub, published, prepare, words):
    make_run(home)
    prepare(hub)
    before = dict(hub.files)
    status, _, err = published()
    assert status == 2
    assert [word for word in words if word not in err] == [], err
    assert err.splitlines()[-1].startswith("Error: ")
    assert "Traceback" not in err
    assert hub.files == before
    assert not list((home / "models").glob(".publishing-*/*"))


def test_a_persons_mistakes_are_said(home, hub, published):
    make_run(home)
    for arguments, words in [
        (["--model", "finetuned/none", REPO], "There is no model"),
        (["--model", "finetuned/mine", "mine"], "owner/name"),
        (["--model", "finetuned/mine", REPO, "--step", "7"], "it has 40"),
        (["--model", "starter", REPO, "--follow"], "--follow is for a run"),
        (["--model", "starter", REPO, "--with-data"], "Leave --with-data out"),
        (["--model", "finetuned/mine", REPO, "--dtype", "float8"], "float8"),
    ]:
        status, _, err = published(*arguments)
        assert status == 2, err
        assert words in err, err
    assert hub.files == {}


def test_the_readmes_commands_work_as_they_stand(home, hub, terminal):
    make_run(home)
    (home / "data").mkdir()
    weights = (home / "models" / "finetuned" / "mine" / "model_000040.pt").read_bytes()
    model = {"tokenizer.pkl": b"t", "token_bytes.pt": b"b", "meta_169150.json": b"{}", "model_169150.pt": weights}
    exchange = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    rows = parquet([{"prompt": "q", "prompt_id": "1", "messages": exchange, "category": "c"}] * 3)
    there = {"download": (model, "model"), "import-dataset": ({"data/train-0.parquet": rows}, "dataset")}
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## Hugging Face Hub")[1].split("\n## ")[0]
    commands = [line.split()[3:] for line in section.splitlines() if line.startswith("    python -m nanochat_core ")]
    assert [command[0] for command in commands] == ["download", "import-dataset", "publish", "publish"]
    for command in commands:
        url = hub.url
        repo = next(word for word in command if "/" in word and "finetuned" not in word)
        hub.__init__(repo, *there.get(command[0], ()))
        hub.url = url
        command = [str(home / word) if word.startswith("data/") else word for word in command]
        status, _, err = terminal.run(*command, NANOCHAT_STUDIO_HOME=str(home))
        assert status == 0, err
    assert (home / "models/pretrained/chatsft_checkpoints/d34/model_169150.pt").read_bytes() == weights
    assert len((home / "data" / "no_robots.jsonl").read_text().splitlines()) == 3
    assert "model_000040.pt" in hub.files


FOLLOW = """
import sys
from nanochat_core import publish_following
publish_following.LOOK_EVERY_SECONDS = 0.1
publish_following.publish_following("mine", sys.argv[1], every_minutes=0.0, first_wait=0.2,
                                    say=lambda text: print(text, flush=True))
"""


@pytest.fixture
def follower(hub, home):
    """A process that follows the run `mine`; ended with the test, whatever becomes of it."""
    processes = []

    def follower():
        command = [sys.executable, "-c", FOLLOW, REPO]
        env = environment(hub, home, HF_TOKEN=TOKEN)
        processes.append(subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return processes[-1]

    yield follower
    for process in processes:
        process.kill()
        process.communicate()


def wait_for(condition, seconds=120):
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "it did not come to pass"
        time.sleep(0.05)


def test_each_new_checkpoint_is_pushed_until_the_run_is_over(home, hub, follower):
    run = make_run(home, state="running", step=10)
    run.write_launch(**trainer_identity())
    hub.refused_commits = [500, 503]
    process = follower()
    wait_for(lambda: "model_000010.pt" in hub.files)
    assert not EXPORTED & set(hub.files)
    assert "is still going on: this is step 10 of 40" in hub.files["README.md"].decode()
    save(run, 20)
    wait_for(lambda: "model_000020.pt" in hub.files)
    assert "model_000010.pt" not in hub.files
    save(run, 40)
    run.write_status(state="finished", step=40)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert set(hub.files) > EXPORTED
    assert steps(run.path) == [10, 20, 40]
    assert out.count("the training is not touched by this") == 2
    assert [commit["summary"] for commit in hub.commits][:2] == ["Step 10", "Step 20"]
    assert "going on" not in hub.files["README.md"].decode()


def trainer_identity():
    """Stands for the run's trainer: this process, which lives."""
    from nanochat_core import processes

    return processes.identity().to_dict()


def test_a_follower_that_is_killed_leaves_no_debris_and_another_goes_on(home, hub, follower, published):
    make_run(home)
    hub.holds_commits = True
    process = follower()
    assert hub.is_sending_half.wait(120)
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    hub.holds_commits = False
    assert list((home / "models").glob(".publishing-*/*")), "the killed one left nothing to remove"
    assert published("--model", "finetuned/mine", REPO, "--follow", "--every", "0")[0] == 0
    assert "model_000040.pt" in hub.files
    assert not list((home / "models").glob(".publishing-*/*"))


def test_facts_lose_paths_and_nothing_else(home):
    facts = {
        "data_path": str(home / "a.jsonl"),
        "data": {"path": "/x/y", "rows": 3},
        "model": "/opt/models/d32/",
        "windows": "C:\\Users\\me\\d32",
        "note": f"read {home}/x.txt",
        "base_model": "pretrained/d32",
        "ratio": [1, None, "1/2"],
    }
    assert without_paths(facts) == {
        "data": {"rows": 3},
        "model": "d32",
        "windows": "d32",
        "note": "read x.txt",
        "base_model": "pretrained/d32",
        "ratio": [1, None, "1/2"],
    }
