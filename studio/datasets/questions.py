"""The files of questions: which there are, changed one question at a time, and drafted from a dataset's own rows."""

import json
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nanochat_core.data.rules import judge
from nanochat_core.evaluation.questions import Question, load_questions, question_of, save_questions
from nanochat_core.paths import shipped, starter_dir
from nanochat_core.system.files import sha256_of
from studio.datasets.files import data_dir, find_dataset, name_from

ENDING = "_questions.jsonl"
MOST_DRAFTED = 60
_SHORT = 6
"""An answer of at most so many words is expected as a whole."""
_TURN = re.compile(r"^\s*---\s*$", re.MULTILINE)
_UNITS = "am|pm|euros?|dollars?|minutes?|hours?|days?|percent|%|km|kg|°C"
_FIGURE = re.compile(rf"[$€£]?\d[\d.,:-]*(?: \d[\d.,:-]*)*(?:\s?(?:{_UNITS}))?(?!\w)(?: [A-ZÄÖÜ][\w'-]+)*")
_NAME = re.compile(r"[A-ZÄÖÜ][\w'-]+(?: [A-ZÄÖÜ][\w'-]+)+|(?<=[a-z,] )[A-ZÄÖÜ][\w'-]+")
_WORD = re.compile(r"[^\W\d_]{3,}")


@dataclass(frozen=True)
class QuestionsFile:
    """A file of questions as it is on disk."""

    path: Path
    questions: list[Question]
    sha256: str

    @property
    def is_own(self) -> bool:
        """Whether it may be written to."""
        return self.path.parent == data_dir()


def question_files() -> list[tuple[str, str]]:
    """(label, path): the person's own by name, the example's, and the starter's old skills."""
    own = sorted(data_dir().glob(f"*{ENDING}"), key=lambda path: path.name.lower()) if data_dir().is_dir() else []
    found = [(path.name, str(path)) for path in own if path.name[0] != "." and path.is_file()]
    example, old = shipped("data") / f"example{ENDING}", starter_dir() / "eval.jsonl"
    found += [(f"{example.name} (example)", str(example))] if example.is_file() and example not in own else []
    return found + ([("The starter's old skills", str(old))] if old.is_file() else [])


def read(path: str) -> QuestionsFile:
    """One of the listed files. ValueError for anything else, so that no other file is reached, and for a faulty one."""
    if path not in [value for _, value in question_files()]:
        raise ValueError("There is no such file of questions. It may have been renamed or deleted: choose another one.")
    return QuestionsFile(Path(path), load_questions(path), sha256_of(Path(path)))


def as_question(text: str, rule: str, expected: str, tolerance: float | None) -> Question:
    """From what a person typed: turns with --- between them, expected texts a line each. ValueError in a sentence."""
    turns = [turn.strip() for turn in _TURN.split(text or "") if turn.strip()]
    fields = {"turns": turns} if len(turns) > 1 else {"question": (text or "").strip()}
    values = [line.strip() for line in (expected or "").splitlines() if line.strip()]
    judged: dict[str, Any] = {"match": rule, "expected": values}
    if tolerance and rule == "number":
        judged["tolerance"] = float(tolerance)
    try:
        return question_of({**fields, **judged})
    except ValueError as error:
        raise ValueError(f"This is no question yet: {error}.") from error


def as_text(question: Question) -> str:
    """What the user says in it, as `as_question` takes it; messages before the first question are kept by `put`."""
    return "\n---\n".join([str(question.messages[-1]["content"]), *question.turns])


def put(file: QuestionsFile, place: int | None, question: Question) -> tuple[Path, int]:
    """Write a question in the place of another, None: at the end. (file, place) where it is now.

    A file that comes with the program is copied first. What the form does not show of the former question stays.
    ValueError when the file has changed since it was read.
    """
    _check_unchanged(file)
    questions = list(file.questions)
    if place is None or not 0 <= place < len(questions):
        questions, place = [*questions, question], len(questions)
    else:
        old = questions[place]
        messages = [*old.messages[:-1], question.messages[-1]]
        more = old.more if question.match == old.match else ()
        questions[place] = replace(question, messages=messages, task=old.task, skill=old.skill, more=more)
    return _write(file.path if file.is_own else _own_copy(file.path), questions), place


