"""Reading nanochat's tokenizer.pkl without running anything that is in it.

A pickle is a program. nanochat's holds one `tiktoken.core.Encoding` and its state, and needs some twenty of
the format's instructions, none of which calls anything. This reader knows only those: the class becomes an
inert stub, every other class or instruction ends the reading. Work and memory are bounded by MAX_FILE_BYTES and
MAX_INSTRUCTIONS. (Python's own unpickler is no help here: even with a closed `find_class`, a 9-byte file makes
its C version (3.11) take 4 GiB for the memo.)
"""

import pickle
import pickletools
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SPECIAL_TOKENS = (
    "<|bos|>",
    "<|user_start|>",
    "<|user_end|>",
    "<|assistant_start|>",
    "<|assistant_end|>",
    "<|python_start|>",
    "<|python_end|>",
    "<|output_start|>",
    "<|output_end|>",
)
"""In nanochat's order; they follow the ranks, so `<|bos|>` has the id len(ranks)."""

MAX_FILE_BYTES = 16 << 20  # d32's file has under 1 MiB
MAX_RANKS = 1 << 19  # d32 has 65,527
MAX_TOKEN_BYTES = 1024
MAX_PATTERN_CHARACTERS = 10_000
MAX_INSTRUCTIONS = 4 * MAX_RANKS  # a token takes three: its bytes, the memo, its rank
MAX_PROTOCOL = 5

REMEDY = (
    "Download the model again (make download, or nanochat download), or take the file from a source that you trust."
)


@dataclass(frozen=True)
class EncodingState:
    """What a tokenizer is made of: its name, the splitting pattern, and the ids of byte strings and special tokens."""

    name: str
    pattern: str
    ranks: dict[bytes, int]
    special_tokens: dict[str, int]


def read_tokenizer_file(path: Path) -> EncodingState:
    """The checked content of a tokenizer.pkl. ValueError (file, what, remedy) for a missing, odd or hostile file."""
    path = Path(path)
    try:
        state = _PickleReader(_read_bounded(path)).read()
        return checked_state(state)
    except (_Refused, OSError) as error:
        raise ValueError(f"{path} cannot be used as a tokenizer: {error}. {REMEDY}") from error


def checked_state(state: Any) -> EncodingState:
    """The state as an EncodingState, or ValueError: a clause that says which part is not as nanochat writes it."""
    names = {"name", "pat_str", "mergeable_ranks", "special_tokens"}
    if type(state) is not dict or set(state) != names:
        raise _Refused("its state does not hold exactly name, pat_str, mergeable_ranks and special_tokens")
    name, pattern = state["name"], state["pat_str"]
    if type(name) is not str or len(name) > 1000:
        raise _Refused("its name is not a short text")
    if type(pattern) is not str or not 0 < len(pattern) <= MAX_PATTERN_CHARACTERS:
        raise _Refused(f"its splitting pattern is not a text of 1 to {MAX_PATTERN_CHARACTERS:,} characters")
    _check_ranks(state["mergeable_ranks"])
    _check_special_tokens(state["special_tokens"], len(state["mergeable_ranks"]))
    return EncodingState(name, pattern, state["mergeable_ranks"], state["special_tokens"])


def _check_ranks(ranks: Any) -> None:
    if type(ranks) is not dict or len(ranks) > MAX_RANKS:
        raise _Refused(f"its ranks are not a table of at most {MAX_RANKS:,} entries")
    for token, rank in ranks.items():
        if type(token) is not bytes or not 0 < len(token) <= MAX_TOKEN_BYTES:
            raise _Refused(f"it has a token that is not a byte string of 1 to {MAX_TOKEN_BYTES} bytes")
        if type(rank) is not int:
            raise _Refused(f"the rank of token {token[:20]!r} is not a whole number")
    if set(ranks.values()) != set(range(len(ranks))):
        raise _Refused(f"the ranks of its {len(ranks):,} tokens are not 0 to {len(ranks) - 1:,}, each once")
    missing = [byte for byte in range(256) if bytes([byte]) not in ranks]
    if missing:
        raise _Refused(f"{len(missing)} of the 256 single bytes have no token (the first is {missing[0]})")


