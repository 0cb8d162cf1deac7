"""Conversations that are one text with marks between the turns: ChatML, "### Human:", [INST], Llama 3 and others."""

import re
from typing import Any, NamedTuple

from nanochat_core.data.formats.names import ROLE_NAMES


class _Family(NamedTuple):
    """How one kind of marked text is cut."""

    name: str
    turn: re.Pattern[str]
    """The mark before a turn; its first group is the role."""
    end: re.Pattern[str]
    """What is taken off the end of a turn."""


_EOS = r"(<\|im_end\|>|<\|eot_id\|>|<\|end_of_text\|>|<\|endoftext\|>|<end_of_turn>|<\|end\|>|<eos>|</s>)"
_END = re.compile(rf"\s*({_EOS}\s*)*$")
_NAMES = r"(system|user|human|assistant|gpt|model|bot|chatbot|ai|instruction|input|response|prompter)"

FAMILIES = (
    _Family("ChatML", re.compile(r"<\|im_start\|>[ ]*(\w+)[ ]*\n"), _END),
    _Family("Llama 3", re.compile(r"<\|start_header_id\|>(\w+)<\|end_header_id\|>\s*"), _END),
    _Family("Gemma", re.compile(r"<start_of_turn>(\w+)\n"), _END),
    _Family("Zephyr", re.compile(r"<\|(system|user|assistant)\|>\s*"), _END),
    _Family("###", re.compile(rf"(?:^\s*|\n\s*|(?<=[^\s#]))#{{2,3}}\s*{_NAMES}\s*:[ ]*\n?", re.IGNORECASE), _END),
    _Family("USER:", re.compile(r"(?:^|(?<=\s)|(?<=</s>))(SYSTEM|USER|ASSISTANT|FUNCTION RESPONSE)\s*:[ ]*"), _END),
    _Family("Human:", re.compile(r"(?:^|\n)\s*(human|user|assistant|system|ai|gpt|bot)\s*:[ ]*", re.IGNORECASE), _END),
)
"""Tried in this order: a text may hold the weaker marks of a later family."""

_BY_NAME = ("###", "USER:", "Human:")
"""Families whose marks are words that may stand in a text of a turn."""

_ROLES = {**ROLE_NAMES, "instruction": "user", "input": "user", "response": "assistant", "function response": "tool"}
_INST = re.compile(r"(?:<s>)?\s*\[INST\](.*?)\[/INST\](.*?)(?=(?:</s>)?\s*(?:<s>)?\s*\[INST\]|$)", re.DOTALL)
_SYS = re.compile(r"\s*<<SYS>>(.*?)<</SYS>>\s*", re.DOTALL)
_START = re.compile(r"^\s*(<s>|<\|begin_of_text\|>|<bos>|<\|endoftext\|>)?\s*")
_PREAMBLE = re.compile(r"below is an instruction", re.IGNORECASE)


def family_of(text: Any) -> str | None:
    """The name of the kind of marks that the text begins with and that give two turns at least; else None."""
    found = messages_of_text(text)
    return found[0] if found else None


def messages_of_text(text: Any) -> tuple[str, list[dict[str, Any]]] | None:
    """(name of the marks, messages) of a text with marks between its turns; None when it is none."""
    if not isinstance(text, str):
        return None
    start = _START.match(text)
    body = text[start.end() :] if start else text
    if body.startswith("[INST]"):
        return _of_inst(body)
    for family in FAMILIES:
        marks = list(family.turn.finditer(body))
        if any(_role(mark[1]) is None for mark in marks):
            continue
        if family.name in _BY_NAME:
            marks = _own_marks(marks)
        if len(marks) < 2:
            continue
        before = body[: marks[0].start()].strip()
        if before and family.name != "USER:" and not _PREAMBLE.match(before):
            continue
        messages = [{"role": "system", "content": before}] if before else []
        for mark, following in zip(marks, [*marks[1:], None]):
            said = body[mark.end() : following.start() if following else len(body)]
            messages.append({"role": str(_role(mark[1])), "content": family.end.sub("", said).strip()})
        if messages[-1]["role"] == "assistant" or family.name != "Human:":
            while len(messages) > 1 and not messages[-1]["content"]:
                messages.pop()  # the mark after which a model would write
            return family.name, messages
    return None


def _own_marks(marks: list[re.Match[str]]) -> list[re.Match[str]]:
    """Those that mark turns: each side keeps the name that it has at first, to the letter; the system speaks first.

    `user: root` in an answer, or a dialogue of `User:` and `Bot:` that somebody asked for, is text of a turn.
    """
    names: dict[str, str] = {}
    own: list[re.Match[str]] = []
    for mark in marks:
        role = str(_role(mark[1]))
        is_own = names.setdefault(role, mark[1]) == mark[1] and (role != "system" or not own)
        # Alpaca's input stands below its instruction, and is the user's too.
        if is_own or [one[1].lower() for one in (*own[-1:], mark)] == ["instruction", "input"]:
            own.append(mark)
    return own


def _role(name: str) -> str | None:
    return _ROLES.get(name.strip().lower())


def _of_inst(body: str) -> tuple[str, list[dict[str, Any]]] | None:
    """Llama 2 and Mistral: `<s>[INST] <<SYS>>system<</SYS>> question [/INST] answer </s>`."""
    messages: list[dict[str, Any]] = []
    done = 0
    for match in _INST.finditer(body):
        question = match[1]
        if system := _SYS.match(question):
            messages.append({"role": "system", "content": system[1].strip()})
            question = question[system.end() :]
        messages.append({"role": "user", "content": question.strip()})
        messages.append({"role": "assistant", "content": _END.sub("", match[2]).strip()})
        done = match.end()
    rest = re.sub(r"</?s>", "", body[done:]).strip()
    return ("[INST]", messages) if messages and not rest else None
