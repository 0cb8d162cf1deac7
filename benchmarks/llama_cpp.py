"""Writing replies on a CPU beside llama.cpp as it is (PyPI: xllamacpp) and transformers, on the same weights.

    python -m benchmarks.llama_cpp              d8 and d12 (benchmarks/workload.py)
    python -m benchmarks.llama_cpp --small      a tiny model, in seconds, to see that it runs

Its files are those of `export --format gguf`, with tokens that spell their numbers. Ours and theirs take turns in one
process with the same number of threads (--threads, 1); what counts is processor time on one thread, a wall clock on
several. llama.cpp answers through its server, as programs use it; a reply's rate is that of its tokens after the
first, a prompt's that of the whole request for one token. Before any figure counts, f32 there and fp32 here must write
the same tokens.
"""

import argparse
import os
import re
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
import xllamacpp
from gguf import GGUFWriter
from torch import Tensor

from benchmarks.machine import describe, seconds
from benchmarks.pairs import ratio, table, take_turns
from benchmarks.workload import SHAPES, TINY
from nanochat_core.engine.sampling import Sampling
from nanochat_core.export.llama.quants import QUANTS
from nanochat_core.export.llama.weights import ARCHITECTURE, add_shape, write_tensors
from nanochat_core.model.gpt import GPT

PEERS = {"fp32": "f32", "bf16": "bf16", "int8": "q8_0", "int4": "q4_0"}
"""Our precision and theirs."""
ROWS, TOKENS = 8, {"d8": 48, "d12": 24, "tiny": 8}
PROMPTS = (64, 624)
SPELLED = re.compile(r"t(\d+)")

Measure = Callable[[], float]


