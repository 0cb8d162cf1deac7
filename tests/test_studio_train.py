"""What the Train tab does, without a browser: choices, counts, commands, launching, stopping, the queue, live view."""

import dataclasses
import json
import os
import shlex
import stat

import gradio as gr
import pytest

from nanochat_core.config import FinetuneConfig
from nanochat_core.presets import with_preset
from nanochat_core.run_status import RunStatus
from nanochat_core.runs import Run
from studio import (
    commands,
    download_panel,
    estimate,
    hardware,
    html,
    launching,
    live,
    run_metrics,
    run_queue,
    stops,
    train_state,
)
from studio import train_choices as choices
from studio.train_events import Handlers
from tests.e2e.invented import EXAMPLE, invent_run

ROWS = [
    {"messages": [{"role": "user", "content": f"Question {i}?"}, {"role": "assistant", "content": f"Answer {i}. " * i}]}
    for i in range(1, 41)
]


@pytest.fixture
def data(home):
    path = home / "data" / "mine_data.jsonl"
    path.parent.mkdir()
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return str(path)


def form(**changes):
    values = choices.preset_values(choices.PRESETS[0], "starter", "")
    return {**values, **changes}


# Choices


def test_the_form_and_what_is_chosen_elsewhere_are_all_settings():
    every = {field.name for field in dataclasses.fields(FinetuneConfig)}
    assert {*choices.form_names(), *choices.CHOSEN_ELSEWHERE} == every
    assert choices.form_names()[: len(choices.ESSENTIAL)] == list(choices.ESSENTIAL)


def test_a_form_gives_the_config(data):
    config = choices.make_config("starter", data, " mine ", form(num_epochs=3.0, replay_path="", replay_ratio=0))
    assert choices.make_config("starter", data, "mine", form(model_step=" 7 ")).model_step == 7
    assert config.model_step is None
    assert (config.num_epochs, type(config.num_epochs)) == (3, int)
    assert (config.output_tag, config.replay_path, config.model_tag) == ("mine", None, "starter")


@pytest.mark.parametrize(
    ("base", "path", "tag", "changes", "said"),
    [
        ("starter", "", "mine", {}, "No dataset"),
        ("starter", "x.jsonl", " ", {}, "no name"),
        ("nothing", "x.jsonl", "mine", {}, "No base model"),
        ("starter", "x.jsonl", "mine", {"num_epochs": None}, "num_epochs is empty"),
        ("starter", "x.jsonl", "mine", {"num_epochs": 1.5}, "whole number"),
        ("starter", "x.jsonl", "mine", {"model_step": "last"}, "whole number"),
        ("starter", "x.jsonl", "mine", {"num_epochs": 0}, "at least 1"),
    ],
)
def test_what_cannot_work_is_said(base, path, tag, changes, said):
    with pytest.raises(ValueError, match=said):
        choices.make_config(base, path, tag, form(**changes))


@pytest.mark.parametrize("value", ["starter", "pretrained/mid/d32", "finetuned/mine"])
def test_a_base_is_read_back_from_its_settings(value):
    assert choices.base_value(FinetuneConfig(data_path="x", **choices.base_settings(value))) == value


def test_settings_are_saved_and_loaded(data, tmp_path):
    config = choices.make_config("starter", data, "mine", form(seed=7))
    path = tmp_path / "settings.json"
    path.write_text(choices.settings_json(config))
    assert choices.read_settings(path) == config
    path.write_text(json.dumps({"settings": config.to_dict(), "versions": {}}))  # a run's config.json
    assert choices.read_settings(path) == config
    path.write_text('{"data_path": "x", "learning_rate": 1}')
    with pytest.raises(ValueError, match="learning_rate"):
        choices.read_settings(path)
    path.write_text("[1]")
    with pytest.raises(ValueError, match="no settings"):
        choices.read_settings(path)


def test_a_name_is_suggested_that_is_free(home, data):
    assert choices.suggest_tag(data) == "mine"
    (home / "models" / "finetuned" / "mine").mkdir(parents=True)
    assert choices.suggest_tag(data) == "mine-2"
    assert choices.suggest_tag("/x/My data (1).jsonl") == "My-data--1"


