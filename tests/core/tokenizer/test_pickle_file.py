"""tokenizer.pkl: nanochat's own files are read, everything else is refused, and nothing in a file ever runs."""

import pickle
import struct
import tracemalloc

import pytest
import tiktoken

from nanochat_core.tokenizer import pickle_file
from nanochat_core.tokenizer.compiled import NANOCHAT_PATTERN
from nanochat_core.tokenizer.pickle_file import SPECIAL_TOKENS, read_tokenizer_file
from nanochat_core.tokenizer.tokenizer import Tokenizer
from tests.support.tiny import tiny_ranks, tiny_tokenizer

HEAD = b"\x80\x04\x8c\x0dtiktoken.core\x8c\x08Encoding\x93)\x81"  # up to the empty instance


def tiny_state(**changes):
    ranks = tiny_ranks()
    special = {name: len(ranks) + i for i, name in enumerate(SPECIAL_TOKENS)}
    return {"name": "tiny", "pat_str": NANOCHAT_PATTERN, "mergeable_ranks": ranks, "special_tokens": special} | changes


class Encoding:
    """Pickles as an instance of tiktoken's class, with any state at all."""

    def __init__(self, state):
        self.__dict__["state"] = state

    def __reduce_ex__(self, protocol):
        return object.__reduce_ex__(self, protocol)

    def __getstate__(self):
        return self.state


def pickled(state, protocol=4):
    """A pickle of `state` as the state of a tiktoken Encoding."""
    data = pickle.dumps(Encoding(state), protocol=protocol)
    if protocol == 3:
        return data.replace(f"c{__name__}\nEncoding\n".encode(), b"ctiktoken.core\nEncoding\n")
    name = __name__.encode()
    data = data.replace(b"\x8c" + bytes([len(name)]) + name, b"\x8c\x0dtiktoken.core")
    return data[:2] + data[11:] if data[2:3] == pickle.FRAME else data  # the frame's length no longer holds


def refusal(path, data):
    path.write_bytes(data)
    with pytest.raises(ValueError) as caught:
        Tokenizer.from_file(path)
    message = str(caught.value)
    assert str(path) in message
    assert "make download" in message
    return message


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_reads_what_nanochat_pickles(tmp_path, protocol):
    state = tiny_state()
    encoding = tiktoken.Encoding(
        name="tiny",
        pat_str=NANOCHAT_PATTERN,
        mergeable_ranks=state["mergeable_ranks"],
        special_tokens=state["special_tokens"],
    )
    (tmp_path / "tokenizer.pkl").write_bytes(pickle.dumps(encoding, protocol=protocol))
    read = read_tokenizer_file(tmp_path / "tokenizer.pkl")
    assert (read.name, read.pattern) == ("tiny", NANOCHAT_PATTERN)
    assert read.ranks == state["mergeable_ranks"]
    assert read.special_tokens == state["special_tokens"]


def test_reads_a_large_vocabulary(tmp_path):
    ranks = {bytes([byte]): byte for byte in range(256)}
    ranks |= {struct.pack(">H", number): number + 256 for number in range(60_000)}
    Tokenizer.from_ranks(ranks, NANOCHAT_PATTERN).save(tmp_path / "tokenizer.pkl")
    assert Tokenizer.from_file(tmp_path / "tokenizer.pkl").vocab_size == 60_256 + 9


def test_saved_file_is_read_by_plain_pickle(tmp_path):
    tiny_tokenizer().save(tmp_path / "tokenizer.pkl")
    encoding = pickle.loads((tmp_path / "tokenizer.pkl").read_bytes())
    assert type(encoding) is tiktoken.Encoding
    assert encoding.n_vocab == 512
    assert encoding.encode_ordinary("Hello, water") == tiny_tokenizer().encode("Hello, water")
    assert (tmp_path / "tokenizer.pkl").read_bytes() == pickle.dumps(encoding, protocol=4)


class Runs:
    """Touches a file when unpickled by a careless reader."""

    def __init__(self, path, way):
        self.path, self.way = path, way

    def __reduce__(self):
        if self.way == "open":
            return (open, (str(self.path), "w"))
        import os

        return (os.system, (f"touch {self.path}",))


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("way", ["open", "system"])
@pytest.mark.parametrize("place", ["whole", "state", "name", "key"])
def test_no_code_of_a_file_runs(tmp_path, protocol, way, place):
    trap = Runs(tmp_path / "ran", way)
    whole = {
        "whole": trap,
        "state": Encoding(trap),
        "name": Encoding(tiny_state(name=trap)),
        "key": Encoding(tiny_state(mergeable_ranks=[trap])),
    }[place]
    data = pickle.dumps(whole, protocol=protocol).replace(__name__.encode(), b"tiktoken.core")
    refusal(tmp_path / "tokenizer.pkl", data)
    assert not (tmp_path / "ran").exists()


