"""Our models under EleutherAI's lm-evaluation-harness: its tasks, its metrics, our tokens and our generation.

The harness speaks in texts. What it asks of a chat is rendered as in training, and the ids of each rendered text are
remembered, so that a "<|bos|>" in somebody's text never becomes the token. Imported only when a task is asked for: the
package is an optional extra.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import lm_eval
import numpy as np
import torch
from lm_eval.api.model import TemplateLM
from lm_eval.tasks import TaskManager
from lm_eval.utils import get_rolling_token_windows

from nanochat_core.compute.ranks import Ranks
from nanochat_core.engine.engine import Engine
from nanochat_core.evaluation.answers import visible_text
from nanochat_core.evaluation.figures import figures
from nanochat_core.model.gpt import GPT
from nanochat_core.tokenizer.rendering import Example
from nanochat_core.tokenizer.tokenizer import Tokenizer

BATCH = 16
"""Continuations whose likelihood is taken in one forward pass."""
REPLY_TOKENS = 256
"""Longest reply, where a task does not say."""
_RIGHT = ("exact_match", "acc")
"""The metrics by which one sample is right (1) or wrong (0), in the order in which they are looked for."""

Ids = list[int]
Likelihood = tuple[float, bool]


class HarnessModel(TemplateLM):
    """One of our models as the harness wants it, on one process or on several that share the work.

    Each of several processes runs the whole harness, and what is asked of the model is dealt out among them here, batch
    by batch: so every one has all answers, and they are those of a single process to the bit. The harness's own way, by
    its `rank` and `world_size`, deals out the documents, and other batches give other last bits.
    """

    def __init__(
        self, model: GPT, tokenizer: Tokenizer, beat: Callable[[], None] = lambda: None, ranks: Ranks | None = None
    ):
        """beat: called after each batch and token; what it raises ends the evaluation."""
        super().__init__()
        self.engine, self.beat = Engine(model, tokenizer), beat
        self._tokenizer, self._token_bytes = tokenizer, torch.tensor(tokenizer.token_bytes())
        self._ranks = ranks or Ranks(0, 1, model.device)
        self._chats: dict[str, Ids] = {}

    @property
    def eot_token_id(self) -> int:
        """What ends a reply."""
        return self._tokenizer.special("<|assistant_end|>")

    @property
    def prefix_token_id(self) -> int:
        """What every text begins with."""
        return self._tokenizer.bos

    @property
    def tokenizer_name(self) -> str:
        """For the harness's cache of requests."""
        return f"nanochat-{self._tokenizer.fingerprint()[:16]}"

    def apply_chat_template(self, chat_history: list[dict[str, Any]], add_generation_prompt: bool = True) -> str:
        """The chat as a text of the harness; its ids, as in training, are remembered.

        Without add_generation_prompt the last message is the beginning of the assistant's reply.
        """
        told = chat_history if add_generation_prompt else chat_history[:-1]
        begun = "" if add_generation_prompt else str(chat_history[-1]["content"])
        ids = [*self._tokenizer.render_prompt(told), *self._tokenizer.encode(begun)]
        text = self._tokenizer.decode(ids)
        self._chats[text] = ids
        return text

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> Ids:
        """The ids of a text: of a chat those of its template, of any other its own after <|bos|>, unless told not."""
        if string in self._chats:
            return self._chats[string]
        ids = self._tokenizer.encode(string)
        return ids if add_special_tokens is False else [self._tokenizer.bos, *ids]

    def _encode_pair(self, context: str, continuation: str) -> tuple[Ids, Ids]:
        """A chat and what the assistant says are encoded each for itself, as in training; other texts together."""
        if context in self._chats:
            return self._chats[context], self._tokenizer.encode(continuation)
        pair: tuple[Ids, Ids] = super()._encode_pair(context, continuation)
        return pair

    def _loglikelihood_tokens(self, requests: Sequence[tuple[tuple[str, str], Ids, Ids]], **_: Any) -> list[Likelihood]:
        """For each continuation, (log probability after its context, whether greedy choices would have said it)."""
        return self._likelihoods([(context, continuation) for _, context, continuation in requests])

    def _likelihoods(self, pairs: Sequence[tuple[Ids, Ids]]) -> list[Likelihood]:
        """Of each continuation. A context that is too long for the model loses its beginning."""
        examples, longest = [], self.engine.context + 1
        for number, (context, continuation) in enumerate(pairs):
            ids = np.array([*context, *continuation], np.int32)[-longest:]
            mask = np.arange(len(ids)) >= len(ids) - len(continuation)
            examples.append(Example(ids, mask, number))
        found = figures(self.engine.model, examples, self._token_bytes, self._ranks, BATCH, lambda done: self.beat())
        greedy = found.right == found.tokens
        return [(-float(nats), bool(is_greedy)) for nats, is_greedy in zip(found.nats, greedy)]

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """The log probability of each whole text after <|bos|>; long ones in windows of the context, end to end."""
        sums = []
        for request in requests:
            ids = self._tokenizer.encode(request.args[0])
            windows = list(get_rolling_token_windows(ids, self.prefix_token_id, self.engine.context, 1))
            pairs = [(before[: len(before) - len(said) + 1], said) for before, said in windows]
            sums.append(sum(nats for nats, _ in self._likelihoods(pairs)))
        return sums

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """What a person sees of each reply, up to the first of its stop texts."""
        replies = [""] * len(requests)
        groups: dict[tuple[int, float], list[int]] = {}
        for place, request in enumerate(requests):
            options = request.args[1]
            heat = float(options.get("temperature", 0.0)) if options.get("do_sample") else 0.0
            groups.setdefault((int(options.get("max_gen_toks", REPLY_TOKENS)), heat), []).append(place)
        for (max_tokens, heat), places in groups.items():
            room = max(1, self.engine.context - max_tokens)
            prompts = [self.tok_encode(requests[place].args[0])[-room:] for place in places]
            for place, ids in zip(places, self._generated(prompts, max_tokens, heat)):
                replies[place] = _until(visible_text(ids, self._tokenizer), requests[place].args[1].get("until", []))
        return replies

    def _generated(self, prompts: list[Ids], max_tokens: int, heat: float) -> list[Ids]:
        """The reply to each prompt; a row is what its prompt gives alone, so that it is all one who writes it."""
        rank, world = self._ranks.rank, self._ranks.world
        with self._ranks.agreed():
            mine = self.engine.generate_batch(prompts[rank::world], max_tokens, heat, beat=self.beat)
        every = self._ranks.gather(mine)
        return [every[place % world][place // world] for place in range(len(prompts))]


def _until(text: str, stops: str | Sequence[str]) -> str:
    for stop in [stops] if isinstance(stops, str) else stops:
        if stop:
            text = text.split(stop)[0]
    return text


@dataclass(frozen=True)
class TaskResult:
    """What came of one task."""

    metrics: dict[str, float]
    """As the harness names them, such as acc or exact_match."""
    right: list[bool]
    """Of each sample, in order, where the task has a metric of right and wrong; else empty."""


def run_tasks(  # noqa: PLR0913  all but the first three are options
    model: GPT,
    tokenizer: Tokenizer,
    names: Sequence[str],
    *,
    include_path: str | None = None,
    limit: int | None = None,
    is_chat: bool = True,
    beat: Callable[[], None] = lambda: None,
    ranks: Ranks | None = None,
) -> dict[str, TaskResult]:
    """Task -> its result. include_path: a folder with tasks of one's own (YAML). limit: samples of each task.

    ranks: the processes that share the work; all of them call this, and have the same results. ValueError when there
    is no such task.
    """
    manager = TaskManager(include_path=include_path, include_defaults=include_path is None)
    if include_path and not set(names) <= set(manager.all_tasks):  # the harness's own take seconds to be listed
        manager = TaskManager(include_path=include_path)
    if unknown := [name for name in names if name not in manager.all_tasks]:
        raise ValueError(
            f"lm-eval has no task '{unknown[0]}'. `lm-eval ls tasks` lists its tasks; one of your own lies as YAML in "
            "the folder of --include_path."
        )
    found = lm_eval.simple_evaluate(
        model=HarnessModel(model, tokenizer, beat, ranks),
        tasks=list(names),
        limit=limit,
        task_manager=manager,
        apply_chat_template=is_chat,
        bootstrap_iters=0,
    )
    # The harness tells the first process of a machine alone.
    results = found["results"] if found is not None else {}
    told = {name: TaskResult(_metrics(values), _right(found, name)) for name, values in results.items()}
    return ranks.gather(told)[0] if ranks is not None else told


def _metrics(values: dict[str, Any]) -> dict[str, float]:
    """The harness writes "acc,none" for the metric acc through no filter."""
    named = {name.removesuffix(",none"): value for name, value in values.items() if "_stderr" not in name}
    told = {name: value for name, value in named.items() if name not in ("alias", "sample_len", "sample_count")}
    return {name: float(value) for name, value in told.items() if isinstance(value, int | float)}


def _right(found: dict[str, Any], name: str) -> list[bool]:
    samples = found.get("samples", {}).get(name, [])
    metric = next((metric for metric in _RIGHT if samples and metric in samples[0]), None)
    if metric is None:
        return []
    first = samples[0]["filter"]
    ordered = sorted((one for one in samples if one["filter"] == first), key=lambda one: int(one["doc_id"]))
    return [float(one[metric]) == 1.0 for one in ordered]
