"""The Data tab with a large dataset: time to open, to turn a page, to search, to sort, and the memory it takes.

    python -m benchmarks.data_tab [--conversations 100000]

Answers are what a click waits for in the app, without the browser. Process time is given beside wall time, since other
work on the machine only lengthens the latter.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nanochat_core.data.conversations import check, save_conversations
from nanochat_core.data.length import default_tokenizer
from nanochat_core.system.processes import peak_bytes
from studio.data_tab import draw, handlers
from studio.data_tab.view import Measure
from studio.datasets.counting import counter_of, tokenizer_names
from studio.datasets.session import Session, read_lines

_TEXT = "the bakery opens at seven and sells bread cake coffee to every customer who can pay an invoice by card"
WORDS = tuple(_TEXT.split())


def write_dataset(path: Path, conversations: int) -> None:
    """Conversations of two to six turns, about 130 tokens each; one in fifty is repeated."""
    random.seed(1)
    rows: list[dict[str, Any]] = []
    for number in range(conversations):
        if number % 50 == 49:
            rows.append(rows[-20])
            continue
        turns = random.choice([2, 2, 2, 4, 4, 6])
        texts = [f"{number} {' '.join(random.choices(WORDS, k=random.randint(8, 45)))}" for _ in range(turns)]
        roles = ("user", "assistant")
        rows.append({"messages": [{"role": roles[k % 2], "content": text} for k, text in enumerate(texts)]})
    save_conversations(path, rows)


def timed(name: str, action: Callable[[], Any]) -> Any:
    wall, process = time.perf_counter(), time.process_time()
    result = action()
    took = 1000 * (time.perf_counter() - wall), 1000 * (time.process_time() - process)
    print(f"{name:<44} {took[0]:>8,.0f} ms wall {took[1]:>8,.0f} ms process time")
    return result


def memory() -> str:
    return f"{peak_bytes() / 2**20:,.0f} MB at most so far"


def answers(session: Session, measure: Measure) -> None:
    """Each with an empty search cache, as after an edit."""
    at = handlers.opened(dict(handlers.NOWHERE), session)

    def listed(number: int, *query: str) -> Callable[[], Any]:
        def act() -> Any:
            session.rows.version += 1
            return draw.the_list(session, at, query, measure, number)

        return act

    timed("first page", listed(0, "", "all", "file"))
    timed("page 2,001", listed(2_000, "", "all", "file"))
    timed("search: two words", listed(0, "bread cake", "all", "file"))
    timed("search: nothing found", listed(0, "no such words", "all", "file"))
    timed("sort by tokens", listed(0, "", "all", "tokens"))
    timed("sort by turns", listed(0, "", "all", "turns"))
    timed("sort by problems", listed(0, "", "all", "problems"))
    timed("search and sort", listed(0, "coffee", "problems", "tokens"))
    timed("overview, with histogram", lambda: draw.rest(session, at, measure, ""))
    timed("problems", lambda: draw.fixing(session, ""))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--conversations", type=int, default=100_000)
    conversations = parser.parse_args().conversations
    measure = Measure(tokenizer_names()[0], 2048)
    print(f"Before: {memory()}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "big.jsonl"
        write_dataset(path, conversations)
        print(f"{conversations:,} conversations, {path.stat().st_size / 1e6:,.0f} MB; made: {memory()}")
        session = timed("open", lambda: Session("big.jsonl", read_lines(path), path))
        print(f"Opened: {memory()}")
        answers(session, measure)
        print("While the tokens are counted in the background:")
        counter_of(session).start(session, measure.model, measure.max_seq_len)
        answers(session, measure)
        timed("counting: the rest of it", counter_of(session).wait)
        print(f"Counted: {memory()}")
        answers(session, measure)
        timed("check (the command line's)", lambda: check(path, default_tokenizer()[0]))


if __name__ == "__main__":
    main()
