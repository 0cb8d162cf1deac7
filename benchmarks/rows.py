"""The data doctor and the trace on many rows: processor seconds, bytes, and milliseconds for one reply.

    python -m benchmarks.rows [--rows 100000]

The rows are the starter's own generator's, so that questions are alike as in data that a person has made by patterns.
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

from nanochat_core.rows.doctor import examine
from nanochat_core.rows.index import Index, build
from nanochat_core.rows.row import read_rows
from nanochat_core.rows.trace import trace_in
from starter import generate

REPLIES = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--doctor", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        data = Path(name) / "data.jsonl"
        with open(data, "w", encoding="utf-8") as file:
            for number in range(options.rows):
                file.write(json.dumps(generate.conversation(number)) + "\n")
        started = time.process_time()
        rows, _ = read_rows(data)
        print(f"{len(rows):,} rows, {data.stat().st_size / 1e6:,.0f} MB: read in {time.process_time() - started:.1f} s")
        trace(Path(name) / "trace", rows)
        if options.doctor:
            started = time.process_time()
            found = examine(rows)
            print(f"doctor: {time.process_time() - started:.1f} s, {len(found.findings):,} findings")
        print(f"most memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:,.2f} GB")


def trace(folder: Path, rows: list) -> None:
    folder.mkdir()
    started = time.process_time()
    build(folder, "key", rows)
    seconds = time.process_time() - started
    size = sum(path.stat().st_size for path in folder.iterdir())
    started = time.process_time()
    index = Index(folder)
    print(f"index: {seconds:.1f} s, {size / 1e6:,.0f} MB, opened in {1e3 * (time.process_time() - started):.0f} ms")
    taken = []
    for row in rows[:: max(1, len(rows) // REPLIES)]:
        started = time.process_time()
        trace_in(index, "run", row.answer, row.prompt)
        taken.append(1e3 * (time.process_time() - started))
    taken.sort()
    print(f"a reply: median {taken[len(taken) // 2]:.1f} ms, slowest of {len(taken)} {taken[-1]:.1f} ms")


if __name__ == "__main__":
    main()
