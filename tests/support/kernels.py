"""A real Jupyter kernel of this Python, for tests: cells in, outputs out, and an interruption as a person gives it."""

from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager

from notebooks.execute import execute, kernel_environment


def run_cells(sources: list[str], home: Path) -> list[list[dict]]:
    """Run the cells in an empty folder of `home` and return the outputs of each. A failing cell raises."""
    folder = home / "elsewhere" / "notebooks"
    folder.mkdir(parents=True, exist_ok=True)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    return [cell.outputs for cell in execute(notebook, folder, home).cells]


class Kernel:
    """A kernel that does not wait for its cells to end, so that one can be interrupted."""

    def __init__(self, home: Path):
        kernels = KernelSpecManager(kernel_dirs=[])
        self.manager = KernelManager(
            kernel_name="python3", kernel_spec_manager=kernels, connection_file=str(home / "kernel.json")
        )
        self.manager.start_kernel(env=kernel_environment(home), cwd=str(home))
        self.client = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=120)

    def start(self, source: str) -> str:
        """Begin to run a cell; the id to ask for its end."""
        return self.client.execute(source)

    def end_of(self, request: str) -> tuple[dict, list[dict]]:
        """(the reply, everything that the cell showed meanwhile) once the cell has ended."""
        shown = []
        while True:
            message = self.client.get_iopub_msg(timeout=120)
            if message["parent_header"].get("msg_id") == request:
                if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                    break
                shown.append({"type": message["msg_type"], **message["content"]})
        while (reply := self.client.get_shell_msg(timeout=120))["parent_header"].get("msg_id") != request:
            pass
        return reply["content"], shown

    def interrupt(self) -> None:
        """What the stop button of a notebook does."""
        self.manager.interrupt_kernel()

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
