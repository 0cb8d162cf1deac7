"""The body of a request: what is taken, how it is understood, and a sentence for everything else."""

import json

import pytest

from nanochat_core.serve.fields import TEMPERATURE, TOP_K
from nanochat_core.serve.request import ChatRequest
from nanochat_core.serve.response import ApiError

USER = {"role": "user", "content": "Hi"}


def parse(**fields):
    return ChatRequest.parse(json.dumps({"model": "starter", "messages": [USER], **fields}).encode())


def test_the_least():
    assert parse() == ChatRequest("starter", [USER], None, TEMPERATURE, 1.0, TOP_K, None, (), False, False)


def test_null_is_as_good_as_left_out():
    names = ("max_tokens", "temperature", "top_p", "seed", "stop", "stream", "n", "tools", "logit_bias", "nonsense")
    assert parse(**dict.fromkeys(names)) == parse()


def test_everything():
    asked = parse(
        max_completion_tokens=5,
        temperature=0,
        top_p=0.5,
        top_k=7,
        seed=-3,
        stop=["a", "b"],
        stream=True,
        stream_options={"include_usage": True},
        n=1,
        frequency_penalty=0.0,
        presence_penalty=0,
        logprobs=False,
        response_format={"type": "text"},
        user="somebody",
    )
    assert asked == ChatRequest("starter", [USER], 5, 0.0, 0.5, 7, -3, ("a", "b"), True, True)


def test_messages_as_openai_knows_them():
    messages = [
        {"role": "developer", "content": [{"type": "text", "text": "Be "}, {"type": "text", "text": "brief."}]},
        {"role": "user", "content": "Hi", "name": "Ann"},
        {"role": "assistant", "content": "Hello.", "refusal": None, "tool_calls": None, "annotations": []},
        USER,
    ]
    assert [(message["role"], message["content"]) for message in parse(messages=messages).messages] == [
        ("system", "Be \nbrief."),
        ("user", "Hi"),
        ("assistant", "Hello."),
        ("user", "Hi"),
    ]


@pytest.mark.parametrize(("stop", "stops"), [("x", ("x",)), ([], ()), (["x", "y"], ("x", "y")), (None, ())])
def test_stop(stop, stops):
    assert parse(stop=stop).stops == stops


def test_both_words_for_the_length_when_they_agree():
    assert parse(max_tokens=7, max_completion_tokens=7).max_tokens == 7


@pytest.mark.parametrize(
    "body", [b"", b"hello", b"[]", b"null", b'"x"', b"\xff\xfe", b"[" * 200_000, b'{"a": ' + b"9" * 5000 + b"}"]
)
def test_what_is_no_json_object(body):
    with pytest.raises(ApiError, match=r"[Tt]he body") as caught:
        ChatRequest.parse(body)
    assert (caught.value.status, caught.value.code) == (400, "invalid_json")


@pytest.mark.parametrize(
    ("fields", "param", "part"),
    [
        ({"model": None}, "model", "name its model"),
        ({"model": 5}, "model", "name its model"),
        ({"messages": None}, "messages", "at least one message"),
        ({"messages": []}, "messages", "at least one message"),
        ({"messages": "Hi"}, "messages", "at least one message"),
        ({"messages": ["Hi"]}, "messages", "Message 1 must be an object"),
        ({"messages": [{"content": "Hi"}]}, "messages", "Message 1 must be an object"),
        ({"messages": [{"role": "user"}]}, "messages", "must have a text"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages", "must have a text"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages", "parts of type text"),
        ({"messages": [{**USER, "tool_calls": [{"id": "1"}]}]}, "messages", "'tool_calls'"),
        ({"messages": [USER, {"role": "assistant", "content": "x"}]}, "messages", "last message"),
        ({"n": 2}, "n", "n is 2; this server can only do 1"),
        ({"temperature": -1}, "temperature", "from 0 to 2"),
        ({"temperature": 3}, "temperature", "from 0 to 2"),
        ({"temperature": "0"}, "temperature", "from 0 to 2"),
        ({"temperature": True}, "temperature", "from 0 to 2"),
        ({"temperature": float("nan")}, "temperature", "from 0 to 2"),
        ({"temperature": 10**400}, "temperature", "from 0 to 2"),
        ({"top_p": 1.5}, "top_p", "from 0 to 1"),
        ({"top_k": -1}, "top_k", "whole number of 0 or more"),
        ({"max_tokens": 0}, "max_tokens", "whole number of 1 or more"),
        ({"max_tokens": 1.5}, "max_tokens", "whole number of 1 or more"),
        ({"max_tokens": True}, "max_tokens", "whole number of 1 or more"),
        ({"max_tokens": 3, "max_completion_tokens": 4}, "max_tokens", "give one of them"),
        ({"seed": "x"}, "seed", "whole number"),
        ({"stop": ""}, "stop", "none of them empty"),
        ({"stop": ["a", ""]}, "stop", "none of them empty"),
        ({"stop": 5}, "stop", "none of them empty"),
        ({"stop": list("abcdefghijklmnopq")}, "stop", "at most 16"),
        ({"stream": "yes"}, "stream", "true or false"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "set stream to true"),
        ({"stream": True, "stream_options": {"more": 1}}, "stream_options", "include_usage"),
        ({"stream": True, "stream_options": {"include_usage": 1}}, "include_usage", "true or false"),
        ({"tools": [{"type": "function"}]}, "tools", "tools is a list; this server can only do"),
        ({"logprobs": True}, "logprobs", "can only do false"),
        ({"logit_bias": {"5": 1}}, "logit_bias", "logit_bias is an object"),
        ({"response_format": {"type": "json_object"}}, "response_format", "can only do"),
        ({"frequency_penalty": 0.5}, "frequency_penalty", "can only do 0"),
        ({"temprature": 1}, "temprature", "no parameter 'temprature'"),
    ],
)
def test_what_is_refused(fields, param, part):
    with pytest.raises(ApiError) as caught:
        parse(**fields)
    error = caught.value
    assert (error.status, error.param) == (400, param)
    assert part in str(error)
    assert str(error).endswith(".")
    assert error.to_dict()["error"].keys() == {"message", "type", "param", "code"}


def test_system_messages_that_come_later_are_said_to_the_model_with_the_next_question():
    def messages(*roles):
        return [{"role": role, "content": f"{role} {place}"} for place, role in enumerate(roles)]

    asked = parse(messages=messages("system", "developer", "user", "assistant", "system", "user", "system"))
    assert [(message["role"], message["content"]) for message in asked.messages] == [
        ("system", "system 0\n\ndeveloper 1"),
        ("user", "user 2"),
        ("assistant", "assistant 3"),
        ("user", "system 4\n\nuser 5\n\nsystem 6"),
    ]


def test_neighbours_of_one_role_and_parts_are_joined_as_in_training_data():
    parts = [{"type": "text", "text": "What is the capital"}, {"type": "text", "text": "of France?"}]
    messages = [{"role": "user", "content": "I am in Paris."}, {"role": "user", "content": parts}]
    asked = ChatRequest.parse(json.dumps({"model": "m", "messages": messages}).encode())
    assert asked.messages == [{"role": "user", "content": "I am in Paris.\n\nWhat is the capital\nof France?"}]
