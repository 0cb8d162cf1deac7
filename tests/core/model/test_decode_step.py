"""The compiled decode step gives what torch's operators give, for every generation, precision and number of rows."""

import copy
import gc
import subprocess
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from nanochat_core.checkpoint.few_bits import BITS, FewBitsLinear, quantize
from nanochat_core.checkpoint.loading import dtype_named, load_model
from nanochat_core.engine.engine import Engine
from nanochat_core.model.decode_step import DecodeStep
from tests.support.scripted import Scripted, calls_the_tool, prompts
from tests.support.tiny import install_tiny_model, tiny_model, tiny_tokenizer
from tests.support.transformers_twin import relative

SHAPE = {"n_layer": 4, "n_head": 4, "n_embd": 128}
LENGTHS = [3, 20, 11]
FEW_BITS = [(torch.int8, 0.05), (torch.int4, 0.3)]
"""What a model may be rounded to, and how much of its logits that may cost."""


@pytest.fixture(autouse=True)
def _always(monkeypatch):
    """Also where torch would be faster, which depends on the processor."""
    monkeypatch.setattr(DecodeStep, "_most_tokens", property(lambda _: -1, lambda *_: None), raising=False)


def _ids(*shape, seed=0):
    return torch.randint(0, 512, shape, generator=torch.Generator().manual_seed(seed))


def _by_torch():
    return patch.object(DecodeStep, "__call__", lambda *_: None)


def _conversation(model):
    """Logits of rows of different lengths, of one new token each, and of several."""
    cache = model.new_cache(3, 40)
    found = [model(_ids(3, 20), cache=cache, lengths=LENGTHS)]
    for step, added in enumerate((1, 1, 3, 1)):
        found.append(model(_ids(3, added, seed=step), cache=cache))
    found.append(model(_ids(3, 1, seed=9), cache=cache, lengths=[1, 0, 1])[[0, 2]])  # the second row waits
    found.append(model(_ids(3, 1, seed=10), cache=cache))
    return torch.cat([logits.flatten() for logits in found])


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize("generation", "ABCDE")
def test_every_generation_equals_torch(generation, kv_heads):
    model = tiny_model(generation, n_kv_head=kv_heads, sequence_len=32, window_pattern="SL", **SHAPE)
    found = _conversation(model)
    assert model.decoder is not None
    with _by_torch():
        assert relative(found, _conversation(model)) < 1e-5


@pytest.mark.parametrize("generation", "BE")
def test_windows_cut_where_torch_cuts(generation):
    model = tiny_model(generation, sequence_len=256, window_pattern="S", **SHAPE)
    assert model.config.window(0) == {"B": 128, "E": 128}[generation]
    whole, cache = _ids(1, 150), model.new_cache(1, 150)
    model(whole[:, :149], cache=cache)
    assert relative(model(whole[:, 149:], cache=cache)[0], model(whole)[0, -1:]) < 1e-5


@pytest.mark.parametrize("generation", "ACE")
def test_bf16_is_nearer_to_fp32_than_torch_is(generation):
    model = tiny_model(generation, n_kv_head=2, **SHAPE).bfloat16()
    exact = _conversation(copy.deepcopy(model).float())
    model.compute_dtype = torch.bfloat16
    found = _conversation(model)
    with _by_torch():
        by_torch = _conversation(model)
    # Rounded are keys and values and, where the processor multiplies bf16, what goes into a matrix; no sums.
    assert relative(found, exact) < 0.7 * relative(by_torch, exact) < 2e-2


@pytest.mark.parametrize(("dtype", "error"), FEW_BITS)
@pytest.mark.parametrize("generation", "ABCDE")
def test_few_bits_equal_torch_with_the_same_rounded_weights(generation, dtype, error):
    model = tiny_model(generation, n_kv_head=2, **SHAPE)
    exact = _conversation(model)
    quantize(model, dtype)
    found = _conversation(model)
    assert isinstance(model.lm_head, FewBitsLinear)
    with _by_torch():
        assert relative(found, _conversation(model)) < 0.03  # a number between two of eight bits may fall to either
    assert 1e-4 < relative(found, exact) < error
    assert relative(model(_ids(1, 30)), tiny_model(generation, n_kv_head=2, **SHAPE)(_ids(1, 30))) < error


@pytest.mark.parametrize("dtype", BITS)
def test_few_bits_read_long_prompts_without_turning_weights_into_floats(monkeypatch, dtype):
    model = quantize(tiny_model(sequence_len=400, **SHAPE), dtype)
    expected = model(_ids(1, 300))[:, -1:]
    monkeypatch.setattr(FewBitsLinear, "forward", None)
    assert relative(model(_ids(1, 300), cache=model.new_cache(1, 300)), expected) < 0.03


