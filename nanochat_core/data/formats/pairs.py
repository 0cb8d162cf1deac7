"""A question with its answer, whatever their keys are called: history before it and context with it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from nanochat_core.data.formats import names
from nanochat_core.data.formats.choices import refuse_sign, refuse_verdict
from nanochat_core.data.formats.columns import pair_of
from nanochat_core.data.formats.marked_text import messages_of_text
from nanochat_core.data.formats.names import first_of, plain
from nanochat_core.data.formats.turns import from_text, looks_like_turns, messages_of_turns
from nanochat_core.data.notes import Note

EARLIER = Note(
    "earlier answers of the assistant in a prompt are trained too, where the makers of such files train the completion "
    'only: add "train": false to a message that is only to be read',
    matters=True,
)
"""Said of a prompt that is a list of messages."""


@dataclass
class Imported:
    """A record as messages."""

    name: str
    """What people call its layout."""
    messages: list[Any]
    used: set[str] = field(default_factory=set)
    """Keys of the record that are in the messages; the others are the person's own."""
    notes: list[Note] = field(default_factory=list)
    """What a person should know of it."""


PREFERENCE = "preference pair"


def fields_of(record: dict[str, Any]) -> dict[str, str]:
    """The record's keys by their plain names."""
    fields: dict[str, str] = {}
    for key in record:
        if isinstance(key, str):
            fields.setdefault(plain(key), key)
    return fields


def values_of(record: dict[str, Any], fields: dict[str, str]) -> dict[str, Any]:
    """The record's values by their plain names."""
    return {name: record[key] for name, key in fields.items()}


def answered(record: dict[str, Any], fields: dict[str, str]) -> Imported | None:
    """A question with its answer, or with a chosen one; history before it and context with it."""
    values = values_of(record, fields)
    pair = pair_of(fields)
    if pair is None:
        chosen = answer_under(names.CHOSEN, record, fields)
        question = next((name for name in names.QUESTIONS if name in fields), None)
        if chosen is None or question is None:
            return None
        refuse_verdict(values, chosen)
        return _asked(Imported(PREFERENCE, [], {fields[question]}), values, fields, question)
    question, answer = pair
    _refuse_columns(values, question, answer)
    refuse_sign(values, answer)
    marked = _marked_prompt(values[question], values[answer])
    found = Imported(title_of(fields, *pair), marked or [], {fields[question], fields[answer]})
    if marked:
        return found
    add_answer(_asked(found, values, fields, question), values[answer])
    _name_left(found, values, fields)
    return found


def title_of(fields: dict[str, str], question: str, answer: str) -> str:
    """What people call a layout with these keys."""
    if question == "instruction":
        return {"output": "Alpaca", "response": "Dolly"}.get(answer, "instruction and answer")
    return "Orca" if question == "question" and "system_prompt" in fields else "prompt/completion"


def _asked(found: Imported, values: dict[str, Any], fields: dict[str, str], question: str) -> Imported:
    """History, question and context as messages."""
    asked = from_text(values[question])
    if isinstance(asked, list):
        found.messages = messages_of_turns(asked) or []
        if not asked or not looks_like_turns(asked):
            raise ValueError(f'The "{question}" is a list, but not of messages: write it as text or as messages.')
        if any(isinstance(one, dict) and one.get("role") == "assistant" for one in found.messages):
            found.notes.append(EARLIER)
    else:
        found.messages = [{"role": "user", "content": asked}]
    if question == "instruction" and not isinstance(asked, str | list):
        raise ValueError('The "instruction" must be text: put it in quotes.')
    _add_below(found, values, fields, question)
    for name in names.CONTEXTS:
        if name in fields and fields[name] not in found.used:
            if is_nothing(values[name]):
                if values[name]:
                    found.notes.append(Note(f'took {values[name]!r} in "{name}" for no text', matters=True))
            else:
                add_context(found.messages, name, values[name])
            found.used.add(fields[name])
    for name in names.HISTORIES:
        if name in fields:
            found.messages = [*history_of(name, values[name]), *found.messages]
            found.used.add(fields[name])
    return found


def _refuse_columns(values: dict[str, Any], question: str, answer: str) -> None:
    """ValueError for a table that was saved by its columns: all questions in one list, all answers in another."""
    asked, answered = values[question], values[answer]
    is_listed = isinstance(asked, list) and isinstance(answered, list) and all(isinstance(one, str) for one in asked)
    is_keyed = isinstance(asked, dict) and isinstance(answered, dict) and list(asked) == list(answered)
    if (is_listed or is_keyed) and len(asked) == len(answered) > 1:
        raise ValueError(
            f'"{question}" and "{answer}" are whole columns of a table: save it by its rows, in pandas with '
            '`to_json("NEW.jsonl", orient="records", lines=True)`.'
        )


