"""A run as a script for a cluster: a SLURM batch script, and a task for SkyPilot. Both are ready to be submitted."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path

from nanochat_core.config import PATH_SETTINGS, FinetuneConfig
from nanochat_core.runs.as_code import named_settings
from nanochat_core.runs.nodes import PORT

_HOME = "/nanochat"
SAVE_SECONDS = 600
"""How long before the time limit SLURM asks the run to save and stop."""


def slurm_script(config: FinetuneConfig, nproc: int, nodes: int, max_restarts: int) -> str:
    """A batch script for `sbatch`: one task a machine, which starts `nproc` processes there."""
    tag, job = shlex.quote(config.output_tag), shlex.quote(f"nanochat-{config.output_tag}")
    # In a file's name SLURM replaces what begins with %.
    log = shlex.quote(f"nanochat-{config.output_tag.replace('%', '%%')}-%j.log")
    words = ['"${PYTHON:-python}"', "-m", "nanochat_core", "finetune", "--nproc", str(nproc)]
    if nodes > 1:
        words += ['--nnodes "$SLURM_NNODES"', '--node_rank "$SLURM_NODEID"', f'--rdzv_endpoint "$first:{PORT}"']
    command = _broken([*words, *_flags(_settings(config, max_restarts)), '"$@"'], "  ")
    return f"""#!/bin/bash
# {_title(config, nproc, nodes)}
# Submit it: sbatch THIS_FILE. Watch it: squeue --me, and the file nanochat-{config.output_tag}-JOB.log.
# Stop it with what is saved: scancel --signal=TERM JOB. Submitted again, it resumes from the last checkpoint.
#SBATCH --job-name={job}
#SBATCH --nodes={nodes}
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node={nproc}
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@{SAVE_SECONDS}
#SBATCH --output={log}
set -euo pipefail

# Models and runs lie here, in a folder that all machines see. The program must be installed on each of them; $PYTHON
# names its Python where that is another than the first on the path.
export NANOCHAT_STUDIO_HOME="${{NANOCHAT_STUDIO_HOME:-$SLURM_SUBMIT_DIR}}"

nodes=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
first_node=${{nodes%%$'\\n'*}}
first=$(srun --nodes=1 --ntasks=1 --nodelist="$first_node" hostname --ip-address | awk '{{print $1}}')
export first
resume=()
if [ -f "$NANOCHAT_STUDIO_HOME"/models/finetuned/{tag}/config.json ]; then resume=(--resume); fi

srun --kill-on-bad-exit=1 bash -c '{_quoted_once(command)}' train "${{resume[@]}}"
"""


def skypilot_task(config: FinetuneConfig, nproc: int, nodes: int, max_restarts: int) -> str:
    """A task for `sky launch`, as YAML. The files of the settings are sent along."""
    tag, name = shlex.quote(config.output_tag), f"nanochat-{config.output_tag}"
    words = ["python", "-m", "nanochat_core", "finetune", "--nproc", '"$SKYPILOT_NUM_GPUS_PER_NODE"']
    if nodes > 1:
        words += ['--nnodes "$SKYPILOT_NUM_NODES"', '--node_rank "$SKYPILOT_NODE_RANK"']
        words += [f'--rdzv_endpoint "$first:{PORT}"']
    here = _settings(config, max_restarts)
    there = {name: _sent(value) if name in PATH_SETTINGS else value for name, value in here.items()}
    command = _broken([*words, *_flags(there), '"${resume[@]}"'], "    ")
    sent = "".join(f"  {json.dumps(there[name])}: {json.dumps(here[name])}\n" for name in PATH_SETTINGS if name in here)
    return f"""# {_title(config, nproc, nodes)}
# Launch it: sky launch -c {shlex.quote(name)} THIS_FILE. Watch it: sky logs {shlex.quote(name)}. Launched again, it
# resumes.
# Models and runs lie on the volume nanochat-home, which all machines share; make it with `sky volumes apply`.
name: {json.dumps(name)}
num_nodes: {nodes}
resources:
  accelerators: H100:{nproc}  # or what your cloud has
volumes:
  {_HOME}: nanochat-home
file_mounts:
{sent}setup: |
  pip install nanochat-studio
  {_download(config)}
run: |
  set -euo pipefail
  export NANOCHAT_STUDIO_HOME={_HOME}
  first=${{SKYPILOT_NODE_IPS%%$'\\n'*}}
  resume=()
  if [ -f "$NANOCHAT_STUDIO_HOME"/models/finetuned/{tag}/config.json ]; then resume=(--resume); fi
  {command}
"""


def _download(config: FinetuneConfig) -> str:
    """The line of the set-up that fetches the base model, where the hub has it."""
    if config.base_name != "pretrained/d32":
        return f"true  # the base model {config.base_name} comes with the program, or must lie on the volume"
    first = '[ "$SKYPILOT_SETUP_NODE_RANK" = 0 ]'
    return f"if {first}; then NANOCHAT_STUDIO_HOME={_HOME} nanochat download; fi"


def _sent(value: object) -> str:
    """Where a file of this machine is put on the others."""
    return f"{_HOME}-data/{Path(str(value)).name}"


def _settings(config: FinetuneConfig, max_restarts: int) -> dict[str, object]:
    """The command's settings, with the files' whole paths: another folder is open there."""
    whole = config.with_absolute_paths().to_dict()
    named = {name: whole[name] if name.endswith("_path") else value for name, value in named_settings(config).items()}
    return {**({"max_restarts": max_restarts} if max_restarts else {}), **named}


def _title(config: FinetuneConfig, nproc: int, nodes: int) -> str:
    machines = f"{nodes} machines" if nodes > 1 else "1 machine"
    return (
        f"Finetuning of {config.base_name} as the run {config.output_tag}, on {machines} with {nproc} processes each."
    )


def _flags(settings: Mapping[str, object]) -> list[str]:
    return [f"--{name} {shlex.quote(str(value))}" for name, value in settings.items()]


def _broken(words: list[str], indent: str) -> str:
    """A command over several lines, a flag a line."""
    lines: list[str] = []
    for word in words:
        if word.startswith("--") or (word.startswith('"$') and lines):
            lines.append(word)
        elif lines:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return f" \\\n{indent}".join(lines)


def _quoted_once(command: str) -> str:
    """The command inside of single quotes."""
    return command.replace("'", "'\\''")
