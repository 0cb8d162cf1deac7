"""The one reader of records: recognises the layout of a record and makes {"messages": [...]} of it, nothing lost.

What a layout says beside its turns (system, history, context, a chosen answer) comes into the messages; keys that
are not understood stay beside them, where `check` names them. The messages are not judged here.
"""

from collections.abc import Callable
from typing import Any

from nanochat_core.data.formats import exports, names
from nanochat_core.data.formats.choices import refuse_sign, refuse_verdict
from nanochat_core.data.formats.columns import pair_of
from nanochat_core.data.formats.marked_text import messages_of_text
from nanochat_core.data.formats.names import ROLE_NAMES
from nanochat_core.data.formats.pairs import (
    PREFERENCE,
    Imported,
    add_answer,
    add_context,
    answer_under,
    answered,
    fields_of,
    history_of,
    is_nothing,
    title_of,
    values_of,
)
from nanochat_core.data.formats.preference import BOTH, ONLY_CHOSEN, is_same_answer, with_chosen, with_rejected
from nanochat_core.data.formats.turns import from_text, import_message, looks_like_turns, messages_of_turns
from nanochat_core.data.notes import Note

TEXTS = ("text", "content", "conversation", "dialogue", "chat", "sample", "full_text", "formatted_text", "prompt")
"""Keys of a text that may be a whole conversation with marks between its turns."""
_REQUESTS = ("input", "body", "request")


def recognise(record: Any) -> str | None:
    """The name of the record's layout when it is another one than messages, else None."""
    try:
        found = _base(record)
    except ValueError:  # of a known layout, but words of it cannot be placed: importing it says so
        return title_of(fields_of(record), *(pair_of(fields_of(record)) or ("", "")))
    if found is not None and found.name != _OURS:
        return found.name
    if found is None and isinstance(record, dict) and "messages" not in record:
        return PREFERENCE if _whole_pair(record) else None
    return None


def import_record(record: dict[str, Any]) -> dict[str, Any]:
    """{"messages": [...]} from a record of any of the layouts. ValueError when it is of none, or would lose words."""
    if recognise(record) is None:
        raise ValueError("This record is of no known layout: write it as messages.")
    found = read_record(record)
    assert found is not None, "what is recognised is read"
    return {"messages": found.messages}


def imported_keys(record: dict[str, Any]) -> set[str]:
    """The keys of the record that have become messages."""
    found = read_record(record)
    return found.used if found else set()


def read_record(record: Any) -> Imported | None:
    """The record as messages, also when only what stands beside its messages had to be brought in. None: as it is.

    ValueError when words of it cannot be placed.
    """
    if not isinstance(record, dict):
        return None
    found = _base(record)
    fields = fields_of(record)
    chosen, rejected = (answer_under(keys, record, fields) for keys in (names.CHOSEN, names.REJECTED))
    if found is None and not _whole_pair(record):
        return None
    found = found or Imported(PREFERENCE, [])
    is_ours = found.name == _OURS
    _add_context(found, record, fields)
    _add_system(found, record, fields)
    _add_answer(found, record, fields)
    if chosen:
        refuse_verdict(values_of(record, fields), chosen)
        found.messages = with_chosen(found.messages, from_text(record[fields[chosen]]))
        found.used.add(fields[chosen])
    if rejected and _is_pair(found.messages, record[fields[rejected]]):
        worse = from_text(record[fields[rejected]])
        if isinstance(worse, list) and len(worse) > 1 and all(isinstance(one, str) for one in worse):
            worse = worse[0]
            found.notes.append(Note("DROPPED all but the first of several rejected answers", matters=True))
        found.messages = with_rejected(found.messages, worse)
        found.used.add(fields[rejected])
        found.notes.append(BOTH)
    elif chosen:
        found.notes.append(ONLY_CHOSEN)
    return None if is_ours and found.messages == record["messages"] else found


_OURS = "messages"


