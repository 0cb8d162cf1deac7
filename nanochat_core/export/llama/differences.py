"""How far an exported file is from the model here, measured on that file and on conversations of its own run.

Three things differ. The architecture has no softcap: that flattens the surest predictions here, and there not; the
likeliest token stays the likeliest. The tokenizer there splits some numbers of a prompt otherwise. And weights may be
rounded. Whether a greedy reply is the same needs no second generation: it is if, after the prompt as it is split there
and each beginning of our reply, the file's likeliest token is our next one.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nanochat_core.engine.engine import Engine
from nanochat_core.export.llama.conversations import Conversations
from nanochat_core.export.llama.quants import weights_read
from nanochat_core.export.llama.reading import GgufModel
from nanochat_core.export.llama.tokenizer import split_otherwise
from nanochat_core.model.batch import pack
from nanochat_core.model.gpt import GPT
from nanochat_core.model.loss import SOFTCAP
from nanochat_core.tokenizer.rendering import Example
from nanochat_core.tokenizer.tokenizer import Tokenizer

_WORK = 12e12
"""Multiplications and additions that the comparison of predictions may take: two minutes of two CPU cores for d32."""
_MOST_TOKENS, _FEWEST_TOKENS = 12_000, 1_000
_MOST_REPLIES, _FEWEST_REPLIES = 60, 12
REPLY_TOKENS = 48
LONGEST_PROMPT = 512
_MOST_CONVERSATIONS = 2_000
"""In which tokens that are split otherwise are counted."""
_PACK_TOKENS = 2048
_CHUNK = 128
"""Tokens whose logits are in memory at once: 32 MiB in fp32 for each of the distributions of d32."""


@dataclass(frozen=True)
class Differences:
    """What was measured of one file."""

    source: str
    """What it was measured on, in words."""
    conversations: int
    tokens: int
    """Trained tokens of these conversations, each of which was predicted."""
    softcap_kl: float
    """Mean nats by which the model's own prediction without the softcap is from that with it: KL(with || without)."""
    file_kl: float
    """The same for the predictions of the file: without the softcap, and with its weights as they were rounded."""
    same_choice: int
    """Tokens at which the file's likeliest next token is the model's."""
    replies: int
    """Greedy replies that were compared."""
    same_replies: int
    calculator_replies: int
    """Replies in which the model calls the calculator, which other programs do not have. None of them is the same."""
    text_tokens: int
    """Tokens of the texts whose splitting was compared."""
    text_conversations: int
    split_otherwise: int
    """Those of them that are split otherwise there."""

    def to_dict(self) -> dict[str, Any]:
        """As the JSON beside the file has it."""
        return asdict(self)


