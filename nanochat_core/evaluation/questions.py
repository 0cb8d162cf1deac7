"""Questions with expected answers, and when a reply counts as right. Without torch."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanochat_core.paths import find_file

MATCHES = ("exact", "contains")


@dataclass(frozen=True)
class Question:
    """Messages that end with the user's, and what answers them."""

    messages: list[dict[str, Any]]
    expected: list[str]
    """Any one of these counts."""
    match: str = "contains"
    """exact: the whole reply is it; contains: it stands in the reply as whole words. Case and blanks do not count."""
    task: str = "questions"
    skill: str = ""
    """A finer name within the task, where there is one."""

    def answered_by(self, reply: str) -> bool:
        """Whether `reply` is right."""
        given = _plain(reply)
        if self.match == "exact":
            return any(given == _plain(text) for text in self.expected)
        return any(_contains(given, _plain(text)) for text in self.expected)


def load_questions(path: str | Path) -> list[Question]:
    """Read a questions file, JSONL: {"question" or "messages", "expected": [...], "match", "task"} a line.

    Raises ValueError with the file, the line and the remedy when it is missing, empty or malformed.
    """
    path = find_file(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise ValueError(f"The questions file {path} cannot be read: {error.strerror}. Check its name.") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"The questions file {path} is not UTF-8 text. Save it as UTF-8.") from error
    questions = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            questions.append(_question(json.loads(line)))
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"{path}, line {number}: {error}. Each line is an object such as "
                '{"question": "When do you open?", "expected": ["7 am"], "match": "contains"}.'
            ) from error
    if not questions:
        raise ValueError(f"The questions file {path} has no questions. Put at least one in it, one on each line.")
    return questions


def _question(fields: Any) -> Question:
    if not isinstance(fields, dict):
        raise ValueError("it holds no object")
    messages = fields.get("messages")
    if messages is None:
        if not isinstance(fields.get("question"), str) or not fields["question"].strip():
            raise ValueError('it has neither a "question" text nor "messages"')
        messages = [{"role": "user", "content": fields["question"]}]
    _check_messages(messages)
    expected = fields.get("expected")
    expected = [expected] if isinstance(expected, str) else expected
    if not isinstance(expected, list) or not expected or not all(isinstance(t, str) and t.strip() for t in expected):
        raise ValueError('"expected" must be a list of texts, none of them empty')
    match = fields.get("match", "contains")
    if match not in MATCHES:
        raise ValueError(f'"match" is {match!r}; it must be exact or contains')
    return Question(messages, expected, match, str(fields.get("task", "questions")), str(fields.get("skill", "")))


def _check_messages(messages: Any) -> None:
    if not isinstance(messages, list) or not messages or not all(isinstance(message, dict) for message in messages):
        raise ValueError('"messages" must be a list of messages')
    if messages[-1].get("role") != "user" or not isinstance(messages[-1].get("content"), str):
        raise ValueError('"messages" must end with a message of the user')


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _contains(reply: str, expected: str) -> bool:
    """Whole words only: 7 does not stand in 17."""
    before = r"(?<!\w)" if expected[0].isalnum() else ""
    after = r"(?!\w)" if expected[-1].isalnum() else ""
    return re.search(before + re.escape(expected) + after, reply) is not None
