"""One of several processes that read a data file: blocks of lines come in through stdin, what they hold goes out.

It ends when its stdin does, and so never outlives the process that started it.
"""

import gc
import logging
import os
import pickle
import sys

from nanochat_core.data.chunk import BlockReader


def main() -> None:
    """Read blocks until there are no more."""
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever is printed must not stand among the results
    logging.getLogger("nanochat_core.native.build").disabled = True  # what is missing the parent has said, once
    gc.disable()  # nothing here refers to itself, and looking for what does costs 3 %
    try:
        reader = BlockReader(pickle.load(source))
        while True:
            pickle.dump(reader.read_lines(pickle.load(source)), sink, protocol=pickle.HIGHEST_PROTOCOL)
            sink.flush()
    except (EOFError, BrokenPipeError):  # the parent has what it wanted, or is gone
        os._exit(0)


if __name__ == "__main__":
    main()
