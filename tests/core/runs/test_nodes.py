"""What is typed on each machine, and the scripts for schedulers: read by bash, by YAML, and by our own parser."""

import dataclasses
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from nanochat_core.cli import finetune as command
from nanochat_core.cli.main import main
from nanochat_core.config import FinetuneConfig
from nanochat_core.runs.cluster import skypilot_task, slurm_script
from nanochat_core.runs.nodes import PATHS_VARIABLE, Nodes, node_commands, with_paths_here
from nanochat_core.runs.presets import with_preset


@pytest.fixture
def config(home, tmp_path):
    data = tmp_path / "it's mine.jsonl"
    data.write_text("{}\n")
    return with_preset(data_path=str(data), model_tag="starter", output_tag="mine", num_epochs=3)


def test_what_cannot_be_is_said(home):
    for values, sentence in (
        ((0,), "--nnodes is 0: give the number of machines"),
        ((2, 2, "a:1"), "--node_rank is 2: give 0 on the first of 2 machines, up to 1 on the last"),
        ((2, 0), "Give the address of the first one: --rdzv_endpoint HOST:29400"),
        ((2, 0, "a b"), "--rdzv_endpoint is 'a b': it must be HOST:PORT"),
        ((2, 0, "a:99999"), "it must be HOST:PORT"),
        ((1, 0, "", -1), "--max_restarts is -1"),
    ):
        with pytest.raises(ValueError, match=sentence):
            Nodes(*values)
    assert (Nodes(2, 0, "[fe80::1]:5").host, Nodes(2, 0, "a").port, Nodes(1).port) == ("fe80::1", 29400, 0)


def test_the_command_of_each_machine_says_the_same_run(config, monkeypatch):
    commands = node_commands(config, 4, 2, "10.0.0.1:29400", 3)
    began, joined = [], []
    monkeypatch.setattr(command, "_detached", lambda *what: began.append(what) or 0)
    monkeypatch.setattr(command, "join_run", lambda *what: joined.append(what) or 0)
    for line in commands:
        words = shlex.split(line)
        assert words[:4] == ["python", "-m", "nanochat_core", "finetune"]
        main(words[3:])
    assert began[0] == (config, 4, Nodes(2, 0, "10.0.0.1:29400", 3))
    assert joined == [(config, 4, Nodes(2, 1, "10.0.0.1:29400", 3))]


def test_a_resume_keeps_the_paths_that_are_not_given_again(config, monkeypatch):
    own = dataclasses.replace(config, replay_path="/there/replay.jsonl", replay_ratio=1.0)
    variables = Nodes(2, 1, "h:1").variables(dataclasses.replace(own, replay_path=None, replay_ratio=0.0))
    monkeypatch.setenv(PATHS_VARIABLE, variables[PATHS_VARIABLE])
    assert with_paths_here(own) == dataclasses.replace(own, data_path=str(Path(config.data_path).absolute()))


def test_one_machine_needs_no_more_words(config):
    assert Nodes(1).flags() == {}
    assert Nodes(1, max_restarts=2).flags() == {"max_restarts": 2}
    assert Nodes(1).variables(config) == {}


def run_in_bash(script: str, tmp_path, **variables: str) -> list[list[str]]:
    """The words of each `python` that a script starts, with a stand-in for all that a cluster has."""
    bin = tmp_path / "bin"
    bin.mkdir()
    stands = {
        "python": f'printf "%s\\n" "$@" END >> {tmp_path}/said',
        "scontrol": "printf 'node1\\nnode2\\n'",
        "srun": 'while [[ "$1" == --* ]]; do shift; done; exec "$@"',
        "hostname": "echo 10.0.0.7 10.0.0.8",
    }
    for name, body in stands.items():
        (bin / name).write_text(f"#!/bin/bash\n{body}\n")
        (bin / name).chmod(0o755)
    environment = {"PATH": f"{bin}:/usr/bin:/bin", **variables}
    subprocess.run(["bash", "-c", script], env=environment, check=True, timeout=60)
    *calls, _ = (tmp_path / "said").read_text().split("END\n")
    return [call.splitlines() for call in calls]


@pytest.mark.processes
@pytest.mark.parametrize("nodes", [1, 2])
def test_the_slurm_script_starts_every_machine(config, tmp_path, nodes, monkeypatch):
    script = slurm_script(config, 8, nodes, 3)
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
    for line in (f"#SBATCH --nodes={nodes}", "#SBATCH --ntasks-per-node=1", "#SBATCH --gpus-per-node=8"):
        assert line in script.splitlines()
    (tmp_path / "models/finetuned/mine").mkdir(parents=True)
    (tmp_path / "models/finetuned/mine/config.json").touch()
    variables = {"SLURM_JOB_NODELIST": "node[1-2]", "SLURM_NNODES": str(nodes), "SLURM_NODEID": "1"}
    [words] = run_in_bash(script, tmp_path, SLURM_SUBMIT_DIR=str(tmp_path), **variables)
    joined = []
    monkeypatch.setattr(command, "_detached", lambda *what: joined.append(what) or 0)
    monkeypatch.setattr(command, "join_run", lambda *what: joined.append(what) or 0)
    assert words[:2] == ["-m", "nanochat_core"]
    main(words[2:])
    expected = Nodes(2, 1, "10.0.0.7:29400", 3) if nodes == 2 else Nodes(1, max_restarts=3)
    assert joined[0] == (FinetuneConfig.from_dict({**config.to_dict(), "resume": True}), 8, expected)


