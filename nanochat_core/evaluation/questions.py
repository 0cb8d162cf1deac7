"""Questions with expected answers: what a file of them may hold, and when a reply counts as right. Without torch."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nanochat_core.data.json_faults import read_json, repeated_keys
from nanochat_core.evaluation.rules import KINDS, Rule, Verdict, rule_of
from nanochat_core.paths import find_file
from nanochat_core.system.files import write_atomically

EXAMPLE = '{"question": "When do you open?", "expected": ["7 am"], "match": "contains"}'


@dataclass(frozen=True)
class Question:
    """Messages that end with the user's, and what answers them."""

    messages: list[dict[str, Any]]
    expected: list[str]
    """Any one of these counts."""
    match: str = "contains"
    """The rule, one of `rules.KINDS`."""
    task: str = "questions"
    skill: str = ""
    """A finer name within the task, where there is one."""
    tolerance: float = 0.0
    """Of the rule number."""
    more: Sequence[Rule] = ()
    """Further rules, which must all hold too."""
    turns: Sequence[str] = field(default=())
    """What the user says after `messages`, one after the other; the model answers each, and the last is judged."""

    @property
    def rules(self) -> list[Rule]:
        """All that must hold."""
        return [Rule(self.match, self.expected, self.tolerance), *self.more]

    @property
    def asked(self) -> str:
        """The last thing that the user says."""
        return str(self.turns[-1] if self.turns else self.messages[-1]["content"])

    @property
    def wanted(self) -> str:
        """What is expected, for a person."""
        return " and ".join(str(rule) for rule in self.rules)

    @property
    def key(self) -> str:
        """What the reply depends on, as hex digits: a rule that changes changes no reply."""
        asked = json.dumps([self.messages, list(self.turns)], sort_keys=True)
        return hashlib.sha256(asked.encode()).hexdigest()[:24]

    def judge(self, reply: str) -> Verdict:
        """Whether `reply` is right."""
        verdicts = [rule.judge(reply) for rule in self.rules]
        return next((verdict for verdict in verdicts if not verdict), verdicts[0])

    def answered_by(self, reply: str) -> bool:
        """Whether `reply` is right."""
        return self.judge(reply).right

    def to_dict(self) -> dict[str, Any]:
        """As a line of a questions file has it."""
        first, *before = self.messages
        asked: dict[str, Any] = {"messages": self.messages}
        if not before and first == {"role": "user", "content": first["content"]}:
            asked = {"turns": [first["content"], *self.turns]} if self.turns else {"question": first["content"]}
        elif self.turns:
            asked["turns"] = list(self.turns)
        if self.more:
            judged: dict[str, Any] = {"assert": [_written(rule) for rule in self.rules]}
        else:
            judged = {"expected": self.expected, "match": self.match}
            judged |= {"tolerance": self.tolerance} if self.tolerance else {}
        names = {"task": self.task} if self.task != "questions" else {}
        return {**names, **({"skill": self.skill} if self.skill else {}), **asked, **judged}


def load_questions(path: str | Path) -> list[Question]:
    """Read a questions file, JSONL. A line is {"question": text, "expected": [texts], "match": rule, "task": name}.

    In the place of "question" may stand "messages", which end with the user's, or "turns", texts of the user that the
    model answers one after the other. "match" is a rule of `rules.KINDS`, contains without it; where several must hold,
    "assert": [{"type": rule, "value": text or list, "tolerance": number}] stands in the place of expected and match.
    Raises ValueError with the file, the line and the remedy when it is missing, empty or malformed.
    """
    path = find_file(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ValueError(f"The questions file {path} cannot be read: {error.strerror}. Check its name.") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"The questions file {path} is not UTF-8 text. Save it as UTF-8.") from error
    return read_questions(text, str(path))


def read_questions(text: str, name: str) -> list[Question]:
    """The questions of a file's `text`; `name` is said in a ValueError."""
    questions = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        value, fault, _ = read_json(line)
        try:
            if fault is not None:
                raise ValueError(fault.message.rstrip("."))
            if repeated := repeated_keys(line):
                raise ValueError(f'the key "{repeated[0]}" is there twice, and only one can be meant')
            questions.append(question_of(value))
        except ValueError as error:
            raise ValueError(f"{name}, line {number}: {error}. Each line is an object such as {EXAMPLE}.") from error
    if not questions:
        raise ValueError(f"The questions file {name} has no questions. Put at least one in it, one on each line.")
    return questions


def save_questions(path: str | Path, questions: Iterable[Question]) -> None:
    """Write a questions file, all or nothing."""
    lines = [json.dumps(question.to_dict(), ensure_ascii=False) + "\n" for question in questions]
    write_atomically(Path(path), "".join(lines).encode("utf-8"))


def question_of(fields: Any) -> Question:
    """The question of a line's object. ValueError, without the place, for what is wrong with it."""
    if not isinstance(fields, dict):
        raise ValueError("it holds no object")
    _check_keys(fields)
    messages, turns = _asked(fields)
    first, *more = _rules(fields)
    return Question(
        messages,
        list(first.values),
        first.kind,
        str(fields.get("task", "questions")),
        str(fields.get("skill", "")),
        first.tolerance,
        tuple(more),
        tuple(turns),
    )


def _check_keys(fields: dict[str, Any]) -> None:
    """ValueError for keys that would be passed over, though they say what is right; others are the person's own."""
    for name, value in fields.items():
        if name not in _KEYS and isinstance(value, str) and value in KINDS:
            raise ValueError(f'the rule stands under "{name}", and its key is "match"')
    if "assert" in fields and (both := [name for name in ("expected", "match", "tolerance") if name in fields]):
        raise ValueError(f'"{both[0]}" stands beside "assert", and only one of them can say what is right')


_KEYS = ("question", "messages", "turns", "expected", "match", "tolerance", "assert", "task", "skill")


def _asked(fields: dict[str, Any]) -> tuple[list[dict[str, Any]], list[str]]:
    messages, turns = fields.get("messages"), fields.get("turns", [])
    if "turns" in fields and (not isinstance(turns, list) or not turns or not all(_is_text(turn) for turn in turns)):
        raise ValueError('"turns" must be a list of texts of the user, none of them empty')
    if messages is None and turns:
        messages, turns = [{"role": "user", "content": turns[0]}], turns[1:]
    if messages is None:
        if not _is_text(fields.get("question")):
            raise ValueError('it has neither a "question" text nor "messages" nor "turns"')
        messages = [{"role": "user", "content": fields["question"]}]
    _check_messages(messages)
    return messages, turns


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _rules(fields: dict[str, Any]) -> list[Rule]:
    if "assert" not in fields:
        match = fields.get("match", "contains")
        return [rule_of(match, fields.get("expected"), fields.get("tolerance", 0.0))]
    described = fields["assert"]
    if not isinstance(described, list) or not described or not all(isinstance(one, dict) for one in described):
        raise ValueError('"assert" must be a list of objects such as {"type": "contains", "value": "7 am"}')
    return [rule_of(one.get("type"), one.get("value"), one.get("tolerance", 0.0)) for one in described]


def _written(rule: Rule) -> dict[str, Any]:
    value = {"value": list(rule.values)} if rule.values else {}
    return {"type": rule.kind, **value, **({"tolerance": rule.tolerance} if rule.tolerance else {})}


def _check_messages(messages: Any) -> None:
    if not isinstance(messages, list) or not messages or not all(isinstance(message, dict) for message in messages):
        raise ValueError('"messages" must be a list of messages')
    if messages[-1].get("role") != "user" or not isinstance(messages[-1].get("content"), str):
        raise ValueError('"messages" must end with a message of the user')