def test_questions_lie_beside_the_data(data):
    assert choices.questions_beside(data) is None
    questions = data.replace("_data.jsonl", "_questions.jsonl")
    open(questions, "w").close()
    assert choices.questions_beside(data) == questions


# Hardware


def fake_nvidia(tmp_path, monkeypatch, script):
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin")


def test_gpus_are_found_without_torch(tmp_path, monkeypatch):
    fake_nvidia(tmp_path, monkeypatch, "echo '0, NVIDIA H100 80GB HBM3, 81559, 4'; echo '1, NVIDIA GB10, [N/A], [N/A]'")
    found = hardware.find_hardware()
    assert [(gpu.index, gpu.memory >> 30) for gpu in found.gpus] == [(0, 79), (1, 0)]
    assert "NVIDIA H100" in found.sentence()
    names = train_state.gpu_names(found)
    assert train_state.processes(found, names, 1) == (2, "")
    assert train_state.processes(found, names[1:], 1) == (1, "1")
    with pytest.raises(ValueError, match="No GPU is ticked"):
        train_state.processes(found, [], 1)


def test_no_gpu_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "No GPU was found" in hardware.find_hardware().sentence() or hardware.find_hardware().apple
    fake_nvidia(tmp_path, monkeypatch, "exit 9")
    assert "gave no list" in hardware.find_hardware().sentence() or hardware.find_hardware().apple


# Before the start


@pytest.mark.parametrize(
    "changes", [{}, {"val_split": 0.5, "num_iterations": 9}, {"max_seq_len": 30}, {"num_epochs": 2}]
)
def test_the_counts_are_those_of_the_training(data, changes):
    from nanochat_core.batches import Plan
    from nanochat_core.paths import starter_dir
    from nanochat_core.tokenizer import Tokenizer
    from nanochat_core.training_data import load_training_data

    config = choices.make_config("starter", data, "mine", form(**changes))
    found = estimate.estimate(config)
    real = load_training_data(config, Tokenizer.from_directory(starter_dir()))
    plan = Plan(real.train, real.replay, config.replay_ratio, config.target_examples_per_step, config.seed)
    assert (found.train, found.validation) == (len(real.train), len(real.validation))
    assert (found.replayed, found.steps_per_epoch) == (plan.replayed_per_epoch, plan.steps_per_epoch)
    expected = config.num_iterations if config.num_iterations > 0 else config.num_epochs * plan.steps_per_epoch
    assert found.steps == expected
    if not config.replay_ratio:
        assert found.tokens_per_epoch == sum(example.inputs for example in real.train)
        assert found.trained_per_epoch == sum(example.supervised for example in real.train)
    said = [note for note in real.notes if "longer than" in note]
    assert bool(found.cut) == bool(said) == ("max_seq_len" in changes)
    assert not said or said[0].startswith(f"{found.cut} ")


def test_a_changed_file_is_counted_anew(data):
    config = choices.make_config("starter", data, "mine", form())
    assert estimate.estimate(config).conversations == 40
    with open(data, "a") as file:
        file.write(json.dumps(ROWS[0] | {"messages": ROWS[0]["messages"] * 2}) + "\n")
    assert estimate.estimate(config).conversations == 41


def test_what_the_training_would_refuse_is_said_before(data):
    config = choices.make_config("starter", data, "mine", form())
    with open(data, "a") as file:
        file.write("{broken\n")
    with pytest.raises(ValueError, match="41"):
        train_state.before_start(config)
    with pytest.raises(ValueError, match="cannot be read"):
        estimate.estimate(dataclasses.replace(config, data_path="gone.jsonl"))


def test_a_full_disk_is_said(data, monkeypatch):
    monkeypatch.setattr(estimate, "_free_space", lambda: 1000)
    assert "Free some space" in train_state.before_start(choices.make_config("starter", data, "mine", form()))


def test_memory_that_is_nearly_full_is_said():
    measured = {
        "peak_bytes": 95, "device_bytes": 100, "total_seconds": 60.0, "seconds_per_step": 1.0, "tokens_per_s": 10.0,
        "device": "cuda", "dtype": "bfloat16", "parameters": 5, "measured_steps": 4,
    }  # fmt: skip
    assert "device_batch_size" in train_state.probe_result(measured, 1)
    assert "device_batch_size" not in train_state.probe_result({**measured, "peak_bytes": 50}, 2)