@pytest.mark.parametrize("dtype", BITS)
def test_weights_in_few_bits_are_loaded_and_only_on_a_cpu(home, dtype):
    install_tiny_model(home)
    exact, _, _ = load_model("pretrained/tiny")
    loaded, tokenizer, _ = load_model("pretrained/tiny", dtype=dtype)
    matrix, original = (model.transformer.h[1].mlp.c_fc for model in (loaded, exact))
    assert isinstance(matrix, FewBitsLinear)
    assert matrix.bits == BITS[dtype]
    assert loaded.transformer.wte.weight.dtype == torch.bfloat16
    assert relative(matrix.rows(), original.weight) < {torch.int8: 0.01, torch.int4: 0.1}[dtype]
    assert Engine(loaded, tokenizer).reply([{"role": "user", "content": "Hi"}], max_tokens=5) is not None
    with pytest.raises(ValueError, match="int8 and int4 are for a CPU"):
        load_model("pretrained/tiny", "meta", dtype)
    with pytest.raises(ValueError, match="float32, bfloat16, int8, int4"):
        dtype_named("float16")


@pytest.mark.parametrize("dtype", BITS)
def test_rows_in_few_bits_are_the_same_alone_and_among_others(dtype):
    model = quantize(tiny_model("E", n_kv_head=2, **SHAPE), dtype)
    several = [_ids(3, added, seed=step) for step, added in enumerate((8, 1, 1, 3, 1))]
    cache = model.new_cache(3, 20)
    together = torch.cat([model(ids, cache=cache) for ids in several], 1)
    for row in range(3):
        cache = model.new_cache(1, 20)
        alone = torch.cat([model(ids[row : row + 1], cache=cache) for ids in several], 1)
        assert torch.equal(alone[0], together[row])


def test_replies_are_the_same_tool_calls_included():
    model = tiny_model()
    asked = prompts(9)
    for script in (lambda history: None, calls_the_tool):
        found = Engine(Scripted(model, script), tiny_tokenizer()).generate_batch(asked, 30)
        with _by_torch():
            assert Engine(Scripted(model, script), tiny_tokenizer()).generate_batch(asked, 30) == found
    assert model.decoder is not None


def test_two_threads_give_what_one_gives():
    model = tiny_model("E", **SHAPE)
    one = _conversation(model)
    threads = torch.get_num_threads()
    try:
        for count in (2, 3, 2, 1):  # also fewer than there were
            torch.set_num_threads(count)
            assert torch.equal(_conversation(model), one)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.processes
def test_a_forked_process_has_threads_of_its_own():
    code = (
        "import os, torch\nfrom tests.support.tiny import tiny_model\ntorch.set_grad_enabled(False)\n"
        "torch.set_num_threads(2)\nmodel = tiny_model()\nids = torch.arange(3)[None]\n"
        "def run(): return model(ids, cache=model.new_cache(1, 9))\n"
        "first = run()\nchild = os.fork()\n"
        "if child == 0: os._exit(0 if torch.equal(run(), first) else 3)\n"
        "assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=60, cwd=Path(__file__).parents[3])


def test_changed_weights_are_seen():
    model, ids = tiny_model("E"), _ids(1, 9)

    def equal_to_torch():
        found = model(ids, cache=model.new_cache(1, 9))
        with _by_torch():
            return relative(found, model(ids, cache=model.new_cache(1, 9))) < 1e-5

    assert equal_to_torch()
    before = model(ids, cache=model.new_cache(1, 9))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.1)
    assert relative(model(ids, cache=model.new_cache(1, 9)), before) > 1e-3
    assert equal_to_torch()
    model.lm_head.weight = torch.nn.Parameter(torch.randn(512, 64))
    assert equal_to_torch()
    model.transformer.h[0].mlp.c_fc.weight.data = torch.randn(256, 64).t().contiguous().t()  # not row by row
    assert equal_to_torch()
    model.bfloat16()
    model.compute_dtype = torch.bfloat16
    assert relative(model(ids, cache=model.new_cache(1, 9)), model(ids)[:, -1:]) < 0.05


def test_a_new_cache_is_looked_at_with_the_weights_of_then():
    model, last = tiny_model(), _ids(1, 1)
    before = model(last, cache=model.new_cache(1, 4))
    model.lm_head.weight = torch.nn.Parameter(torch.randn(512, 64))
    found = model(last, cache=model.new_cache(1, 4))
    assert relative(found, model(last)) < 1e-5 < relative(found, before)


