"""A model's card, from the run's record: what it is, how it was made, what came of it, how to load it, its limits."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from huggingface_hub import ModelCardData

from nanochat_core.hub.selection import tag_of

ADAPTER_FOLDER = "adapter"
"""Where an adapter lies in the repository."""
UPSTREAM = "https://github.com/karpathy/nanochat"


@dataclass(frozen=True)
class CardFacts:
    """All that a card tells. What is not known is left empty, and out of the card."""

    repo: str
    step: int
    parameters: int
    generation: str
    """A to E."""
    shape: dict[str, int] = field(default_factory=dict)
    """sequence_len, vocab_size, n_layer, n_head, n_embd."""
    base: str = ""
    """What it was finetuned from, in words."""
    base_repo: str | None = None
    """That model's repository on the hub, where it is from there."""
    data: dict[str, Any] = field(default_factory=dict)
    """sha256 and rows."""
    has_data: bool = False
    """The training data is published with the model."""
    settings: dict[str, Any] = field(default_factory=dict)
    created: str = ""
    progress: str = ""
    """How far the run is, when it is not finished."""
    results: tuple[tuple[str, str, str], ...] = ()
    """(what, before, after)."""
    proof: str = ""
    """What the pairs prove, what it cost: Markdown, of a report's public part."""
    has_curves: bool = False
    transformers: str | None = None
    """None when the export for transformers is published too; else the sentence why not."""
    gguf: str | None = None
    """The quantization of the GGUF file, as its name has it, where there is one."""
    gguf_differences: tuple[str, ...] = ()
    """What is different there, in sentences."""
    has_adapter: bool = False
    """The adapter of a run with LoRA is published beside the merged model."""


def card(facts: CardFacts) -> str:
    """The README.md of the repository: front matter and Markdown."""
    parts = [_opening(facts), _making(facts), _results(facts), _settings(facts), _use(facts), _limits(facts)]
    return f"---\n{_front_matter(facts)}\n---\n\n" + "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(facts: CardFacts) -> str:
    data = ModelCardData(
        base_model=facts.base_repo,
        library_name="transformers" if facts.transformers is None else None,
        pipeline_tag="text-generation",
        tags=["nanochat", "nanochat-studio", *(["gguf"] if facts.gguf else [])],
    )
    return data.to_yaml().strip()


def _opening(facts: CardFacts) -> str:
    what = f"A [nanochat]({UPSTREAM}) model of {facts.parameters:,} parameters"
    made = f", finetuned from {facts.base} with nanochat studio" if facts.base else ""
    return f"# {facts.repo.rpartition('/')[2]}\n\n{what}{made}.{f' {facts.progress}' if facts.progress else ''}"


def _making(facts: CardFacts) -> str:
    shape = ", ".join(f"{name} {number:,}" for name, number in facts.shape.items())
    rows = [("Architecture", f"nanochat, generation {facts.generation}: {shape}"), ("Checkpoint", f"step {facts.step}")]
    if facts.base:
        rows.insert(0, ("Base model", facts.base))
    if facts.data.get("sha256"):
        where = "in `data.jsonl` here" if facts.has_data else "not published"
        rows.append(("Data", f"{facts.data.get('rows', 0):,} conversations, {where}"))
        rows.append(("Data's SHA-256", f"`{facts.data['sha256']}`"))
    if facts.created:
        rows.append(("Made", facts.created[:10]))
    return "## How it was made\n\n" + _table(("", ""), rows)


def _results(facts: CardFacts) -> str:
    if not facts.results and not facts.has_curves and not facts.proof:
        return ""
    table = _table(("", "before", "after"), facts.results) if facts.results else ""
    curves = "![Training and validation loss by step](curves.png)" if facts.has_curves else ""
    return "## What came of it\n\n" + "\n\n".join(part for part in (table, facts.proof, curves) if part)


def _settings(facts: CardFacts) -> str:
    if not facts.settings:
        return ""
    rows = [(f"`{name}`", f"`{value}`") for name, value in facts.settings.items()]
    return "## Settings\n\n" + _table(("setting", "value"), rows)


