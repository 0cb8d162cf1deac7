"""Every processor's kernels give what a plain computation gives: of any shape, and of what is no number.

The compiled code is built for each kind of processor that this one can run, and for AArch64, which an emulator runs
(Debian: gcc-aarch64-linux-gnu and qemu-user), all of it under the sanitizers where the compiler has them.
"""

import functools
import signal
import struct
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from nanochat_core.checkpoint import few_bits
from nanochat_core.compute.huge_pages import HugePages
from nanochat_core.native.build import SOURCES
from tests.support.emulator import COMPILER, EMULATOR, REMEDY, is_arm, is_there

FLOAT32, BFLOAT16, INT8, INT4, COMPACT = range(5)
SHAPES = [(1, 64, 1), (3, 64, 2), (16, 128, 3), (37, 192, 1), (37, 192, 5), (50, 64, 9), (100, 512, 8), (35, 320, 67)]
"""Outputs, inputs, vectors."""
HERE = [  # its name, what the compiler calls it, what /proc/cpuinfo calls what it needs
    ("any x86-64", "x86-64", ""),
    ("AVX2", "x86-64-v3", "avx2 fma"),
    ("AVX-VNNI", "alderlake", "avx_vnni"),
    ("AVX-512 without VNNI", "x86-64-v4", "avx512f avx512bw avx512vl"),
    ("AVX-512 VNNI", "icelake-client", "avx512_vnni avx512_vbmi2"),
    ("AVX-512 BF16", "cooperlake", "avx512_bf16 avx512_vnni"),
]
I8MM = "armv8.2-a+dotprod+i8mm"
ARM = [("any AArch64", "armv8-a"), ("NEON dotprod", "armv8.2-a+dotprod"), ("NEON i8mm", I8MM)]
WITHOUT_I8MM = "cortex-a76"
"""A processor, by the emulator's name, that has all else of what I8MM needs."""
SANITIZED = ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-static-libasan", "-static-libubsan")


def _kinds() -> list[tuple[str, str]]:
    """(name, what the compiler calls it) of the processors whose code can be run here."""
    if is_arm():
        return [ARM[0], ("this one", "native")]
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    flags = set(next(line for line in lines if line.startswith("flags")).split())
    return [*((name, march) for name, march, needs in HERE if set(needs.split()) <= flags), *ARM]


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> Callable[[str], list[str]]:
    """march -> the command that runs the program for this kind of processor, which is built once."""
    return functools.cache(lambda march: _built(march, tmp_path_factory.mktemp("kernels")))


def _built(march: str, folder: Path) -> list[str]:
    foreign = march.startswith("armv8") and not is_arm()
    if foreign and not is_there():
        pytest.fail(REMEDY)
    compiler = [COMPILER, "-static"] if foreign else ["cc", *SANITIZED]
    source, program = Path(__file__).with_name("kernels.c"), folder / "kernels"
    options = ["-std=gnu11", "-O2" if foreign else "-O1", f"-march={march}", f"-I{SOURCES}"]  # -O1: sooner built
    subprocess.run([*compiler, *options, str(source), "-o", str(program), "-lm"], check=True)
    return [*([EMULATOR] if foreign else []), str(program)]


@dataclass
class Case:
    """What the program is given, and what has to come back: of the rows that are numbers, no farther than `bound`."""

    name: str
    given: bytes
    expected: Tensor  # fp64; what is no number may be any that is none
    bound: float  # relative to the norm that products of such rows and vectors have; 0: equal
    norm: float


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _bytes(tensor: Tensor) -> bytes:
    return tensor.contiguous().view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


def _product(name: str, kind: int, matrix: Tensor, vectors: Tensor, bound: float) -> Case:
    outputs, inputs = matrix.shape
    if kind in (INT8, INT4):
        rounded = few_bits._Rounding(HugePages(), None, 8 if kind == INT8 else 4).of(matrix)
        rows, scales, exact = _bytes(rounded.weight), _bytes(rounded.scales), rounded.rows()[:outputs]
    else:
        stored = matrix.bfloat16() if kind == BFLOAT16 else matrix
        rows, scales, exact = _bytes(stored), b"", stored.float()
    head = struct.pack("8q", 0, kind, outputs, inputs, len(vectors), len(rows), len(scales), 0)
    expected = vectors.double() @ exact.double().T
    norm = float(vectors.double().norm() * exact.double().norm()) / inputs**0.5
    name = f"{name} {kind} {outputs} {inputs} {len(vectors)}"
    return Case(name, head + rows + scales + _bytes(vectors), expected, bound, norm)


def _products() -> Iterator[Case]:
    for outputs, inputs, count in SHAPES:
        # The bounds: what rounded vectors cost.
        for kind, bound in ((FLOAT32, 1e-6), (COMPACT, 1e-6), (BFLOAT16, 5e-3), (INT8, 0.02), (INT4, 0.02)):
            yield _product("random", kind, _random(outputs, inputs), _random(count, inputs, seed=1), bound)
        for kind, most in ((INT8, 127), (INT4, 7)):
            generator = torch.Generator().manual_seed(outputs)
            matrix = torch.randint(-most, most + 1, (outputs, inputs), generator=generator).float()
            vectors = torch.randint(-127, 128, (count, inputs), generator=generator).float()
            matrix[:, ::32], vectors[:, ::32] = (127 if kind == INT8 else -8), -127  # so that every scale is 1
            yield _product("whole numbers", kind, matrix, vectors, 0)
    for kind, largest in ((INT8, 127.0), (INT4, -8.0)):
        vectors = torch.full((2, 4096), 127.0)
        vectors[1] *= -1
        yield _product("the largest sums", kind, torch.full((16, 4096), largest), vectors, 0)