def _base(record: Any) -> Imported | None:
    """Question and answer, or turns, of the record, without what stands beside them."""
    if not isinstance(record, dict):
        return None
    readers: tuple[Callable[[dict[str, Any], dict[str, str]], Imported | None], ...] = (
        *(_own_messages, _export, _turns, _request, answered, _marked, _lone_turns),
    )
    fields = fields_of(record)
    return next((found for reader in readers if (found := reader(record, fields)) is not None), None)


def _own_messages(record: dict[str, Any], fields: dict[str, str]) -> Imported | None:
    """Messages that may need a word beside them brought in."""
    if "messages" not in record:
        return None
    messages = record["messages"]
    if isinstance(messages, list):
        return Imported(
            _OURS, messages if _is_ours(messages) else messages_of_turns(messages) or messages, {"messages"}
        )
    if isinstance(messages, str | dict) and looks_like_turns(messages):
        return Imported("messages in a text", messages_of_turns(messages) or [], {"messages"})
    return Imported(_OURS, [], {"messages"})


def _is_ours(messages: list[Any]) -> bool:
    return all(isinstance(message, dict) and ("role" in message or not message) for message in messages)


def _export(record: dict[str, Any], fields: dict[str, str]) -> Imported | None:
    if exports.is_chatgpt(record):
        (messages, notes), key, name = exports.from_chatgpt(record), "mapping", "ChatGPT export"
    elif exports.is_tree(record):
        (messages, notes), key, name = exports.from_tree(record), "prompt", "OpenAssistant tree"
    else:
        return None
    return Imported(name, messages, {key}, notes)


def _turns(record: dict[str, Any], fields: dict[str, str]) -> Imported | None:
    for name in names.TURNS:
        if name not in fields or (isinstance(value := record[fields[name]], str) and messages_of_text(value)):
            continue
        if (isinstance(value, list) and name.startswith("conversation")) or looks_like_turns(value):
            titles = {"contents": "Gemini", "chat_messages": "Claude export", "messages": "messages"}
            title = titles.get(name, "ShareGPT")
            notes: list[Note] = []
            if name == "chat_messages" and isinstance(value, list):
                value, notes = exports.from_claude(value)
            title = "Messages" if title == _OURS else title
            return Imported(title, messages_of_turns(value) or [], {fields[name]}, notes)
    return None


def _request(record: dict[str, Any], fields: dict[str, str]) -> Imported | None:
    """A logged request with its answer, or OpenAI's preference pair: the messages lie one level deeper."""
    for name in _REQUESTS:
        inner = from_text(record[fields[name]]) if name in fields else None
        if isinstance(inner, dict) and looks_like_turns(inner.get("messages")):
            found = Imported("request", messages_of_turns(inner["messages"]) or [], {fields[name]})
            answer = _answer_of(record.get("response", record))
            if answer is not None:
                found.messages.append(import_message(answer))
                found.used |= {"response"} & set(record) or {"choices"}
            return found
    return None


def _answer_of(response: Any) -> Any:
    """The message in an answer of a chat API; None when there is none."""
    response = response.get("body", response) if isinstance(response, dict) else response
    choices = response.get("choices") if isinstance(response, dict) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    return first.get("message") if isinstance(first, dict) else None


def _marked(record: dict[str, Any], fields: dict[str, str]) -> Imported | None:
    for name in TEXTS:
        if name in fields and (found := messages_of_text(record[fields[name]])):
            return Imported(f"{found[0]} text", found[1], {fields[name]})
    return None


def _lone_turns(record: dict[str, Any], fields: dict[str, str]) -> Imported | None:
    """UltraChat's {"data": ["question", "answer", ...]}, and a chat history without a question of its own."""
    data = record.get("data")
    if isinstance(data, list) and len(data) > 1 and all(isinstance(one, str) for one in data):
        return Imported("UltraChat", messages_of_turns(data) or [], {"data"})
    for name in names.HISTORIES:
        if name in fields and looks_like_turns(record[fields[name]]):
            return Imported("ShareGPT", messages_of_turns(record[fields[name]]) or [], {fields[name]})
    return None


