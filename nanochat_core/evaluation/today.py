"""Kept replies, judged by the questions as they are today. Without torch, and without asking anything.

A file of questions changes after a model was asked: rules are corrected, questions added, reworded or removed. A reply
counts for as long as its prompt is the same, and by the rules of now; a question without a reply is named, and has no
verdict. All that shows a verdict of before goes through here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nanochat_core.evaluation.questions import Question, load_questions
from nanochat_core.evaluation.scores import grade
from nanochat_core.paths import starter_dir
from nanochat_core.runs.run import Run
from nanochat_core.system.files import read_json
from nanochat_core.system.words import plural, printable

Result = dict[str, Any]
"""As results.py describes those of questions. Judged again it may also have `unasked`, the texts of the questions that
have no reply yet, or `as_then`, a sentence that says why its verdicts are those of then."""
Replies = Mapping[str, str]
"""Question.key, or for results of before there were keys the question's text -> reply."""
_NAMED = 3
"""Questions that a sentence names."""
_LONGEST = 80
"""Characters of each."""


def replies_in(result: Any) -> dict[str, str]:
    """The replies of a result; none for what is no result."""
    answers = result.get("answers") if isinstance(result, Mapping) else None
    return {
        str(answer.get("key") or answer.get("question")): str(answer.get("reply", ""))
        for answer in answers or []
        if isinstance(answer, Mapping)
    }


def reply_to(question: Question, replies: Replies) -> str | None:
    """The reply to this very prompt; None when there is none yet."""
    by_key = replies.get(question.key)
    is_plain = len(question.messages) == 1 and not question.turns
    return replies.get(question.asked) if by_key is None and is_plain else by_key


def judged_by(result: Result, questions: Sequence[Question]) -> Result:
    """The result with the verdicts that these questions give on its replies."""
    replies = replies_in(result)
    found = [(question, reply_to(question, replies)) for question in questions]
    asked = [(question, reply) for question, reply in found if reply is not None]
    graded = asdict(grade([question for question, _ in asked], [reply for _, reply in asked]))
    unasked = [question.asked for question, reply in found if reply is None]
    return result | graded | ({"unasked": unasked} if unasked else {})


def judged_by_file(result: Result, path: str | Path) -> Result:
    """As `judged_by`, with the questions of a file; as it was, with the reason, where the file cannot be read."""
    try:
        questions = load_questions(path)
    except ValueError:
        said = f"The file of questions {Path(path).name} is gone or cannot be read: the verdicts are those of then."
        return result | {"as_then": said}
    return judged_by(result, questions)


def snapshot(run: Run, name: str) -> dict[str, Any]:
    """What the run answered before or after its training, judged by today's questions; empty when it was not asked."""
    found = read_json(run.evals_dir / f"{name}.json")
    files = {"new": run.record().get("settings", {}).get("questions_path"), "old": starter_dir() / "eval.jsonl"}
    again = {
        kind: judged_by_file(found[kind], path) for kind, path in files.items() if path and _has_answers(found, kind)
    }
    return found | again


def _has_answers(found: Mapping[str, Any], kind: str) -> bool:
    return bool(replies_in(found.get(kind)))


def in_both(this: Result, other: Result) -> tuple[Result, Result]:
    """Two results, of the questions that both have a reply to and that expect the same of it, in one order."""
    marks = [[_mark(answer) for answer in one["answers"]] for one in (this, other)]
    if marks[0] == marks[1]:
        return this, other
    known = set(marks[1])
    shared = [mark for mark in dict.fromkeys(marks[0]) if mark in known]
    return _only(this, shared), _only(other, shared)


def _mark(answer: Mapping[str, Any]) -> tuple[str, ...]:
    """What was asked, and what is right; results of before there were keys have the question alone."""
    return str(answer.get("key") or answer.get("question")), *map(str, answer.get("expected", []))


def _only(result: Result, marks: Sequence[tuple[str, ...]]) -> Result:
    of_mark = {_mark(answer): answer for answer in reversed(result["answers"])}
    answers = [of_mark[mark] for mark in marks]
    correct = sum(answer.get("correct") is True for answer in answers)
    return result | {"answers": answers, "correct": correct, "total": len(answers)}


def unasked(*results: Any) -> list[str]:
    """The texts of the questions that one of these results has no reply to, each once."""
    found = [text for one in results if isinstance(one, Mapping) for text in one.get("unasked", [])]
    return list(dict.fromkeys(found))


def unasked_words(texts: Sequence[str], names: bool = True) -> str:
    """A sentence that says so; "" for none. names: with the first of them, which are a person's own data."""
    if not texts:
        return ""
    are = "have" if len(texts) > 1 else "has"
    said = f"{plural(len(texts), 'question')} {are} no reply yet, new or reworded since"
    return f"{said}: {named(texts)}." if names else f"{said}."


def named(texts: Sequence[str]) -> str:
    """The first of some questions, in quotes, and how many more there are."""
    quoted = [f"“{printable(' '.join(text.split()))[:_LONGEST]}”" for text in texts]
    more = f" and {len(texts) - _NAMED:,} more" if len(texts) > _NAMED else ""
    return ", ".join(quoted[:_NAMED]) + more
