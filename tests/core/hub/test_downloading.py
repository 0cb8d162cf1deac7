"""Downloading with the real client from a hub on loopback: whole, verified, once, and taken up where it broke."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.downloading import FILES, MODEL, REPO, WHOLE, assert_whole, contents, finished, pretrained, said

pytestmark = pytest.mark.processes


def test_a_complete_download_then_a_second_call_without_a_hub(home, hub, fetch):
    status, out, err = finished(fetch())
    assert status == 0, err
    assert out.splitlines()[-1] == str(pretrained(home) / "chatsft_checkpoints" / "d32")
    assert out.splitlines()[:5] == [
        "tokenizer.pkl  0.0 MB",
        "token_bytes.pt  0.0 MB",
        f"{MODEL}  0.8 MB",
        "meta_000650.json  0.0 MB",
        f"In all 0.8 MB from {REPO}.",
    ]
    assert_whole(home)
    assert hub.downloads() == ["tokenizer.pkl", "token_bytes.pt", MODEL, "meta_000650.json"]
    asked = len(hub.requests)
    status, _, err = finished(fetch())
    assert (status, len(hub.requests)) == (0, asked), err
    for path in pretrained(home).rglob("*"):  # as after copying the folder to another machine
        os.utime(path)
    assert finished(fetch(HF_ENDPOINT="http://127.0.0.1:9"))[0] == 0
    assert_whole(home)


def test_a_file_that_changed_or_went_is_fetched_again_and_no_other(home, hub, fetch):
    assert finished(fetch())[0] == 0
    root = pretrained(home)
    (root / "tokenizer" / "token_bytes.pt").unlink()
    weights = root / "chatsft_checkpoints" / "d32" / MODEL
    weights.write_bytes(FILES[MODEL][::-1])  # of the same size
    hub.requests.clear()
    assert finished(fetch())[0] == 0
    assert_whole(home)
    assert hub.downloads() == ["token_bytes.pt", MODEL]


def test_a_callback_hears_of_every_byte(home, hub, fetch):
    program = (
        "import json, sys\nfrom nanochat_core.hub import download\nheard = []\n"
        "download(sys.argv[1], report=lambda *told: heard.append(told))\nprint(json.dumps(heard))"
    )
    status, out, err = finished(fetch(program=program))
    assert status == 0, err
    heard = json.loads(out)
    total = sum(len(content) for content in WHOLE.values())
    assert (heard[0], heard[-1]) == ([0, total], [total, total])
    assert heard == sorted(heard)
    assert err == ""


def test_sizes_are_known_before_anything_is_fetched(home, hub, fetch):
    program = (
        "import json, sys\nfrom nanochat_core.hub import repository_size\nsize = repository_size(*sys.argv[1:])\n"
        "print(json.dumps([size.total_bytes, size.stage, size.files]))\nprint(size.summary())"
    )
    status, out, err = finished(fetch(program=program))
    assert status == 0, err
    total, stage, files = json.loads(out.splitlines()[0])
    assert (total, stage) == (sum(len(content) for content in WHOLE.values()), "sft")
    assert [MODEL, len(FILES[MODEL])] in files
    assert out.splitlines()[-1] == f"In all {total / 1e6:.1f} MB from {REPO}."
    assert (hub.downloads(), contents(home)) == ([], {})
    hub.refusal = (403, {})
    assert finished(fetch(program=program))[0] == 1


def test_a_connection_cut_twice_is_taken_up_where_it_broke(home, hub, fetch):
    """More than the client's pieces of 10 MiB, so that it goes on from the middle; with other bytes in each piece."""
    hub.files[MODEL] = content = random.Random(1).randbytes(36 << 20)
    hub.cut[MODEL] = [15 << 20, 29 << 20]
    status, _, err = finished(fetch())
    assert status == 0, err
    assert hub.cut[MODEL] == []
    assert hub.ranges == [(MODEL, 10 << 20), (MODEL, 20 << 20)]
    assert hub.sent[MODEL] < 1.6 * len(content)
    arrived = contents(home)[f"chatsft_checkpoints/d32/{MODEL}"]
    assert hashlib.sha256(arrived).digest() == hashlib.sha256(content).digest()


