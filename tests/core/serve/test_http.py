"""`serve` as other programs see it: the real openai client, against a real server process on loopback."""

import asyncio
import contextlib
import io
import json
import shlex

import httpx
import openai
import pytest

from nanochat_core.cli.main import main
from nanochat_core.paths import PROJECT_ROOT, starter_dir
from nanochat_core.tokenizer.tokenizer import Tokenizer
from tests.support.serving import ENDLESS, KEY, SECONDS, create, joined, user

pytestmark = pytest.mark.processes

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


def test_the_greeting_can_be_pasted(server, endless):
    assert server.greeting.startswith("starter answers at http://127.0.0.1:")
    assert KEY not in server.greeting
    assert "Bearer $NANOCHAT_STUDIO_API_KEY" in server.greeting
    command, address, flag, body = shlex.split(endless.greeting.partition("Try: ")[2])
    assert (command, flag) == ("curl", "-d")
    answer = httpx.post(address, content=json.dumps({**json.loads(body), "max_tokens": 3}), timeout=SECONDS)
    assert answer.json()["usage"]["completion_tokens"] == 3


def test_the_readme_s_example(server, capsys, said_by_the_command_line):
    section = (PROJECT_ROOT / "README.md").read_text(encoding="utf-8").partition("## Serve it to other programs")[2]
    code = section.partition("```python\n")[2].partition("```")[0]
    code = code.replace("http://127.0.0.1:8000/v1", server.base).replace('"none"', repr(KEY))
    exec(code, {})
    assert capsys.readouterr().out == said_by_the_command_line["What is the capital of France?"]