def _add_below(found: Imported, values: dict[str, Any], fields: dict[str, str], question: str) -> None:
    """Put what an instruction is about below it, whatever it is called; not a text that the instruction is part of."""
    asked = values[question]
    if question not in ("instruction", "prompt") or not isinstance(asked, str):
        return
    for name in names.BELOW:
        text = values.get(name)
        if name == question or not isinstance(text, str) or is_nothing(text) or fields[name] in found.used:
            continue
        if not _is_within(text, asked) and not _is_within(asked, text) and messages_of_text(text) is None:
            add_context(found.messages, name, text)
            found.used.add(fields[name])
            found.notes.append(Note(f'took "{name}" into the question, below the "{question}"', matters=True))


def _name_left(found: Imported, values: dict[str, Any], fields: dict[str, str]) -> None:
    """Name what has no place beside a question and its answer, and could have been meant as one of them."""
    said = "\n".join(str(one.get("content")) for one in found.messages if isinstance(one, dict))
    for name in (*names.QUESTIONS, *names.ANSWERS, "message", *names.OPTIONS):
        if name not in fields or fields[name] in found.used or is_nothing(values[name]):
            continue
        text = values[name] if isinstance(values[name], str) else None
        if text is None or not (_is_within(text, said) or (name in names.PEOPLE and " " not in text.strip())):
            left = f'LEFT "{name}" beside the messages, where it is not trained: another key was taken'
            found.notes.append(Note(left, matters=True))


def _is_within(text: str, other: str) -> bool:
    """Whether a text stands in another one, whatever its capitals and blanks."""
    return " ".join(text.lower().split()) in " ".join(other.lower().split())


_NOTHING = ("", "nan", "none", "null", "n/a", "<noinput>")
"""What programs write where there is no text."""


def is_nothing(value: Any) -> bool:
    """Whether there is no text: none at all, or a word that some program writes for none."""
    return value in (None, [], {}) or (isinstance(value, str) and value.strip().lower() in _NOTHING)


def add_context(messages: list[Any], name: str, context: Any) -> None:
    """Append what the question is about to the question. ValueError when it is no text."""
    if isinstance(context, list) and all(isinstance(one, str) for one in context):
        context = "\n".join(context)
    last = messages[-1] if isinstance(messages[-1], dict) else {}
    if not isinstance(context, str) or not isinstance(last.get("content"), str):
        raise ValueError(f'The "{name}" must be text, as the question is: put it in quotes, or remove it.')
    if context.strip():
        messages[-1] = {**last, "content": f"{last['content']}\n\n{context}".strip("\n")}


def history_of(name: str, history: Any) -> list[Any]:
    """Earlier turns, as pairs, turns or marked text. ValueError when they are none of these."""
    if history in (None, "", [], {}):
        return []
    turns = messages_of_turns(from_text(history))
    if turns is None and isinstance(history, str) and (found := messages_of_text(history)):
        turns = found[1]
    if turns is None or not all(isinstance(turn, dict) and "role" in turn and "content" in turn for turn in turns):
        raise ValueError(f'The "{name}" is not a list of turns or of [question, answer] pairs: correct or remove it.')
    return turns


def add_answer(found: Imported, answer: Any) -> None:
    """Append an answer in any of its shapes. ValueError for several answers."""
    answer = from_text(answer)
    if isinstance(answer, dict) and isinstance(answer.get("text"), list) and answer["text"]:
        answer = answer["text"][0]  # SQuAD's {"text": [...], "answer_start": [...]}
    if isinstance(answer, dict) and ("role" in answer or "from" in answer):
        answer = [answer]
    is_list = isinstance(answer, list) and len(answer) > 1
    is_parts = is_list and any(isinstance(one, dict) and "type" in one for one in answer)
    if is_list and not is_parts and (all(isinstance(one, str) for one in answer) or not looks_like_turns(answer)):
        raise ValueError("There are several answers to one question: keep the one that is to be learned.")
    if isinstance(answer, list) and looks_like_turns(answer):
        found.messages += messages_of_turns(answer) or []
    elif isinstance(answer, list) and len(answer) == 1:
        found.messages.append({"role": "assistant", "content": answer[0]})
    else:
        found.messages.append({"role": "assistant", "content": answer})


def _marked_prompt(question: Any, answer: Any) -> list[Any] | None:
    """The turns of a prompt that holds a whole marked conversation up to where the completion begins."""
    if not isinstance(question, str) or not isinstance(answer, str):
        return None
    found = messages_of_text(question + answer)
    if found is None or found[0] == "Human:" or found[1][-1]["role"] != "assistant":
        return None
    return found[1] if found[1][-1]["content"] and found[1][-1]["content"] in answer else None


def answer_under(keys: Iterable[str], record: dict[str, Any], fields: dict[str, str]) -> str | None:
    """The first of the names that holds an answer: true and false are verdicts."""
    texts = {name: value for name, value in values_of(record, fields).items() if isinstance(value, str | list | dict)}
    return first_of(texts, keys)