def test_the_class_and_its_setstate_stay_untouched(tmp_path, monkeypatch):
    def never(*_, **__):
        raise AssertionError("code of tiktoken ran while the file was read")

    (tmp_path / "tokenizer.pkl").write_bytes(pickled(tiny_state()))
    monkeypatch.setattr(tiktoken.Encoding, "__setstate__", never)
    monkeypatch.setattr(tiktoken.Encoding, "__init__", never)
    assert read_tokenizer_file(tmp_path / "tokenizer.pkl").name == "tiny"


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (b"", "ends in the middle"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "instruction"),
        (b"<!doctype html><html></html>", "instruction"),
        (b"\x80\x06.", "protocol"),
        (b"\x80\x04N.", "NONE"),
        (b"\x80\x04}.", "does not hold a tiktoken Encoding"),
        (b"\x80\x04.", "does not hold a tiktoken Encoding"),
        (HEAD + b".", "its state does not hold exactly"),
        (HEAD + b"}b" + b"." + b"more", "after the end"),
        (HEAD + b"}b}b.", "sets the state"),
        (HEAD + b"\x8c\x04gpt2b.", "its state does not hold exactly"),
        (b"\x80\x04cos\nsystem\n.", "os.system"),
        (b"\x80\x04ctiktoken.core\nEncoding.from_x\n.", "tiktoken.core.Encoding.from_x"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "os.system"),
        (b"\x80\x04}}\x93.", "not a name"),
        (b"\x80\x04" + b"c" + b"a" * 300 + b"\nb\n.", "does not end"),
        (b"\x80\x04\x8c\x0dtiktoken.core\x8c\x08Encoding\x93\x8c\x01a\x81.", "makes an object in another way"),
        (b"\x80\x04\x8c\x0dtiktoken.core\x8c\x08Encoding\x93)R.", "REDUCE"),
        (b"\x80\x04\x8c\x0dtiktoken.core\x8c\x08Encoding\x93)}\x92.", "NEWOBJ_EX"),
        (b"(itiktoken.core\nEncoding\n.", "INST"),
        (b"(ctiktoken.core\nEncoding\no.", "OBJ"),
        (b"\x80\x02\x82\x01.", "EXT1"),
        (b"\x80\x02\x83\x01\x00.", "EXT2"),
        (b"\x80\x02\x84\x01\x00\x00\x00.", "EXT4"),
        (b"Pabc\n.", "PERSID"),
        (b"\x80\x04\x8c\x03abcQ.", "BINPERSID"),
        (b"\x80\x05\x97.", "NEXT_BUFFER"),
        (b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x7f", "BYTEARRAY8"),
        (b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f", "BINBYTES8"),
        (b"\x80\x04B\xff\xff\xff\xffabc.", "ends in the middle"),
        (b"\x80\x04X\xff\xff\xff\xffabc.", "ends in the middle"),
        (b"\x80\x04\x8b\xff\xff\xff\x7f1.", "LONG4"),
        (b"I" + b"9" * 100_000 + b"\n.", "INT"),
        (b"\x80\x04\x8c\x02\xff\xfe.", "not UTF-8"),
        (b"\x80\x04u.", "more from the stack"),
        (b"\x80\x04s.", "more from the stack"),
        (b"\x80\x04b.", "more from the stack"),
        (b"\x80\x04\x94.", "more from the stack"),
        (b"\x80\x04h\x07.", "never stored"),
        (b"\x80\x04j\xff\xff\xff\xff.", "never stored"),
        (b"\x80\x04}(K\x01K\x02u.", "fills a table"),
        (b"\x80\x04}(K\x01u.", "without a value"),
        (b"\x80\x04)K\x01K\x02s.", "fills a table"),
        (b"\x80\x04" + b"]" * 3 + b".", "EMPTY_LIST"),
        (b"\xff\x00\x01", "0xff"),
    ],
)
def test_odd_and_hostile_instructions(tmp_path, data, part):
    assert part in refusal(tmp_path / "tokenizer.pkl", data)


def exponential():
    """Thirty tables, each holding the one before it twice: printing it would take 2**30 steps."""
    level = {"x": "y"}
    for _ in range(30):
        level = {"a": level, "b": level}
    return level


@pytest.mark.parametrize("key", ["name", "pat_str", "mergeable_ranks", "special_tokens", "more"])
def test_a_structure_that_doubles_is_refused_at_once(tmp_path, key):
    refusal(tmp_path / "tokenizer.pkl", pickled(tiny_state(**{key: exponential()})))


