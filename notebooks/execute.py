"""Runs the walkthroughs from top to bottom and stores what they show: `python -m notebooks.execute [NAME ...]`.

Stored outputs must belong to the code beside them, so a hash of the cells' text is stored with them, and a test
computes it again. Outputs with errors, warnings or this machine's paths are refused.
"""

import hashlib
import json
import os
import re
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parent
NAMES = ("01_data.ipynb", "02_finetune.ipynb", "03_evaluate_and_chat.ipynb")
MOST_BYTES = 300_000
SECONDS = 1_200
"""For one cell; only there to end what hangs."""

_MACHINE_PATH = re.compile(r"(?<![\w.:/])/(?:home|root|tmp|var|work|Users|usr|opt|mnt|private)/[\w.-]+")


def source_hash(notebook: nbformat.NotebookNode) -> str:
    """SHA-256 of the text of every code cell, in order: what the outputs were made from."""
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()


def stored_hash(notebook: nbformat.NotebookNode) -> str | None:
    """The hash of the cells that the stored outputs were made from; None when they never were."""
    return notebook.metadata.get("nanochat_studio", {}).get("source_sha256")


def execute(notebook: nbformat.NotebookNode, folder: Path, home: Path) -> nbformat.NotebookNode:
    """Run all cells in `folder` with a kernel of this very Python; models and runs go to `home`. Fills the outputs.

    Raises nbclient's CellExecutionError, with the cell and its traceback, when a cell fails.
    """
    # Without folders to look in, "python3" is the kernel of this interpreter, whatever is registered on the machine.
    kernels = KernelSpecManager(kernel_dirs=[])
    manager = AsyncKernelManager(
        kernel_name="python3", kernel_spec_manager=kernels, connection_file=str(home / "kernel.json")
    )
    where = {"metadata": {"path": str(folder)}}
    client = NotebookClient(
        notebook, km=manager, timeout=SECONDS, resources=where, record_timing=False, coalesce_streams=True
    )
    return client.execute(env=kernel_environment(home), cleanup_kc=True)  # the kernel is ours to end, come what may


def kernel_environment(home: Path) -> dict[str, str]:
    """Ours, with the package findable and everything that is written below `home`."""
    paths = [str(FOLDER.parent), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "NANOCHAT_STUDIO_HOME": str(home),
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "IPYTHONDIR": str(home / ".ipython"),
    }


def problems(notebook: nbformat.NotebookNode) -> list[str]:
    """What must not be stored, as sentences: errors, warnings, machine paths, foreign outputs, too many bytes."""
    found = []
    if stored_hash(notebook) != source_hash(notebook):
        found.append("The outputs were not made by these cells: run `make notebooks`.")
    for number, cell in enumerate(cell for cell in notebook.cells if cell.cell_type == "code"):
        if cell.execution_count != number + 1:
            found.append(f"Code cell {number + 1} was not run in its place.")
        for output in cell.outputs:
            if output.output_type == "error" or output.get("name") == "stderr":
                found.append(f"Code cell {number + 1} shows an error or a warning.")
            if path := _MACHINE_PATH.search(_text(output)):
                found.append(f"Code cell {number + 1} shows a path of the machine: {path[0]}.")
    size = len(nbformat.writes(notebook).encode())
    if size > MOST_BYTES:
        found.append(f"The file has {size:,} bytes, more than {MOST_BYTES:,}.")
    return found


def _text(output: nbformat.NotebookNode) -> str:
    data = output.get("data", {})
    return output.get("text", "") + "".join(text for kind, text in data.items() if kind.startswith("text/"))


def store(path: Path) -> list[str]:
    """Run the notebook in `path` in an empty home and write it back with its outputs. Returns its problems, if any."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as home:
        execute(notebook, FOLDER, Path(home))
    for cell in notebook.cells:
        cell.metadata = {}
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
            "nanochat_studio": {"source_sha256": source_hash(notebook)},
        }
    )
    found = problems(notebook)
    if not found:
        nbformat.write(notebook, path)
    return found


def main(names: list[str]) -> int:
    """Store each of the notebooks named, all without names. Exit status 1 when one could not be."""
    failed = False
    for name in names or NAMES:
        started = time.monotonic()
        found = store(FOLDER / name)
        failed |= bool(found)
        print(f"{name}: {time.monotonic() - started:.0f} s", *found, sep="\n  ", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
