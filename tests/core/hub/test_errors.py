"""Every download that cannot be ends in a sentence, and leaves no half of a model."""

import errno
import json
import re
import ssl
from pathlib import Path

import pytest
from huggingface_hub.errors import FileMetadataError, HTTPError, OfflineModeIsEnabled

from nanochat_core.hub.errors import downloading, importing, publishing, requesting, told_plainly
from tests.support.downloading import PROGRAM, REPO, contents, finished, said

pytestmark = pytest.mark.processes


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
        (407, {}, ["407", "HTTPS_PROXY"]),
        (511, {}, ["Sign in to the network in a browser"]),
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


def test_the_command_ends_with_a_sentence_and_status_2(home, hub, fetch):
    hub.refusal = (429, {})
    program = "import sys; from nanochat_core.cli.main import main; sys.exit(main(['download', '--repo', sys.argv[1]]))"
    status, out, err = finished(fetch(program=program))
    assert (status, out) == (2, "")
    assert err.startswith("Error: The hub asks for patience")
    assert len(err.splitlines()) == 1


def test_a_page_in_the_place_of_the_hub_is_told(home, hub, fetch):
    """The sign-in page of a network answers every request with a page of its own."""
    hub.captive = True
    sentence = said(fetch())
    assert "Sign in to the network in a browser" in sentence
    assert "Expecting value" not in sentence
    assert contents(home) == {}


def test_what_is_no_page_stays_the_fault_that_it_is():
    with pytest.raises(json.JSONDecodeError), told_plainly(downloading(REPO, Path("/models"))):
        json.loads("{torn")


ACTIONS = [downloading(REPO, Path("/a")), importing("me/x", Path("/a")), publishing("me/x", Path("/a"))]


@pytest.mark.parametrize("action", [*ACTIONS, requesting("start a job for me")])
def test_sentences_name_what_was_being_done(action):
    with pytest.raises(ValueError, match=f"did not {action.do} "), told_plainly(action):
        raise ConnectionResetError("reset")
    with pytest.raises(ValueError, match=rf"\AThe hub client is offline and cannot {action.do}"), told_plainly(action):
        raise OfflineModeIsEnabled
    with pytest.raises(ValueError, match=f"did not {action.do} "), told_plainly(action):
        raise RuntimeError("Error while uploading") from ConnectionResetError("reset")


def test_a_full_disk_has_the_remedy_of_what_is_written():
    with pytest.raises(ValueError, match="choose a place on another disk"), told_plainly(importing("me/x", Path("/a"))):
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "/models is full"),
        (PermissionError(errno.EACCES, "Permission denied", "/models/x"), "/models/x cannot be written"),
        (ConnectionResetError("reset"), "cannot be reached, or the connection broke off"),
        (NotADirectoryError(20, "Not a directory", "/a/b"), "/a/b cannot be used: Not a directory. Check the path"),
        (RuntimeError("xet: bad\nmore"), "broke off (xet: bad)"),
        (RuntimeError(), "broke off (RuntimeError)"),
        (RuntimeError("\x1b[2Jgone"), "broke off (\\u001b[2Jgone)"),
        (HTTPError("407 Proxy Authentication Required"), "HTTPS_PROXY as http://NAME:PASSWORD@HOST:PORT"),
        (FileMetadataError("Distant resource does not seem to be on huggingface.co"), "in place of the hub"),
        (ssl.SSLCertVerificationError("self-signed certificate"), "SSL_CERT_FILE"),
    ],
)
def test_faults_of_the_machine_have_their_sentences(error, words):
    with pytest.raises(ValueError, match=re.escape(words)), told_plainly(downloading(REPO, Path("/models"))):
        raise error
