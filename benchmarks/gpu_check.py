"""One command for a bare machine with a CUDA card and torch: is every memory mode right, does it fit, how fast is it.

    make gpu-check                                  or: python -m benchmarks.gpu_check
    python -m benchmarks.gpu_check --small          a small shape, also on a CPU, to see that it runs

The modes' weights against plain's to the last bit, the device against the CPU, peak memory against the plan while the
card plays smaller ones, tokens per second and MFU of each mode on a model of d32's shape with random weights, and a
reply. Each section is a process of its own with a time of its own, so that what one breaks, or an error of the card
itself, leaves the others. Prints a table for benchmarks/README.md; the exit status is 1 where something failed.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
NEEDED = ("torch", "numpy", "psutil", "tiktoken", "filelock")
"""What the training itself imports."""
SECTIONS = (
    "facts",
    "bits A",
    "bits E",
    "CPU",
    "mode plain",
    "mode checkpointed",
    "mode layerwise",
    "mode offloaded",
    "mode offloaded_all",
    "chat",
)
SECTION_SECONDS, ALL_SECONDS = 120, 460
"""A section, and all of them, are given up after so long."""
GIB = 1 << 30

Found = dict[str, dict[str, Any]]


def main() -> int:
    """Run the sections, print what they found. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--device", choices=["auto", "cuda", "cpu"], default="auto")
    parser.add_argument("--section", choices=SECTIONS, help="this one alone, in this process, as a line of JSON")
    options = parser.parse_args()
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        print(f"Install what is missing first: {sys.executable} -m pip install {' '.join(missing)}", file=sys.stderr)
        return 2
    if options.section:
        print(json.dumps(run_section(options.section, options.device, small=options.small)))
        return 0
    found = run_all(options.device, small=options.small)
    print(report(found))
    return 0 if all(one["ok"] for one in found.values()) else 1


def run_section(name: str, device: str, *, small: bool) -> dict[str, Any]:
    """What a section finds, in this process."""
    from benchmarks.gpu_device import find_device
    from benchmarks.gpu_sections import SECTIONS as FUNCTIONS
    from benchmarks.gpu_sections import SMALL, WHOLE

    return FUNCTIONS[name](find_device(device), SMALL if small else WHOLE)


def run_all(device: str, *, small: bool, sections: tuple[str, ...] = SECTIONS) -> Found:
    """Every section in a process of its own; one that fails has ok false, and the last line that it said as error."""
    begin, found = time.monotonic(), Found()
    for name in sections:
        left = min(SECTION_SECONDS, ALL_SECONDS - (time.monotonic() - begin))
        print(f"{name} ...", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", "benchmarks.gpu_check", "--section", name, "--device", device]
        found[name] = _finished([*command, *(["--small"] if small else [])], left)
        if not found[name]["ok"]:
            print(f"  failed: {found[name].get('error', 'see the table')}", file=sys.stderr, flush=True)
    return found


def _finished(command: list[str], seconds: float) -> dict[str, Any]:
    if seconds <= 0:
        return {"ok": False, "error": f"not begun: the others took {ALL_SECONDS} s"}
    # cuBLAS is deterministic with a workspace of this size (NVIDIA, cuBLAS, "Results reproducibility").
    environment = {**os.environ, "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        return {"ok": False, "error": f"given up after {seconds:.0f} s"}
    lines = done.stdout.strip().splitlines()
    if done.returncode == 0 and lines:
        return json.loads(lines[-1])
    said = done.stderr.strip().splitlines()
    return {"ok": False, "error": said[-1][:300] if said else f"ended with status {done.returncode}"}


def report(found: Found) -> str:
    """What was found as text with tables, and what failed at the end."""
    device = found["facts"].get("device", "unknown device")
    parts = [f"### {device}", _modes_table(found), _bits_table(found), *_sentences(found)]
    failed = [f"- {name}: {one.get('error', 'not as it should be')}" for name, one in found.items() if not one["ok"]]
    parts.append("Failed:\n" + "\n".join(failed) if failed else "All sections passed.")
    return "\n\n".join(part for part in parts if part)


def _modes_table(found: Found) -> str:
    head = ["mode", "plays a card of", "planned", "peak", "tokens per step", "seconds per step", "tokens/s", "MFU"]
    rows = []
    for name, one in found.items():
        if name.startswith("mode "):
            memory = name.removeprefix("mode ")
            if "error" in one or "left_out" in one:
                rows.append([memory, one.get("left_out", "failed"), *[""] * 6])
                continue
            peak, outside = one["peak"], one["outside"] or 0
            rows.append(
                [
                    memory,
                    one.get("played") or "none",
                    f"{one['planned'] / GIB:.1f} GiB" + (f" + {one['host'] / GIB:.1f} host" if one["host"] else ""),
                    f"{(peak + outside) / GIB:.1f} GiB, {outside / GIB:.1f} outside torch" if peak else "not counted",
                    f"{one['tokens_per_step']:,}",
                    f"{one['seconds']:.2f}",
                    f"{one['tokens_per_s']:,.0f}",
                    f"{one['mfu']:.1%}" if one["mfu"] else "unknown",
                ]
            )
    return _table(head, rows)


def _bits_table(found: Found) -> str:
    rows = []
    for generation in ("A", "E"):
        one = found.get(f"bits {generation}", {})
        for kernels in ("deterministic", "default"):
            if kernels in one:
                rows.append([generation, kernels, *("equal" if same else "differ" for same in one[kernels].values())])
    names = ["plain again", "checkpointed", "layerwise", "offloaded", "offloaded_all"]
    return _table(["bits against plain", "torch's kernels", *names], rows) if rows else ""


def _sentences(found: Found) -> list[str]:
    said = []
    if "loss" in (one := found.get("CPU", {})):
        said.append(f"Against the CPU in fp32: losses within {one['loss']:.1e}, weights within {one['weights']:.1e}.")
    if "tokens_per_s" in (one := found.get("chat", {})):
        size = f"{one['bytes'] / GIB:.1f} GiB"
        said.append(f"A reply: {one['tokens_per_s']:,.1f} tokens/s, each reading weights of {size}.")
    return said


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
