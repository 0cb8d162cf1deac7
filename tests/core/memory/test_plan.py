"""Which mode fits which card, and how `finetune --plan` says it: by tag, by file, with data and without."""

import json
from dataclasses import replace

import pytest

from nanochat_core.cli.main import main
from nanochat_core.config import MEMORY_MODES, FinetuneConfig
from nanochat_core.memory.parts import GIB
from nanochat_core.memory.plan import Device, named_card, parse_card, plan_memory, this_device, training_of
from nanochat_core.memory.shapes import shape_of, shape_of_depth
from nanochat_core.model.gpt import GPT
from nanochat_core.model.shape import GENERATIONS, GPTConfig
from nanochat_core.system.hardware import Gpu, Hardware
from tests.support.tiny import install_tiny_model, write_conversations

CONFIG = FinetuneConfig("-")


def _plan(card: str, **changes):
    return plan_memory(training_of(replace(CONFIG, **changes), GPTConfig()), named_card(card))


def test_the_fastest_mode_that_fits_is_chosen():
    small = {"device_batch_size": 1, "target_examples_per_step": 4}
    cards = ("80GB", "48GB", "24GB", "16GB", "8GB")
    chosen = [_plan(card, **small).chosen for card in cards]
    assert chosen == ["plain", "plain", "layerwise", "offloaded", "offloaded"]
    assert _plan("8GB", device_batch_size=1).chosen == "offloaded_all"  # four times as many tokens a step
    assert _plan("4GB").chosen is None
    assert [mode.need.memory for mode in _plan("24GB").modes] == list(MEMORY_MODES)


def test_the_host_must_have_room_too():
    training = training_of(CONFIG, GPTConfig())
    assert plan_memory(training, Device("x", 12 * GIB, 64 * GIB)).chosen == "offloaded"
    assert plan_memory(training, Device("x", 12 * GIB, 8 * GIB)).chosen is None


def test_without_a_card_all_lies_in_the_machine_s_memory():
    plan = plan_memory(training_of(CONFIG, GPTConfig()), Device("x", None, 64 * GIB))
    assert plan.chosen == "plain"
    assert not plan_memory(training_of(CONFIG, GPTConfig()), Device("x", None, 8 * GIB)).mode("offloaded").fits


def test_a_step_is_shared_by_the_devices_and_counted_by_its_longest_conversations():
    config = replace(CONFIG, target_examples_per_step=3, device_batch_size=2)
    assert training_of(config, GPTConfig(), lengths=[5, 50, 7, 40]).step_tokens == 97
    assert training_of(config, GPTConfig(), lengths=[5, 50, 7, 40]).micro_batch_tokens == 90
    assert training_of(config, GPTConfig(), world=2, lengths=[5, 50, 7, 40]).step_tokens == 90
    alone, shared = (training_of(CONFIG, GPTConfig(), world=world) for world in (1, 4))
    assert shared.step_tokens * 4 == alone.step_tokens == 16 * 2048


def test_the_smallest_of_the_machine_s_cards_counts():
    gpus = (Gpu(0, "large", 80 << 30, 0), Gpu(1, "small", 24 << 30, 0), Gpu(2, "shares the host's", 0, 0))
    hardware = Hardware(gpus, False, 8, 64 << 30)
    assert this_device(hardware).card_bytes == 24 << 30
    assert this_device(hardware, "cpu").card_bytes is None


@pytest.mark.parametrize(("text", "size"), [("24GB", 24), ("24", 24), (" 7.5 gb", 7.5), ("80GiB", 80), ("8G", 8)])
def test_a_card_is_named_as_on_its_box(text, size):
    assert parse_card(text) == size * GIB


@pytest.mark.parametrize("text", ["", "big", "0GB", "24MB", "-8GB", "1e9GB", "9999999GB"])
def test_other_cards_are_refused(text):
    with pytest.raises(ValueError, match="such as 24GB"):
        parse_card(text)


def test_the_published_depths_are_known_by_their_tags(home):
    found = {depth: shape_of_depth(depth) for depth in (12, 20, 24, 26, 32, 34)}
    heads = {depth: shape.n_head for depth, shape in found.items()}
    assert heads == {12: 6, 20: 10, 24: 12, 26: 13, 32: 16, 34: 17}
    assert found[32] == GPTConfig()
    assert shape_of(FinetuneConfig("-", model_tag="d20")).shape == found[20]
    with pytest.raises(ValueError, match="There is no model 'pretrained/unheard'"):
        shape_of(FinetuneConfig("-", model_tag="unheard"))
    with pytest.raises(ValueError, match="even depth"):
        shape_of_depth(13)


@pytest.mark.parametrize("generation", GENERATIONS)
def test_a_checkpoint_tells_its_shape_without_its_weights_being_read(home, generation):
    import torch

    from nanochat_core.memory.counts import count_parameters

    install_tiny_model(home, generation=generation)
    known = shape_of(FinetuneConfig("-", model_tag="tiny"))
    with torch.device("meta"):
        model = GPT(known.shape)
    assert known.source == "its meta file"
    assert count_parameters(known.shape).total == sum(parameter.numel() for parameter in model.parameters())


def _json(capsys, *arguments: str):
    assert main(["finetune", "--plan", "--json", *arguments]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_plan_of_d32_is_printed_before_it_is_downloaded(home, capsys):
    found = _json(capsys, "--card", "24GB")
    assert {"modes", "chosen", "tokens_per_step"} <= set(found)
    assert (found["chosen"], found["tokens_per_step"]) == ("layerwise", 16 * 2048)
    for mode in found["modes"]:
        assert {"memory", "card_bytes", "host_bytes", "fits", "parts"} <= set(mode)
        assert sum(mode["parts"].values()) == mode["card_bytes"]
    assert any("max_seq_len" in sentence for sentence in found["assumed"])
    assert main(["finetune", "--plan", "--card=8GB", "--device-batch-size", "1"]) == 0
    assert "--memory auto takes offloaded_all" in capsys.readouterr().out
    assert main(["finetune", "--plan", "--card", "2GB"]) == 0
    assert "No mode fits a card of 2 GB: offloaded_all needs" in capsys.readouterr().out


def test_with_data_the_longest_conversations_count(home, capsys):
    install_tiny_model(home)
    data = str(write_conversations(home / "data.jsonl", 20))
    with_data = _json(capsys, "--model_tag", "tiny", "--data_path", data)
    without = _json(capsys, "--model_tag", "tiny")
    assert 0 < with_data["tokens_per_step"] < without["tokens_per_step"]
    assert any("longest conversations" in sentence for sentence in with_data["assumed"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--card"], "--card has no value"),
        (["--card", "huge"], "--card is 'huge'"),
        (["--data_path", "nowhere.jsonl"], "There is no file nowhere.jsonl"),
        (["--model_tag", "unheard"], "There is no model"),
    ],
)
def test_a_mistake_is_told_in_a_sentence(home, capsys, arguments, said):
    assert main(["finetune", "--plan", *arguments]) == 2
    assert said in capsys.readouterr().err