def _whole_pair(record: dict[str, Any]) -> bool:
    """Whether chosen and rejected are whole conversations, so that no question stands beside them."""
    fields = fields_of(record)
    chosen = answer_under(names.CHOSEN, record, fields)
    value = from_text(record[fields[chosen]]) if chosen else None
    if isinstance(value, str):
        return messages_of_text(value) is not None
    turns = messages_of_turns(value)
    return turns is not None and len(turns) > 1


def _is_pair(messages: list[Any], rejected: Any) -> bool:
    """Whether the rejected answer is another one than the answer that the messages end with."""
    rejected = from_text(rejected)
    if not messages or not isinstance(messages[-1], dict) or messages[-1].get("role") != "assistant":
        return False
    return isinstance(rejected, str | list | dict) and not is_same_answer(messages[-1], rejected)


def _add_context(found: Imported, record: dict[str, Any], fields: dict[str, str]) -> None:
    """Put history before the turns, and what they are about to their first question. ValueError when it is no text."""
    for name in (*names.BESIDE, *names.HISTORIES):
        key = fields.get(name)
        if key is None or key in found.used or record[key] in (None, "", [], {}):
            continue
        if name in names.HISTORIES:
            found.messages = [*history_of(name, record[key]), *found.messages]
        else:
            found.messages = _with_context(found.messages, name, record[key])
        found.used.add(key)


def _add_answer(found: Imported, record: dict[str, Any], fields: dict[str, str]) -> None:
    """Put the answer that stands beside messages which end with the question behind them. ValueError for several."""
    last = found.messages[-1] if found.messages and isinstance(found.messages[-1], dict) else {}
    values = values_of(record, fields)
    beside = [name for name in _SURE_ANSWERS if fields.get(name) not in found.used and _is_answer(values.get(name))]
    is_asked = ROLE_NAMES.get(str(last.get("role")).strip().lower()) == "user"
    if not is_asked or not beside or answer_under(names.CHOSEN, record, fields):
        return
    if len(beside) > 1:
        raise ValueError(f"There are several answers beside the messages ({', '.join(beside)}): keep the one to learn.")
    refuse_sign(values, beside[0])
    found.messages = [*found.messages]  # which may be the record's own list
    add_answer(found, values[beside[0]])
    found.used.add(fields[beside[0]])
    found.notes.append(Note(f'took "{beside[0]}", which stood beside the messages, as their answer', matters=True))


_SURE_ANSWERS = ("completion", "response", "answer", "output", "reply", "assistant", "assistant_message")
"""Keys of an answer beside messages, where other names of answers (`target`, `solution`) may be something else."""


def _is_answer(value: Any) -> bool:
    return isinstance(value, str | list | dict) and not is_nothing(value)


def _with_context(messages: list[Any], name: str, context: Any) -> list[Any]:
    place = next((n for n, one in enumerate(messages) if isinstance(one, dict) and one.get("role") == "user"), None)
    if place is None:
        return messages
    said = messages[place].get("content")
    if isinstance(said, str) and isinstance(context, str) and context.strip() in said:
        return messages
    with_it = [messages[place]]
    add_context(with_it, name, context)
    return [*messages[:place], *with_it, *messages[place + 1 :]]


def _add_system(found: Imported, record: dict[str, Any], fields: dict[str, str]) -> None:
    """Put the system texts beside the messages before them. ValueError when one is no text."""
    texts: list[str] = []
    for name in names.SYSTEMS:
        if name not in fields or fields[name] in found.used:
            continue
        value = record[fields[name]]
        found.used.add(fields[name])
        if value in (None, "", [], {}):
            continue
        text = import_message({"role": "system", "content": value})["content"]
        if not isinstance(text, str):
            raise ValueError(f'The "{fields[name]}" beside the messages is no text: write it as text, or remove it.')
        texts.append(text)
    first = found.messages[0] if found.messages else None
    is_system = isinstance(first, dict) and first.get("role") == "system"
    said = str(first.get("content")) if isinstance(first, dict) and is_system else ""
    texts = [text for text in texts if text.strip() not in said]
    if texts:
        found.messages = [{"role": "system", "content": "\n\n".join(texts)}, *found.messages]
