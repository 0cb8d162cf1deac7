"""Peak memory and time of loading a d32-shaped checkpoint for chat on a CPU, to the first two tokens of a reply.

    python -m benchmarks.load_memory            the whole size: 3.8 GB of random bf16 weights in a temporary folder
    python -m benchmarks.load_memory --small    the same in seconds, to see that it runs

Each case is measured in a process of its own, as Linux's VmHWM: the most memory it ever had, mapped file pages
included. Right before it loads, the process asks for as much memory as the weights take, writes to it and gives it
back: "fresh memory" is what that takes. In a virtual machine the host may have taken free memory away, and getting it
again costs up to twenty times as much as it does from the machine itself; that is not what loading is measured by.
"""

import argparse
import json
import mmap
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.memory import forget_peak
from nanochat_core.checkpoint.loading import load_model
from nanochat_core.checkpoint.reading import read_weights
from nanochat_core.engine.engine import Engine
from nanochat_core.model.gpt import GPT, GPTConfig
from nanochat_core.model.shape import is_table
from nanochat_core.paths import meta_path, weights_path
from nanochat_core.system.files import write_json
from nanochat_core.system.processes import peak_bytes
from nanochat_core.tokenizer.tokenizer import Tokenizer

D32 = GPTConfig()
SMALL = GPTConfig(n_layer=4, n_embd=256, n_head=2, n_kv_head=2)
CASES = {"bfloat16": ("bfloat16", "int8", "int4"), "float32": ("float32", "bfloat16", "int8", "int4")}
"""dtype in the file to those in memory: a re-saved checkpoint, and the published one."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--measure", nargs=2, metavar=("FOLDER", "DTYPE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(*options.measure)))
        return
    print(
        "| file | in memory | weights | peak memory | peak / weights | fresh memory | load | first token |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    for stored, kinds in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            write_model(Path(folder), SMALL if options.small else D32, getattr(torch, stored))
            for held in kinds:
                command = [sys.executable, "-m", "benchmarks.load_memory", "--measure", folder, held]
                found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                print(f"| {stored} | {held} {_cells(found)}", flush=True)


def _cells(found: dict[str, float]) -> str:
    ratio = found["peak"] / found["weights"]
    seconds = " | ".join(f"{found[name]:.1f} s" for name in ("fresh_seconds", "load_seconds", "first_token_seconds"))
    return f"| {found['weights'] / 1e9:.2f} GB | {found['peak'] / 1e9:.2f} GB | {ratio:.2f} | {seconds} |"


def measure(folder: str, dtype: str) -> dict[str, float]:
    """Load the model in `folder`, answer one question, and say what that took (bytes, seconds)."""
    kind = getattr(torch, dtype)
    size = sum(tensor.numel() for tensor in read_weights(weights_path(Path(folder), 1)).values()) * kind.itemsize
    fresh_seconds = _touch(size)
    forget_peak()
    started = time.monotonic()
    model, tokenizer, _ = load_model(folder, device="cpu", dtype=kind, for_chat=True)
    loaded = time.monotonic()
    stream = Engine(model, tokenizer).events([{"role": "user", "content": "hi"}], max_tokens=2, temperature=0.0)
    next(stream, None)
    return {
        "weights": sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers())),
        "peak": peak_bytes(),
        "fresh_seconds": fresh_seconds,
        "load_seconds": loaded - started,
        "first_token_seconds": time.monotonic() - started,
    }


def _touch(size: int) -> float:
    """Seconds of writing once to so many bytes of memory that this process did not have."""
    started = time.monotonic()
    with mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as block:
        block.madvise(mmap.MADV_HUGEPAGE)
        for begin in range(0, size, mmap.PAGESIZE):
            block[begin] = 1
    return time.monotonic() - started


def write_model(folder: Path, config: GPTConfig, dtype: torch.dtype) -> None:
    """Random weights of this shape in nanochat's layout, tables in bf16, with a tokenizer of as many tokens."""
    with torch.device("meta"):
        shapes = {name: parameter.shape for name, parameter in GPT(config).named_parameters()}
    block = torch.randn(1 << 20, dtype=torch.float32).mul_(0.02).to(dtype)  # repeated: only the size matters
    weights = {}
    for name, shape in shapes.items():
        flat = torch.empty(shape.numel(), dtype=torch.bfloat16 if is_table(name) else dtype)  # as nanochat saves
        for start in range(0, len(flat), len(block)):
            part = flat[start : start + len(block)]
            part.copy_(block[: len(part)])
        weights[name] = flat.view(shape)
    torch.save(weights, weights_path(folder, 1))
    write_json(meta_path(folder, 1), {"step": 1, "model_config": config.to_meta()})
    pairs = (bytes([first, second]) for first in range(256) for second in range(256))
    pieces = [bytes([byte]) for byte in range(256)] + [pair for pair, _ in zip(pairs, range(config.vocab_size - 265))]
    Tokenizer.from_ranks(
        {piece: rank for rank, piece in enumerate(pieces)}, r"\p{L}+|\p{N}{1,2}|\s+|[^\s\p{L}\p{N}]+"
    ).save(folder / "tokenizer.pkl")


if __name__ == "__main__":
    main()
