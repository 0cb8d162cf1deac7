"""/v1/completions: raw prompts as texts and as token ids, echoed and judged, by the real client."""

import json

import openai
import pytest
import torch

from nanochat_core import load_model
from nanochat_core.engine.scoring import score
from nanochat_core.serve.completion_request import CompletionRequest
from nanochat_core.serve.response import ApiError
from tests.support.serving import user

pytestmark = pytest.mark.processes

QUESTION, ANSWER = "What is the capital of France?", "The capital of France is Paris."


@pytest.fixture(scope="module")
def starter():
    model, tokenizer, _ = load_model("starter", dtype=torch.float32)
    return model, tokenizer


def complete(server, prompt, **settings):
    """Greedy, of the starter."""
    return server.client().completions.create(
        **{"model": "starter", "prompt": prompt, "temperature": 0, "max_tokens": 24, **settings}
    )


def test_the_ids_of_a_chat_give_the_chat_s_reply(server, starter):
    ids = starter[1].render_prompt(user(QUESTION))
    reply = complete(server, ids)
    assert (reply.choices[0].text, reply.choices[0].finish_reason) == (ANSWER, "stop")
    assert (reply.usage.prompt_tokens, reply.object) == (len(ids), "text_completion")
    chunks = list(complete(server, ids, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == ANSWER
    assert chunks[-1].usage == reply.usage
    assert chunks[-2].choices[0].finish_reason == "stop"


def test_a_text_begins_a_document_and_special_tokens_in_it_are_text(server, starter):
    text = "<|user_start|>Hi"
    reply = complete(server, text, max_tokens=2)
    assert reply.usage.prompt_tokens == 1 + len(starter[1].encode(text)) > 5
    same = complete(server, [starter[1].bos, *starter[1].encode(text)], max_tokens=2)
    assert same.choices[0].text == reply.choices[0].text


@pytest.mark.parametrize("as_ids", [False, True])
def test_echo_with_log_probabilities(server, starter, as_ids):
    model, tokenizer = starter
    text = "The opposite of hot is ☃"
    ids = [tokenizer.bos, *tokenizer.encode(text)]
    reply = complete(server, ids if as_ids else text, max_tokens=3, echo=True, logprobs=2)
    told = reply.choices[0].logprobs
    written = len(told.tokens) - len(ids) + (not as_ids)
    assert written == reply.usage.completion_tokens + (reply.choices[0].finish_reason == "stop") > 0
    expected = score(model, ids, 2)[0 if as_ids else 1 :]
    for place, one in enumerate(expected):
        if one.log_probability is None:
            assert told.token_logprobs[place] is None
        else:
            assert told.token_logprobs[place] == pytest.approx(one.log_probability, abs=1e-4)
            best = sorted(told.top_logprobs[place].values(), reverse=True)
            assert best == pytest.approx([value for _, value in one.likeliest], abs=1e-4)
    assert told.tokens[-written - 1].startswith("bytes:"), "a part of a character is told by its bytes"
    for value, top in list(zip(told.token_logprobs, told.top_logprobs))[-written:]:
        assert value == max(top.values()), "a greedy choice is the likeliest"
    assert reply.choices[0].text.startswith(tokenizer.decode(ids) if as_ids else text)


def test_a_text_is_judged_without_writing(server, starter):
    model, tokenizer = starter
    text = "The opposite of hot is cold."
    reply = complete(server, text, max_tokens=0, echo=True, logprobs=0)
    assert reply.choices[0].text == text
    values = reply.choices[0].logprobs.token_logprobs
    nats = [one.log_probability for one in score(model, [tokenizer.bos, *tokenizer.encode(text)])[1:]]
    assert values == pytest.approx(nats, abs=1e-4)
    assert reply.choices[0].logprobs.top_logprobs == [None] * len(values)
    assert reply.usage.completion_tokens == 0


def test_the_token_that_ends_a_reply_is_judged_too(server, starter):
    """Else a client that leaves out the last token, as lm-eval does, would miss one of its own."""
    ids = starter[1].render_prompt(user(QUESTION))
    told = complete(server, ids, logprobs=1).choices[0].logprobs
    assert told.tokens[-1] == "<|assistant_end|>"
    assert "".join(told.tokens[:-1]) == ANSWER


def test_several_prompts(server, starter):
    prompts = [starter[1].render_prompt(user(text)) for text in (QUESTION, "What is the opposite of hot?")]
    choices = complete(server, prompts).choices
    assert [choice.index for choice in choices] == [0, 1]
    assert [choice.text for choice in choices] == [complete(server, one).choices[0].text for one in prompts]


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"prompt": [1, 99999]}, "token id 99999 is not in this tokenizer"),
        ({"prompt": [1] * 1024}, "context of 1,024 must hold it and the reply"),
        ({"stream": True, "echo": True}, "neither echo nor logprobs"),
        ({"logprobs": 21}, "at most 20"),
        ({"n": 2}, "n is 2"),
        ({"suffix": "x"}, "suffix"),
        ({"max_tokens": 0}, "whole number of 1 or more"),
    ],
)
def test_what_is_refused(server, settings, part):
    with pytest.raises(openai.BadRequestError) as caught:
        complete(server, **{"prompt": "Hi", **settings})
    assert part in caught.value.body["message"]


@pytest.mark.parametrize("prompt", [None, "", [], [""], [[]], [["a"]], ["a", 1], [True], [-1], [1.5], ["a"] * 65, {}])
def test_prompts_that_are_none(prompt):
    with pytest.raises(ApiError, match="prompt"):
        CompletionRequest.parse(json.dumps({"model": "m", "prompt": prompt}).encode())
