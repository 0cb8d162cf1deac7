"""What the Evaluate tab does, without a browser: facts, rename, delete, curves, comparison."""

import csv
import io

import gradio as gr
import pytest

from nanochat_core.config import FinetuneConfig
from nanochat_core.evaluation.results import all_replies, keep, result_path, results
from nanochat_core.paths import adapter_base, adapter_path, find_model, meta_path, weights_path
from nanochat_core.runs import curves
from nanochat_core.runs.presets import original_base
from nanochat_core.runs.run import Run
from nanochat_core.system import processes
from nanochat_core.system.files import write_json
from studio.evaluate_tab import charts, comparison, handlers
from studio.evaluate_tab.asking import Asking
from studio.runs import facts as run_facts
from studio.runs import queue as run_queue
from tests.e2e.invented import invent_run
from tests.support.pressed import Pressed

ANSWER = {"question": "When?", "key": "k", "reply": "At 7.", "expected": ["7"], "correct": True}
KEPT = {"step": 7, "complete": True, "made": "2025", "correct": 1, "total": 1, "answers": [ANSWER]}


def test_a_run_in_one_row(home):
    invent_run("mine", "stopped", 40, 20)
    facts = run_facts.facts_of(Run.open("mine"))
    assert (facts.tag, facts.state, facts.base, facts.data) == ("mine", "stopped", "starter", "example_data.jsonl")
    assert (facts.steps, facts.planned, facts.device) == (20, 40, "cpu")
    assert len(facts.version) == 8
    assert facts.seconds == pytest.approx(20 * 1650 / 1270, rel=0.05)
    assert len(facts.row()) == len(run_facts.COLUMNS)


def test_runs_are_sorted_and_shown_as_text(home):
    invent_run("slow", steps=60, init_lr_frac=0.4)
    invent_run("best", steps=30, init_lr_frac=0.05).write_status(best_val_loss=0.1)
    run_facts.set_note("slow", "<script>alert(1)</script>")
    orders = {by: [one.tag for one in run_facts.sorted_facts(run_facts.all_facts(), by)] for by in run_facts.SORTS}
    assert orders["Newest first"] == orders["Best validation first"] == orders["By name"] == ["best", "slow"]
    assert orders["Longest first"] == ["slow", "best"]
    assert "<script" not in handlers.show_table("By name", "slow")


def test_a_note_stays_with_the_run(home):
    invent_run("mine")
    run_facts.set_note("mine", " lower rates ")
    assert run_facts.facts_of(Run.open("mine")).note == "lower rates"
    run_facts.rename("mine", "other", [])
    assert run_facts.note_of(Run.open("other")) == "lower rates"


def test_a_renamed_run_can_still_be_resumed_and_built_on(home):
    invent_run("mine", "stopped", 40, 20)
    invent_run("child", from_finetuned="mine")
    run_facts.rename("mine", "renamed", [])
    assert Run.open("renamed").settings().output_tag == "renamed"
    assert Run.open("child").settings().from_finetuned == "renamed"
    assert original_base("finetuned/child") == "starter"
    with pytest.raises(ValueError, match="already a run 'child'"):
        run_facts.rename("renamed", "child", [])
    with pytest.raises(ValueError, match="output_tag"):
        run_facts.rename("renamed", "../out", [])


def test_an_adapter_finds_its_base_under_the_new_name(home):
    base, child = invent_run("mine"), invent_run("child", from_finetuned="mine")
    for run, step in ((base, 7), (child, 3)):
        meta = {"step": step, "adapter": {"base": "finetuned/mine", "step": 7}} if run is child else {"step": step}
        write_json(meta_path(run.path, step), meta)
    weights_path(base.path, 7).touch()
    (adapter_path(child.path, 3)).mkdir()
    run_facts.rename("mine", "renamed", [])
    found = adapter_base(find_model("finetuned/child"))
    assert (found.name, found.step) == ("finetuned/renamed", 7)


