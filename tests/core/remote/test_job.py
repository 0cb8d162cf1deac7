"""What a job gets and needs, and the command line of remote runs."""

import ast
import re
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from nanochat_core.cli.main import main
from nanochat_core.paths import steps
from nanochat_core.remote import job
from nanochat_core.remote.inputs import REQUIREMENTS, base_model, code_files, inputs
from nanochat_core.remote.repository import RemoteRepo
from nanochat_core.remote.start import keep_following
from nanochat_core.runs.launcher import create_run
from nanochat_core.runs.run import Run
from tests.support.fake_jobs import TOKEN, Repo

CORE = Path(__file__).parents[3] / "nanochat_core"


def test_the_base_model_comes_from_the_hub_where_it_can_and_from_here_where_it_must(home, config):
    assert base_model(replace(config, model_tag="d32")).download["repo"] == "karpathy/nanochat-d32"
    sent = base_model(config)
    folder = home / "models" / "pretrained" / "chatsft_checkpoints" / "tiny"
    assert sent.download is None
    assert sent.files["home/models/pretrained/chatsft_checkpoints/tiny/model_000007.pt"] == folder / "model_000007.pt"
    (folder / "download.json").write_text('{"repo": "somebody/nanochat-tiny"}')
    assert base_model(config).download == {"repo": "somebody/nanochat-tiny", "tag": "tiny", "source": "sft"}
    starter = base_model(replace(config, model_tag="starter")).files
    assert {"code/starter/tokenizer.pkl", "code/starter/eval.jsonl"} <= set(starter)
    assert all(path.is_file() for path in starter.values())
    with pytest.raises(ValueError, match="no model 'finetuned/none'"):
        base_model(replace(config, from_finetuned="none"))


def test_a_job_has_the_models_data_and_settings_at_its_own_paths(home, config, hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    tiny = home / "models" / "pretrained" / "chatsft_checkpoints" / "tiny"
    files = {path.name: path.read_bytes() for path in tiny.iterdir()}
    hub.repos["karpathy/nanochat-d32"] = Repo(False, [{}, files])
    run = create_run(
        replace(config, model_tag="d32", output_tag="mine ü", replay_path=config.data_path, replay_ratio=0.5)
    )
    repo = RemoteRepo(HfApi(token=TOKEN), "me/nanochat-run-x")
    repo.create()
    repo.commit(inputs(run.record(), base_model(run.settings())), "all")
    monkeypatch.setenv("NANOCHAT_STUDIO_HOME", str(tmp_path / "job" / "home"))
    there = job.prepare(repo, tmp_path / "job")
    settings = there.settings()
    assert settings.data_path == str(tmp_path / "job" / "home" / "data" / "data_path" / "mydata.jsonl")
    assert Path(settings.replay_path).read_bytes() == Path(config.data_path).read_bytes()
    assert there.record()["data"]["path"] == settings.data_path
    assert there.path.name == "mine ü"
    assert steps(tmp_path / "job" / "home" / "models" / "pretrained" / "chatsft_checkpoints" / "d32") == [7]


def test_what_training_imports_is_installed_in_the_job():
    """Packages imported at the top of any module that a job loads, beside torch, which the image has."""
    waiting, seen, packages = ["remote.job", "runs.supervisor", "training.worker"], set(), set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        for node in ast.parse((CORE / f"{name.replace('.', '/')}.py").read_text(encoding="utf-8")).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            for found in names:
                top, _, rest = found.partition(".")
                packages.add(top)
                if top == "nanochat_core" and (CORE / f"{rest.replace('.', '/')}.py").is_file():
                    waiting.append(rest)
    ours = {re.split("[<>=]", requirement)[0] for requirement in REQUIREMENTS}
    assert packages - set(sys.stdlib_module_names) - {"nanochat_core", "torch"} <= ours
    project = tomllib.loads((CORE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(REQUIREMENTS) <= set(project["dependencies"])


@pytest.mark.processes
def test_following_and_starting_load_no_torch():
    code = "import sys, nanochat_core.remote.start, nanochat_core.remote.watcher, nanochat_core.remote.job\n"
    subprocess.run([sys.executable, "-c", code + "assert 'torch' not in sys.modules"], check=True)


@pytest.mark.processes
def test_the_command_line_lists_starts_follows_stops_and_resumes(config, hub, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.stuck = ("SCHEDULING", None)
    assert main(["remote", "hardware"]) == 0
    assert "a100x4: 4 x A100, 320 GB, 48 vCPU, 568 GB, $10.00 an hour" in capsys.readouterr().out
    flags = ["--data_path", config.data_path, "--model-tag", "tiny", "--output_tag", "mine", "--max_seq_len", "64"]
    assert main(["remote", "start", "--flavor", "cpu-basic", "--timeout", "90m", *flags]) == 0
    assert "$0.01 an hour" in capsys.readouterr().out
    run = Run.open("mine")
    assert run.settings().max_seq_len == 64
    assert run.read_launch()["timeout_seconds"] == 5400
    assert main(["remote", "sync", "mine"]) == 0
    assert "mine: queued, step 0 of 0 (job: SCHEDULING)" in capsys.readouterr().out
    assert main(["remote", "stop", "mine"]) == 0
    assert run.wait(60).state == "stopped"
    assert main(["runs", "resume", "mine"]) == 0
    assert run.read_launch()["attempt"] == 2
    assert main(["runs", "stop", "mine"]) == 0
    assert run.status().state == "stopped"
    for wrong in (["remote", "fly"], ["remote", "sync", "none"], ["remote", "start", "--flavor", "x", *flags]):
        assert main(wrong) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.processes
def test_an_app_that_begins_anew_follows_what_goes_on_once(stuck_run, hub):
    run = stuck_run()
    assert keep_following(TOKEN) == [run] == keep_following(TOKEN)
    hub.end(hub.jobs[0], "CANCELED")
    assert run.wait(60).state == "interrupted"
    assert keep_following(TOKEN) == []


def test_a_job_gets_the_sources_of_compiled_code_too():
    sent = code_files()
    assert {
        "code/nanochat_core/native/build.py",
        "code/nanochat_core/native/c/decode.c",
        "code/nanochat_core/native/c/team.h",
    } <= set(sent)
    assert all(path.is_file() for path in sent.values())