@torch.no_grad()
def measure_differences(
    path: Path,
    model: GPT,
    ours: Tokenizer,
    theirs: Tokenizer,
    data: Conversations,
    say: Callable[[str], object] = lambda text: None,
) -> Differences:
    """Compare the GGUF file at `path` with `model`, whose export it is. `theirs` is its tokenizer (`llama_tokenizer`).

    The larger the model, the fewer conversations: see the counts in the result.
    """
    room = min(_MOST_TOKENS, max(_FEWEST_TOKENS, int(_WORK / (4 * weights_read(model.config)))))
    examples = _first(data.validation, room)
    prompts = _prompts(data.validation, ours, min(_MOST_REPLIES, max(_FEWEST_REPLIES, room // 150)))
    read = GgufModel(path, model.config)
    precision, model.compute_dtype = model.compute_dtype, torch.float32
    try:
        say(f"Comparing its predictions on {sum(example.inputs for example in examples):,} tokens ...")
        softcap, file, same, tokens = _compare_predictions(model, read, examples)
        say(f"Comparing {len(prompts)} greedy replies ...")
        replies = Engine(model, ours).generate_batch(prompts, REPLY_TOKENS) if prompts else []
    finally:
        model.compute_dtype, model.decoder = precision, None
    equal = _same_replies(read, ours, theirs, prompts, replies)
    calls = [ours.special("<|python_start|>") in reply for reply in replies]
    texts = data.everything[:_MOST_CONVERSATIONS]
    counts = [_split(example, ours, theirs) for example in texts]
    return Differences(
        source=data.source,
        conversations=len(examples),
        tokens=tokens,
        softcap_kl=softcap / tokens,
        file_kl=file / tokens,
        same_choice=same,
        replies=len(replies),
        same_replies=sum(is_equal and not call for is_equal, call in zip(equal, calls)),
        calculator_replies=sum(calls),
        text_tokens=sum(count for count, _ in counts),
        text_conversations=len(texts),
        split_otherwise=sum(differ for _, differ in counts),
    )


def _first(examples: Sequence[Example], room: int) -> list[Example]:
    """The first examples with together at most `room` tokens, one in any case."""
    chosen: list[Example] = []
    for example in examples:
        room -= example.inputs
        if chosen and room < 0:
            break
        chosen.append(example)
    return chosen


def _prompts(examples: Sequence[Example], ours: Tokenizer, count: int) -> list[list[int]]:
    """Up to `count` different conversations up to the first reply."""
    found: dict[tuple[int, ...], None] = {}
    start = ours.special("<|assistant_start|>")
    for example in examples:
        ids = example.ids.tolist()
        if start in ids and ids.index(start) < LONGEST_PROMPT:
            found[tuple(ids[: ids.index(start) + 1])] = None
        if len(found) == count:
            break
    return [list(prompt) for prompt in found]


def _compare_predictions(model: GPT, read: GgufModel, examples: list[Example]) -> tuple[float, float, int, int]:
    """(nats of the softcap, nats of the file, tokens with the same likeliest next one, tokens), sums over all."""
    batches = [pack(group) for group in _grouped(examples)]
    theirs = read.hidden([(batch.ids, batch.lengths) for batch in batches])
    head, rows = read.head(), model.config.vocab_size
    sums = np.zeros(4)
    for batch, stream in zip(batches, theirs):
        hidden = model.hidden(batch.ids, batch.layout, batch.wanted)[0]
        for mine, other in zip(hidden.split(_CHUNK), stream[batch.wanted].split(_CHUNK)):
            raw = model.lm_head(mine)[:, :rows].float()
            capped = (SOFTCAP * torch.tanh(raw / SOFTCAP)).log_softmax(-1)
            logits = other @ head.T
            nats = [_kl(capped, one.log_softmax(-1)) for one in (raw, logits)]
            sums += [*nats, int((capped.argmax(-1) == logits.argmax(-1)).sum()), len(mine)]
    return float(sums[0]), float(sums[1]), int(sums[2]), int(sums[3])


def _kl(log_p: Tensor, log_q: Tensor) -> float:
    """KL(p || q) in nats, summed over the rows."""
    return float((log_p.exp() * (log_p - log_q)).sum(dtype=torch.float64))


def _grouped(examples: list[Example]) -> Iterator[list[Example]]:
    """The examples in packs of about _PACK_TOKENS."""
    group: list[Example] = []
    for example in examples:
        group.append(example)
        if sum(one.inputs for one in group) >= _PACK_TOKENS:
            yield group
            group = []
    if group:
        yield group


def _same_replies(
    read: GgufModel, ours: Tokenizer, theirs: Tokenizer, prompts: list[list[int]], replies: list[list[int]]
) -> list[bool]:
    """For each of our greedy replies to `prompts` whether the file's is the same, token for token."""
    if not prompts:
        return []
    ends = torch.tensor([ours.special("<|assistant_end|>"), ours.bos])
    asked = [retokenized(prompt, ours, theirs) for prompt in prompts]
    whole = [[*prompt, *reply] for prompt, reply in zip(asked, replies)]
    packed = torch.tensor([[token for ids in whole for token in ids]])
    [hidden] = read.hidden([(packed, [len(ids) for ids in whole])])
    head = read.head()
    same = []
    for prompt, reply, stream in zip(asked, replies, hidden.split([len(ids) for ids in whole])):
        choices = (stream[len(prompt) - 1 :] @ head.T).argmax(-1)  # one more than the reply has tokens
        is_ended = len(reply) == REPLY_TOKENS or bool(torch.isin(choices[-1], ends))
        same.append(choices[:-1].tolist() == reply and is_ended)
    return same


def retokenized(ids: Sequence[int], ours: Tokenizer, theirs: Tokenizer) -> list[int]:
    """The same conversation as the other tokenizer has it: special tokens stay, the texts between are split anew."""
    result: list[int] = []
    for special, text in _texts(ids, ours):
        result += [special, *(theirs.encode(text) if text is not None else [])]
    return result


def _split(example: Example, ours: Tokenizer, theirs: Tokenizer) -> tuple[int, int]:
    """(tokens of the conversation's texts, those that are split otherwise)."""
    texts = [text for _, text in _texts(example.ids.tolist(), ours) if text]
    return sum(len(ours.encode(text)) for text in texts), sum(split_otherwise(ours, theirs, text) for text in texts)


def _texts(ids: Sequence[int], ours: Tokenizer) -> Iterator[tuple[int, str | None]]:
    """Each special token with the text up to the next one; None when there is no text."""
    places = [place for place, token in enumerate(ids) if token in ours.special_ids]
    for place, following in zip(places, [*places[1:], len(ids)]):
        inside = ids[place + 1 : following]
        yield ids[place], ours.decode(inside) if inside else None
