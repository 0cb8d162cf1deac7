"""The numbers that an export tells of itself are those of a direct computation, on the model and the file at hand."""

import json
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from gguf import GGUFReader
from gguf.quants import dequantize

from nanochat_core import Engine
from nanochat_core.data.conversations import load_conversations
from nanochat_core.export.export import export
from nanochat_core.export.llama.conversations import Conversations, conversations_for
from nanochat_core.export.llama.differences import REPLY_TOKENS, measure_differences
from nanochat_core.export.llama.folder import write_gguf
from nanochat_core.export.llama.quants import QUANTS
from nanochat_core.export.llama.tokenizer import llama_tokenizer, split_otherwise
from nanochat_core.export.llama.weights import LAYER_NAMES
from nanochat_core.model.functions import RotaryTable
from nanochat_core.model.gpt import GPT
from nanochat_core.paths import find_model, shipped
from nanochat_core.tokenizer.compiled import NANOCHAT_PATTERN
from nanochat_core.tokenizer.pickle_file import SPECIAL_TOKENS, EncodingState
from nanochat_core.tokenizer.rendering import render
from nanochat_core.tokenizer.tokenizer import Tokenizer
from tests.support.llama_cpp import LlamaCpp
from tests.support.samples import assistant, conversation, user
from tests.support.tiny import tiny_model, tiny_ranks


def state() -> EncodingState:
    """The tiny tokenizer with tokens of two digits in the place of its last ones."""
    pairs = [b"12", b"23", b"34", b"45"]
    pieces = [*tiny_ranks()][: -len(pairs)] + pairs
    specials = {token: len(pieces) + place for place, token in enumerate(SPECIAL_TOKENS)}
    return EncodingState("digits", NANOCHAT_PATTERN, {piece: rank for rank, piece in enumerate(pieces)}, specials)


TALKS = [
    conversation(user(f"What of {number}?"), assistant(f"It was {number}, then {number * 7}."))
    for number in (12, 123, 1234, 23451, 45)
]


def model_of_file(path, config) -> GPT:
    """nanochat's model with the weights that the file has, put back by hand."""
    stored = {tensor.name: dequantize(tensor.data, tensor.tensor_type) for tensor in GGUFReader(path).tensors}
    model = GPT(config)
    model.rotary = RotaryTable(replace(model.generation, rounds_rotary=False), config.head_dim, config.sequence_len)
    with torch.no_grad():
        model.transformer.wte.weight.copy_(torch.tensor(stored["token_embd.weight"]))
        model.lm_head.weight.copy_(torch.tensor(stored["output.weight"]))
        for layer, block in enumerate(model.transformer.blocks):
            for ours, theirs in LAYER_NAMES.items():
                weight = torch.tensor(stored[f"blk.{layer}.{theirs}.weight"])
                if theirs in ("attn_q", "attn_k"):
                    first, second = weight.view(-1, 2, config.head_dim // 2, weight.shape[1]).unbind(1)
                    weight = torch.stack([second, first], 1).view_as(weight)
                block.get_submodule(ours).weight.copy_(weight)
    return model


def uncapped(logits):
    return 15 * torch.atanh(logits.double() / 15)


@pytest.mark.parametrize("quant", ["f32", "q8_0", "q4_0"])
def test_numbers_are_those_of_a_direct_computation(home, tmp_path, quant):
    encoding, model = state(), tiny_model(seed=3)
    model.lm_head.weight.data *= 8  # predictions so sure that the softcap shows
    ours, theirs = Tokenizer(encoding), llama_tokenizer(encoding)
    write_gguf(tmp_path / "file.gguf", model, encoding, QUANTS[quant], "tiny")
    examples = render(TALKS, ours, 256)
    found = measure_differences(
        tmp_path / "file.gguf", model, ours, theirs, Conversations("five talks", examples[:4], examples)
    )

    other = model_of_file(tmp_path / "file.gguf", model.config)
    softcap = file = same = tokens = 0
    with torch.no_grad():
        for example in examples[:4]:
            ids = torch.tensor(example.ids[None, :-1].astype("int64"))
            trained = torch.tensor(example.mask[1:])
            capped, quantized = model(ids)[0][trained].double(), other(ids)[0][trained]
            expected = capped.log_softmax(-1)
            for logits, name in ((capped, "softcap"), (quantized, "file")):
                nats = float(F.kl_div(uncapped(logits).log_softmax(-1), expected, reduction="sum", log_target=True))
                softcap, file = (softcap + nats, file) if name == "softcap" else (softcap, file + nats)
            same += int((capped.argmax(-1) == quantized.argmax(-1)).sum())
            tokens += int(trained.sum())
    assert (found.conversations, found.tokens, found.same_choice) == (4, tokens, same)
    assert found.softcap_kl == pytest.approx(softcap / tokens, rel=1e-3)
    assert found.file_kl == pytest.approx(file / tokens, rel=0.02)
    assert found.softcap_kl > 1e-3
    if quant == "f32":
        assert found.file_kl == pytest.approx(found.softcap_kl, rel=0.05)
    if quant == "q4_0":
        assert found.file_kl > 1.2 * found.softcap_kl

    texts = [message["content"] for talk in TALKS for message in talk["messages"]]
    assert found.text_tokens == sum(len(ours.encode(text)) for text in texts)
    assert found.split_otherwise == sum(split_otherwise(ours, theirs, text) for text in texts) > 0
    prompts = [[message for message in talk["messages"] if message["role"] == "user"] for talk in TALKS[:4]]
    mine = Engine(model, ours).generate_batch([ours.render_prompt(one) for one in prompts], REPLY_TOKENS)
    there = Engine(other, theirs).generate_batch([theirs.render_prompt(one) for one in prompts], REPLY_TOKENS)
    assert (found.replies, found.same_replies) == (4, sum(one == two for one, two in zip(mine, there)))


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("12", 0),
        ("In 1234 years", 1),  # 12 34 here, 12 3 4 there: 34 is no token there
        ("345", 0),  # 34 5 in both
        ("123", 0),
        ("8123", 2),  # 8 1 23 here (81 is no token), 8 12 3 there
    ],
)
def test_tokens_that_are_split_otherwise(text, count):
    assert split_otherwise(Tokenizer(state()), llama_tokenizer(state()), text) == count


