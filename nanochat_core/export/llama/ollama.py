"""What Ollama needs beside a GGUF file: its own template (Go's, not Jinja), and where a reply ends.

As a Modelfile for a model on this machine, and as the two files `template` and `params` that `ollama run hf.co/...`
looks for in a repository.
"""

import json

from nanochat_core.export.chat_template import marked_special
from nanochat_core.export.tokenizer_json import BOS, END

_GO_TEMPLATE = """\
{{- $system := "" -}}
<|bos|>
{{- range .Messages -}}
{{- if eq .Role "system" -}}{{- $system = printf "%s%s\\n\\n" $system .Content -}}
{{- else if eq .Role "user" -}}<|user_start|>{{ $system }}{{ .Content }}<|user_end|>{{- $system = "" -}}
{{- else if eq .Role "assistant" -}}<|assistant_start|>{{ .Content }}<|assistant_end|>
{{- end -}}
{{- end -}}
<|assistant_start|>"""


def go_template() -> str:
    """The chat template in Go's language, with the special tokens as the GGUF file spells them."""
    return marked_special(_GO_TEMPLATE)


def stops() -> list[str]:
    """Texts at which a reply is over, for a program that does not go by the tokens."""
    return [marked_special(END), marked_special(BOS)]


def modelfile(file_name: str, context: int) -> str:
    """The Modelfile of the GGUF file `file_name` beside it. `context`: tokens of prompt and reply together."""
    lines = [f"FROM ./{file_name}", f'TEMPLATE """{go_template()}"""', f"PARAMETER num_ctx {context}"]
    return "\n".join([*lines, *(f'PARAMETER stop "{stop}"' for stop in stops()), ""])


def hub_files(context: int) -> dict[str, str]:
    """The content of `template` and `params`, by name."""
    return {"template": go_template(), "params": json.dumps({"stop": stops(), "num_ctx": context}, indent=2) + "\n"}
