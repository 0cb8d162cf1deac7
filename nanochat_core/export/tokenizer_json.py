"""nanochat's tokenizer as Hugging Face's tokenizer.json and tokenizer_config.json, id for id the same.

The merges of byte pair encoding are recovered from the ranks; everything else is plain data, so that no library
is needed to write it.
"""

from functools import cache
from itertools import pairwise
from typing import Any

from nanochat_core.export.chat_template import CUT, HIDE, chat_template
from nanochat_core.tokenizer.pickle_file import SPECIAL_TOKENS, EncodingState

BOS, END = "<|bos|>", "<|assistant_end|>"


def tokenizer_json(state: EncodingState) -> dict[str, Any]:
    """The content of a tokenizer.json that gives the ids of nanochat's tokenizer for every text.

    Its order of work: special tokens are found in the text as it comes; HIDE is removed from what lies between
    them, so that "<|bos|>" with a HIDE inside is plain text; CUT parts two texts that are encoded separately; then
    nanochat's splitting pattern and its merges. A piece that is a token as a whole is taken as it is, as tiktoken does.
    """
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added_token(token, state.special_tokens[token]) for token in SPECIAL_TOKENS],
        "normalizer": {"type": "Replace", "pattern": {"String": HIDE}, "content": ""},
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"String": CUT}, "behavior": "Removed", "invert": False},
                {"type": "Split", "pattern": {"Regex": state.pattern}, "behavior": "Isolated", "invert": False},
                {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False},
            ],
        },
        "post_processor": None,  # no <|bos|> is added: the chat template writes it, and twice would be wrong
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": True,
            "vocab": {spelled(token): rank for token, rank in sorted(state.ranks.items(), key=lambda item: item[1])},
            "merges": [f"{spelled(left)} {spelled(right)}" for left, right in merges(state.ranks)],
        },
    }


def tokenizer_config(sequence_len: int) -> dict[str, Any]:
    """The content of a tokenizer_config.json: roles of the special tokens, and the chat template."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": END,
        # Not <|bos|>: `generate` would take that for padding, and hide it from the model, where it begins a prompt.
        "pad_token": END,
        "additional_special_tokens": [token for token in SPECIAL_TOKENS if token not in (BOS, END)],
        "model_max_length": sequence_len,
        "model_input_names": ["input_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
        "split_special_tokens": False,
        "chat_template": chat_template(),
    }


def merges(ranks: dict[bytes, int]) -> list[tuple[bytes, bytes]]:
    """The pair that each token of several bytes is merged from, in the order of the ranks.

    tiktoken merges, of all neighbours whose joint bytes are a token, the pair with the lowest rank. What happens
    inside the bytes of a token that it makes is what happens when it encodes these bytes alone, so the last pair
    there is the only one from which that token is ever made. A token that its own bytes never merge to is taken
    only where it is a whole piece of the text, and has no pair.
    """
    found = []
    for token in sorted(ranks, key=ranks.__getitem__):
        if len(token) > 1 and (pair := _last_pair(token, ranks)):
            found.append(pair)
    return found


def _last_pair(token: bytes, ranks: dict[bytes, int]) -> tuple[bytes, bytes] | None:
    parts = [token[place : place + 1] for place in range(len(token))]
    while len(parts) > 2:
        candidates = [ranks.get(left + right) for left, right in pairwise(parts)]
        known = [rank for rank in candidates if rank is not None]
        if not known:
            return None
        place = candidates.index(min(known))  # the leftmost of equals
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
    return parts[0], parts[1]


def _added_token(content: str, token_id: int) -> dict[str, Any]:
    return {
        "id": token_id,
        "content": content,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,  # looked for before HIDE is removed
        "special": True,
    }


def spelled(token: bytes) -> str:
    """A token in GPT-2's alphabet of one printable character a byte, which tokenizer.json is written in."""
    alphabet = _alphabet()
    return "".join(alphabet[byte] for byte in token)


@cache
def _alphabet() -> tuple[str, ...]:
    """Printable Latin-1 characters stand for themselves; the other bytes take the code points from 256 on, in order."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return tuple(chr(byte if byte in printable else next(others)) for byte in range(256))