def _check_special_tokens(special_tokens: Any, first_id: int) -> None:
    if type(special_tokens) is not dict or set(special_tokens) != set(SPECIAL_TOKENS):
        raise _Refused(f"its special tokens are not nanochat's nine ({SPECIAL_TOKENS[0]} to {SPECIAL_TOKENS[-1]})")
    for expected, name in enumerate(SPECIAL_TOKENS, start=first_id):
        value = special_tokens[name]
        if type(value) is not int or value != expected:
            raise _Refused(
                f"its special token {name} does not have the id {expected}, as the order after the ranks wants"
            )


def _read_bounded(path: Path) -> bytes:
    if not path.is_file():  # also keeps us from waiting on a pipe or a device
        raise _Refused("there is no such file" if not path.exists() else "it is not a file")
    with open(path, "rb") as file:
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise _Refused(f"it is larger than {MAX_FILE_BYTES >> 20} MiB")
    return data


class _Refused(ValueError):
    """Something that a nanochat tokenizer never holds; the message is a clause without a full stop."""


class _EncodingClass:
    """Stands for the class `tiktoken.core.Encoding`."""


@dataclass(eq=False)
class _EncodingStub:
    """Stands for the instance; it holds the state and does nothing."""

    state: Any = None


_MARK = object()


class _PickleReader:
    """A stack machine for the instructions of protocols 2 to 5 that build dicts of str, bytes and int."""

    def __init__(self, data: bytes):
        self.data = data
        self.position = 0
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def read(self) -> Any:
        """Run to the STOP instruction and give the state of the one Encoding."""
        for _ in range(MAX_INSTRUCTIONS):
            code = self.take(1)
            if code == pickle.STOP:
                return self.finish()
            instruction = _INSTRUCTIONS.get(code)
            if instruction is None:
                raise _Refused(f"it holds the pickle instruction {_name_of(code)}, which nanochat never writes there")
            instruction(self)
        raise _Refused(f"it holds more than {MAX_INSTRUCTIONS:,} pickle instructions")

    def finish(self) -> Any:
        if len(self.stack) != 1 or type(self.stack[0]) is not _EncodingStub:
            raise _Refused("it does not hold a tiktoken Encoding")
        if self.position != len(self.data):
            raise _Refused("something follows after the end of the pickle")
        return self.stack[0].state

    def take(self, count: int) -> bytes:
        end = self.position + count
        if end > len(self.data):
            raise _Refused("it ends in the middle of an instruction (it is cut off, or no pickle)")
        piece = self.data[self.position : end]
        self.position = end
        return piece

    def take_integer(self, layout: str) -> int:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def take_text(self, layout: str) -> str:
        try:
            return self.take(self.take_integer(layout)).decode("utf-8")
        except UnicodeDecodeError as error:
            raise _Refused("a text in it is not UTF-8") from error

    def take_line(self) -> str:
        end = self.data.find(b"\n", self.position, self.position + 200)
        if end < 0:
            raise _Refused("a name in it does not end")
        line = self.take(end + 1 - self.position)[:-1]
        return line.decode("utf-8", errors="replace")

    def pop(self) -> Any:
        if not self.stack:
            raise _Refused("its instructions take more from the stack than is there")
        return self.stack.pop()

    def protocol(self) -> None:
        if self.take(1)[0] > MAX_PROTOCOL:
            raise _Refused("it is a pickle of a later protocol than 5")

    def find_class(self, module: Any, name: Any) -> None:
        if type(module) is not str or type(name) is not str:  # a repr of nested tables could be exponentially long
            raise _Refused("it refers to a class by something that is not a name")
        if (module, name) != ("tiktoken.core", "Encoding"):
            raise _Refused(f"it refers to {module:.60}.{name:.60}, and only tiktoken.core.Encoding is allowed there")
        self.stack.append(_EncodingClass)

    def stack_global(self) -> None:
        name, module = self.pop(), self.pop()
        self.find_class(module, name)

    def new_object(self) -> None:
        arguments, cls = self.pop(), self.pop()
        if cls is not _EncodingClass or arguments != ():
            raise _Refused("it makes an object in another way than nanochat does")
        self.stack.append(_EncodingStub())

    def build(self) -> None:
        state, target = self.pop(), self.pop()
        if type(target) is not _EncodingStub or target.state is not None:
            raise _Refused("it sets the state of something other than one new Encoding")
        target.state = state
        self.stack.append(target)

    def memoize(self, index: int) -> None:
        if not self.stack:
            raise _Refused("its instructions take more from the stack than is there")
        self.memo[index] = self.stack[-1]

    def recall(self, index: int) -> None:
        if index not in self.memo:
            raise _Refused("it recalls something that it never stored")
        self.stack.append(self.memo[index])

    def set_items(self) -> None:
        items = []
        while (item := self.pop()) is not _MARK:
            items.append(item)
        items.reverse()
        if len(items) % 2:
            raise _Refused("it has a key without a value")
        self.update(items)

    def set_item(self) -> None:
        value, key = self.pop(), self.pop()
        self.update([key, value])

    def update(self, items: list[Any]) -> None:
        target = self.pop()
        keys = items[::2]
        if type(target) is not dict or any(type(key) not in (str, bytes) for key in keys):
            raise _Refused("it fills a table in another way than nanochat does")
        target.update(zip(keys, items[1::2]))
        self.stack.append(target)


