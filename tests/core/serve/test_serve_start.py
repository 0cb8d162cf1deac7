"""A server that cannot start says why in one sentence."""

import socket

import pytest

from nanochat_core.cli.main import main


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        (["--host", "0.0.0.0"], "lets other machines in, and no API key is set"),
        (["--host", "no such host"], "no address"),
        (["--port", "70000"], "--port is 70000"),
        (["--max-batch", "0"], "--max-batch is 0"),
        (["--api-key", ""], "--api_key is empty: give it a value, or leave it out"),
        (["--api-key", "two words"], "API key must be"),
        (["--model", "nowhere"], "There is no model 'nowhere'"),
    ],
)
def test_a_start_that_cannot_be(home, monkeypatch, capsys, flags, part):
    monkeypatch.delenv("NANOCHAT_STUDIO_API_KEY", raising=False)
    key = [] if "0.0.0.0" in flags or "--api-key" in flags else ["--api-key", "x"]
    assert main(["serve", "--model", "starter", *flags, *key]) == 2
    error = capsys.readouterr().err
    assert error.startswith("Error: ")
    assert part in error
    assert error.count("\n") == 1


def test_a_port_that_is_taken(home, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["serve", "--model", "starter", "--port", port]) == 2
    assert f"Nothing can listen at 127.0.0.1 port {port}" in capsys.readouterr().err
