"""`serve` as other programs see it: the real openai client, against a real server process on loopback."""

import asyncio
import contextlib
import io
import json
import shlex
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import openai
import pytest

from nanochat_core.__main__ import main
from nanochat_core.answering import Closing
from nanochat_core.batching import Failed
from nanochat_core.chat_answer import ChatAnswer
from nanochat_core.chat_request import ChatRequest
from nanochat_core.chat_response import ChatResponse
from nanochat_core.paths import starter_dir
from nanochat_core.tokenizer import Tokenizer
from tests.serving import SECONDS, install_endless_model, served

ROOT = Path(__file__).parent.parent
KEY = "a-long-secret"
ENDLESS = "pretrained/endless"
QUESTIONS = (
    "What is the capital of France?",
    "What is 12 * 34?",
    "How many r are in strawberry?",
    "What is the opposite of hot?",
    "Hello!",
    "Name three fruits.",
    "Is 17 even or odd?",
    "What is your name?",
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The starter, with a key."""
    with served("starter", tmp_path_factory.mktemp("home"), key=KEY) as running:
        yield running


@pytest.fixture(scope="module")
def endless(tmp_path_factory):
    """Replies that do not end by themselves, two at once."""
    home = tmp_path_factory.mktemp("endless")
    with served(install_endless_model(home), home, "--max-batch", "2") as running:
        yield running


@pytest.fixture(scope="module")
def said_by_the_command_line(tmp_path_factory):
    """What `chat --temperature 0 -p ...` prints for each of the QUESTIONS."""
    texts = {}
    for question in QUESTIONS:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            assert main(["chat", "--model", "starter", "--temperature", "0", "-p", question]) == 0
        texts[question] = out.getvalue().removesuffix("\n")
    assert len(set(texts.values())) > 6
    assert "408" in texts["What is 12 * 34?"], "the calculator is among them"
    return texts


def user(text):
    return [{"role": "user", "content": text}]


def create(client, text="Hello!", **settings):
    return client.chat.completions.create(**{"model": "starter", "messages": user(text), "temperature": 0, **settings})


def joined(chunks):
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def test_one_after_the_other_the_text_is_the_command_line_s(server, said_by_the_command_line):
    client = server.client()
    for question in QUESTIONS:
        reply = create(client, question)
        assert reply.choices[0].message.content == said_by_the_command_line[question]
        assert reply.choices[0].message.role == "assistant"
        assert reply.choices[0].finish_reason == "stop"


def test_eight_at_once_each_gets_the_command_line_s_text(server, said_by_the_command_line):
    async def whole(client, question):
        return (await create(client, question)).choices[0].message.content

    async def streamed(client, question):
        return joined([chunk async for chunk in await create(client, question, stream=True)])

    async def ask_all():
        async with server.async_client() as client:
            calls = [(whole, streamed)[number % 2](client, question) for number, question in enumerate(QUESTIONS * 3)]
            return await asyncio.gather(*calls)

    assert asyncio.run(ask_all()) == [said_by_the_command_line[question] for question in QUESTIONS * 3]


def test_a_stream_has_the_shape_that_clients_expect(server):
    question = QUESTIONS[0]
    whole = create(server.client(), question)
    chunks = list(create(server.client(), question, stream=True, stream_options={"include_usage": True}))
    assert joined(chunks) == whole.choices[0].message.content
    assert len(chunks) > 5
    assert chunks[0].choices[0].delta.role == "assistant"
    *pieces, last, usage = chunks
    assert {piece.choices[0].finish_reason for piece in pieces} == {None}
    assert last.choices[0].finish_reason == "stop"
    assert (usage.choices, usage.usage) == ([], whole.usage)
    assert len({(chunk.id, chunk.created, chunk.model, chunk.object) for chunk in chunks}) == 1
    assert not any(chunk.usage for chunk in create(server.client(), question, stream=True))


def test_the_client_s_own_stream_helper_takes_it(server):
    with server.client().chat.completions.stream(model="starter", messages=user("Hello!"), temperature=0) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.content == create(server.client()).choices[0].message.content


def test_usage_counts_tokens(server):
    tokenizer = Tokenizer.from_directory(starter_dir())
    text = "Say <|assistant_end|> and <|bos|>"  # typed by a person it stays text
    usage = create(server.client(), text, max_tokens=3).usage
    assert usage.prompt_tokens == len(tokenizer.render_prompt(user(text)))
    assert usage.prompt_tokens > 12
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_the_length_is_limited(server, name):
    reply = create(server.client(), QUESTIONS[0], **{name: 4})
    assert (reply.choices[0].finish_reason, reply.usage.completion_tokens) == ("length", 4)


@pytest.mark.parametrize("stream", [False, True])
def test_stop_strings_are_not_shown(server, stream):
    text = create(server.client(), QUESTIONS[0]).choices[0].message.content
    stop = text[6:13]
    reply = create(server.client(), QUESTIONS[0], stop=["nowhere", stop], stream=stream)
    if stream:
        chunks = list(reply)
        shown, reason = joined(chunks), chunks[-1].choices[0].finish_reason
    else:
        shown, reason = reply.choices[0].message.content, reply.choices[0].finish_reason
    assert (shown, reason) == (text[: text.index(stop)], "stop")


def test_a_seed_repeats_and_without_one_replies_differ(endless):
    def once(**settings):
        reply = create(endless.client(), model=ENDLESS, temperature=1.5, max_tokens=30, **settings)
        return reply.choices[0].message.content

    assert once(seed=5) == once(seed=5)
    assert once(seed=5, top_p=0.0) == once(seed=6, top_p=0.0)
    assert len({once(), once(), once(seed=5), once(seed=6)}) == 4


def test_a_conversation_and_a_system_message(server):
    messages = [
        {"role": "system", "content": "Be brief."},
        *user("My name is Anna."),
        {"role": "assistant", "content": "Nice to meet you, Anna."},
        *user("What is my name?"),
    ]
    assert "Anna" in create(server.client(), messages=messages).choices[0].message.content


def test_the_models_list(server):
    client = server.client()
    assert [model.id for model in client.models.list()] == ["starter"]
    assert client.models.retrieve("starter").object == "model"
    with pytest.raises(openai.NotFoundError, match="no model 'gpt-4'"):
        client.models.retrieve("gpt-4")


def test_a_name_with_a_slash_can_be_retrieved(endless):
    assert endless.client().models.retrieve(ENDLESS).id == ENDLESS


@pytest.mark.parametrize(
    ("settings", "error", "code", "part"),
    [
        ({"model": "gpt-4"}, openai.NotFoundError, "model_not_found", "There is no model 'gpt-4' here"),
        ({"messages": user("a b " * 3000)}, openai.BadRequestError, "context_length_exceeded", "must hold them"),
        ({"messages": [{"role": "tool", "content": "x"}]}, openai.BadRequestError, "invalid_value", "role 'tool'"),
        ({"messages": user("a") + user("b")}, openai.BadRequestError, "invalid_value", "must alternate"),
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
        ("POST", "/completions", {}, b"{}", 404, "There is nothing at /v1/completions"),
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


def endless_stream(server, **settings):
    """A reply of 90,000 tokens, begun: if its place were not given back, whoever waits would wait for many minutes."""
    stream = create(server.client(), model=ENDLESS, stream=True, max_tokens=90_000, **settings)
    next(stream)
    return stream


def test_a_closed_stream_frees_its_place(endless):
    for _ in range(3):
        streams = [endless_stream(endless) for _ in range(2)]
        for stream in streams:
            stream.close()
        assert create(endless.client(), model=ENDLESS, max_tokens=5).usage.completion_tokens == 5


def test_a_caller_who_gives_up_waiting_frees_its_place(endless):
    streams = [endless_stream(endless) for _ in range(2)]
    with pytest.raises(openai.APITimeoutError):  # it waits in the queue
        create(endless.client(timeout=1), model=ENDLESS, max_tokens=90_000)
    streams[0].close()
    with pytest.raises(openai.APITimeoutError):  # it is being answered
        create(endless.client(timeout=1), model=ENDLESS, max_tokens=90_000)
    assert create(endless.client(), model=ENDLESS, max_tokens=5).usage.completion_tokens == 5
    streams[1].close()


def test_other_addresses_answer_while_the_model_works(endless):
    streams = [endless_stream(endless) for _ in range(2)]
    assert [model.id for model in endless.client().models.list()] == [ENDLESS]
    for stream in streams:
        stream.close()


def test_a_full_house_is_said_and_those_who_wait_are_answered(endless):
    streams = [endless_stream(endless) for _ in range(2)]
    with ThreadPoolExecutor(16) as pool:
        patient = endless.client(max_retries=50)  # the client itself comes back after a 429
        waiting = [pool.submit(create, patient, model=ENDLESS, max_tokens=3) for _ in range(16)]
        refused = None
        while refused is None:  # until all 16 have arrived
            try:
                create(endless.client(timeout=0.5), model=ENDLESS, max_tokens=3)
            except openai.APITimeoutError:
                continue
            except openai.RateLimitError as error:
                refused = error
        assert refused.code == "server_busy"
        assert refused.response.headers["retry-after"] == "1"
        for stream in streams:
            stream.close()
        assert {call.result(SECONDS).usage.completion_tokens for call in waiting} == {3}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_says_so_to_everybody(tmp_path, number):
    with served(install_endless_model(tmp_path), tmp_path, "--max-batch", "2") as running:
        streams = [endless_stream(running) for _ in range(2)]
        assert running.end(number) == (0, "Stopping; unfinished replies that end here: 2.\n", "")
        for stream in streams:
            with pytest.raises(openai.APIError, match="stopped before the reply was complete"):
                list(stream)


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


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        (["--host", "0.0.0.0"], "lets other machines in, and no API key is set"),
        (["--host", "no such host"], "no address"),
        (["--port", "70000"], "--port is 70000"),
        (["--max-batch", "0"], "--max-batch is 0"),
        (["--api-key", ""], "API key must be"),
        (["--api-key", "two words"], "API key must be"),
        (["--model", "nowhere"], "There is no model 'nowhere'"),
    ],
)
def test_a_start_that_cannot_be(home, monkeypatch, capsys, flags, part):
    monkeypatch.delenv("NANOCHAT_STUDIO_API_KEY", raising=False)
    key = [] if "0.0.0.0" in flags or "--api-key" in flags else ["--api-key", "x"]
    assert main(["serve", "--model", "starter", *flags, *key]) == 2
    error = capsys.readouterr().err
    assert error.startswith("Error: ")
    assert part in error
    assert error.count("\n") == 1


def test_a_port_that_is_taken(home, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["serve", "--model", "starter", "--port", port]) == 2
    assert f"Nothing can listen at 127.0.0.1 port {port}" in capsys.readouterr().err


def test_the_greeting_can_be_pasted(server, endless):
    assert server.greeting.startswith("starter answers at http://127.0.0.1:")
    assert KEY not in server.greeting
    assert "Bearer $NANOCHAT_STUDIO_API_KEY" in server.greeting
    command, address, flag, body = shlex.split(endless.greeting.partition("Try: ")[2])
    assert (command, flag) == ("curl", "-d")
    answer = httpx.post(address, content=json.dumps({**json.loads(body), "max_tokens": 3}), timeout=SECONDS)
    assert answer.json()["usage"]["completion_tokens"] == 3


def test_the_readme_s_example(server, capsys, said_by_the_command_line):
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Serve it to other programs")[2]
    code = section.partition("```python\n")[2].partition("```")[0]
    code = code.replace("http://127.0.0.1:8000/v1", server.base).replace('"none"', repr(KEY))
    exec(code, {})
    assert capsys.readouterr().out == said_by_the_command_line["What is the capital of France?"]
