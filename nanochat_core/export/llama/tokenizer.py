"""nanochat's tokenizer as llama.cpp's "gpt2", and the tokenizer that this makes of it.

llama.cpp takes no splitting pattern from a file, it knows some by name. Of those, Llama 3's is nearest to nanochat's:
it takes up to three digits together where nanochat takes two, so that numbers of three and more digits in a prompt can
become other tokens. `llama_tokenizer` does on this side what llama.cpp does, so that it can be counted and measured.

Special tokens have other spellings than nanochat's: with two Unicode noncharacters, which no text is allowed to hold,
in each. llama.cpp looks for special tokens in the rendered conversation, a person's words included; these it cannot
find there, so that a typed <|assistant_start|> stays text.
"""

from dataclasses import replace
from itertools import accumulate

from gguf import GGUFWriter, TokenType

from nanochat_core.export.chat_template import marked_special, marked_template
from nanochat_core.export.tokenizer_json import BOS, END, merges, spelled
from nanochat_core.tokenizer.pickle_file import SPECIAL_TOKENS, EncodingState
from nanochat_core.tokenizer.tokenizer import Tokenizer

SPLITTING = "llama-bpe"
"""tokenizer.ggml.pre. With it llama.cpp takes a piece that is a token as a whole as it is, as tiktoken does."""
PATTERN = (
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""What SPLITTING does, as a regular expression."""


def add_tokenizer(writer: GGUFWriter, state: EncodingState) -> None:
    """The tokenizer and the chat template, as metadata of the file."""
    ordinary = sorted(state.ranks, key=state.ranks.__getitem__)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(SPLITTING)
    writer.add_token_list([*map(spelled, ordinary), *map(marked_special, SPECIAL_TOKENS)])
    writer.add_token_types([TokenType.NORMAL] * len(ordinary) + [TokenType.CONTROL] * len(SPECIAL_TOKENS))
    writer.add_token_merges([f"{spelled(left)} {spelled(right)}" for left, right in merges(state.ranks)])
    ids = state.special_tokens
    writer.add_bos_token_id(ids[BOS])
    writer.add_eos_token_id(ids[END])
    writer.add_eom_token_id(ids[BOS])  # a reply ends there too: it would be the next document's beginning
    writer.add_pad_token_id(ids[END])
    writer.add_add_bos_token(value=False)  # the chat template writes it, and twice would be wrong
    writer.add_add_eos_token(value=False)
    writer.add_add_space_prefix(value=False)
    writer.add_chat_template(marked_template())


def llama_tokenizer(state: EncodingState) -> Tokenizer:
    """A tokenizer that gives the ids which llama.cpp gives with the exported file."""
    return Tokenizer(replace(state, pattern=PATTERN))


def split_otherwise(ours: Tokenizer, theirs: Tokenizer, text: str) -> int:
    """How many of our tokens of `text` are none of theirs: begin or end at another byte."""
    mine = ours.encode(text)
    other = theirs.encode(text)
    if mine == other:
        return 0
    return len(_spans(ours, mine) - _spans(theirs, other))


def _spans(tokenizer: Tokenizer, ids: list[int]) -> set[tuple[int, int]]:
    """[begin, end) of each token in the text's bytes."""
    ends = [*accumulate(len(tokenizer.decode_bytes([token])) for token in ids)]
    return set(zip([0, *ends], ends))
