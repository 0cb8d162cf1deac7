"""llama.cpp as it is (PyPI: xllamacpp), on the weights of a model of ours."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gguf
import torch
import xllamacpp
from torch import Tensor

from nanochat_core.model.gpt import GPT

QUANTS = {
    "f32": gguf.GGMLQuantizationType.F32,
    "bf16": gguf.GGMLQuantizationType.BF16,
    "Q8_0": gguf.GGMLQuantizationType.Q8_0,
    "Q4_0": gguf.GGMLQuantizationType.Q4_0,
}


@contextmanager
def llama_server(model: GPT, quant: str, rows: int = 1) -> Iterator[xllamacpp.Server]:
    """Its server on the weights of `model`, which answers `rows` requests at once, with torch's number of threads."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.gguf"
        write(file, model, QUANTS[quant])
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(file)
        threads = torch.get_num_threads()
        for cpu in (parameters.cpuparams, parameters.cpuparams_batch):
            cpu.n_threads = threads
        parameters.n_parallel, parameters.n_ctx = rows, rows * model.config.sequence_len
        parameters.n_gpu_layers = 0
        parameters.n_predict, parameters.ctx_shift, parameters.warmup = -1, False, True
        parameters.verbosity = -1
        yield xllamacpp.Server(parameters)


def complete(server: xllamacpp.Server, prompt: list[int], tokens: int, keep: bool = False) -> dict:
    asked = {
        "prompt": prompt,
        "n_predict": tokens,
        "temperature": 0.0,
        "ignore_eos": True,
        "cache_prompt": keep,
        "return_tokens": True,
        "samplers": ["temperature"],
        "stream": False,
    }
    return server.handle_completions(asked)


def write(file: Path, model: GPT, kind: gguf.GGMLQuantizationType) -> None:
    config = model.config
    writer = gguf.GGUFWriter(file, "apertus")
    layers = config.n_layer
    writer.add_context_length(config.sequence_len)
    writer.add_embedding_length(config.n_embd)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(4 * config.n_embd)
    writer.add_head_count(config.n_head)
    writer.add_head_count_kv(config.n_kv_head)
    writer.add_layer_norm_rms_eps(1.1920929e-07)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(config.vocab_size)
    for name, value in (("alpha_p", 0.5413248546), ("alpha_n", -1e4), ("beta", 0.0), ("eps", -1e-6)):
        writer.add_array(f"xielu.{name}", [value] * layers)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("bailingmoe")
    writer.add_token_list([f"t{index}" for index in range(config.vocab_size)])
    writer.add_token_types([1] * config.vocab_size)
    writer.add_token_merges(["t 0"])
    writer.add_eos_token_id(0)
    writer.add_add_bos_token(value=False)

    def add(name: str, tensor: Tensor, kind: gguf.GGMLQuantizationType) -> None:
        data = gguf.quants.quantize(tensor.detach().float().numpy(), kind)
        writer.add_tensor(name, data, raw_dtype=kind)

    f32 = gguf.GGMLQuantizationType.F32
    one = torch.ones(config.n_embd)
    table = torch.nn.functional.rms_norm(
        model.transformer.wte.weight[: config.vocab_size].float(), (config.n_embd,), eps=1.1920929e-07
    )
    add("token_embd.weight", table, kind)
    add("output_norm.weight", one, f32)
    add("output.weight", model.lm_head.weight[: config.vocab_size], kind)
    for index, block in enumerate(model.transformer.blocks):

        def swap(weight: Tensor) -> Tensor:
            return weight.view(-1, 2, config.head_dim // 2, config.n_embd).flip(1).reshape(weight.shape)

        at = f"blk.{index}."
        add(at + "attn_norm.weight", one, f32)
        add(at + "ffn_norm.weight", one, f32)
        add(at + "attn_q_norm.weight", torch.ones(config.head_dim), f32)
        add(at + "attn_k_norm.weight", torch.ones(config.head_dim), f32)
        add(at + "attn_q.weight", swap(block.attn.c_q.weight), kind)
        add(at + "attn_k.weight", swap(block.attn.c_k.weight), kind)
        add(at + "attn_v.weight", block.attn.c_v.weight, kind)
        add(at + "attn_output.weight", block.attn.c_proj.weight, kind)
        add(at + "ffn_up.weight", block.mlp.c_fc.weight, kind)
        add(at + "ffn_down.weight", block.mlp.c_proj.weight, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
