"""The fold for several machines: a command for each, and in the live view who has joined."""

from nanochat_core.system import processes
from nanochat_core.system.hardware import Hardware
from studio.runs import live
from studio.train_tab.choices import form_names
from studio.train_tab.handlers import Handlers
from studio.train_tab.machines_panel import shown_commands
from tests.e2e.invented import invent_run
from tests.support.training_form import form, write_form_data


def _chosen(home) -> list:
    values = form()
    return ["starter", write_form_data(home), "mine", [], 2, *(values[name] for name in form_names())]


def test_each_machine_has_its_command(home):
    handlers = Handlers(Hardware((), apple=False, cores=4, memory=8 << 30))
    chosen = _chosen(home)
    assert shown_commands(handlers, 2, " ", 3, *chosen).startswith("# Where shall the machines meet?")
    text = shown_commands(handlers, 2, "10.0.0.1:29400", 3, *chosen)
    first, second = text.split("\n\n")
    assert first.startswith("# on machine 1 of 2\npython -m nanochat_core finetune --nproc 2 --nnodes 2 --node_rank 0")
    assert second == first.replace("machine 1 of 2", "machine 2 of 2").replace("--node_rank 0", "--node_rank 1")
    assert (
        "--rdzv_endpoint 10.0.0.1:29400 --max_restarts 3 --data_path data/mine_data.jsonl --model_tag starter" in text
    )


def test_the_view_says_who_has_joined(home):
    run = invent_run("mine", "starting", 0)
    doing = "Waiting for 1 of 3 machines to join at a:1."
    run.write_status(state="starting", nodes=["alpha", "beta"], nodes_wanted=3, doing=doing, restarts=2)
    run.write_launch(**processes.identity().to_dict(), detached=True)
    page = live.look("mine").status
    assert "2 of 3: alpha, beta" in page
    assert "Restarts" in page
    assert doing in page