class _Measuring:
    """Stands for the models' processes: reports once, then fails or answers."""

    def __init__(self, error: str = ""):
        self.error = error

    def probe(self, config, report, stop):
        report(0.5, "Measured step 2 of 4")
        if self.error:
            raise ValueError(self.error)
        return {
            "peak_bytes": 50, "device_bytes": 100, "total_seconds": 60.0, "seconds_per_step": 1.0,
            "tokens_per_s": 10.0, "device": "cpu", "dtype": "float32", "parameters": 5, "measured_steps": 4,
        }  # fmt: skip


def test_measuring_shows_how_far_it_is_and_gives_the_button_back(data):
    handlers = Handlers(hardware.find_hardware())
    chosen = ["starter", data, "mine", [], 1, *form().values()]
    (progress, busy), (shown, button) = handlers.probe(_Measuring(), *chosen)
    assert 'aria-valuenow="50"' in progress
    assert "Measured step 2 of 4" in progress
    assert (busy.interactive, button.interactive) == (False, True)
    assert "4 real steps" in shown
    *_, (failed, button) = handlers.probe(_Measuring("out of memory"), *chosen)
    assert "out of memory" in failed
    assert button.interactive


# Commands


@pytest.mark.parametrize("changes", [{}, {"num_epochs": 3, "seed": 9}, {"replay_path": None, "replay_ratio": 0.0}])
@pytest.mark.parametrize("base", ["starter", "pretrained/mid/d32"])
def test_the_command_and_the_cell_make_the_same_config(base, changes, data, monkeypatch):
    from nanochat_core import __main__ as command_line

    config = choices.make_config(
        base, data, "my run", {**choices.preset_values(choices.PRESETS[0], base, data), **changes}
    )
    made = []
    monkeypatch.setattr(command_line, "_finetune_detached", lambda config, nproc: made.append((config, nproc)) or 0)
    words = shlex.split(commands.shell_command(config, 2, "0,3"))
    assert words[:5] == ["CUDA_VISIBLE_DEVICES=0,3", "python", "-m", "nanochat_core", "finetune"]
    assert command_line.main(words[4:]) == 0
    monkeypatch.setattr(
        "nanochat_core.launcher.start_run", lambda config, nproc=1: made.append((config, nproc)) or Run("x", EXAMPLE)
    )
    exec(commands.notebook_cell(config, 2), {})
    assert made == [(config, 2), (config, 2)]


# Launching, stopping, queueing: with the stand-in for the training process


@pytest.fixture
def fake_training(monkeypatch):
    """Runs that are started by the app do what the word says, and need no torch but torchrun's."""
    real = launching.start_run

    def choose(mode):
        monkeypatch.setenv("FAKE_WORKER", mode)
        monkeypatch.setattr(
            launching, "start_run", lambda *args, **kwargs: real(*args, **kwargs, worker="tests.fake_worker")
        )

    return choose


def settings_of(data, tag="mine"):
    return with_preset(data_path=data, model_tag="starter", output_tag=tag)


def wait_for(condition, seconds=60):
    import time

    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.1)


def test_one_run_at_a_time_stopped_and_the_queue_goes_on(data, fake_training):
    fake_training("wait")
    run = launching.start(settings_of(data))
    wait_for(run.has_begun)
    with pytest.raises(ValueError, match="Queue this run"):
        launching.start(settings_of(data, "second"))
    run_queue.add(settings_of(data, "second"))
    with pytest.raises(ValueError, match="already a run 'second'"):
        run_queue.add(settings_of(data, "second"))
    assert "second" in train_state.queue_html()
    assert run_queue.start_next() == ""
    assert live.followed("") == "mine"
    view = live.look("mine")
    assert view.can_stop
    assert not view.can_resume
    stops.stop(run)
    stops.stop(run)
    stops.wait("mine", 60)
    view = live.look("mine")
    assert "All its processes are gone" in view.status
    assert run.processes() == []
    assert view.can_resume
    fake_training("count")
    assert run_queue.start_next() == "second"
    assert Run.open("second").wait(60).state == "finished"
    assert run_queue.waiting() == []
    assert live.look("second").chart.startswith('<div class="chart">')