@contextmanager
def server_of(model: GPT, quant: str, rows: int = 1) -> Iterator[xllamacpp.Server]:
    """llama.cpp's server on the weights of `model`, which answers `rows` requests at once on torch's threads."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.gguf"
        _write(file, model, quant)
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(file)
        for cpu in (parameters.cpuparams, parameters.cpuparams_batch):
            cpu.n_threads = torch.get_num_threads()
        parameters.n_parallel, parameters.n_ctx = rows, rows * model.config.sequence_len
        parameters.n_gpu_layers, parameters.verbosity = 0, -1
        yield xllamacpp.Server(parameters)


def _write(file: Path, model: GPT, quant: str) -> None:
    writer = GGUFWriter(file, ARCHITECTURE)
    add_shape(writer, model.config)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("bailingmoe")
    writer.add_token_list([f"t{token}" for token in range(model.config.vocab_size)])
    writer.add_token_types([1] * model.config.vocab_size)
    writer.add_token_merges(["t 0"])
    writer.add_eos_token_id(0)
    writer.add_add_bos_token(value=False)
    write_tensors(writer, model, QUANTS[quant])
    writer.close()


def complete(server: xllamacpp.Server, prompt: list[int], tokens: int, keep: bool = False) -> list[int]:
    """The `tokens` likeliest tokens, one after the other. `keep`: what it knows of the prompt is not read again."""
    asked = {"prompt": prompt, "n_predict": tokens, "temperature": 0.0, "ignore_eos": True, "cache_prompt": keep}
    return [int(found) for found in SPELLED.findall(server.handle_completions(asked)["choices"][0]["text"])]


def ours(model: GPT, ids: Tensor, tokens: int) -> dict[str, Measure]:
    """What is measured of ours, by name, each in its unit per second."""
    greedy = Sampling(temperature=0.0)

    def decode(rows: int) -> float:
        prompt = ids[:, : PROMPTS[0] // rows].expand(rows, -1)
        cache = model.new_cache(rows, prompt.shape[1] + tokens + 1)
        fed = torch.tensor(greedy.choose(model(prompt, cache=cache), []))

        def write() -> None:
            nonlocal fed
            for _ in range(tokens):
                fed = torch.tensor(greedy.choose(model(fed[:, None], cache=cache), []))

        return rows * tokens / seconds(write)

    def read(count: int) -> float:
        return count / seconds(lambda: model(ids[:, :count], cache=model.new_cache(1, count + 1)))

    kept = model.new_cache(1, PROMPTS[-1] + 1)
    model(ids[:, : PROMPTS[-1]], cache=kept)

    def second() -> float:
        kept.truncate(PROMPTS[-1] - 24)
        return 24 / seconds(lambda: model(ids[:, PROMPTS[-1] - 24 : PROMPTS[-1]], cache=kept))

    return _named(decode, read, second)


def theirs(one: xllamacpp.Server, many: xllamacpp.Server, ids: Tensor, tokens: int) -> dict[str, Measure]:
    """The same of llama.cpp."""
    prompt = ids[0].tolist()
    pool = ThreadPoolExecutor(ROWS)

    def requests(rows: int, count: int) -> Callable[[], object]:
        if rows == 1:
            return lambda: complete(one, prompt[: PROMPTS[0]], count)
        return lambda: list(pool.map(lambda _: complete(many, prompt[: PROMPTS[0] // rows], count), range(rows)))

    def decode(rows: int) -> float:
        first = seconds(requests(rows, 1))
        return rows * tokens / (seconds(requests(rows, 1 + tokens)) - first)

    def read(count: int) -> float:
        return count / seconds(lambda: complete(one, prompt[:count], 1))

    def second() -> float:
        complete(one, prompt[: PROMPTS[-1] - 24], 1, keep=True)
        return 24 / seconds(lambda: complete(one, prompt[: PROMPTS[-1]], 1, keep=True))

    return _named(decode, read, second)


def _named(decode: Callable[[int], float], read: Callable[[int], float], second: Measure) -> dict[str, Measure]:
    return {
        "one reply": lambda: decode(1),
        f"{ROWS} at once": lambda: decode(ROWS),
        **{f"prompt of {count}": lambda count=count: read(count) for count in PROMPTS},
        "second turn": second,
    }


def beside(models: dict[str, GPT], tokens: int, turns: int, precisions: Sequence[str] = tuple(PEERS)) -> str:
    """The table of a shape: for each precision what ours does, and how many times as fast as llama.cpp it is.

    fp32 is held as it is loaded: for one reply at a time as a chat has it, for several as `serve` does.
    """
    from benchmarks.chat import MODES, as_in_a_chat, peer_reply, rate

    fp32 = models["fp32"]
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, fp32.config.vocab_size, (1, PROMPTS[-1]), generator=generator)
    rows = []
    for name, quant in ((name, PEERS[name]) for name in precisions):
        with ExitStack() as servers:
            one, many = (servers.enter_context(server_of(fp32, quant, count)) for count in (1, ROWS))
            if name == "fp32":
                _check_same(fp32, one, ids[:, : PROMPTS[0]])
            both = {("ours", kind): run for kind, run in ours(models[name], ids, tokens).items()}
            if name == "fp32":
                alone = ours(as_in_a_chat(fp32), ids, tokens)
                both |= {("ours", kind): run for kind, run in alone.items() if not kind.startswith(f"{ROWS}")}
            both |= {("theirs", kind): run for kind, run in theirs(one, many, ids, tokens).items()}
            if name in ("fp32", "bf16"):  # it has no other precisions on a CPU
                reply = peer_reply(fp32, MODES[name], "dynamic")
                both["transformers", "one reply"] = lambda reply=reply: rate(reply, ids[:, : PROMPTS[0]], tokens // 2)
            found = take_turns(both, turns)
        for kind in [kind for side, kind in both if side == "ours"]:
            here, there = found["ours", kind], found["theirs", kind]
            more = str(ratio(here, found["ours", "one reply"])) if kind.startswith(f"{ROWS}") else ""
            third = found.get(("transformers", kind))
            cells = [f"{statistics.median(values):.0f}" if values else "" for values in (here, there, third)]
            rows.append([f"{name}, {quant}", kind, *cells, str(ratio(here, there)), more])
    return table(["precision", "what", "ours", "llama.cpp", "transformers", "ours / llama.cpp", f"{ROWS} to one"], rows)


def _check_same(model: GPT, server: xllamacpp.Server, prompt: Tensor) -> None:
    cache, fed, written = model.new_cache(1, prompt.shape[1] + 12), prompt, []
    while len(written) < 12:
        written.append(int(model(fed, cache=cache).argmax()))
        fed = torch.tensor([written[-1:]])
    found = complete(server, prompt[0].tolist(), 12)
    if found != written:
        raise ValueError(f"llama.cpp writes {found}, ours {written}: the comparison would mean nothing.")


def main() -> None:
    """Print the tables."""
    from benchmarks.chat import our_models

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--shapes", nargs="+", choices=["d8", "d12"], default=["d8", "d12"])
    parser.add_argument("--precisions", nargs="+", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    built_for = os.environ.get("NANOCHAT_MARCH", "this processor")
    print(describe(), f"ours built for {built_for}", f"llama.cpp: {xllamacpp.get_system_info()}", sep="; ", flush=True)
    with torch.no_grad():
        for name in ["tiny"] if options.small else options.shapes:
            models = our_models(TINY if name == "tiny" else SHAPES[name])
            turns = 1 if options.small else options.turns
            print(f"\n{name}\n", beside(models, TOKENS[name], turns, options.precisions), sep="\n", flush=True)


if __name__ == "__main__":
    main()
