"""Data files that are fine, worth a warning, or faulty, by name: what the test of `check` goes through."""

import json

from tests.support.samples import GOOD, assistant, conversation, line, system, user

OTHER = line(user("another question"), assistant("another answer"))

GOOD_FILES = {
    "one line": GOOD + "\n",
    "no line break at the end": GOOD,
    "empty lines at the end": GOOD + "\n\n \n",
    "a bare list": json.dumps([user("hi"), assistant("yo")]),
    "a system message": line(system("be kind"), user("hi"), assistant("yo")),
    "blanks around": f"  {GOOD} \t",
    "own keys": json.dumps({"id": 7, "source": {"a": [1, 2]}, **conversation(user("hi"), assistant("yo"))}),
    "own keys in messages": line({"name": "Nora", **user("hi")}, assistant("yo")),
    "the word role as a text": line(user("role"), assistant("content")),
    "line separators inside a text": json.dumps(
        conversation(user("one\u2028two\u2029three\x85four\x0bfive"), assistant("yo")), ensure_ascii=False
    ),
    "special tokens as text": line(user("<|bos|><|user_start|>"), assistant("<|assistant_end|>")),
    "a whole emoji in escapes": line(user("\U0001f600"), assistant("a")),
    "keys in escapes": '[{"r\\u006fle": "user", "content": "a"}, {"role": "assistant", "content": "b"}]',
    "tool parts": line(
        user("1+1?"),
        assistant(
            [
                {"type": "python", "text": "1+1"},
                {"type": "python_output", "text": "2"},
                {"type": "text", "text": "It is 2."},
            ]
        ),
    ),
}
"""One conversation each, in every form that is fine."""

PART = {"type": "text", "text": "fine"}
WARNINGS = {
    "byte order mark": ("\ufeff" + GOOD, 1, "bom"),
    "byte order mark where files were joined": (GOOD + "\n\ufeff" + OTHER, 2, "bom"),
    "windows line ends": (GOOD + "\n" + OTHER + "\r\n", 2, "crlf"),
    "an empty line inside": (GOOD + "\n\n" + OTHER, 2, "empty_line"),
    "empty answer that is not learned": (
        line(user("hi"), {"train": False, **assistant("")}, user("hi?"), assistant("yo")),
        1,
        "empty_text",
    ),
    "empty question": (line(user(""), assistant("yo")), 1, "empty_text"),
    "repeated key": (
        '[{"role": "user", "role": "user", "content": "a"}, ' + line(assistant("b"))[14:-1],
        1,
        "repeated_key",
    ),
    "repeated key of the person's own": ('{"id": 1, "id": 2, ' + GOOD[1:], 1, "repeated_key"),
    "repeated key, once in escapes": (
        '[{"role": "user", "r\\u006fle": "user", "content": "a"}, {"role": "assistant", "content": "b"}]',
        1,
        "repeated_key",
    ),
    "the same again": (GOOD + "\n" + OTHER + "\n" + GOOD.replace(", ", ","), 3, "repeated_conversation"),
    "python without output": (line(user("a"), assistant([{"type": "python", "text": "1"}])), 1, "lonely_tool_part"),
    "output without python": (
        line(user("a"), assistant([{"type": "python_output", "text": "1"}])),
        1,
        "lonely_tool_part",
    ),
    "weights": (line(user("hi"), {"weight": 0.5, **assistant("yo")}), 1, "unused_key"),
    "tools": ('{"tools": [{"name": "f"}], ' + GOOD[1:], 1, "unused_key"),
    "text beside the messages": ('{"notes": "what the customer has told us", ' + GOOD[1:], 1, "unused_key"),
    "a rating": ('{"score": 1, ' + GOOD[1:], 1, "unused_key"),
    "system beside the messages": ('{"system": "x", ' + GOOD[1:], 1, "system_beside"),
    "pictures beside the messages": ('{"images": ["a.jpg"], ' + GOOD[1:], 1, "media"),
    "a picture's mark": (line(user("<image>what is it?"), assistant("yo")), 1, "media"),
    "reasoning": (line(user("hi"), {"thinking": "he greets", **assistant("yo")}), 1, "reasoning"),
    "rejected answers": (line(user("hi"), {"rejected": "go away", **assistant("yo")}), 1, "rejected_answers"),
    "nothing trained": (line(user("hi"), {"train": False, **assistant("yo")}), 1, "nothing_to_learn"),
}
"""(text of the file, line of the warning, its kind)."""

