"""The memory mode that `auto` takes: the fastest that fits what is free on the smallest card of all ranks."""

import torch

from nanochat_core.compute.ranks import Ranks
from nanochat_core.config import FinetuneConfig
from nanochat_core.model.shape import GPTConfig
from nanochat_core.system.hardware import Hardware
from nanochat_core.training.modes import choice
from tests.support.forked_ranks import on_ranks

D32 = GPTConfig(sequence_len=2048, vocab_size=65536, n_layer=32, n_head=16, n_kv_head=16, n_embd=2048)
LENGTHS = [2048] * 4
GIB = 1 << 30


class Cards:
    """CUDA devices that are not there: each rank's memory, and what of it is free."""

    def __init__(self, monkeypatch, *cards: tuple[int, int]):
        self.cards, self.dtype, self.host = cards, torch.bfloat16, 64 * GIB
        monkeypatch.setattr(choice, "find_hardware", lambda: Hardware((), False, 2, self.host))
        monkeypatch.setattr(choice, "choose_compute_dtype", lambda wanted, device: self.dtype)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"Card {device.index}")
        monkeypatch.setattr(choice, "all_memory", lambda device: self.cards[device.index][0] * GIB)
        monkeypatch.setattr(choice, "free_memory", lambda device: self.cards[device.index][1] * GIB)

    def chosen(self, ranks: Ranks, **settings) -> tuple[str, str | None]:
        mine = Ranks(ranks.rank, ranks.world, torch.device("cuda", ranks.rank))
        config = FinetuneConfig("data.jsonl", device_batch_size=1, target_examples_per_step=4, **settings)
        return choice.choose_memory(config, D32, mine, LENGTHS)


def test_the_fastest_that_fits_is_taken(monkeypatch):
    one = Ranks(0, 1, torch.device("cpu"))
    modes = [Cards(monkeypatch, (size, size)).chosen(one)[0] for size in (80, 24, 12, 7)]
    assert modes == ["plain", "layerwise", "offloaded", "offloaded_all"]
    _, why = Cards(monkeypatch, (80, 80)).chosen(one)
    assert why.startswith("Memory mode plain: ")
    assert why.endswith(" of Card 0 by the plan.")


def test_a_card_that_computes_in_fp32_is_planned_so(monkeypatch):
    cards, one = Cards(monkeypatch, (20, 20)), Ranks(0, 1, torch.device("cpu"))
    assert cards.chosen(one)[0] == "layerwise"
    cards.dtype = torch.float32
    assert cards.chosen(one)[0] == "offloaded"


def test_each_process_of_a_machine_has_its_share_of_the_hosts_memory(monkeypatch):
    cards, one = Cards(monkeypatch, (12, 12)), Ranks(0, 1, torch.device("cpu"))
    cards.host = 16 * GIB
    mode, why = cards.chosen(one)
    assert (mode, why) == ("offloaded", "Memory mode offloaded: 7.4 GiB of Card 0 by the plan.")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    mode, why = cards.chosen(one)
    assert mode == "offloaded"
    assert "fits Card 0, but takes 12.5 GiB of the host's memory while it saves, of 8.0 GiB" in why


def test_what_others_have_taken_is_not_counted_on(monkeypatch):
    mode, why = Cards(monkeypatch, (80, 24)).chosen(Ranks(0, 1, torch.device("cpu")))
    assert mode == "layerwise"
    assert "of Card 0, of whose 80.0 GiB other programs have taken 56.0 GiB" in why


def test_all_ranks_take_the_mode_that_fits_the_smallest_card(monkeypatch, tmp_path):
    found = on_ranks(2, tmp_path / "ranks", Cards(monkeypatch, (80, 80), (12, 12)).chosen)
    assert [mode for mode, _ in found] == ["offloaded", "offloaded"]
    assert all("Card 1" in why for _, why in found)


def test_what_was_asked_for_is_taken(monkeypatch):
    assert Cards(monkeypatch, (8, 8)).chosen(Ranks(0, 1, torch.device("cpu")), memory="plain") == ("plain", None)
