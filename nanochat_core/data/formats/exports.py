"""Trees of messages, as ChatGPT's export and OpenAssistant's hold them: the branch that is shown becomes the talk."""

from typing import Any

from nanochat_core.data.formats.turns import import_message


def is_chatgpt(record: Any) -> bool:
    """Whether the record is one conversation of ChatGPT's export: a mapping of nodes."""
    mapping = record.get("mapping") if isinstance(record, dict) else None
    return isinstance(mapping, dict) and any(isinstance(node, dict) and "message" in node for node in mapping.values())


def from_chatgpt(record: dict[str, Any]) -> tuple[list[Any], int]:
    """(messages of the branch that ends in current_node, how many messages with text lie in other branches)."""
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
    others = sum(_is_said(node.get("message")) for name, node in mapping.items() if name not in seen)
    messages = [_message(message) for message in reversed(branch) if message is not None and _is_said(message)]
    return messages, others


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
    return import_message({"role": message.get("author"), "content": message["content"], **weight})


def is_tree(record: Any) -> bool:
    """Whether the record is a tree of OpenAssistant's: a prompt with replies in replies."""
    prompt = record.get("prompt") if isinstance(record, dict) else None
    return isinstance(prompt, dict) and isinstance(prompt.get("replies"), list) and isinstance(prompt.get("text"), str)


def from_tree(record: dict[str, Any]) -> tuple[list[Any], int]:
    """(the branch of the best reply each, how many messages lie in other branches)."""
    node, messages = record["prompt"], []
    total = _count(node)
    while isinstance(node, dict):
        messages.append(import_message({key: node.get(key) for key in ("role", "text")}))
        replies = [reply for reply in node.get("replies") or [] if isinstance(reply, dict)]
        node = min(replies, key=lambda reply: _rank(reply.get("rank")), default=None)
    return messages, total - len(messages)


def _rank(rank: Any) -> float:
    return rank if isinstance(rank, int | float) else float("inf")


def _count(root: dict[str, Any]) -> int:
    waiting, count = [root], 0
    while waiting:
        node = waiting.pop()
        count += 1
        waiting += [reply for reply in node.get("replies") or [] if isinstance(reply, dict)]
    return count
