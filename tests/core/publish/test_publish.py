"""Publishing with the real client to a hub on loopback: what arrives, what never leaves, and every fault said."""

import json
import os

import pytest

from nanochat_core.checkpoint.reading import read_weights
from tests.support.hub_process import ROOT
from tests.support.published_run import ALWAYS, EXPORTED, OF_RUN, REPO, TOKEN, make_run, save
from tests.support.samples import parquet
from tests.support.tiny import install_tiny_model

pytestmark = pytest.mark.processes


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
    assert "has changed since run 'mine' was made, and the run has no copy of it" in err


def test_a_gguf_file_goes_along_when_asked_for(home, hub, published):
    """With what `ollama run hf.co/...` looks for beside it, and a card that says the line and what is different."""
    make_run(home)
    status, _, err = published("--model", "finetuned/mine", REPO, "--gguf", "q8_0")
    assert status == 0, err
    beside = {"mine-Q8_0.gguf", "template", "params", "differences.json"}
    whole = ALWAYS | OF_RUN | EXPORTED | beside | {"model_000040.pt", "meta_000040.json"}
    assert set(hub.files) == whole
    assert hub.files["mine-Q8_0.gguf"].startswith(b"GGUF")
    card = hub.files["README.md"].decode()
    found = json.loads(hub.files["differences.json"])
    for fact in (
        "ollama run hf.co/me/mine:Q8_0",
        "- gguf\n",
        f"{found['same_replies']} of {found['replies']} are the same",
        f"{found['softcap_kl']:.4f} nats",
    ):
        assert fact in card, card
    assert json.loads(hub.files["params"])["num_ctx"] == 256
    assert "{{ .Content }}" in hub.files["template"].decode()
    everything = b"\n".join(hub.files.values())
    for secret in (str(home), "my secrets", "Which word is number"):
        assert secret.encode() not in everything, secret


def test_a_gguf_file_of_another_generation_is_refused_before_anything_is_sent(home, hub, published):
    make_run(home, generation="E")
    status, _, err = published("--model", "finetuned/mine", REPO, "--gguf", "q8_0")
    assert status == 2
    assert "generation E" in err.splitlines()[-1]
    assert hub.files == {}


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