def _name_of(code: bytes) -> str:
    known = {op.code: op for op in pickletools.opcodes}.get(code.decode("latin-1"))
    return known.name if known else f"{code[0]:#04x}"


def _push(take: Callable[[_PickleReader], Any]) -> Callable[[_PickleReader], None]:
    return lambda reader: reader.stack.append(take(reader))


_INSTRUCTIONS: dict[bytes, Callable[[_PickleReader], object]] = {
    pickle.PROTO: _PickleReader.protocol,
    pickle.FRAME: lambda reader: reader.take(8),
    pickle.MARK: _push(lambda reader: _MARK),
    pickle.EMPTY_DICT: _push(lambda reader: {}),
    pickle.EMPTY_TUPLE: _push(lambda reader: ()),
    pickle.BININT: _push(lambda reader: reader.take_integer("<i")),
    pickle.BININT1: _push(lambda reader: reader.take_integer("<B")),
    pickle.BININT2: _push(lambda reader: reader.take_integer("<H")),
    pickle.SHORT_BINBYTES: _push(lambda reader: reader.take(reader.take_integer("<B"))),
    pickle.BINBYTES: _push(lambda reader: reader.take(reader.take_integer("<I"))),
    pickle.SHORT_BINUNICODE: _push(lambda reader: reader.take_text("<B")),
    pickle.BINUNICODE: _push(lambda reader: reader.take_text("<I")),
    pickle.GLOBAL: lambda reader: reader.find_class(reader.take_line(), reader.take_line()),
    pickle.STACK_GLOBAL: _PickleReader.stack_global,
    pickle.NEWOBJ: _PickleReader.new_object,
    pickle.BUILD: _PickleReader.build,
    pickle.MEMOIZE: lambda reader: reader.memoize(len(reader.memo)),
    pickle.BINPUT: lambda reader: reader.memoize(reader.take_integer("<B")),
    pickle.LONG_BINPUT: lambda reader: reader.memoize(reader.take_integer("<I")),
    pickle.BINGET: lambda reader: reader.recall(reader.take_integer("<B")),
    pickle.LONG_BINGET: lambda reader: reader.recall(reader.take_integer("<I")),
    pickle.SETITEM: _PickleReader.set_item,
    pickle.SETITEMS: _PickleReader.set_items,
}