def _of_all_sizes() -> Iterator[Case]:
    """Rows whose exponents differ much, which the program itself compares with fp32's to the bit."""
    for outputs, inputs, count in SHAPES:
        matrix = _random(outputs, inputs) * 10.0 ** torch.linspace(-3, 3, inputs)
        matrix[_random(outputs, inputs, seed=2) > 2] = 0.0
        matrix[outputs // 2] *= 1e-38  # subnormal, partly
        matrix[outputs // 3, : inputs // 2] *= 1e30
        yield _product("all sizes", COMPACT, matrix, _random(count, inputs, seed=1), 1e-6)


def _no_numbers() -> Iterator[Case]:
    for kind in (FLOAT32, COMPACT, BFLOAT16, INT8, INT4):
        for value in (float("nan"), float("inf"), -float("inf")):
            for count in (1, 3, 8):
                matrix, vectors = _random(20, 128), _random(count, 128, seed=1)
                vectors[count - 1, 77] = value
                yield _product(f"{value} in a vector", kind, matrix, vectors, 0.02)
                matrix[5, 9], vectors = value, _random(count, 128, seed=1)
                yield _product(f"{value} in a row", kind, matrix, vectors, 0.02)


def _attention() -> Iterator[Case]:
    for dtype in (torch.float32, torch.bfloat16):
        for size in (16, 32, 80, 128):
            for queries, seen, first in ((1, 1, 0), (1, 17, 0), (1, 40, 9), (4, 1, 0), (4, 37, 0), (4, 37, 5)):
                positions = seen + queries - 1
                keys, values = (_random(positions, size, seed=seed).to(dtype) for seed in (1, 2))
                q = _random(queries, size) * 3 / size**0.5
                kind = FLOAT32 if dtype == torch.float32 else BFLOAT16
                head = struct.pack("8q", 1, kind, size, positions, queries, seen, first, 0)
                rows = []
                for k in range(queries):
                    window = slice(first + k, seen + k)
                    weights = (q[k].double() @ keys[window].double().T).softmax(-1)
                    rows.append(weights @ values[window].double())
                name = f"attention {dtype} {size} {queries} {seen} {first}"
                yield Case(
                    name,
                    head + _bytes(keys) + _bytes(values) + _bytes(q),
                    torch.stack(rows),
                    1e-5,
                    float(torch.stack(rows).norm()),
                )


@pytest.mark.processes
@pytest.mark.parametrize("march", [pytest.param(march, id=name) for name, march in _kinds()])
def test_kernels(march, built):
    program = built(march)
    cases = [*_products(), *_of_all_sizes(), *_no_numbers(), *_attention()]
    given = b"".join(case.given for case in cases)
    done = subprocess.run(program, input=given, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    results, at = np.frombuffer(done.stdout, np.float32), 0
    assert len(results) == sum(case.expected.numel() for case in cases)
    for case in cases:
        size, expected = case.expected.numel(), case.expected
        found = torch.from_numpy(results[at : at + size].copy()).view(expected.shape).double()
        at += size
        number = expected.isfinite()
        assert torch.equal(found.isfinite(), number), case.name
        assert (found - expected)[number].norm() <= case.bound * case.norm or not number.all(), case.name


def _few_bits(counts: range | tuple[int, ...], *shapes: tuple[int, int]) -> Iterator[Case]:
    for outputs, inputs in shapes:
        for kind in (INT8, INT4):
            for count in counts:
                yield _product("random", kind, _random(outputs, inputs), _random(count, inputs, seed=1), 0.02)


@pytest.mark.processes
def test_arm_processors_give_the_same_bits(built):
    """Whichever instructions multiply bytes, whole numbers are the same, and floats are summed in the same order."""
    cases = list(_few_bits(range(1, 20), (1, 32), (16, 64), (37, 96), (50, 320)))
    given = b"".join(case.given for case in cases)
    programs = [built(march) for _, march in _kinds() if march.startswith("armv8") or is_arm()]
    plain, *others = (subprocess.run(it, input=given, capture_output=True, check=True).stdout for it in programs)
    assert len(plain) == sum(case.expected.numel() for case in cases) * 4
    assert all(other == plain for other in others)


@pytest.mark.processes
@pytest.mark.skipif(is_arm(), reason="what a processor lacks is lacking in an emulator alone")
def test_i8mm_multiplies_several_vectors(built, tmp_path):
    """Its instruction is what a processor without it stops at, which runs the same program for one vector."""
    emulator, program = built(I8MM)
    stopped = {1: 0, 2: -signal.SIGILL, 4: -signal.SIGILL, 8: -signal.SIGILL}
    for case in _few_bits(tuple(stopped), (16, 64)):
        command = [emulator, "-cpu", WITHOUT_I8MM, program]
        done = subprocess.run(command, input=case.given, capture_output=True, check=False, cwd=tmp_path)
        assert done.returncode == stopped[len(case.expected)], case.name