@pytest.mark.processes
@pytest.mark.parametrize("nodes", [1, 2])
def test_the_skypilot_task_starts_every_machine(config, tmp_path, nodes, monkeypatch):
    task = yaml.safe_load(skypilot_task(config, 4, nodes, 0))
    assert (task["num_nodes"], task["resources"]) == (nodes, {"accelerators": "H100:4"})
    [(there, here)] = [(a, b) for a, b in task["file_mounts"].items() if b == config.data_path]
    for part in ("setup", "run"):
        assert subprocess.run(["bash", "-n"], input=task[part], text=True, check=False).returncode == 0
    variables = {"NODE_IPS": "10.0.0.7\n10.0.0.8", "NUM_NODES": "2", "NODE_RANK": "0", "NUM_GPUS_PER_NODE": "4"}
    [words] = run_in_bash(task["run"], tmp_path, **{f"SKYPILOT_{name}": value for name, value in variables.items()})
    assert words[:4] == ["-m", "nanochat_core", "finetune", "--nproc"]
    assert f"--data_path\n{there}" in "\n".join(words)
    began = []
    monkeypatch.setattr(command, "_detached", lambda *what: began.append(what) or 0)
    main(words[2:])
    assert began[0][1:] == (4, Nodes(2, 0, "10.0.0.7:29400") if nodes == 2 else Nodes(1))
    assert here == str(tmp_path / "it's mine.jsonl")


def test_the_command_line_writes_the_scripts_and_starts_nothing(config, tmp_path, capsys):
    flags = [f"--data_path={config.data_path}", "--model_tag=starter", "--output_tag=mine", "--nnodes=2", "--nproc=4"]
    slurm, sky = tmp_path / "job.sh", tmp_path / "task.yaml"
    assert main(["finetune", *flags, "--slurm", str(slurm), "--skypilot", str(sky)]) == 0
    said = capsys.readouterr().out
    assert f"submit it with `sbatch {slurm}`" in said
    assert f"submit it with `sky launch {sky}`" in said
    assert yaml.safe_load(sky.read_text())["num_nodes"] == 2
    assert main(["finetune", *flags, "--slurm", str(slurm)]) == 2
    assert "exists already" in capsys.readouterr().err


def test_a_script_is_written_where_it_is_said_and_nothing_else_is_done(config, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command, "_detached", lambda *what: pytest.fail("it trains"))
    flags = [f"--data_path={config.data_path}", "--model_tag=starter", "--output_tag=mine", "--nproc=2"]
    for where, said in (
        ([""], "--slurm has no value: give one, such as --slurm FILE"),
        (["--seed", "3"], "--slurm has no value"),
        ([str(tmp_path / "none" / "job.sh")], f"There is no folder {tmp_path / 'none'}"),
        ([str(tmp_path / "a b.sh"), "--skypilot", str(tmp_path)], f"{tmp_path} exists already"),
    ):
        assert main(["finetune", *flags, "--slurm", *where]) == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "a b.sh").exists()
    assert main(["finetune", *flags, "--slurm", str(tmp_path / "a b.sh")]) == 0
    assert f"sbatch '{tmp_path / 'a b.sh'}'" in capsys.readouterr().out


@pytest.mark.processes
def test_a_tag_of_any_characters_is_one_word_of_the_scripts(config, tmp_path):
    tag = "our $(touch bad) `bakery`'s 5% & more"
    config = dataclasses.replace(config, output_tag=tag)
    (tmp_path / "models/finetuned" / tag).mkdir(parents=True)
    (tmp_path / "models/finetuned" / tag / "config.json").touch()
    script = slurm_script(config, 1, 1, 0)
    [words] = run_in_bash(
        script, tmp_path, SLURM_SUBMIT_DIR=str(tmp_path), SLURM_JOB_NODELIST="node1", SLURM_NNODES="1", SLURM_NODEID="0"
    )
    assert words[words.index("--output_tag") + 1] == tag
    assert words[-1] == "--resume"
    options = dict(shlex.split(line)[1].split("=", 1) for line in script.splitlines() if line.startswith("#SBATCH"))
    assert options["--job-name"] == f"nanochat-{tag}"
    assert options["--output"] == f"nanochat-{tag.replace('%', '%%')}-%j.log"
    task = yaml.safe_load(skypilot_task(config, 1, 1, 0))
    assert task["name"] == f"nanochat-{tag}"
    assert not (tmp_path / "bad").exists()