def test_a_run_that_waits_finds_its_base_under_the_new_name(home):
    invent_run("mine")
    run_queue.add(FinetuneConfig("data.jsonl", from_finetuned="mine", output_tag="next"))
    run_queue.add(FinetuneConfig("data.jsonl", output_tag="another"))
    run_facts.rename("mine", "renamed", [])
    assert [one.config["from_finetuned"] for one in run_queue.waiting()] == ["renamed", None]
    with pytest.raises(ValueError, match="'next' waits to be trained from 'renamed'"):
        run_facts.delete("renamed", [])


def test_results_of_a_renamed_run_are_still_its_own(home):
    invent_run("mine")
    keep(result_path("finetuned/mine", "questions", "0" * 64, {}), KEPT | {"model": "finetuned/mine"})
    run_facts.rename("mine", "renamed", [])
    assert [one["model"] for one in results("finetuned/renamed")] == ["finetuned/renamed"]
    assert all_replies("finetuned/renamed", 7) == {"k": "At 7."}


def test_two_names_of_the_same_weights_have_results_of_their_own(home):
    for name in ("starter", "pretrained/copy"):
        keep(result_path(name, "questions", "0" * 64, {}), KEPT | {"model": name})
    assert len(results("starter")) == len(results("pretrained/copy")) == 1


def test_a_run_is_left_alone_while_it_is_asked(home):
    invent_run("mine")
    seen = []

    class Models:
        def evaluate(self, models, wanted, report, stop):
            for act in (handlers.delete_run, lambda tag, *more: handlers.rename_run(tag, "other", *more)):
                with pytest.raises(ValueError, match="is being asked questions"):
                    act("mine", [], asking.names)
                seen.append(True)
            return True

    asking = Asking(Models())
    list(asking.ask([("finetuned/mine", 7)], {}))
    assert (seen, asking.names) == ([True, True], [])
    assert run_facts.rename("mine", "other", [], asking.names).tag == "other"


def test_a_run_is_not_renamed_while_another_one_trains_from_it(home):
    invent_run("mine")
    child = invent_run("child", "running", 40, 20, from_finetuned="mine")
    child.write_launch(**processes.identity().to_dict())
    with pytest.raises(ValueError, match="'child' is training from 'mine'"):
        run_facts.rename("mine", "other", [])


@pytest.mark.parametrize("act", [run_facts.delete, lambda tag, loaded: run_facts.rename(tag, "other", loaded)])
def test_a_run_in_use_is_left_alone(home, act):
    run = invent_run("mine", "running", 40, 20)
    run.write_launch(**processes.identity().to_dict())  # this very process stands for the run
    with pytest.raises(ValueError, match="is training"):
        act("mine", [])
    run.launch_file.unlink()
    with pytest.raises(ValueError, match="Unload it"):
        act("mine", ["finetuned/mine"])


def test_a_run_is_deleted_unless_others_are_built_on_it(home):
    invent_run("mine")
    invent_run("child", from_finetuned="mine")
    with pytest.raises(ValueError, match="'child' was trained from 'mine'"):
        run_facts.delete("mine", [])
    run_facts.delete("child", [])
    run_facts.delete("mine", [])
    assert Run.list() == []


@pytest.mark.parametrize("x_axis", ["step", "epoch", "tokens", "minutes"])
def test_curves_of_several_runs(home, x_axis):
    invent_run("one", steps=20)
    invent_run("two", steps=40)
    series = charts.curves(["one", "two", "gone"], x_axis)
    assert [one.name for one in series] == ["one, training", "one, validation", "two, training", "two, validation"]
    ends = [one.points[-1][0] for one in series]
    assert ends[0] == ends[1] < ends[2] == ends[3]
    picture = charts.chart(series, x_axis, log=True)
    assert picture.count("<polyline") == 2 * 4  # a wide and a narrow shape
    assert picture.count("best ") >= 2
    assert len(charts.curves(["one"], x_axis, "Training")) == len(charts.curves(["one"], x_axis, "Validation")) == 1


def test_downloads(home):
    invent_run("one", steps=20)
    assert charts.png(charts.curves(["one"]), "step", log=True).startswith(b"\x89PNG")
    assert charts.png([], "step", log=False).startswith(b"\x89PNG")
    rows = list(csv.DictReader(io.StringIO(charts.csv_text(["one", "gone"]))))
    assert {row["run"] for row in rows} == {"one"}
    assert sum(bool(row["train_loss"]) for row in rows) == 20


