"""Writing replies on a CPU, beside transformers, on the same weights and prompts.

    python -m benchmarks.chat              d4, d8 and d12 (benchmarks/workload.py)
    python -m benchmarks.chat --small      a tiny model, in seconds, to see that it runs

One conversation, greedy, a prompt of 64 tokens: tokens per second of processor time, from the reply's second token on.
All variants take turns. A share of the machine's limit is the bytes that a token has to read (matrices, keys and
values) over the bandwidth of reading memory measured in the same turn; a model that fits into the caches can exceed
it. Before any figure counts, the variants in fp32 must write the same tokens; ours in bf16, int8 and int4 are given
these and asked how often they would have chosen the same. Then: eight conversations at once, the first token of a
second turn, each precision beside llama.cpp (benchmarks/llama_cpp.py), and the quality of int8 and int4.
"""

import argparse
import copy
import json
import math
import statistics
from collections.abc import Callable
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.machine import cpu_seconds, describe, gemm_rate, now, read_bandwidth
from benchmarks.pairs import ratio, table, take_turns
from benchmarks.training_peers import twin
from benchmarks.workload import SHAPES, TINY, random_model
from nanochat_core import load_model
from nanochat_core.checkpoint.compact import make_compact, pays
from nanochat_core.checkpoint.few_bits import BITS, quantize
from nanochat_core.compute.huge_pages import HugePages
from nanochat_core.engine.sampling import Sampling
from nanochat_core.model.decode_step import DecodeStep
from nanochat_core.model.gpt import GPT, GPTConfig
from nanochat_core.paths import starter_dir

PROMPT, HISTORY, QUESTION, ROWS = 64, 600, 24, 8
TOKENS = {"d4": 96, "d8": 48, "d12": 24, "tiny": 16}
"""Length of a reply, by which a turn takes about as long for each shape."""
BANDWIDTH = "reading memory"
MODES = {"fp32": torch.float32, "bf16": torch.bfloat16, "int8": torch.int8, "int4": torch.int4}