def test_a_table_that_holds_itself(tmp_path):
    state = tiny_state()
    state["mergeable_ranks"] = state
    refusal(tmp_path / "tokenizer.pkl", pickled(state))


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x04" + b"}" * 1_000_000 + b".",
        b"\x80\x04)" + b"\x94" * 1_000_000 + b".",
        b"\x80\x04" + b"(" * 1_000_000 + b".",
        b"\x80\x04Xr\xff\xff\xff\x0f." * 100,
        b"\x80\x04)r\xff\xff\xff\x7f)r\xff\xff\xff\xff.",
        b"\x80\x04}" + b"}\x8c\x01a" * 100_000 + b"s" * 100_000 + b".",
    ],
)
def test_little_files_do_not_take_much_memory(tmp_path, monkeypatch, data):
    monkeypatch.setattr(pickle_file, "MAX_INSTRUCTIONS", 200_000)  # a tenth, for the test's sake
    tracemalloc.start()
    try:
        refusal(tmp_path / "tokenizer.pkl", data)
        assert tracemalloc.get_traced_memory()[1] < 40 << 20
    finally:
        tracemalloc.stop()


def test_size_is_bounded(tmp_path):
    path = tmp_path / "tokenizer.pkl"
    with open(path, "wb") as file:
        file.truncate(pickle_file.MAX_FILE_BYTES + 1)
    with pytest.raises(ValueError, match="larger than 16 MiB"):
        Tokenizer.from_file(path)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"extra": 1}, "exactly"),
        ({"name": b"bytes"}, "name"),
        ({"name": "x" * 2000}, "name"),
        ({"pat_str": 7}, "pattern"),
        ({"pat_str": ""}, "pattern"),
        ({"pat_str": "a" * 20_000}, "pattern"),
        ({"pat_str": "("}, "parenthesis"),
        ({"pat_str": r"(\p{L}{1000}){1000}"}, "regex"),
        ({"pat_str": "(" * 4000 + ")" * 4000}, "nested"),
        ({"pat_str": "x*"}, "pattern fails"),
        ({"pat_str": r"(?:(?:a|a(?!b))+c(?=d)|[\s\S])"}, "pattern fails"),
        ({"pat_str": r"\w+"}, "loses"),
        ({"mergeable_ranks": {}}, "256 single bytes"),
        ({"mergeable_ranks": "ranks"}, "table"),
        ({"special_tokens": {}}, "nine"),
        ({"special_tokens": dict.fromkeys(SPECIAL_TOKENS, 0)}, "<|bos|>"),
    ],
)
def test_structure_is_checked(tmp_path, changes, part):
    assert part in refusal(tmp_path / "tokenizer.pkl", pickled(tiny_state(**changes)))


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda ranks: ranks.pop(b"q"), "each once"),
        (lambda ranks: ranks.update({b"new": 5}), "each once"),
        (lambda ranks: ranks.update({b"new": -1}), "each once"),
        (lambda ranks: ranks.update({b"new": "502"}), "whole number"),
        (lambda ranks: ranks.update({"text": len(ranks)}), "byte string"),
        (lambda ranks: ranks.update({b"": len(ranks)}), "byte string"),
        (lambda ranks: ranks.update({b"x" * 2000: len(ranks)}), "byte string"),
        (lambda ranks: ranks.update({b"new": ranks.pop(b"q")}), "single bytes"),
    ],
)
def test_ranks_are_checked(tmp_path, change, part):
    state = tiny_state()
    change(state["mergeable_ranks"])
    assert part in refusal(tmp_path / "tokenizer.pkl", pickled(state))


def test_special_tokens_in_another_order(tmp_path):
    state = tiny_state()
    special = state["special_tokens"]
    special["<|user_start|>"], special["<|user_end|>"] = special["<|user_end|>"], special["<|user_start|>"]
    assert "<|user_start|>" in refusal(tmp_path / "tokenizer.pkl", pickled(state))


def test_every_cut_of_a_good_file_is_refused(tmp_path):
    data = pickled(tiny_state())
    for length in [*range(0, 200, 7), *range(200, len(data), 331), len(data) - 1]:
        refusal(tmp_path / "tokenizer.pkl", data[:length])


def test_changed_bytes_give_a_tokenizer_or_a_sentence(tmp_path):
    data = pickled(tiny_state())
    path = tmp_path / "tokenizer.pkl"
    refused = 0
    for place in range(0, 1500, 3):
        changed = bytearray(data)
        changed[place] = (changed[place] * 7 + place) % 256
        path.write_bytes(bytes(changed))
        try:
            read_tokenizer_file(path)
        except ValueError:
            refused += 1
    assert refused > 100


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        Tokenizer.from_file(tmp_path / "tokenizer.pkl")
    with pytest.raises(ValueError, match="not a file"):
        Tokenizer.from_file(tmp_path)
    with pytest.raises(ValueError, match=r"no tokenizer\.pkl"):
        Tokenizer.from_directory(tmp_path)


@pytest.mark.parametrize("place", ["tokenizer.pkl", "tokenizer/tokenizer.pkl"])
def test_from_directory(tmp_path, place):
    tiny_tokenizer().save(tmp_path / place)
    assert Tokenizer.from_directory(tmp_path).vocab_size == 512
