"""The names that roles and keys have in the wild, all in lower case with underscores, and what each of them means."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

ROLE_NAMES = {
    **dict.fromkeys(("system", "developer", "sys"), "system"),
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "model", "bot", "ai", "chatbot", "claude"), "assistant"),
}
"""Names of roles, and nanochat's name for each."""

TOOL_ROLES = frozenset(
    (
        *("tool", "function", "ipython", "observation", "environment", "function_call", "function_response"),
        *("function_result", "tool_call", "tool_calls", "tool_response", "tool_result"),
    )
)
"""Names of those who call tools, or answer for one."""

TURNS = (
    *("messages", "conversations", "conversation", "dialogue", "dialog", "dialogs", "chat", "turns", "items"),
    *("contents", "chat_messages"),
)
"""Keys of a list of turns."""

QUESTIONS = (
    *("instruction", "prompt", "question", "query", "user", "human", "input", "input_text", "problem", "request"),
    *("user_message", "user_input", "user_prompt"),
)
ANSWERS = (
    *("output", "completion", "response", "answer", "assistant", "gpt", "bot", "model_response", "output_text"),
    *("reply", "target", "solution", "assistant_message", "model_output", "bot_response", "answers"),
)
"""Keys of one question and one answer, the surest first."""

PEOPLE = ("user", "human")
"""Questions that are a person's name where another key holds what was asked."""

BELOW = ("question", "query", "problem", "text")
"""Keys of what an instruction is about, beside it."""

OPTIONS = ("choices", "options", "candidates", "alternatives", "answer_choices")
"""Keys of a list of answers, of which the answer may give only the number or the letter."""

CONTEXTS = ("context", "input", "passage", "document", "background", "documents")
"""Keys of what the question is about."""

BESIDE = ("context", "input", "passage", "document", "background")
"""Those of them that belong to the first question of a list of turns too."""

HISTORIES = ("history", "chat_history", "previous_turns")
"""Keys of earlier turns beside a question."""

SYSTEMS = (
    *("system", "system_prompt", "system_message", "systeminstruction", "system_instruction", "systemprompt"),
    *("preamble", "instructions"),
)
"""Keys of a system message beside the messages."""

CHOSEN = (
    *("chosen", "chosen_response", "chosen_message", "chosen_messages", "preferred", "preferred_output"),
    *("response_chosen", "preferred_response", "accepted_response", "response_j", "chosen_answer", "winner"),
)
REJECTED = (
    *("rejected", "rejected_response", "rejected_message", "rejected_messages", "non_preferred_output"),
    *("response_rejected", "dispreferred", "dispreferred_output", "dispreferred_response", "rejected_output"),
    *("response_k", "rejected_answer", "loser"),
)
"""Keys of the better and of the worse answer of a preference pair."""

SPEAKERS = ("role", "from", "speaker", "sender", "author")
SAID = ("content", "value", "text", "message", "parts", "utterance", "body")
"""Keys of who speaks and of what is said, in one turn."""

PARENTS = ("parent_id", "parent_message_id", "parent", "reply_to", "in_reply_to", "previous_id")
IDS = ("message_id", "id", "msg_id", "row_id", "turn_id", "uuid")
TALKS = (
    *("conversation_id", "session_id", "thread_id", "dialog_id", "dialogue_id", "chat_id", "conv_id"),
    *("message_tree_id", "conversation", "dialogue"),
)
"""Keys that say which rows belong together: the row before, this row, the whole talk."""

TALKS_OF_PAIRS = ("conversation_id", "dialog_id", "dialogue_id", "conv_id", "chat_id", "thread_id")
"""Those of a talk that a question with its answer is a part of, where it says so: a session may be anything."""

ORDERS = (
    *("turn", "turn_id", "turn_index", "turn_number", "turn_idx", "message_index", "message_number", "msg_index"),
    *("position", "order", "sequence", "seq", "index", "idx"),
    *("timestamp", "created_at", "create_time", "ts", "sent_at", "datetime", "date"),
)
"""Keys of a row's place in its talk, the surest first: tables and databases keep no order by themselves."""

