"""Uploads and the sign-in of the real app: limited, removed, slowed down."""

import signal
import subprocess
import sys
import time

import gradio as gr
import httpx
import pytest

from studio.app import build_app
from studio.data_tab import handlers, tab
from studio.parts.uploads import parse_size
from tests.e2e.real_app import ROOT, free_port
from tests.support.pressed import Pressed
from tests.support.samples import GOOD

MEGABYTE = 1000**2


@pytest.mark.parametrize(("text", "size"), [("200MB", 200 * MEGABYTE), ("1.5 gb", 1_500_000_000), ("10", 10)])
def test_sizes_are_read(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MB", "-1MB", "0", "1PB", "1e9", "nan", "0.1b", "٣MB"])
def test_what_is_no_size_is_a_sentence(text):
    with pytest.raises(ValueError, match="give a size such as 200MB"):
        parse_size(text)


def test_the_page_says_the_limit(home):
    page = build_app(max_upload=3 * MEGABYTE).get_config_file()
    labels = [part["props"].get("label") for part in page["components"]]
    assert "Upload (at most 3.0 MB)" in labels


@pytest.mark.processes
@pytest.mark.parametrize("content", [GOOD + "\n", "\x00\x01\x02 nonsense"])
def test_an_upload_is_gone_once_it_was_read(home, tmp_path, content):
    path = tmp_path / "mine.jsonl"
    path.write_text(content)
    try:
        tab._uploaded(dict(handlers.NOWHERE), str(path))
    except ValueError:
        assert content != GOOD + "\n"
    assert not path.exists()


@pytest.mark.processes
def test_a_refused_file_makes_room_for_the_next_one(home, page, tmp_path):
    path = tmp_path / "empty.jsonl"
    path.touch()
    pressed = Pressed(page, **{"data-upload": str(path)})
    [sent] = pressed.events("data-upload", "upload")
    with pytest.raises(gr.Error):
        next(pressed.begin(sent))
    [refused] = [one for one in page.fns.values() if one.trigger_after == sent._id and one.trigger_only_on_failure]
    for _ in pressed.begin(refused):
        pass
    assert pressed["data-upload"] is None


@pytest.fixture
def guarded(home, tmp_path, monkeypatch):
    """An app that asks for a password, given in the environment, and takes files of a megabyte."""
    (tmp_path / "sent").mkdir()
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "sent"))
    monkeypatch.setenv("NANOCHAT_STUDIO_AUTH", "ann:right")
    port = free_port()
    command = [sys.executable, "app.py", "--port", str(port), "--max-upload", "1MB"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as client:
        limit = time.monotonic() + 240
        while not _answers(client):
            assert process.poll() is None, process.stdout.read()
            assert time.monotonic() < limit
            time.sleep(0.2)
        yield client
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)


def _answers(client):
    try:
        return client.get("/gradio_api/login_check").status_code == 401
    except httpx.HTTPError:
        return False


@pytest.mark.processes
def test_guesses_are_slowed_down_and_uploads_limited(guarded, tmp_path):
    def guess(password):
        began = time.monotonic()
        status = guarded.post("/login", data={"username": "ann", "password": password}).status_code
        return status, time.monotonic() - began

    send = {"files": ("mine.jsonl", b"x" * (2 * MEGABYTE))}
    assert guarded.post("/gradio_api/upload", files=send).status_code == 401
    assert [guess("wrong")[0] for _ in range(5)] == [400] * 5
    status, seconds = guess("right")
    assert status == 200
    assert seconds >= 1
    refused = guarded.post("/gradio_api/upload", files=send)
    assert refused.status_code == 413
    assert [path for path in (tmp_path / "sent").rglob("*") if path.is_file()] == []
    taken = guarded.post("/gradio_api/upload", files={"files": ("mine.jsonl", b"x" * 1000)})
    assert taken.status_code == 200
    assert [path.name for path in (tmp_path / "sent").rglob("*") if path.is_file()] == ["mine.jsonl"]