def remove(file: QuestionsFile, place: int | None) -> Path:
    """Delete a question. ValueError for the last one, and as `put`."""
    _check_unchanged(file)
    if place is None or not 0 <= place < len(file.questions):
        raise ValueError("No question is chosen. Choose one in the list.")
    if len(file.questions) == 1:
        raise ValueError("A file of questions holds at least one. Change this one instead.")
    left = [question for number, question in enumerate(file.questions) if number != place]
    return _write(file.path if file.is_own else _own_copy(file.path), left)


def _check_unchanged(file: QuestionsFile) -> None:
    if not file.path.is_file() or sha256_of(file.path) != file.sha256:
        raise ValueError("This file of questions has changed meanwhile. Look at it again, then repeat your change.")


def _own_copy(path: Path) -> Path:
    """A free name in data/ for a copy of a file that comes with the program."""
    stem, number = name_from(path.name).removesuffix(".jsonl").removesuffix("_questions"), 1
    while (target := data_dir() / f"{stem}{'' if number == 1 else f'-{number}'}{ENDING}").exists():
        number += 1
    return target


def _write(path: Path, questions: list[Question]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_questions(path, questions)
    return path


# Drafting


def draft(dataset: str) -> tuple[Path, int]:
    """Questions from a dataset's rows, in the file beside it that a training asks by itself; (file, how many are new).

    Of each first question with its answer; what is expected is a guess at what the answer says beyond the question.
    Questions that are in the file already stay as they are. ValueError when there is nothing to draft from.
    """
    source = find_dataset(dataset)
    pairs = _pairs(source.path)
    if not pairs:
        raise ValueError(f"{source.name} has no question with an answer to draft from. Choose another dataset.")
    target = data_dir() / f"{source.path.stem.removesuffix('_data')}{ENDING}"
    present = load_questions(target) if target.is_file() else []
    known = {question.asked.casefold() for question in present}
    counts = Counter(word for answer in {answer for _, answer in pairs} for word in set(_words(answer)))
    fresh = [pair for pair in dict(pairs).items() if pair[0].casefold() not in known]
    step = max(1, len(fresh) // MOST_DRAFTED)
    drafted = [_drafted(asked, answer, counts) for asked, answer in fresh[::step][:MOST_DRAFTED]]
    if drafted:
        _write(target, [*present, *drafted])
    return target, len(drafted)


def _pairs(path: Path) -> list[tuple[str, str]]:
    """(question, answer) at the beginning of each faultless conversation without a system prompt."""
    found = []
    for line in path.read_bytes().splitlines():
        try:
            messages, _ = judge(json.loads(line))
        except (ValueError, RecursionError):
            continue
        first = (messages or [])[:2]
        if [message["role"] for message in first] == ["user", "assistant"]:
            asked, answer = (message["content"] for message in first)
            if isinstance(asked, str) and isinstance(answer, str) and asked.strip() and answer.strip():
                found.append((asked.strip(), answer.strip()))
    return found


def _drafted(asked: str, answer: str, counts: Counter[str]) -> Question:
    return Question([{"role": "user", "content": asked}], [_gist(asked, answer, counts)])


def _gist(asked: str, answer: str, counts: Counter[str]) -> str:
    """What an answer says that its question does not: a figure, a name, all of a short answer, or its rarest word."""
    plain, said = answer.rstrip(" .!?"), asked.casefold()
    for pattern in (_FIGURE, _NAME):
        found = [match[0].rstrip(".,:-") for match in pattern.finditer(answer) if match[0].casefold() not in said]
        if found:
            return found[0]
    if len(plain.split()) <= _SHORT:
        return plain
    words = [word for word in _words(answer) if word not in said]
    return min(words, key=lambda word: (counts[word], -len(word)), default=plain)


def _words(text: str) -> list[str]:
    return [word.casefold() for word in _WORD.findall(text)]
