"""Trees of messages, as the exports of ChatGPT, Claude and OpenAssistant hold them: the branch that is shown counts."""

from typing import Any

from nanochat_core.data.formats.turns import import_message
from nanochat_core.data.notes import Note

OTHER_BRANCHES = Note("DROPPED the branches of a tree that are not the one shown last", matters=True)


def is_chatgpt(record: Any) -> bool:
    """Whether the record is one conversation of ChatGPT's export: a mapping of nodes."""
    mapping = record.get("mapping") if isinstance(record, dict) else None
    return isinstance(mapping, dict) and any(isinstance(node, dict) and "message" in node for node in mapping.values())


def from_chatgpt(record: dict[str, Any]) -> tuple[list[Any], list[Note]]:
    """(messages of the branch that ends in current_node, what was dropped in few words)."""
    mapping = {name: node for name, node in record["mapping"].items() if isinstance(node, dict)}
    place, branch = record.get("current_node"), []
    if place not in mapping:
        parents = {node.get("parent") for node in mapping.values()}
        place = next((name for name in reversed(list(mapping)) if name not in parents), None)
    seen = set()
    while place in mapping and place not in seen:
        seen.add(place)
        branch.append(mapping[place].get("message"))
        place = mapping[place].get("parent")
    others = any(_is_said(node.get("message")) for name, node in mapping.items() if name not in seen)
    messages = [_message(message) for message in reversed(branch) if message is not None and _is_said(message)]
    unsaid = sorted({kind for message in branch if (kind := _unsaid(message))})
    dropped = f"DROPPED what stands between the messages and is none ({', '.join(unsaid)})"
    return messages, [OTHER_BRANCHES] * others + [Note(dropped, matters=True)] * bool(unsaid)


def _unsaid(message: Any) -> str:
    """The kind of a node that holds something which nobody said, such as thoughts; "" for any other."""
    if not isinstance(message, dict) or not isinstance(message.get("content"), dict) or _is_said(message):
        return ""
    kind = str(message["content"].get("content_type"))
    held = [value for key, value in message["content"].items() if key != "content_type"]
    return kind if kind not in ("text", "multimodal_text") and any(held) else ""


def _is_said(message: Any) -> bool:
    """Whether a node holds something that was said: hidden and empty system nodes are none."""
    if not isinstance(message, dict) or not isinstance(message.get("content"), dict):
        return False
    parts = message["content"].get("parts", message["content"].get("text"))
    if isinstance(parts, list):
        return any(part for part in parts if not isinstance(part, str) or part.strip())
    return isinstance(parts, str) and bool(parts.strip())


def _message(message: dict[str, Any]) -> Any:
    weight = {"weight": message["weight"]} if message.get("weight") == 0 else {}
    is_to_a_tool = message.get("recipient") not in (None, "", "all")
    role = "tool_call" if is_to_a_tool else message.get("author")
    return import_message({"role": role, "content": message["content"], **weight})


def from_claude(turns: list[Any]) -> tuple[list[Any], list[Note]]:
    """(the turns of the branch that ends with the last one, what was dropped): pasted texts are in the question."""
    by_id = {turn["uuid"]: turn for turn in turns if isinstance(turn, dict) and isinstance(turn.get("uuid"), str)}
    if len(by_id) < len(turns) or not all("parent_message_uuid" in turn for turn in turns):
        return [_with_pasted(turn) for turn in turns], []
    branch: list[Any] = []
    turn = turns[-1]
    while turn is not None and turn not in branch:
        branch.append(turn)
        turn = by_id.get(turn["parent_message_uuid"])
    return [_with_pasted(turn) for turn in reversed(branch)], [OTHER_BRANCHES] if len(branch) < len(turns) else []


def _with_pasted(turn: Any) -> Any:
    """A turn whose long pasted text stands beside it: it belongs to what was said."""
    attached = turn.get("attachments") if isinstance(turn, dict) else None
    if not isinstance(attached, list) or not attached:
        return turn
    texts = [one.get("extracted_content") if isinstance(one, dict) else None for one in attached]
    if not all(isinstance(text, str) and text.strip() for text in texts):
        return turn
    parts = (
        turn["content"] if isinstance(turn.get("content"), list) else [{"type": "text", "text": turn.get("text", "")}]
    )
    said = [part for part in parts if not isinstance(part, dict) or part.get("text") != ""]
    pasted = [{"type": "text", "text": text} for text in texts]
    return {key: value for key, value in turn.items() if key not in ("attachments", "text")} | {
        "content": said + pasted
    }


def is_tree(record: Any) -> bool:
    """Whether the record is a tree of OpenAssistant's: a prompt with replies in replies."""
    prompt = record.get("prompt") if isinstance(record, dict) else None
    return isinstance(prompt, dict) and isinstance(prompt.get("replies"), list) and isinstance(prompt.get("text"), str)


def from_tree(record: dict[str, Any]) -> tuple[list[Any], list[Note]]:
    """(the branch of the best reply each, what was dropped in few words)."""
    node, messages = record["prompt"], []
    total = _count(node)
    while isinstance(node, dict):
        messages.append(import_message({key: node.get(key) for key in ("role", "text")}))
        replies = [reply for reply in node.get("replies") or [] if isinstance(reply, dict)]
        node = min(replies, key=lambda reply: _rank(reply.get("rank")), default=None)
    return messages, [OTHER_BRANCHES] if total > len(messages) else []


def _rank(rank: Any) -> float:
    return rank if isinstance(rank, int | float) else float("inf")


def _count(root: dict[str, Any]) -> int:
    waiting, count = [root], 0
    while waiting:
        node = waiting.pop()
        count += 1
        waiting += [reply for reply in node.get("replies") or [] if isinstance(reply, dict)]
    return count