Reply = Callable[[Tensor, int, Callable[[], None]], list[int]]
"""From a prompt (1, T) and a number of tokens to these; calls the third after each."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--shapes", nargs="+", choices=["d4", "d8", "d12"], default=["d4", "d8", "d12"])
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    turns = 1 if options.small else options.turns
    print(describe(), flush=True)
    with torch.no_grad():
        for name in ["tiny"] if options.small else options.shapes:
            print(f"\n{name}\n", flush=True)
            for part in measure(name, turns):
                print(part, "", sep="\n", flush=True)
        print(int8_quality(20 if options.small else 150), flush=True)


def measure(name: str, turns: int) -> list[str]:
    """The tables of a model's shape."""
    config = TINY if name == "tiny" else SHAPES[name]
    models = our_models(config)
    prompt = torch.randint(0, config.vocab_size, (1, PROMPT), generator=torch.Generator().manual_seed(1))
    parts = [one_conversation(models, prompt, TOKENS[name], turns)]
    parts.append(eight_conversations(models, prompt, TOKENS[name] // 2, turns))
    if config.sequence_len > HISTORY + QUESTION:
        parts.append(first_tokens(models, turns))
    from benchmarks.llama_cpp import TOKENS as LENGTHS
    from benchmarks.llama_cpp import beside

    if name in LENGTHS:
        parts.append(beside(models, LENGTHS[name], turns))
    return parts


def our_models(config: GPTConfig) -> dict[str, GPT]:
    """The same random weights in fp32, bf16 and int8, where load_model puts them: in huge pages."""
    models = {}
    for name, dtype in MODES.items():
        model = random_model(config).eval().requires_grad_(requires_grad=False)
        if dtype in BITS:
            quantize(model, dtype)
        else:
            model.compute_dtype, memory = dtype, HugePages()
            for parameter in model.parameters():
                parameter.data = memory.zeros(parameter.shape, dtype).copy_(parameter.data)
        models[name] = model
    return models


def as_in_a_chat(fp32: GPT) -> GPT:
    """The same weights as load_model holds them for a chat."""
    return make_compact(copy.deepcopy(fp32)) if pays(fp32.config) else fp32


def one_conversation(models: dict[str, GPT], prompt: Tensor, tokens: int, turns: int) -> str:
    """Each variant's tokens per second, the share of the memory's bandwidth, and the multiple of the best peer's."""
    replies: dict[str, Reply] = {f"ours, {name}": our_reply(model) for name, model in models.items()}
    replies["ours without compiled code, fp32"] = without_compiled(our_reply(models["fp32"]))
    for name in ("fp32", "bf16"):
        for cache in ("dynamic", "static"):
            replies[f"transformers, {cache} cache, {name}"] = peer_reply(models["fp32"], MODES[name], cache)
    same = agreement(models, replies, prompt, tokens)
    variants = {name: lambda reply=reply: rate(reply, prompt, tokens) for name, reply in replies.items()}
    found = take_turns({**variants, BANDWIDTH: read_bandwidth}, turns)
    peers = {name: statistics.median(found[name]) for name in replies if name.startswith("transformers")}
    best = max((name for name in peers if "fp32" in name), key=peers.get)
    best_half = max((name for name in peers if "bf16" in name), key=peers.get)
    size = PROMPT + tokens // 2
    rows = []
    for name in replies:
        read = bytes_read(models[name.split(", ")[-1]], size)
        share = ratio([rate * read for rate in found[name]], found[BANDWIDTH]).median
        times = ["" if name in peers else str(ratio(found[name], found[other])) for other in (best, best_half)]
        rows.append([name, f"{statistics.median(found[name]):.1f}", f"{share:.0%}", *times, same[name]])
    limit = f"of {statistics.median(found[BANDWIDTH]) / 1e9:.1f} GB/s"
    header = ["one conversation", "tokens/s", limit, "transformers' best in fp32", "its best in bf16", "same tokens"]
    return table(header, rows)


def our_reply(model: GPT) -> Reply:
    """What Engine does, without its text."""

    def reply(prompt: Tensor, tokens: int, tell: Callable[[], None]) -> list[int]:
        greedy, cache, written = Sampling(temperature=0.0), model.new_cache(1, prompt.shape[1] + tokens), []
        fed = prompt
        while len(written) < tokens:
            written += greedy.choose(model(fed, cache=cache), [])
            fed = torch.tensor([written[-1:]])
            tell()
        return written

    return reply


def without_compiled(reply: Reply) -> Reply:
    """The same with torch's operators only."""

    def slowly(prompt: Tensor, tokens: int, tell: Callable[[], None]) -> list[int]:
        with patch.object(DecodeStep, "__call__", lambda *_: None):
            return reply(prompt, tokens, tell)

    return slowly


def peer_reply(model: GPT, dtype: torch.dtype, cache: str) -> Reply:
    """transformers' `generate`."""
    peer = twin(model).to(dtype).eval()

    def reply(prompt: Tensor, tokens: int, tell: Callable[[], None]) -> list[int]:
        def heard(ids: Tensor, scores: Tensor, **_: object) -> Tensor:
            tell()
            return torch.zeros(len(ids), dtype=torch.bool)

        static = {"cache_implementation": "static"} if cache == "static" else {}
        length = {"max_new_tokens": tokens, "min_new_tokens": tokens}
        mask = torch.ones_like(prompt)
        found = peer.generate(
            prompt, attention_mask=mask, do_sample=False, stopping_criteria=[heard], **length, **static
        )
        return found[0, prompt.shape[1] :].tolist()

    return reply


def rate(reply: Reply, prompt: Tensor, tokens: int) -> float:
    """Tokens per second (benchmarks/machine.py), from the second one on."""
    times: list[float] = []
    reply(prompt, tokens, lambda: times.append(now()))
    return (len(times) - 1) / (times[-1] - times[0])


def agreement(models: dict[str, GPT], replies: dict[str, Reply], prompt: Tensor, tokens: int) -> dict[str, str]:
    """Whether the variants in fp32 write the same (ValueError if not), and how often the others' choices are theirs."""
    expected = replies["ours, fp32"](prompt, tokens, lambda: None)
    same = {}
    for name, reply in replies.items():
        if name.endswith("fp32"):
            if reply(prompt, tokens, lambda: None) != expected:
                raise ValueError(f"'{name}' writes other tokens than ours in fp32: the comparison would mean nothing.")
            same[name] = "all"
        elif name.startswith("ours"):
            same[name] = f"{agreeing(models[name.split(', ')[1]], prompt, expected)} of {tokens}"
        else:
            same[name] = ""
    return same


def agreeing(model: GPT, prompt: Tensor, expected: list[int]) -> int:
    """How often the model's choice, after what was written in fp32, is the token that was written next."""
    cache, fed, count = model.new_cache(1, prompt.shape[1] + len(expected)), prompt, 0
    for token in expected:
        count += int(model(fed, cache=cache).argmax()) == token
        fed = torch.tensor([[token]])
    return count


def eight_conversations(models: dict[str, GPT], prompt: Tensor, tokens: int, turns: int) -> str:
    """Tokens per second of one conversation and of eight at once, prompts of different lengths."""
    variants = {}
    for name, model in models.items():
        for rows in (1, ROWS):
            variants[name, rows] = lambda model=model, rows=rows: batch_rate(model, prompt, rows, tokens)
    found = take_turns(variants, turns)
    lines = []
    for name in models:
        one, eight = found[name, 1], found[name, ROWS]
        lines.append([name, f"{statistics.median(one):.1f}", f"{statistics.median(eight):.1f}", str(ratio(eight, one))])
    return table([f"{ROWS} conversations at once", "tokens/s of one", f"of {ROWS}", "ratio"], lines)


def batch_rate(model: GPT, prompt: Tensor, rows: int, tokens: int) -> float:
    """Tokens per second of `rows` conversations that are written together."""
    greedy, cache = Sampling(temperature=0.0), model.new_cache(rows, prompt.shape[1] + tokens + 1)
    lengths = [prompt.shape[1] - row for row in range(rows)]
    fed = torch.tensor(greedy.choose(model(prompt.expand(rows, -1), cache=cache, lengths=lengths), []))

    def work() -> None:
        nonlocal fed
        for _ in range(tokens):
            fed = torch.tensor(greedy.choose(model(fed[:, None], cache=cache), []))

    return rows * tokens / cpu_seconds(work)


def first_tokens(models: dict[str, GPT], turns: int) -> str:
    """Until the first token of a second turn: reading everything, or only what is new; and reading's share of GEMM."""
    rows = []
    for name, model in models.items():
        config = model.config
        ids = torch.randint(0, config.vocab_size, (1, HISTORY + QUESTION), generator=torch.Generator().manual_seed(2))
        kept = model.new_cache(1, HISTORY + QUESTION)
        model(ids[:, :HISTORY], cache=kept)

        def second(model: GPT = model, kept=kept, ids: Tensor = ids) -> float:
            kept.truncate(HISTORY)
            return 1 / cpu_seconds(lambda: model(ids[:, HISTORY:], cache=kept))

        def whole(model: GPT = model, ids: Tensor = ids) -> float:
            return 1 / cpu_seconds(lambda: model(ids, cache=model.new_cache(1, HISTORY + QUESTION)))

        close(second_logits(model, kept, ids), model(ids, cache=model.new_cache(1, ids.shape[1])), name)
        dtype = torch.float32 if MODES[name] in BITS else MODES[name]
        found = take_turns({"second": second, "whole": whole, "gemm": lambda dtype=dtype: gemm_rate(dtype)}, turns)
        flops = 2 * ids.shape[1] * 12 * config.n_layer * config.n_embd**2 + 2 * config.vocab_size * config.n_embd
        share = ratio([rate * flops for rate in found["whole"]], found["gemm"])
        times = [f"{1000 / statistics.median(found[kind]):.0f} ms" for kind in ("whole", "second")]
        rows.append([name, *times, str(ratio(found["second"], found["whole"])), f"{share.median:.0%}"])
    header = [
        f"first token after {HISTORY} + {QUESTION}",
        "all are read",
        "only the new ones",
        "sooner",
        "all: of GEMM rate",
    ]
    return table(header, rows)


def second_logits(model: GPT, kept, ids: Tensor) -> Tensor:
    """The logits of the second turn."""
    kept.truncate(HISTORY)
    return model(ids[:, HISTORY:], cache=kept)


def close(found: Tensor, expected: Tensor, name: str) -> None:
    """ValueError when two ways to the same logits differ by more than rounding."""
    difference = ((found - expected).norm() / expected.norm()).item()
    if difference > (1e-4 if name == "fp32" else 5e-2):
        raise ValueError(f"A second turn in {name} has other logits than reading everything ({difference:.1e}).")


def int8_quality(count: int) -> str:
    """The change of perplexity by bf16, int8 and int4, on conversations of the shipped starter's data."""
    lines = (starter_dir() / "replay.jsonl").read_text(encoding="utf-8").splitlines()
    conversations = [json.loads(line) for line in lines[:: max(1, len(lines) // count)][:count]]
    found = {name: perplexity(dtype, conversations) for name, dtype in MODES.items()}
    rows = []
    for name, values in found.items():
        changes = [f"{value / base - 1:+.3%}" for value, base in zip(values, found["fp32"])]
        rows.append([name, *(f"{value:.5f} ({change})" for value, change in zip(values, changes))])
    return table(["starter's perplexity", "of replies", "of all tokens"], rows)


def perplexity(dtype: torch.dtype, conversations: list) -> tuple[float, float]:
    """(perplexity of the tokens of replies, of all tokens) of the starter in this dtype."""
    model, tokenizer, _ = load_model("starter", dtype=dtype)
    sums = torch.zeros(4, dtype=torch.float64)
    for conversation in conversations:
        ids, mask = tokenizer.render_conversation(conversation, max_tokens=model.config.sequence_len)
        ids, trained = torch.tensor([ids]), torch.tensor(mask[1:]).bool()
        nats = -model(ids[:, :-1]).log_softmax(-1).gather(-1, ids[:, 1:, None]).flatten().double()
        sums += torch.tensor([nats[trained].sum(), trained.sum(), nats.sum(), len(nats)])
    return math.exp(sums[0] / sums[1]), math.exp(sums[2] / sums[3])


def bytes_read(model: GPT, positions: int) -> int:
    """Bytes that a token after `positions` others must read: every matrix, and the keys and values."""
    config = model.config
    matrices = sum(p.nbytes for name, p in model.named_parameters() if p.ndim == 2 and "wte" not in name)
    return matrices + 2 * config.n_layer * config.n_kv_head * config.head_dim * positions * model.compute_dtype.itemsize


if __name__ == "__main__":
    main()
