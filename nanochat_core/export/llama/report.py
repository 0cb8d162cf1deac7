"""What is different from here, in the export's own words: the README.md beside a GGUF file."""

import shlex
from pathlib import Path

from nanochat_core.export.llama.differences import LONGEST_PROMPT, REPLY_TOKENS, Differences
from nanochat_core.export.llama.quants import Quant
from nanochat_core.system.words import plural


def report(name: str, step: int, file_name: str, quant: Quant, found: Differences) -> str:
    """Markdown for a person."""
    return "\n".join(
        [
            f"# {name}, step {step}: {file_name}",
            "",
            f"For llama.cpp, LM Studio and what else reads GGUF ({quant.label}: {quant.words}). For Ollama:",
            "",
            f"    ollama create {shlex.quote(name)} -f Modelfile",
            "",
            "## What is different there",
            "",
            f"Measured with this file on {found.source}.",
            "",
            *(f"- {line}" for line in differences(found)),
            "",
        ]
    )


def ollama_line(folder: Path) -> str:
    """The line for a shell that makes an Ollama model of the export in `folder`."""
    [file] = folder.glob("*.gguf")
    return shlex.join(["ollama", "create", file.stem.rpartition("-")[0], "-f", str(folder / "Modelfile")])


def differences(found: Differences) -> list[str]:
    """The sentences, without Markdown's marks."""
    calls = f" (called in {found.calculator_replies} of these replies)" if found.calculator_replies else ""
    return [
        f"Greedy replies: {found.same_replies} of {found.replies} are the same, token for token (to the first question "
        f"of a conversation, up to {LONGEST_PROMPT} tokens long; {REPLY_TOKENS} tokens of each reply).",
        "The softcap of the logits is missing there: without it the model's predictions are "
        f"{found.softcap_kl:.4f} nats (KL) from those with it, the mean over {found.tokens:,} trained tokens of "
        f"{plural(found.conversations, 'conversation')}. Greedy choices do not change by it; drawn ones are surer.",
        f"With the weights as they are in this file it is {found.file_kl:.4f} nats, and the likeliest next token is "
        f"the same at {found.same_choice:,} of the {found.tokens:,}.",
        f"Numbers of three and more digits are split otherwise in what is read there, and few other texts: "
        f"{found.split_otherwise:,} of {found.text_tokens:,} tokens "
        f"({found.split_otherwise / max(1, found.text_tokens):.2%}) in the texts of "
        f"{plural(found.text_conversations, 'conversation')}.",
        f"There is no calculator{calls}: a model that calls it shows the expression, and invents the result.",
        "The special tokens are spelled with two characters that no text may hold, so that a typed <|assistant_start|> "
        "stays text. In a raw prompt, outside the chat, the plain spelling is therefore text, too.",
    ]
