"""The walkthroughs run from top to bottom, show what is stored in them, and use nothing but the public names."""

import ast
import contextlib
import copy

import nbformat
import psutil
import pytest
from nbclient.exceptions import CellExecutionError

import nanochat_core
from nanochat_core import FinetuneConfig, Run
from notebooks.execute import FOLDER, MOST_BYTES, NAMES, execute, problems, source_hash, store
from tests.support.tiny import install_tiny_model

pytestmark = pytest.mark.processes

RUNS = {
    "01_data.ipynb": [],
    "02_finetune.ipynb": ["by-heart", "cafe-notebook"],
    "03_evaluate_and_chat.ipynb": ["cafe-again", "cafe-background"],
}
OTHER_PACKAGES = {"math", "pathlib", "tempfile", "matplotlib.pyplot", "pandas", "torch", "torch.nn.functional"}


def stored(name):
    return nbformat.read(FOLDER / name, as_version=4)


def shape(notebook):
    """For each code cell the kinds of its outputs: streams by name, others by what they hold."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [[output.get("name") or sorted(output.get("data", {})) for output in cell.outputs] for cell in cells]


def without_warnings(notebook):
    """As it is, less what some library may say on stderr on a machine where it runs for the first time."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    return notebook


@pytest.mark.parametrize("name", sorted(NAMES, reverse=True))
def test_it_runs_from_top_to_bottom(name, home):
    before = stored(name)
    after = without_warnings(execute(copy.deepcopy(before), home, home))  # in a folder that knows nothing of us
    assert shape(after) == shape(before)
    assert sorted(run.tag for run in Run.list()) == RUNS[name]  # as the app and the command line see them
    assert {run.status().state for run in Run.list()} <= {"finished"}


@pytest.mark.parametrize("name", NAMES)
def test_it_runs_unchanged_where_d32_has_been_downloaded(name, home):
    """A small stand-in lies where d32 would; by d32's settings, and with none of the starter's."""
    install_tiny_model(home, "d32", sequence_len=2048)
    notebook = without_warnings(execute(stored(name), FOLDER, home))
    assert shape(notebook) == shape(stored(name))
    assert notebook.cells[1].outputs[0].text.startswith("Model pretrained/d32 on ")
    assert sorted(run.tag for run in Run.list()) == RUNS[name]
    for run in Run.list():
        assert run.record()["original_base"] == "pretrained/d32"
        assert run.settings().init_lr_frac == FinetuneConfig("-").init_lr_frac
        assert run.settings().replay_path is None


@pytest.mark.parametrize("name", NAMES)
def test_the_stored_outputs_are_of_this_code_and_fit_for_a_page(name):
    notebook = stored(name)
    nbformat.validate(notebook)
    assert problems(notebook) == []


@pytest.fixture
def notebook():
    cell = nbformat.v4.new_code_cell("1 + 1", execution_count=1)
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Hello"), cell])
    made.metadata["nanochat_studio"] = {"source_sha256": source_hash(made)}
    return made


def show(notebook, text):
    notebook.cells[1].outputs = [nbformat.v4.new_output("stream", name="stdout", text=text)]


def test_a_fit_notebook_has_no_problems(notebook):
    show(notebook, "2, as in data/example_data.jsonl and http://127.0.0.1:7860/tmp")
    assert problems(notebook) == []


def test_changed_code_is_noticed_and_changed_prose_is_not(notebook):
    notebook.cells[0].source = "# Good day"
    assert problems(notebook) == []
    notebook.cells[1].source = "1 + 2"
    assert "make notebooks" in problems(notebook)[0]


def test_moved_cells_are_noticed(notebook):
    notebook.cells.append(nbformat.v4.new_code_cell("2", execution_count=7))
    assert any("cell 2 was not run in its place" in problem for problem in problems(notebook))


@pytest.mark.parametrize("path", ["/home/me/models/x", "saved in '/tmp/tmpabc/y'", "/Users/me/nanochat"])
def test_machine_paths_are_refused(notebook, path):
    show(notebook, path)
    assert "shows a path of the machine" in problems(notebook)[0]
    picture = nbformat.v4.new_output("display_data", {"text/html": f"<b>{path}</b>"})
    notebook.cells[1].outputs = [picture]
    assert "shows a path of the machine" in problems(notebook)[0]


def test_warnings_errors_and_large_files_are_refused(notebook):
    notebook.cells[1].outputs = [nbformat.v4.new_output("stream", name="stderr", text="careful")]
    assert "shows an error or a warning" in problems(notebook)[0]
    show(notebook, "x" * MOST_BYTES)
    assert "bytes" in problems(notebook)[0]


def test_no_kernel_outlives_its_notebook(tmp_path):
    def children():
        return {child.pid for child in psutil.Process().children(recursive=True) if child.status() != "zombie"}

    before = children()
    for code in ("import os; print(os.getpid())", "1 / 0"):
        made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
        with contextlib.suppress(CellExecutionError):
            execute(made, tmp_path, tmp_path)
        assert children() == before
    assert "ZeroDivisionError" in made.cells[0].outputs[0].ename


def test_what_cannot_be_stored_leaves_the_file_as_it_was(tmp_path, monkeypatch, notebook):
    monkeypatch.setattr("notebooks.execute.FOLDER", tmp_path)
    for code, said in (("print('/tmp/here')", "path of the machine"), ("print('fine')", None)):
        notebook.cells[1].source = code
        nbformat.write(notebook, tmp_path / "mine.ipynb")
        written = (tmp_path / "mine.ipynb").read_bytes()
        found = store(tmp_path / "mine.ipynb")
        if said:
            assert said in found[0]
            assert (tmp_path / "mine.ipynb").read_bytes() == written
    assert found == []
    after = nbformat.read(tmp_path / "mine.ipynb", as_version=4)
    assert problems(after) == []
    assert after.cells[1].outputs[0].text == "fine\n"


def test_a_device_that_is_none():
    with pytest.raises(ValueError, match="Use auto, cuda, mps, cpu"):
        nanochat_core.choose_device("gpu")


@pytest.mark.parametrize("name", NAMES)
def test_only_public_names_no_classes_and_the_model_in_one_place(name):
    code = "\n".join(cell.source for cell in stored(name).cells if cell.cell_type == "code")
    nodes = list(ast.walk(ast.parse(code)))
    assert not any(isinstance(node, ast.ClassDef) for node in nodes)
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module == "nanochat_core":
            assert {alias.name for alias in node.names} <= set(nanochat_core.__all__)
        elif isinstance(node, ast.ImportFrom):
            assert node.module in OTHER_PACKAGES
        elif isinstance(node, ast.Import):
            assert {alias.name for alias in node.names} <= OTHER_PACKAGES
        elif isinstance(node, ast.Attribute):
            assert not node.attr.startswith("_"), node.attr
        elif isinstance(node, ast.Constant):
            assert node.value not in ("starter", "d32", "pretrained/d32", "cpu", "cuda")
    assigned = [node for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    assert [name.id for name in assigned].count("MODEL") == 1