def test_a_small_file_cut_twice_begins_anew(home, hub, fetch):
    hub.cut[MODEL] = [300_000, 500_000]
    status, _, err = finished(fetch())
    assert status == 0, err
    assert hub.cut[MODEL] == []
    assert_whole(home)


def test_a_connection_that_is_always_cut_is_said_and_leaves_no_model(home, hub, fetch):
    hub.cut[MODEL] = [400_000] * 1000
    sentence = said(fetch())
    assert "connection broke off" in sentence
    assert "repeat" in sentence
    assert set(contents(home)) == {"tokenizer/tokenizer.pkl", "tokenizer/token_bytes.pt"}
    assert not (pretrained(home) / ".incoming").exists()


@pytest.mark.parametrize("name", [MODEL, "tokenizer.pkl", "meta_000650.json"])
def test_one_flipped_bit_is_refused_and_not_kept(home, hub, fetch, name):
    hub.damaged.add(name)
    sentence = said(fetch())
    assert f"{name} of {REPO} arrived damaged" in sentence
    assert not any(path.endswith(name) for path in contents(home))
    hub.damaged.clear()
    assert finished(fetch())[0] == 0
    assert_whole(home)


def test_what_a_killed_download_left_is_removed_and_a_second_one_meanwhile_refused(home, hub, fetch):
    hub.hanging.add(MODEL)
    process = fetch()
    assert hub.is_sending_half.wait(60)
    assert "Another download" in said(fetch())
    process.send_signal(signal.SIGKILL)
    assert finished(process)[0] == -signal.SIGKILL
    left = list(pretrained(home).rglob("*.incomplete"))
    assert left, "the killed download left nothing to remove"
    assert MODEL not in {Path(path).name for path in contents(home) if not path.startswith(".incoming/")}
    hub.hanging.clear()
    assert finished(fetch())[0] == 0
    assert_whole(home)
    names = {path.name for path in pretrained(home).rglob("*")}
    assert names - {Path(path).name for path in contents(home)} == {
        *(".incoming.lock", "tokenizer", "chatsft_checkpoints", "d32")
    }


def test_another_models_tokenizer_is_kept_apart(home, hub, fetch):
    shared = pretrained(home) / "tokenizer" / "tokenizer.pkl"
    shared.parent.mkdir(parents=True)
    shared.write_bytes(b"of another model")
    assert finished(fetch(REPO, "mine", "base"))[0] == 0
    assert shared.read_bytes() == b"of another model"
    own = pretrained(home) / "base_checkpoints" / "mine" / "tokenizer" / "tokenizer.pkl"
    assert own.read_bytes() == FILES["tokenizer.pkl"]


def test_a_model_from_elsewhere_is_never_overwritten_nor_mixed_in(home, hub, fetch):
    folder = pretrained(home) / "chatsft_checkpoints" / "d32"
    folder.mkdir(parents=True)
    (folder / "model_000700.pt").write_bytes(b"put here by hand")
    (folder / "meta_000700.json").write_bytes(b"{}")
    assert "--tag d32-2" in said(fetch())
    assert set(contents(home)) == {
        f"chatsft_checkpoints/d32/{name}" for name in ("model_000700.pt", "meta_000700.json")
    }
    assert finished(fetch(REPO, "d32-2"))[0] == 0
    hub.repo = "somebody/else-d32"
    assert f"holds another model already ({REPO})" in said(fetch("somebody/else-d32", "d32-2"))


def test_the_hub_does_not_load_torch():
    subprocess.run(
        [sys.executable, "-c", "import sys, nanochat_core.hub; assert 'torch' not in sys.modules"],
        check=True,
    )
