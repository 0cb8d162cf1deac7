"""What the Train tab says before the start: counts, refusals, room on the disk and in memory, measured steps."""

import copy
import dataclasses
import json
from pathlib import Path

import pytest

from nanochat_core.data import reader
from nanochat_core.system import hardware
from nanochat_core.training.needs import Needs
from studio.runs import estimate
from studio.train_tab import before_start, choices
from studio.train_tab.counting import Counting, Superseded
from studio.train_tab.handlers import Handlers
from tests.support.pressed import Pressed
from tests.support.training_form import ROWS, form, write_form_data


@pytest.fixture
def data(home):
    return write_form_data(home)


@pytest.mark.parametrize(
    "changes", [{}, {"val_split": 0.5, "num_iterations": 9}, {"max_seq_len": 30}, {"num_epochs": 2}]
)
def test_the_counts_are_those_of_the_training(data, changes):
    from nanochat_core.data.tokens.plan import Plan
    from nanochat_core.data.training_data import load_training_data
    from nanochat_core.paths import starter_dir
    from nanochat_core.tokenizer.tokenizer import Tokenizer

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
        before_start.before_start(config, hardware.find_hardware(), 1)
    with pytest.raises(ValueError, match="cannot be read"):
        estimate.estimate(dataclasses.replace(config, data_path="gone.jsonl"))


def test_a_full_disk_is_said(data, monkeypatch):
    monkeypatch.setattr(estimate, "_free_space", lambda: 1000)
    config = choices.make_config("starter", data, "mine", form())
    assert "Free some space" in before_start.before_start(config, hardware.find_hardware(), 1)


def needs(**changes) -> Needs:
    """What a measurement found, with changes."""
    found = {
        "seconds_per_step": 1.0, "tokens_per_s": 10.0, "peak_bytes": 50, "device_bytes": 100, "device": "cpu",
        "dtype": "float32", "parameters": 5, "steps": 60, "steps_per_epoch": 60, "examples_train": 18,
        "examples_validation": 2, "tokens_per_epoch": 600, "trained_tokens_per_epoch": 300, "validations": 2,
        "seconds_per_validation": 0.0, "total_seconds": 60.0, "measured_steps": 4, "notes": [],
    }  # fmt: skip
    return Needs(**{**found, **changes})


def test_memory_that_is_nearly_full_is_said():
    assert "device_batch_size" in before_start.probe_result(needs(peak_bytes=95), 1)
    assert "device_batch_size" not in before_start.probe_result(needs(), 2)


class _Measuring:
    """Stands for the models' processes: reports once, then fails or answers."""

    def __init__(self, error: str = ""):
        self.error = error

    def probe(self, config, report, stop):
        report(0.5, "Measured step 2 of 4")
        if self.error:
            raise ValueError(self.error)
        return needs()


def test_measuring_shows_how_far_it_is_and_gives_the_button_back(data):
    handlers = Handlers(hardware.find_hardware())
    chosen = ["starter", data, "mine", [], 1, *form().values()]
    (progress, busy, _), (_, button, measured) = handlers.probe(_Measuring(), *chosen)
    assert 'aria-valuenow="50"' in progress
    assert "Measured step 2 of 4" in progress
    assert (busy.interactive, button.interactive) == (False, True)
    assert "4 real steps" in handlers.measured(measured, *chosen)
    *_, (_, button, failed) = handlers.probe(_Measuring("out of memory"), *chosen)
    assert "out of memory" in handlers.measured(failed, *chosen)
    assert button.interactive


def test_figures_of_former_settings_do_not_stand_under_new_ones(data):
    handlers = Handlers(hardware.find_hardware())
    chosen = ["starter", data, "mine", [], 1, *form().values()]
    *_, (_, _, measured) = handlers.probe(_Measuring(), *chosen)
    others = ["starter", data, "mine", [], 2, *form().values()]
    assert "measure again" in handlers.measured(measured, *others)


def test_the_counts_of_the_last_choice_are_those_that_stay(page):
    """One event that gradio orders: of several, a slow count of what was chosen before could come last."""
    pressed = Pressed(page)
    counts = pressed.page.blocks[pressed.ids["train_counts"]]
    [preview] = [event for event in pressed.page.fns.values() if counts in event.outputs]
    assert preview.trigger_mode == "always_last"
    fields = [pressed.ids[name] for name in ("train_base", "train_data", "train_tag")]
    assert {(number, "change") for number in fields} < set(preview.targets)


@pytest.fixture
def slow(data, cached, monkeypatch):
    """The same rows many times, which are read in many blocks."""
    path = Path(data).with_name("slow_data.jsonl")
    path.write_text(Path(data).read_text() * 40)
    monkeypatch.setattr(before_start, "_LARGE_BYTES", 1000)
    monkeypatch.setattr(reader, "BLOCK_BYTES", 4096)
    return str(path), cached


def test_a_newer_choice_ends_the_count_of_the_older_one(page, data, slow):
    path, cached = slow
    pressed = Pressed(page, train_base="starter", train_data=path, train_tag="mine")
    counts = pressed.page.blocks[pressed.ids["train_counts"]]
    [preview] = [event for event in pressed.page.fns.values() if counts in event.outputs]
    [told] = [one for one in pressed.events("train_data", "change") if one is not preview and counting_of(one)]
    assert (told.queue, told.trigger_mode) == (False, "always_last")  # it is not to wait for what it ends
    assert {(number, "change") for number in (pressed.ids["train_data"], pressed.ids["train_base"])} < set(told.targets)

    older = pressed.begin(preview)
    next(older)
    assert "Counting the tokens" in pressed["train_counts"]
    pressed["train_tag"] = "another"
    list(pressed.begin(told))
    list(older)  # a name is not counted: it goes on
    assert "1,600" in pressed["train_counts"]

    estimate._cache.clear()
    for file in cached.iterdir():
        file.unlink()
    pressed["train_counts"] = ""
    older = pressed.begin(preview)
    next(older)
    pressed["train_data"] = data
    list(pressed.begin(told))
    list(older)
    assert "Counting the tokens" in pressed["train_counts"]  # the older one shows nothing more,
    assert path not in [str(key[0]) for key in estimate._cache]  # was not counted to its end,
    assert list(cached.iterdir()) == []  # and left nothing behind
    list(pressed.begin(preview))
    assert "40" in pressed["train_counts"]


def counting_of(event) -> bool:
    return any(isinstance(getattr(field, "value", None), Counting) for field in event.inputs)


def test_each_page_counts_for_itself():
    one = Counting()
    other = copy.deepcopy(one)
    go_on, goes_on = one.begin("this"), other.begin("this")
    one.chosen("that")
    goes_on()
    with pytest.raises(Superseded):
        go_on()
    one.begin("that")()


def test_gpus_are_ticked_by_their_numbers():
    gpus = tuple(hardware.Gpu(number, "NVIDIA H100", 80 << 30, 0) for number in range(2))
    found = hardware.Hardware(gpus, False, 8, 64 << 30)
    choices = before_start.gpu_choices(found)
    assert choices[0][0].startswith("GPU 0: NVIDIA H100")
    assert before_start.processes(found, [index for _, index in choices], 1) == (2, "")
    assert before_start.processes(found, [1], 1) == (1, "1")
    with pytest.raises(ValueError, match="No GPU is ticked"):
        before_start.processes(found, [], 1)
