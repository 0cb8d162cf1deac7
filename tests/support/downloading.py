"""Downloads of one model from a hub on loopback, each in a process of its own, and what lies there afterwards."""

import os
import subprocess
import sys

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
from nanochat_core.hub.downloading import download
try:
    print(download(*sys.argv[1:]))
except ValueError as error:
    sys.exit(f"SAID {error}")
"""


def fetcher(home, tmp_path, hub):
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