def test_weights_that_are_replaced_within_a_reply_are_not_freed_under_it():
    model = tiny_model()
    cache = model.new_cache(1, 8)
    model(_ids(1, 3), cache=cache)
    expected = model(_ids(1, 1), cache=copy.deepcopy(cache))
    model(_ids(1, 1), cache=cache)
    cache.truncate(3)
    former = model.lm_head.weight.data_ptr()
    model.lm_head.weight = torch.nn.Parameter(torch.randn(512, 64))
    gc.collect()
    assert torch.equal(model(_ids(1, 1), cache=cache), expected)
    assert former in [tensor.data_ptr() for tensor in model.decoder._kept]


def test_a_model_that_moves_gives_its_former_weights_back():
    model = tiny_model()
    model(_ids(1, 3), cache=model.new_cache(1, 3))
    former = weakref.ref(model.decoder)
    model.bfloat16()
    gc.collect()
    assert former() is None


def test_bf16_weights_for_exact_products_go_to_torch():
    model = tiny_model().bfloat16()
    assert model.compute_dtype == torch.float32
    assert relative(model(_ids(1, 5), cache=model.new_cache(1, 5)), model(_ids(1, 5))[:, -1:]) < 1e-5


def test_a_cache_of_another_number_of_rows_is_refused():
    model = tiny_model()
    with pytest.raises(RuntimeError):
        model(_ids(3, 1), cache=model.new_cache(2, 4))


def test_threads_take_turns():
    """Each with a cache of its own, and rotary tables that are replaced by longer ones."""
    model = tiny_model("E", sequence_len=16, **SHAPE)

    def reply(seed):
        cache, found = model.new_cache(1, 16 * seed + 60), []
        for step in range(16 * seed + 40):
            found.append(model(_ids(1, 1, seed=seed + step), cache=cache))
        return torch.cat(found)

    expected = [reply(seed) for seed in range(4)]
    for _ in range(3):
        model.rotary._table = None
        with ThreadPoolExecutor(4) as pool:
            for found, wanted in zip(pool.map(reply, range(4)), expected):
                assert torch.equal(found, wanted)


def test_hooks_are_heeded():
    model, ids = tiny_model(), _ids(1, 3)
    seen = []
    handle = model.transformer.h[1].register_forward_pre_hook(lambda *_: seen.append(1))
    model(ids, cache=model.new_cache(1, 3))
    assert seen == [1]
    handle.remove()
    model.transformer.h[0].register_forward_hook(lambda block, inputs, output: seen.append(output.shape))
    model(ids, cache=model.new_cache(1, 3))
    assert seen == [1, (1, 3, 64)]


def test_a_long_prompt_is_read_in_pieces_between_which_a_stop_is_heeded():
    model = tiny_model(sequence_len=700)
    ids, cache = _ids(2, 600), model.new_cache(2, 600)
    with _by_torch():
        expected = model(ids, cache=model.new_cache(2, 600))
    assert relative(model(ids, cache=cache), expected) < 1e-5
    assert cache.lengths == [600, 600]
    calls = []

    def stop(*_):
        calls.append(1)
        if len(calls) == 2:
            raise InterruptedError

    model.transformer.h[0].register_forward_pre_hook(stop)
    cache = model.new_cache(2, 600)
    with pytest.raises(InterruptedError):
        model(ids, cache=cache)
    assert cache.lengths == [256, 256]
    model.transformer.h[0]._forward_pre_hooks.clear()
    ids[0, 400] = 512  # a token that it has not
    cache = model.new_cache(2, 600)
    with pytest.raises(IndexError):
        model(ids, cache=cache)
    assert cache.lengths == [0, 0]


def test_what_is_not_for_it_goes_to_torch():
    model = tiny_model()
    with pytest.raises(IndexError):
        model(torch.tensor([[512]]), cache=model.new_cache(1, 4))
    with pytest.raises((IndexError, RuntimeError)):
        model(_ids(1, 5), cache=model.new_cache(1, 4))
    odd = tiny_model(n_embd=48)  # three times sixteen
    assert odd(_ids(1, 5), cache=odd.new_cache(1, 5)).shape == (1, 1, 512)


def test_a_copied_model_has_a_step_of_its_own():
    model, ids = tiny_model(), _ids(1, 4)
    found = model(ids, cache=model.new_cache(1, 4))
    twin = copy.deepcopy(model)
    with torch.no_grad():
        model.lm_head.weight.zero_()
    assert torch.equal(twin(ids, cache=twin.new_cache(1, 4)), found)