def _use(facts: CardFacts) -> str:
    tag = tag_of(facts.repo)
    ways = [
        "In a terminal, with nanochat studio:",
        _code("bash", f"python -m nanochat_core download --repo {facts.repo} --tag {tag}")
        + "\n\n"
        + _code("bash", f"python -m nanochat_core chat --model pretrained/{tag}"),
        "In Python, after the same download:" if facts.transformers else "In Python, with transformers (5.0 or later):",
        _code("python", _PYTHON.format(tag=tag) if facts.transformers else _TRANSFORMERS.format(repo=facts.repo)),
        _nanochat(facts, tag),
    ]
    if facts.gguf:
        ways.insert(0, _gguf(facts))
    if facts.transformers:
        ways.append(facts.transformers)
    if facts.has_adapter:
        ways.append(_adapter(facts))
    return "## How to load it\n\n" + "\n\n".join(ways)


def _gguf(facts: CardFacts) -> str:
    programs = (
        f"ollama run hf.co/{facts.repo}:{facts.gguf}\n# or, with llama.cpp\nllama-cli -hf {facts.repo}:{facts.gguf}"
    )
    lines = "\n".join(f"- {line}" for line in facts.gguf_differences)
    return (
        f"In Ollama, llama.cpp as it is, or LM Studio (the file that ends in {facts.gguf}.gguf):\n\n"
        f"{_code('bash', programs)}\n\nWhat is different there, measured with this file:\n\n{lines}"
    )


def _nanochat(facts: CardFacts, tag: str) -> str:
    commits = {"A": "its commits until 18 January 2026", "B": "its commits of 11 to 18 January 2026"}
    which = commits.get(facts.generation, "its commits of the time of this generation")
    return (
        f"With [nanochat]({UPSTREAM}) itself ({which} load generation {facts.generation}): put `tokenizer.pkl` and "
        f"`token_bytes.pt` into `~/.cache/nanochat/tokenizer`, `model_{facts.step:06d}.pt` and "
        f"`meta_{facts.step:06d}.json` into `~/.cache/nanochat/chatsft_checkpoints/{tag}`, then:\n\n"
        + _code("bash", f"python -m scripts.chat_cli -i sft -g {tag}")
    )


def _adapter(facts: CardFacts) -> str:
    return (
        f"It was trained with LoRA, and the files above have its adapter merged. The adapter alone is in "
        f"`{ADAPTER_FOLDER}/`, in peft's format, for transformers' files of the base model:\n\n"
        + _code("python", _PEFT.format(repo=facts.repo, folder=ADAPTER_FOLDER))
    )


def _limits(facts: CardFacts) -> str:
    lines = [
        "It can be wrong in everything that it says, and sounds as sure then as when it is right. Do not rely on it "
        "where a wrong answer does harm.",
        "It was not tested for safety.",
        f"It reads at most {facts.shape.get('sequence_len', 0):,} tokens at once.",
    ]
    if "starter" in facts.base:
        lines.insert(0, "Its base is a practice model of 5 million parameters: it is there to try things with.")
    if facts.data:
        lines.append(
            "What it learned beyond its base model comes from the data above alone; the rest is the base model's, its "
            "faults and its bias too."
        )
    if facts.results:
        lines.append(
            "The figures above are of a part of the same data that was kept from training, and of questions about it: "
            "they say little about other texts."
        )
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in lines)


_TRANSFORMERS = """from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("{repo}")
tokenizer = AutoTokenizer.from_pretrained("{repo}")
messages = [{{"role": "user", "content": "Hello"}}]
prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
ids = model.generate(**prompt, max_new_tokens=100)
print(tokenizer.decode(ids[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True))"""

_PEFT = """from peft import PeftModel

model = PeftModel.from_pretrained(base_model, "{repo}", subfolder="{folder}")"""

_PYTHON = """from nanochat_core import Engine, load_model

model, tokenizer, meta = load_model("pretrained/{tag}")
for text in Engine(model, tokenizer).stream([{{"role": "user", "content": "Hello"}}]):
    print(text, end="")"""


def _code(language: str, text: str) -> str:
    return f"```{language}\n{text}\n```"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(str(text).split()).replace("|", "\\|")
