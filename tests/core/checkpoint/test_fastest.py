"""The dtype called auto: the most exact of those that are within 5% of the fastest here, measured once."""

import json
import random

import pytest
import torch

from nanochat_core.checkpoint import fastest
from nanochat_core.checkpoint.loading import DTYPES

CPU = torch.device("cpu")


def test_the_choice_is_within_five_percent_of_the_fastest_and_the_most_exact_of_those():
    chance = random.Random(0)
    for _ in range(500):
        rates = {name: chance.uniform(90, 110) for name in DTYPES}
        chosen = fastest.choose(rates)
        enough = 0.95 * max(rates.values())
        assert rates[chosen] >= enough
        more_exact = list(DTYPES)[: list(DTYPES).index(chosen)]
        assert all(rates[name] < enough for name in more_exact)


def test_it_is_measured_once_for_a_processor_and_a_number_of_threads(home, monkeypatch):
    measured = []

    def measure() -> dict[str, float]:
        measured.append(torch.get_num_threads())
        return {"float32": 50.0, "bfloat16": 52.0, "int8": 20.0, "int4": 51.0}

    monkeypatch.setattr(fastest, "measure", measure)
    said = []
    assert [fastest.dtype_asked("auto", CPU, said.append) for _ in range(2)] == [torch.float32] * 2
    assert len(measured) == 1
    assert said[0] == said[1]
    assert said[0].startswith("float32 is the fastest on this machine, or within 5% of it")
    assert "int8 20" in said[0]
    monkeypatch.setattr(fastest, "fingerprint", lambda: "another processor")
    fastest.fastest()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    fastest.fastest()
    assert len(measured) == 3
    for file in (home / "cache" / "fastest").iterdir():
        file.write_text(json.dumps({"float32": 1.0}))  # of a version that knew fewer
    fastest.fastest()
    assert len(measured) == 4


def test_what_is_measured_here(home):
    found = fastest.fastest()
    assert found.rates.keys() == DTYPES.keys()
    assert all(rate > 0 for rate in found.rates.values())
    assert found.rates[found.dtype] >= 0.95 * max(found.rates.values())
    assert fastest.fastest() == found


def test_other_names_and_devices():
    def never(text: str) -> None:
        raise AssertionError(text)

    assert fastest.dtype_asked(None, CPU, never) is None
    assert fastest.dtype_asked("int4", CPU, never) == DTYPES["int4"]
    assert fastest.dtype_asked("auto", torch.device("meta"), never) is None
    with pytest.raises(ValueError, match="dtype is 'half'; it must be auto or one of float32, bfloat16, int8, int4"):
        fastest.dtype_asked("half", CPU, never)