def test_the_export_s_count_of_replies_is_what_llama_cpp_says(in_gguf_home, gguf_file):
    file = gguf_file("starter", "f32")
    found = json.loads((file.parent / "differences.json").read_text())
    model, tokenizer, _ = starter()
    talks = load_conversations(shipped("data/example_data.jsonl"), tokenizer, 1024)
    asked = [talk["messages"][: 1 + (talk["messages"][0]["role"] == "system")] for talk in talks]
    prompts = list({json.dumps(one): one for one in asked}.values())[:60]
    assert found["replies"] == len(prompts)
    program = LlamaCpp(file)
    replies = Engine(model, tokenizer).generate_batch([tokenizer.render_prompt(one) for one in prompts], REPLY_TOKENS)
    texts = [program.text(one, max_tokens=REPLY_TOKENS) for one in prompts]
    same = sum(tokenizer.decode(reply).strip() == text.strip() for reply, text in zip(replies, texts))
    assert found["same_replies"] == same


def starter():
    from nanochat_core import load_model

    return load_model("starter", dtype=torch.float32)


def test_a_run_is_measured_on_its_own_validation_conversations(in_gguf_home):
    files = find_model("finetuned/bakery")
    tokenizer = Tokenizer.from_directory(files.tokenizer_dir)
    found = conversations_for(files, tokenizer, 1024)
    assert found.source == "the validation conversations of the run bakery"
    assert (len(found.validation), len(found.everything)) == (12, 120)
    data = in_gguf_home / "data.jsonl"
    content = data.read_bytes()
    try:
        data.write_bytes(content + b"\n")
        changed = conversations_for(files, tokenizer, 1024)
    finally:
        data.write_bytes(content)
    assert changed.source == "the shipped data/example_data.jsonl, because the run's own data is not here as it was"


def test_what_the_folder_holds_and_says(tiny_path, tmp_path):
    out = export(tiny_path, tmp_path / "out", "gguf", quant="q4_0")
    assert sorted(path.name for path in out.iterdir()) == [
        "Modelfile",
        "README.md",
        "differences.json",
        "small-Q4_0.gguf",
    ]
    found = json.loads((out / "differences.json").read_text())
    assert (found["model"], found["step"], found["file"], found["quant"]) == ("small", 7, "small-Q4_0.gguf", "q4_0")
    text = (out / "README.md").read_text()
    for fact in (f"{found['same_replies']} of {found['replies']}", f"{found['softcap_kl']:.4f}", "ollama create small"):
        assert fact in text, text
    assert (out / "Modelfile").read_text().startswith("FROM ./small-Q4_0.gguf\nTEMPLATE ")
