"""Downloading with the real client from a hub on loopback: whole, verified, once, and every failure in a sentence."""

import errno
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub.errors import OfflineModeIsEnabled

from nanochat_core.hub_errors import IMPORT, PUBLICATION, told_plainly
from nanochat_core.hub_files import RemoteFile, choose, tag_of
from tests.fake_hub import FakeHub, serving

REPO = "karpathy/nanochat-d32"
MODEL = "model_000650.pt"
FILES = {
    "README.md": b"# nanochat\n",
    "tokenizer.pkl": b"pickle " * 1000,
    "token_bytes.pt": b"bytes " * 100,
    "meta_000650.json": b'{"step": 650, "model_config": {}}',
    MODEL: bytes(range(256)) * 3000,
    "model_best.pt": b"stray",
    "optim_000650.pt": b"stray",
    "model_000700.pt": b"without its description",
}
PROGRAM = """
import sys
from nanochat_core.hub import download
try:
    print(download(*sys.argv[1:]))
except ValueError as error:
    sys.exit(f"SAID {error}")
"""


@pytest.fixture
def hub():
    with serving(FakeHub(REPO, dict(FILES))) as hub:
        yield hub


@pytest.fixture
def fetch(home, tmp_path, hub):
    """Runs a download in a process of its own, as the client reads the hub's address when it is imported."""

    def fetch(*arguments, program=PROGRAM, **more):
        environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
        environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), **more}
        command = [sys.executable, "-c", program, *(arguments or (REPO,))]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return fetch


def finished(process):
    """(exit status, standard output, standard error)."""
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def said(process):
    """The sentence with which a download was refused."""
    status, _, err = finished(process)
    assert status == 1, err
    assert "Traceback" not in err
    return err.rpartition("SAID ")[2].strip()


def pretrained(home):
    return home / "models" / "pretrained"


def contents(home):
    """Every file under models/pretrained by its path, but for the lock."""
    root = pretrained(home)
    paths = [path for path in root.rglob("*") if path.is_file() and path.name != ".incoming.lock"]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}


WHOLE = {
    "tokenizer/tokenizer.pkl": FILES["tokenizer.pkl"],
    "tokenizer/token_bytes.pt": FILES["token_bytes.pt"],
    "chatsft_checkpoints/d32/meta_000650.json": FILES["meta_000650.json"],
    f"chatsft_checkpoints/d32/{MODEL}": FILES[MODEL],
}


def assert_whole(home):
    found = contents(home)
    del found["chatsft_checkpoints/d32/download.json"]
    assert found == WHOLE


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


@pytest.mark.parametrize(
    ("status", "headers", "words"),
    [
        (401, {"X-Error-Message": "Invalid credentials in Authorization header"}, ["401", "hf auth login"]),
        (401, {"X-Error-Code": "RepoNotFound"}, ["401", "private or does not exist", "hf auth login"]),
        (403, {}, ["403", "forbids"]),
        (403, {"X-Error-Code": "GatedRepo"}, ["asked for first"]),
        (404, {"X-Error-Code": "RepoNotFound"}, ["no repository karpathy/nanochat-d32", "spelling"]),
        (429, {}, ["429", "some minutes"]),
        (500, {}, ["500", "later"]),
        (418, {}, ["418"]),
    ],
)
def test_every_refusal_of_the_hub_has_its_sentence(home, hub, fetch, status, headers, words):
    hub.refusal = (status, headers)
    sentence = said(fetch())
    assert [word for word in words if word not in sentence] == [], sentence
    assert contents(home) == {}


def test_an_unknown_repository_and_a_hub_that_is_down_or_switched_off(home, hub, fetch):
    assert "no repository karpathy/other" in said(fetch("karpathy/other"))
    assert "cannot be reached" in said(fetch(HF_ENDPOINT="http://127.0.0.1:9"))
    assert "HF_HUB_OFFLINE" in said(fetch(HF_HUB_OFFLINE="1"))


def test_a_full_disk_is_said_before_and_while_it_happens(home, hub, fetch):
    before = PROGRAM.replace(
        "try:", "import shutil\nshutil.disk_usage = lambda _: shutil._ntuple_diskusage(9, 9, 9)\ntry:"
    )
    sentence = said(fetch(program=before))
    assert "GB free" in sentence
    assert hub.downloads() == []
    while_writing = PROGRAM.replace(
        "try:", "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))\ntry:"
    )
    assert "is full, or takes no file of this size" in said(fetch(program=while_writing))
    assert set(contents(home)) == {"tokenizer/tokenizer.pkl", "tokenizer/token_bytes.pt"}
    assert finished(fetch())[0] == 0


def test_a_file_in_the_way_or_a_nonsense_name_is_said(home, hub, fetch):
    (home / "models").write_text("")
    assert str(home) in said(fetch())
    assert "owner/name" in said(fetch("../../etc"))
    assert "output_tag" in said(fetch(REPO, ".."))
    assert "is no nanochat model" in said(fetch_after_emptying(home, hub, fetch))


def fetch_after_emptying(home, hub, fetch):
    """A download of a repository without nanochat's files."""
    (home / "models").unlink()
    hub.files = {"model.safetensors": b"x", "tokenizer.json": b"{}"}
    return fetch()


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


def test_the_command_ends_with_a_sentence_and_status_2(home, hub, fetch):
    hub.refusal = (429, {})
    program = "import sys; from nanochat_core.__main__ import main; sys.exit(main(['download', '--repo', sys.argv[1]]))"
    status, out, err = finished(fetch(program=program))
    assert (status, out) == (2, "")
    assert err.startswith("Error: The hub asks for patience")
    assert len(err.splitlines()) == 1


