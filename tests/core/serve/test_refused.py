"""What `serve` refuses, and every failure, in the shape that openai's clients read."""

import asyncio
import json

import httpx
import openai
import pytest

from nanochat_core.engine.batch import Failed
from nanochat_core.serve.answering import Closing
from nanochat_core.serve.request import ChatRequest
from nanochat_core.serve.response import ChatResponse
from nanochat_core.serve.stream import ChatAnswer
from tests.support.serving import user

pytestmark = pytest.mark.processes


@pytest.mark.parametrize(
    ("settings", "error", "code", "part"),
    [
        ({"model": "gpt-4"}, openai.NotFoundError, "model_not_found", "There is no model 'gpt-4' here"),
        ({"messages": user("a b " * 3000)}, openai.BadRequestError, "context_length_exceeded", "must hold them"),
        (
            {"messages": [{"role": "tool", "content": "x"}, *user("a")]},
            openai.BadRequestError,
            "invalid_value",
            "role 'tool'",
        ),
        ({"messages": [{"role": "tool", "content": "x"}]}, openai.BadRequestError, "invalid_value", "from 'tool'"),
        (
            {"messages": [{"role": "assistant", "content": "b"}, *user("c")]},
            openai.BadRequestError,
            "invalid_value",
            "must alternate",
        ),
        ({"messages": user("\ud800")}, openai.BadRequestError, "invalid_value", "surrogate"),
        ({"n": 2}, openai.BadRequestError, "unsupported_parameter", "n is 2"),
        ({"extra_body": {"best_of": 2}}, openai.BadRequestError, "unknown_parameter", "best_of"),
        ({"messages": user("x" * 1_100_000)}, openai.APIStatusError, "request_too_large", "1,048,576 bytes"),
    ],
)
def test_what_is_refused(server, settings, error, code, part):
    body = {"model": "starter", "messages": user("Hi"), **settings.pop("extra_body", {}), **settings}
    with pytest.raises(error) as caught:  # as bytes, because the client cannot write half a surrogate pair
        server.client().post("/chat/completions", cast_to=object, content=json.dumps(body).encode())
    assert caught.value.code == code
    assert part in caught.value.body["message"]


@pytest.mark.parametrize("key", ["wrong", "a-long-secretx", "a-long-secre", "é".encode("latin-1").decode("latin-1")])
def test_a_wrong_key(server, key):
    headers = {"authorization": f"Bearer {key}".encode("latin-1")}
    answer = httpx.get(f"{server.base}/models", headers=headers)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"
    with pytest.raises(openai.AuthenticationError, match="API key is wrong"):
        server.client(api_key="wrong").models.list()


def test_no_key(server):
    answer = httpx.post(f"{server.base}/chat/completions", json={})
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert "wants an API key" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status", "part"),
    [
        ("POST", "/chat/completions", {}, b"hello", 400, "not JSON"),
        ("POST", "/chat/completions", {}, b"", 400, "not JSON"),
        ("GET", "/chat/completions", {}, None, 405, "Use POST"),
        ("POST", "/completions", {}, b"{}", 400, "must name its model"),
        ("POST", "/embeddings", {}, b"{}", 404, "There is nothing at /v1/embeddings"),
        ("GET", "/models", {"host": "evil.example"}, None, 403, "on this machine only"),
        ("POST", "/chat/completions", {"origin": "https://evil.example"}, b"{}", 403, "another page"),
    ],
)
def test_errors_have_openai_s_shape(endless, method, path, headers, body, status, part):
    answer = httpx.request(method, endless.base + path, headers=headers, content=body)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    assert part in answer.json()["error"]["message"]


def test_a_body_without_a_length_is_limited_too(endless):
    answer = httpx.post(f"{endless.base}/chat/completions", content=(b"x" * 65536 for _ in range(40)))
    assert answer.status_code == 413


@pytest.mark.parametrize(
    ("error", "status", "code", "part"),
    [
        (Closing("The server was stopped."), 503, "server_stopping", "stopped"),
        (ValueError("The model's output is not a number."), 500, "model_failed", "not a number"),
        (RuntimeError("CUDA out of memory. Tried ..."), 503, "out_of_memory", "smaller --max-batch"),
        (RuntimeError("shape mismatch"), 500, "model_failed", "shape mismatch"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_reply_that_fails_at_once_has_an_error_s_status(error, status, code, part, stream):
    async def answer():
        events, sent, freed = asyncio.Queue(), [], []
        events.put_nowait(Failed(error))
        body = {"model": "m", "messages": user("Hi"), "stream": stream}
        asked = ChatRequest.parse(json.dumps(body).encode())

        async def send(message):
            sent.append(message)

        response = ChatResponse("m", 3)
        await ChatAnswer(asked, response, events, lambda: freed.append(True))({}, asyncio.Event().wait, send)
        return sent[0]["status"], json.loads(sent[1]["body"])["error"], freed

    said, shape, freed = asyncio.run(answer())
    assert (said, shape["code"], freed) == (status, code, [True])
    assert part in shape["message"]