@pytest.mark.parametrize("tag", ["=1+1", "+1", "@SUM(A1)", " =1"])
def test_no_spreadsheet_takes_a_name_for_a_formula(tag):
    assert charts.as_text(tag) == f"'{tag}"
    assert charts.as_text("one") == "one"


def test_a_download_has_no_formulas(home):
    invent_run("=HYPERLINK(1)", steps=2)
    rows = list(csv.reader(io.StringIO(charts.csv_text(["=HYPERLINK(1)"]))))
    assert not [cell for row in rows for cell in row if cell[:1] in ("=", "+", "@")]


def test_without_a_run_every_button_says_that_none_is_chosen(home, page):
    pressed = Pressed(page, eval_run=None, eval_name="other")
    for button in ("eval_keep", "eval_rename"):
        pressed["eval_said"] = ""
        [event] = pressed.events(button, "click")
        next(pressed.begin(event))
        assert "No run is chosen" in str(pressed["eval_said"]), button
    for button in ("eval_notebook", "eval_png", "eval_csv"):
        pressed["eval_shown"] = []
        with pytest.raises(gr.Error, match="No run is chosen"):
            pressed.do(button)


def test_only_what_differs_is_compared(home):
    invent_run("one", init_lr_frac=0.4)
    invent_run("two", init_lr_frac=0.1, seed=7)
    assert comparison.differences("one", "two") == [("init_lr_frac", "0.4", "0.1"), ("seed", "42", "7")]
    shown = comparison.comparison_html("one", "two")
    assert shown.count("version ") == 2
    assert "num_epochs" not in shown
    assert "same run" in comparison.comparison_html("one", "one")


def test_the_lists_follow_what_there_is(home):
    newest = run_facts.SORTS[0]
    assert "No run yet" in handlers.refresh(newest, "gone", ["gone"])[0]
    invent_run("one")
    table, run, shown = handlers.refresh(newest, None, ["gone"])
    assert "<td>one</td>" in table
    assert (run["value"], shown["value"]) == ("one", ["one"])


def test_what_was_chosen_meanwhile_is_not_overwritten(home):
    """The choices are looked at each few seconds; an answer comes late to whoever has chosen something else since."""
    for tag in ("one", "two"):
        invent_run(tag, "finished", 10, 10)
    newest = run_facts.SORTS[0]
    _, run, shown = handlers.refresh(newest, "one", ["one"])
    assert set(run["choices"]) == {"one", "two"}
    assert "value" not in run
    assert "value" not in shown


def test_the_watch_sends_nothing_while_nothing_changes(home):
    invent_run("one", "stopped", 40, 20)
    look, pickers = (["one"], "Both", "step", 0.6, False), (run_facts.SORTS[0], "one", ["one"])
    seen = handlers.watch([], *look, *pickers)[0]
    assert handlers.watch(seen, *look, *pickers) == [gr.skip()] * 5
    Run.open("one").write_status(step=21)
    assert "<svg" in handlers.watch(seen, *look, *pickers)[1]
    assert "deleted" in handlers.delete_run("one", [])[1]


def test_another_tab_asks_for_a_run(home):
    invent_run("one")
    invent_run("two")
    table, run, shown = handlers.wished_run(["one", "#eval_rows", "1"], run_facts.SORTS[0])
    assert "class=chosen><td>one</td>" in table
    assert (run["value"], shown["value"]) == ("one", ["one"])
    assert handlers.wished_run(["gone", "", "2"], run_facts.SORTS[0]) == [gr.skip()] * 3


def test_over_tokens_a_validation_stands_at_those_of_the_step_before():
    rows = [{"step": 0, "val_loss": 3.0}, {"step": 1, "tokens": 50, "train_loss": 2.0}, {"step": 1, "val_loss": 2.5}]
    assert curves.points(rows, "val_loss", "tokens") == [(0.0, 3.0), (50.0, 2.5)]
    assert curves.points(rows, "train_loss", "tokens") == [(50.0, 2.0)]
