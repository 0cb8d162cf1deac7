"""The starter, and a short finetuning of it, as GGUF files, exported once for all tests."""

import shutil

import pytest

from nanochat_core import FinetuneConfig, finetune
from nanochat_core.export.export import export
from nanochat_core.paths import SOURCE_FOLDERS, shipped, starter_dir


@pytest.fixture(scope="session")
def gguf_home(tmp_path_factory):
    """A home folder with the run `bakery`: six steps from the starter, enough to change what it says.

    The starter lies there under another name: about its own skills 500 questions would be asked.
    """
    folder = tmp_path_factory.mktemp("gguf") / "home"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NANOCHAT_STUDIO_HOME", str(folder))
        data = folder / "data.jsonl"
        data.write_bytes(shipped("data/example_data.jsonl").read_bytes())
        settings = {"num_iterations": 6, "init_lr_frac": 1.0, "max_seq_len": 256, "dtype": "float32"}
        shutil.copytree(starter_dir(), folder / "models" / "pretrained" / SOURCE_FOLDERS["sft"] / "small")
        finetune(FinetuneConfig(str(data), model_tag="small", output_tag="bakery", **settings))
    return folder


@pytest.fixture
def in_gguf_home(gguf_home, monkeypatch):
    monkeypatch.setenv("NANOCHAT_STUDIO_HOME", str(gguf_home))
    return gguf_home


@pytest.fixture(scope="session")
def gguf_file(gguf_home):
    """The file of a model NAME in a quantization, exported when it is first asked for."""
    made = {}

    def file(name, quant):
        if (name, quant) not in made:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("NANOCHAT_STUDIO_HOME", str(gguf_home))
                out = gguf_home / f"{name.replace('/', '-')}-{quant}"
                [made[name, quant]] = export(name, out, "gguf", quant=quant).glob("*.gguf")
        return made[name, quant]

    return file