def test_what_cannot_start_stays_in_the_queue_with_its_reason(data, home):
    run_queue.add(settings_of(data))
    os.unlink(data)
    assert run_queue.start_next() == ""
    assert "cannot be read" in run_queue.waiting()[0].error
    assert "cannot be read" in train_state.queue_html()
    run_queue.remove("mine")
    assert train_state.queue_html() == ""


@pytest.mark.parametrize(
    ("remedy", "label"),
    [
        ("Use a smaller device_batch_size (the result stays the same)", "Retry with device_batch_size 4"),
        ("Lower the learning rates (init_lr_frac) and start again", "Retry with init_lr_frac 0.2"),
        ("Start the run with as many processes as there are GPUs (nproc).", "Retry with one process"),
        ("Free some space, then go on", ""),
    ],
)
def test_a_remedy_becomes_a_button(home, remedy, label):
    run = invent_run("mine", "failed", 40, 20, device_batch_size=8, init_lr_frac=0.4)
    run.write_status(error="It went wrong.", remedy=remedy)
    view = live.look("mine")
    assert view.retry == label
    assert remedy.split("(")[0] in view.status
    assert view.can_resume


def test_the_last_remedy_of_a_batch_of_one_is_a_shorter_context():
    status = RunStatus("failed", remedy="Use a smaller device_batch_size or max_seq_len.")
    config = FinetuneConfig(data_path="x", device_batch_size=1, max_seq_len=512)
    assert launching.change_for(status, config).settings == {"max_seq_len": 256}


def test_retry_starts_the_changed_run_under_a_free_name(home, fake_training):
    fake_training("count")
    failed = invent_run("mine", "failed", 40, 20, device_batch_size=8)
    failed.write_status(error="Full.", remedy="Use a smaller device_batch_size.")
    run = launching.retry("mine")
    assert (run.tag, run.settings().device_batch_size) == ("mine-2", 4)
    assert run.wait(60).state == "finished"


# The live view


def test_nothing_is_drawn_twice(home):
    run = invent_run("mine", "finished", 30)
    first = live.look("mine")
    assert live.look("mine") is first
    run.append_metrics({"step": 31, "train_loss": 0.5})
    assert live.look("mine") is not first


def test_before_any_run_it_says_what_to_do(home):
    assert live.followed("") == ""
    assert "Start training" in live.look("").status


def test_a_run_that_was_killed_can_be_resumed(home):
    invent_run("mine", "running", 40, 20)  # says that it runs, and has no process
    view = live.look("mine")
    assert "interrupted" in view.status
    assert view.can_resume


def test_text_of_data_and_logs_is_never_run(home):
    run = invent_run("mine", "failed", 10, 5)
    run.log_file.write_text("<script>alert(1)</script>")
    run.write_status(error="<img src=x onerror=alert(1)>", remedy="<b>")
    view = live.look("mine")
    assert "<script" not in view.log
    assert "<img" not in view.status
    assert "<b>" not in view.status


def test_metrics_are_read_on_and_anew_after_a_rewind(home):
    run = invent_run("mine", "finished", 20)
    before = len(run_metrics.rows(run))
    run.append_metrics({"step": 21, "train_loss": 1.0, "time": 5.0})
    with open(run.metrics_file, "a") as file:
        file.write('{"step": 22, "train')
    assert len(run_metrics.rows(run)) == before + 1
    with open(run.metrics_file, "a") as file:
        file.write('_loss": 0.5}\n')
    assert run_metrics.last(run_metrics.rows(run), "train_loss") == 0.5
    run.rewind_metrics(10)
    assert {row["step"] for row in run_metrics.rows(run)} == set(range(11))


@pytest.mark.parametrize(("seconds", "said"), [(None, "–"), (0.4, "0 s"), (61, "1 min 01 s"), (7260, "2 h 01 min")])
def test_times_are_said_as_people_say_them(seconds, said):
    assert html.duration(seconds) == said


def test_a_page_that_opens_late_leaves_what_is_said_about_downloads(home):
    said, _, _ = download_panel.begin("../etc")
    assert "../etc" in said
    assert download_panel.watch()[0] == gr.skip()
