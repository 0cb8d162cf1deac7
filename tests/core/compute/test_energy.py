"""The energy of a training: from the processor's counters, over their end, and into the run's status."""

import torch

from nanochat_core import finetune
from nanochat_core.compute.energy import EnergyCounter
from tests.support.short_training import changed, short_training


def _package(folder, name, joules, size=100.0):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "name").write_text(name)
    (folder / "energy_uj").write_text(str(int(joules * 1e6)))
    (folder / "max_energy_range_uj").write_text(str(int(size * 1e6)))


def test_the_packages_of_a_processor_are_added_up_and_may_begin_again(tmp_path):
    first, second = tmp_path / "intel-rapl:0", tmp_path / "intel-rapl:1"
    _package(first, "package-0", 90)
    _package(second, "package-1", 10)
    _package(tmp_path / "intel-rapl:0:0", "core", 5)
    counter = EnergyCounter(torch.device("cpu"), tmp_path)
    assert counter.joules() == 0
    _package(first, "package-0", 20)  # 10 to its end, then 20
    _package(second, "package-1", 15)
    _package(tmp_path / "intel-rapl:0:0", "core", 50)
    assert counter.joules() == 35
    assert counter.joules() == 35
    assert counter.of == "of the whole processor"


def test_a_counter_that_fails_meanwhile_ends_the_counting_alone(tmp_path):
    _package(tmp_path / "intel-rapl:0", "package-0", 90)
    counter = EnergyCounter(torch.device("cpu"), tmp_path)
    (tmp_path / "intel-rapl:0" / "energy_uj").unlink()
    assert counter.joules() is None
    assert counter.joules() is None


def test_where_nothing_counts_nothing_is_told(tmp_path, home):
    assert EnergyCounter(torch.device("cpu"), tmp_path).joules() is None


def test_a_run_tells_what_it_took_and_a_resumed_one_goes_on(home, monkeypatch):
    monkeypatch.setattr(EnergyCounter, "joules", lambda counter: 7.0)
    config = short_training(home)
    run = finetune(changed(config, num_iterations=2))
    assert run.status().more["energy_joules"] == 7.0
    run.write_status(energy_joules=100.0)
    from nanochat_core.compute.ranks import Ranks
    from nanochat_core.runs.stopping import StopFlag
    from nanochat_core.training.recorder import Recorder

    recorder = Recorder(run, run.settings(), Ranks(0, 1, torch.device("cpu")), StopFlag(), print)
    recorder._note_energy()
    assert run.status().more["energy_joules"] == 107.0