BAD_IF_FALSE = frozenset(
    (
        *("label", "kto_tag", "kto_label", "is_good", "good", "is_chosen", "accepted", "is_accepted", "desirable"),
        *("is_desirable", "is_correct", "correct", "thumbs_up", "approved", "is_approved", "is_preferred", *CHOSEN),
    )
)
BAD_IF_TRUE = frozenset(
    (
        *("is_rejected", "is_bad", "bad", "thumbs_down", "undesirable", "is_undesirable", "is_negative"),
        *("bad_example", "negative_example", "is_wrong", "deleted", "is_deleted", *REJECTED),
    )
)
"""Keys of a verdict on a whole example, which says yes or no."""

BAD_WORDS = frozenset(("rejected", "disapproved", "undesirable", "thumbs_down", "thumbs down", "\N{THUMBS DOWN SIGN}"))
"""Words that are a verdict, under whatever key."""

SPLITS = ("split", "partition")
HELD_OUT = frozenset(("test", "validation", "valid", "val", "dev", "eval"))
"""Keys of the part that a row belongs to, and the parts that are not for training."""

RATINGS = frozenset(("score", "rating", "reward", "quality", "feedback", "thumbs", "stars", "upvotes", "grade", "vote"))
"""Keys of a verdict that is no plain yes or no."""

MEDIA = frozenset(
    (
        *("image", "images", "image_url", "image_urls", "input_image", "picture", "pictures", "video", "videos"),
        *("audio", "audios", "input_audio", "sound", "sounds", "speech", "media", "attachments", "video_url"),
        *("image_asset_pointer", "audio_asset_pointer", "video_container_asset_pointer"),
        *("audio_url", "inline_data", "inlinedata", "file_data", "filedata"),
    )
)
MEDIA_MARKS = ("<image>", "<video>", "<audio>", "<|image|>", "<|image_pad|>", "<|vision_start|>", "<image_soft_token>")
"""Keys, kinds of parts, and marks in texts, that stand for pictures, sound and video."""

TEMPLATE_MARKS = (
    *("<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|eot_id|>", "<|end_of_text|>", "<|endoftext|>"),
    *("<start_of_turn>", "<end_of_turn>", "<|user|>", "<|assistant|>", "<|system|>", "<<SYS>>", "[INST]", "[/INST]"),
    *("<tool_call>", "<tool_response>", "<functioncall>", "<|python_tag|>"),
    *("<|bos|>", "<|user_start|>", "<|user_end|>", "<|assistant_start|>", "<|assistant_end|>"),
)
"""What templates of chats write around the turns; within a text it is text, which would be learned."""

REASONING = frozenset(
    (
        *("reasoning_content", "reasoning", "thinking", "thoughts", "chain_of_thought", "cot", "rationale"),
        *("reasoning_details", "thought", "think"),
    )
)
TOOLS = frozenset(("tool_calls", "function_call", "tools", "functions", "tool_choice", "tool_call_id", "toolconfig"))
CALLS = ("tool_calls", "function_call", "tool_use", "functioncall", "tool_call")

OWN = frozenset(
    (
        *("id", "uuid", "guid", "source", "url", "link", "title", "name", "dataset", "model", "license", "author"),
        *("created", "created_at", "updated_at", "timestamp", "date", "time", "create_time", "update_time", "category"),
        *("categories", "topic", "topics", "tag", "tags", "language", "lang", "split", "domain", "subject", "type"),
        *("task", "version", "file", "filename", "path", "hash", "meta", "metadata", "index", "idx", "row", "origin"),
        *("message_id", "parent_id", "parent_message_id", "conversation_id", "session_id", "user_id", "thread_id"),
        *("annotations", "citations", "refusal", "schemaversion", "current_node", "account", "label", "labels"),
    )
)
"""Keys of a person's own bookkeeping: whatever they hold, the training needs no word of it."""


def plain(key: str) -> str:
    """`System Prompt`, `system-prompt` and `systemPrompt` are looked up by small letters and underscores."""
    return re.sub(r"[\s-]+", "_", key.strip().lower())


def first_of(fields: Mapping[str, Any], names: Iterable[str]) -> str | None:
    """The first of the names under which there is something."""
    return next((name for name in names if fields.get(name) not in (None, "", [], {})), None)