def test_sentences_name_what_was_being_done():
    folder = Path("/models")
    with pytest.raises(ValueError, match="while sending me/x"), told_plainly("me/x", folder, PUBLICATION):
        raise ConnectionResetError("reset")
    with pytest.raises(ValueError, match=r"\AThe hub client is offline"), told_plainly("me/x", folder, PUBLICATION):
        raise OfflineModeIsEnabled
    with pytest.raises(ValueError, match="choose a place on another disk"), told_plainly("me/x", folder, IMPORT):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(ValueError, match="sending me/x"), told_plainly("me/x", folder, PUBLICATION):
        raise RuntimeError("Error while uploading") from ConnectionResetError("reset")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "/models is full"),
        (PermissionError(errno.EACCES, "Permission denied", "/models/x"), "/models/x cannot be written"),
        (ConnectionResetError("reset"), "cannot be reached, or the connection broke off"),
        (RuntimeError("xet: bad\nmore"), "broke off (xet: bad)"),
        (RuntimeError(), "broke off (RuntimeError)"),
    ],
)
def test_faults_of_the_machine_have_their_sentences(error, words):
    with pytest.raises(ValueError, match=re.escape(words)), told_plainly(REPO, Path("/models")):
        raise error


@pytest.mark.parametrize(
    ("repo", "tag"), [(REPO, "d32"), ("me/nanochat_d20", "d20"), ("me/NanoChat-my-d8", "my-d8"), ("me/other", "other")]
)
def test_the_tag_comes_from_the_repository(repo, tag):
    assert tag_of(repo) == tag


PAIR = (("model", "pt"), ("meta", "json"))


def remote(*paths):
    return [RemoteFile(path, 1, "0" * 64) for path in paths]


def test_files_are_found_in_folders_with_the_tokenizer_closest_to_them():
    files = remote(
        *(f"base_checkpoints/d20/{name}" for name in ("model_021400.pt", "meta_021400.json")),
        *(f"chatsft_checkpoints/d20/{name}" for name in ("model_000500.pt", "meta_000500.json", "model_000600.pt")),
        *(f"chatsft_checkpoints/d20/{name}" for name in ("model_000700.pt.tmp", "model_700.pt", "meta_700.json")),
        *("tokenizer/tokenizer.pkl", "tokenizer/token_bytes.pt", "old/x/tokenizer.pkl"),
    )
    chosen = choose(files, "me/x")
    assert chosen.stage == "sft"
    assert [file.path for file in chosen.files] == [
        *("tokenizer/tokenizer.pkl", "tokenizer/token_bytes.pt"),
        *("chatsft_checkpoints/d20/model_000500.pt", "chatsft_checkpoints/d20/meta_000500.json"),
    ]
    assert choose(files, "me/x", "base").checkpoint[0].path == "base_checkpoints/d20/model_021400.pt"
    with pytest.raises(ValueError, match="of stage rl"):
        choose(files, "me/x", "rl")


LAYOUTS = {
    "a whole cache folder": ("me/x", ".cache/nanochat/chatsft_checkpoints/d26", ".cache/nanochat/tokenizer", "sft"),
    "stages as folders": ("me/nanochat-d20", "rl", "tokenizer", "rl"),
    "chat stages as folders": ("me/nanochat-d20", "checkpoints/chatsft/d20", "tokenizer", "sft"),
    "a base model with its tag": ("me/nanochat-d26", "base_checkpoints/d26", "tokenizer", "base"),
    "a stage in the tag's folder": ("me/models", "d24-mid", "d24-mid", "mid"),
    "the stage in the name": ("me/nanochat-d20-mid", "", "", "mid"),
    "a stage folder as name": ("me/d20-20tpp-base_checkpoints", "", "tokenizer", "base"),
    "a folder by tag, the stage in the name": ("me/nanochat-d26-sft", "d26", "tokenizer", "sft"),
    "nothing told": ("karpathy/nanochat-d34", "", "", "sft"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_files_are_found_in_the_communitys_layouts(layout):
    repo, folder, tokenizer, stage = LAYOUTS[layout]
    place, pickle = (f"{path}/" if path else "" for path in (folder, tokenizer))
    wanted = [f"{pickle}tokenizer.pkl", f"{pickle}token_bytes.pt", *(f"{place}{n}_002100.{e}" for n, e in PAIR)]
    noise = [f"{place}optim_002100_rank0.pt", f"{place}report.md", "model.safetensors", "tokenizer.json", "README.md"]
    chosen = choose(remote(*noise, *reversed(wanted)), repo)
    assert ([file.path for file in chosen.files], chosen.stage) == (wanted, stage)
    assert choose(remote(*wanted), "me/x", stage).stage == stage


def test_a_repository_without_token_bytes_or_stage_is_taken_as_it_is():
    chosen = choose(remote("a/tokenizer.pkl", "a/model_000001.pt", "a/meta_000001.json"), "me/x", "base")
    assert chosen.stage == "base"
    assert [file.name for file in chosen.files] == ["tokenizer.pkl", "model_000001.pt", "meta_000001.json"]


def test_the_hub_does_not_load_torch():
    subprocess.run(
        [sys.executable, "-c", "import sys, nanochat_core.hub; assert 'torch' not in sys.modules"], check=True
    )
