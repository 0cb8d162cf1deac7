"""Small stand-ins for a model's parts, made on the spot, so that no test needs a download."""

from functools import cache

from nanochat_core.tokenizer.compiled import NANOCHAT_PATTERN
from nanochat_core.tokenizer.tokenizer import Tokenizer

_WORDS = (
    "the of and to in is you that it for on are with as his they at be this have from or one had by word but not what "
    "all were we when your can said there use an each which she do how their if will up other about out many then them "
    "these so some her would make like him into time has look two more write go see number no way could people my than "
    "first water been call who oil its now find long down day did get come made may part hello name three fruits answer"
)


def tiny_ranks() -> dict[bytes, int]:
    """247 merges after the 256 bytes: prefixes of common words, so that longer tokens grow from shorter ones."""
    pieces = [bytes([byte]) for byte in range(256)]
    known = set(pieces)
    for word in _WORDS.split():
        for whole in (" " + word, word):
            for end in range(2, len(whole) + 1):
                piece = whole[:end].encode()
                if piece not in known and len(pieces) < 512 - 9:
                    known.add(piece)
                    pieces.append(piece)
    return {piece: rank for rank, piece in enumerate(pieces)}


@cache
def tiny_tokenizer() -> Tokenizer:
    """A tokenizer of 512 ids: 256 bytes, 247 merges, nine special tokens (503 to 511)."""
    return Tokenizer.from_ranks(tiny_ranks(), NANOCHAT_PATTERN, name="tiny")


def rendered(talks, limit: int) -> list[tuple[list[int], list[int]]]:
    """(ids, mask) of each conversation, cut off at `limit` tokens."""
    return [tiny_tokenizer().render_conversation(talk, limit) for talk in talks]


def tiny_model(generation: str = "A", seed: int = 0, **changes):
    """A model of 2 layers of 64 channels for the tiny tokenizer, with random weights that give a say to each part."""
    import torch

    from nanochat_core.model.gpt import GPT, GPTConfig

    shape = {"sequence_len": 256, "vocab_size": 512, "n_layer": 2, "n_head": 2, "n_kv_head": 2, "n_embd": 64}
    model = GPT(GPTConfig(**{**shape, "generation": generation, **changes})).init_weights(seed)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return model


def install_tiny_model(home, tag: str = "tiny", never_ends: bool = False, **changes) -> str:
    """Put a tiny model where a downloaded one lies under `home`, and return its model_tag.

    With `never_ends` the tokens that end a reply are not among the likeliest, of which the chat chooses.
    """
    from nanochat_core.checkpoint.writing import save_checkpoint, save_tokenizer
    from nanochat_core.paths import SOURCE_FOLDERS

    folder = home / "models" / "pretrained" / SOURCE_FOLDERS["sft"] / tag
    folder.mkdir(parents=True)
    model, tokenizer = tiny_model(**changes), tiny_tokenizer()
    if never_ends:
        model.lm_head.weight.data[[tokenizer.bos, tokenizer.special("<|assistant_end|>")]] = 0.0
    save_checkpoint(folder, 7, model, {"val_bpb": 1.0})
    save_tokenizer(folder, tokenizer)
    return tag


def write_conversations(path, count: int = 12):
    """A file of `count` short conversations, each different."""
    import json

    lines = []
    for number in range(count):
        user = {"role": "user", "content": f"Which word is number {number}?" + " please" * (number % 4)}
        reply = {"role": "assistant", "content": f"Word {number} is {_WORDS.split()[number % 90]}."}
        lines.append(json.dumps({"messages": [user, reply]}))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