FAULTS = {
    "empty answer": (line(user("hi"), assistant("  ")), "empty_answer", "Message 2: the assistant says nothing"),
    "empty parts": (line(user("hi"), assistant([{"type": "text", "text": ""}])), "empty_answer", "says nothing"),
    "a bad example": ('{"label": false, ' + GOOD[1:], "negative_example", "marked as bad (label: false)"),
    "a bad example by its tag": ('{"kto_tag": 0, ' + GOOD[1:], "negative_example", "kto_tag"),
    "a rejected answer": (
        '{"rejected_message": "yo", ' + GOOD[1:],
        "negative_example",
        "its answer stands in 'rejected_message' too",
    ),
    "a pair": ('{"rejected": "no", ' + GOOD[1:], "preference_pair", "preference pair"),
    "a pair with its answer beside": (
        json.dumps({"messages": [user("hi")], "chosen": "yo", "rejected": "no"}),
        "preference_pair",
        "preference pair ('chosen' and 'rejected')",
    ),
    "an unclear mark": (line(user("hi"), {"mask": 1, **assistant("yo")}), "unclear_mark", "'mask'"),
    "a tool call": (
        line(user("hi"), {"tool_calls": [{"id": 1}], **assistant(None)}),
        "tool_calls",
        "Message 2: tool calls",
    ),
    "a tool's answer": (
        line(user("hi"), assistant("wait"), {"role": "tool", "content": "7"}, assistant("yo")),
        "tool_calls",
        "Message 3: tool calls",
    ),
    "a picture": (line(user([{"type": "image_url"}]), assistant("b")), "media_part", "cannot see (image_url)"),
    "not json": ("hello there", "not_json", "begins with 'hello there'"),
    "a missing comma": (GOOD.replace("}, {", "} {", 1), "not_json", "comma is missing before column 49"),
    "a quote inside a text": (GOOD.replace("hi", 'so "hi" you'), "not_json", "quote inside the text"),
    "single quotes": (str(conversation(user("a"), assistant("b"))), "not_json", "single quote at column 2"),
    "curly quotes": (GOOD.replace('"', "\u201c"), "not_json", "curly quote"),
    "a comma too many": (GOOD.replace("}]}", "},]}"), "not_json", "comma too many"),
    "cut off": (GOOD[:-2], "never_closed", "never closed"),
    "cut off in a text": (GOOD[:-6], "not_json", "not closed on this line"),
    "a raw tab": (GOOD.replace("hi", "a\tb"), "not_json", "raw tab inside the quotes"),
    "a zero byte": (GOOD.replace("hi", "a\0b"), "not_json", "raw zero byte"),
    "a backslash": (GOOD.replace("hi", "a\\d"), "not_json", "backslash"),
    "python's words": ('{"messages": None}', "not_json", "None at column 14"),
    "nan": ('{"messages": [], "x": NaN}', "not_json", "NaN is not allowed"),
    "infinity": ('{"messages": [], "x": -Infinity}', "not_json", "-Infinity is not allowed"),
    "a comment": ("// data", "not_json", "comment"),
    "a number too long": ('{"x": ' + "7" * 5000 + "}", "not_json", "5,000 digits"),
    "something after the end": (GOOD + " x", "not_json", "after the end of the object at column"),
    "a bracket too many": (GOOD + "}", "not_json", "closing } too many"),
    "several objects": (GOOD + OTHER, "several_objects", "2 objects on this line"),
    "a comma after the end": (GOOD + ",", "comma_after_the_end", "comma after the end"),
    "old line ends": (GOOD + "\r" + OTHER, "old_line_ends", "carriage return"),
    "nesting bomb of objects": ('{"a":' * 100_000, "nested_too_deeply", "nested far too deeply"),
    "deep value": ('{"x": ' + "[" * 150 + "]" * 150 + ", " + GOOD[1:], "nested_too_deeply", "nested far too deeply"),
    "a number": ("5", "not_an_object", "is a number"),
    "a text": ('"hello"', "not_an_object", "is a text"),
    "null": ("null", "not_an_object", "is null"),
    "an empty list": ("[]", "no_messages", "list of messages is empty"),
    "an empty object": ("{}", "no_messages", 'no "messages"; it is empty'),
    "no messages": ('{"data": 1}', "no_messages", "its keys are 'data'"),
    "messages not a list": ('{"messages": "hi"}', "no_messages", "is a text, not a list"),
    "empty messages": ('{"messages": []}', "no_messages", "is empty"),
    "a single message": (json.dumps(user("hi")), "no_messages", "single message"),
    "sharegpt": (
        '{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}',
        "other_format",
        "ShareGPT",
    ),
    "alpaca": ('{"instruction": "a", "input": "", "output": "b"}', "other_format", "Alpaca"),
    "prompt and completion": ('{"prompt": "a", "completion": "b"}', "other_format", "prompt/completion"),
    "sharegpt's keys": (
        json.dumps([{"from": "user", "value": "a"}, {"from": "gpt", "value": "b"}]),
        "other_format",
        '"from" stands for "role"',
    ),
    "sharegpt's roles": (line({"role": "human", "content": "a"}, assistant("b")), "unknown_role", "ShareGPT"),
    "a capital role": (line({"role": "User", "content": "a"}, assistant("b")), "unknown_role", "Message 1: 'User'"),
    "an unknown role": (line(user("a"), {"role": "cook", "content": "b"}), "unknown_role", "Message 2: 'cook'"),
    "no role": (line({"content": "a"}, assistant("b")), "no_role", "Message 1"),
    "a role that is a number": (line({"role": 1, "content": "a"}, assistant("b")), "no_role", "not text"),
    "a message that is a text": (line("hi", assistant("b")), "not_a_message", "Message 1"),
    "two users": (line(user("a"), user("b"), assistant("c")), "wrong_order", "Messages 1 and 2 are both from the user"),
    "two answers": (line(user("a"), assistant("b"), assistant("c")), "wrong_order", "Messages 2 and 3 are both"),
    "assistant first": (
        line(assistant("a"), user("b"), assistant("c")),
        "wrong_order",
        "Message 1 is from the assistant",
    ),
    "assistant after system": (line(system("s"), assistant("c")), "wrong_order", "Message 2 is from the assistant"),
    "late system": (
        line(user("a"), assistant("b"), system("c"), user("d"), assistant("e")),
        "wrong_order",
        "Message 3",
    ),
    "two system messages": (line(system("a"), system("b"), user("c"), assistant("d")), "wrong_order", "Message 2"),
    "only a system message": (line(system("a")), "wrong_order", "only a system message"),
    "ends with the user": (line(user("a"), assistant("b"), user("c")), "ends_with_user", "last message (3)"),
    "only a question": (line(user("a")), "ends_with_user", "last message (1)"),
    "no content": (line({"role": "user"}, assistant("b")), "content_not_text", 'Message 1: there is no "content"'),
    "null content": (line(user("a"), assistant(None)), "content_not_text", "Message 2: the content is null"),
    "content a number": (line(user(5), assistant("b")), "content_not_text", "is a number"),
    "content true": (line(user(True), assistant("b")), "content_not_text", "is true or false"),
    "content an object": (line(user({"text": "a"}), assistant("b")), "content_not_text", "is an object"),
    "a user's parts": (line(user([PART]), assistant("b")), "content_not_text", "only the assistant's may be in parts"),
    "no parts": (line(user("a"), assistant([])), "malformed_part", "empty list"),
    "a part that is a text": (line(user("a"), assistant([PART, "b"])), "malformed_part", "part 2 is not an object"),
    "a picture part": (line(user("a"), assistant([{"type": "image"}])), "media_part", "cannot see (image)"),
    "a part of another type": (line(user("a"), assistant([{"type": "x"}])), "malformed_part", "type 'x'"),
    "a part without a type": (line(user("a"), assistant([{"text": "b"}])), "malformed_part", 'no "type"'),
    "a part without text": (
        line(user("a"), assistant([{"type": "text", "text": None}])),
        "malformed_part",
        'no "text"',
    ),
    "half an emoji": (line(user("a"), assistant("\ud83d")), "broken_character", "Message 2: the text holds half"),
    "half an emoji in a part": (
        line(user("a"), assistant([{"type": "text", "text": "b\udc00"}])),
        "broken_character",
        "Message 2",
    ),
    "not utf-8": (GOOD.replace("hi", "caf\xe9").encode("latin-1"), "not_utf8", "Byte 47 of the line (0xE9)"),
    "half a character in utf-8": (GOOD.encode() + b"\xed\xa0\x80", "not_utf8", "0xED"),
    "an array in a file of lines": (f"[{OTHER}]", "json_array", "one JSON array"),
}
"""(the faulty line, kind of the fault, words of its message)."""
