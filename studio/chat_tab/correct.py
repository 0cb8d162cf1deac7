"""From a bad answer to a training row: the reply as text to correct, and the conversation added to a dataset."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import gradio as gr

from nanochat_core.data.line import to_line
from nanochat_core.data.rules import judge
from nanochat_core.system.files import sha256_of
from nanochat_core.system.words import whole
from studio.chat_tab.state import Chat
from studio.datasets import files
from studio.parts import html

NEW = "new"
"""The dropdown's value for a dataset that is made for it."""

NEW_NAME = "corrections.jsonl"

_TOOL_INFO = (
    "<|python_start|> and <|python_end|> frame what the calculator is asked, "
    "<|output_start|> and <|output_end|> what it says."
)

_MARKS = {"python": ("<|python_start|>", "<|python_end|>"), "python_output": ("<|output_start|>", "<|output_end|>")}
_TOOL = re.compile(r"<\|(python|output)_start\|>(.*?)<\|\1_end\|>", re.DOTALL)

Content = str | list[dict[str, str]]


def as_text(content: Content) -> str:
    """A reply as text that can be edited; calls of the calculator are written with nanochat's marks."""
    if isinstance(content, str):
        return content
    pieces = []
    for part in content:
        start, end = _MARKS.get(part["type"], ("", ""))
        pieces.append(f"{start}{part['text']}{end}")
    return "".join(pieces)


def as_content(text: str) -> Content:
    """The reverse of `as_text`."""
    parts, done = [], 0
    for match in _TOOL.finditer(text):
        if text[done : match.start()]:
            parts.append({"type": "text", "text": text[done : match.start()]})
        parts.append({"type": "python" if match[1] == "python" else "python_output", "text": match[2]})
        done = match.end()
    if not parts:
        return text
    return parts + ([{"type": "text", "text": text[done:]}] if text[done:] else [])


def corrected(chat: Chat, side: int, turn: int, text: str, *, with_earlier: bool) -> dict[str, Any]:
    """The conversation up to a turn, its reply replaced and kept beside it as "rejected".

    ValueError when it would be no good training row.
    """
    text = whole(text, "")
    if not text.strip():
        raise ValueError("The corrected reply is empty. Write what the model should have said.")
    if not 0 <= turn < len(chat.turns):
        raise ValueError("This message is not there any more. Choose another reply.")
    messages = chat.messages(side, turn + 1)
    if not with_earlier:
        messages = [message for message in messages if message["role"] == "system"] + messages[-1:]
    answer = {"role": "assistant", "content": as_content(text.strip())}
    reply = chat.turns[turn].replies[side]
    if reply is not None and as_text(reply.content).strip() not in ("", text.strip()):
        answer["rejected"] = reply.content
    messages.append(answer)
    conversation = {"messages": messages}
    _, faults = judge(conversation)
    # An empty reply is only a warning in a file, but nobody wants it in a row that is made to fix something.
    if errors := [fault.message for fault in faults if fault.level == "error" or fault.kind == "empty_text"]:
        raise ValueError(f"This cannot be added: {' '.join(errors)} Correct it, or leave the earlier turns out.")
    return conversation


def dataset_choices() -> list[tuple[str, str]]:
    """(label, value) of the files that a row can be added to, and a new one."""
    own = [(dataset.name, str(dataset.path)) for dataset in files.list_datasets() if not dataset.is_shipped]
    return [*own, (f"New dataset ({files.free_path(NEW_NAME).name})", NEW)]


def default_dataset(chosen: str) -> str:
    """The dataset that is open elsewhere when it is one's own, else the first of them, else a new one."""
    values = [value for _, value in dataset_choices()]
    return chosen if chosen in values else values[0]


def add(value: str, conversation: dict[str, Any]) -> tuple[Path, int]:
    """Append the conversation to a dataset, which keeps its old version; the file, and the line it is on now.

    Everything else in the file stays byte for byte. ValueError when the file is gone, or no JSON lines.
    """
    if not value or value == NEW:
        path = files.free_path(NEW_NAME)
        files.save(path, lambda file: file.write(to_line(conversation)), None)
        return path, 1
    dataset = files.find_dataset(value)
    if dataset.is_shipped:
        raise ValueError(
            f"{dataset.name} is a shipped example and stays as it is. Choose one of your own, or a new one."
        )
    sha = sha256_of(dataset.path)
    content = dataset.path.read_bytes()
    if content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"["):
        raise ValueError(
            f"{dataset.name} is one JSON array and has no lines to add to. Import it in the Data tab first."
        )
    if content and not content.endswith(b"\n"):
        content += b"\n"
    content += to_line(conversation)
    files.save(dataset.path, lambda file: file.write(content), sha)
    return dataset.path, content.count(b"\n")


# The panel


def begin(chat_id: str, side: int, picked: int | None, dataset: str) -> tuple[Any, ...]:
    """(panel, title, text, which reply, datasets, earlier turns, said) for the picked or last reply of a side.

    ValueError when there is none.
    """
    chat = Chat.load(chat_id)
    turn = len(chat.turns) - 1 if picked is None or picked >= len(chat.turns) else picked
    reply = chat.turns[turn].replies[side] if turn >= 0 else None
    if reply is None:
        raise ValueError("There is no reply to correct yet. Ask something first.")
    title = html.lead(f"What {reply.model} should have said to: {_short(chat.turns[turn].user)}")
    menu = gr.Dropdown(choices=dataset_choices(), value=default_dataset(dataset))
    earlier = gr.Checkbox(visible=turn > 0, value=turn > 0)
    text, info = as_text(reply.content), None if isinstance(reply.content, str) else _TOOL_INFO
    box = gr.Textbox(value=text, info=info)
    return gr.Column(visible=True), title, box, [side, turn, _mark(chat, side, turn)], menu, earlier, ""


def finish(chat_id: str, which: list[Any], text: str, dataset: str, earlier: bool) -> tuple[Any, ...]:
    """(panel, said, dataset): append the corrected conversation to a dataset.

    ValueError when it is no good training row, cannot be written there, or the chat has another message there now.
    """
    side, turn, mark = which
    chat = Chat.load(chat_id)
    if turn < len(chat.turns) and _mark(chat, side, turn) != mark:
        raise ValueError(
            "The chat has changed since: another message stands where the corrected reply was. Copy your text, and "
            "choose the reply that it belongs to."
        )
    path, line = add(dataset, corrected(chat, side, turn, text, with_earlier=earlier))
    said = html.note(
        f"Added to {path.name} as line {line:,}. Open it in Data to see it, or train on it in Train.", "good"
    )
    return gr.Column(visible=False), said, str(path)


def _mark(chat: Chat, side: int, turn: int) -> str:
    """Changes with the messages up to a turn, and with its reply."""
    reply = chat.turns[turn].replies[side]
    said = [chat.messages(side, turn + 1), reply and reply.content]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]


def _short(text: str, most: int = 100) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1] + "…"
