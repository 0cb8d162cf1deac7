"""Programs that people point at `serve`, each with its real package: a chat, and a stream where it has one."""

import json
import time

import httpx
import pytest
import torch
from prometheus_client.parser import text_string_to_metric_families

from nanochat_core import load_model
from nanochat_core.engine.scoring import score
from nanochat_core.export.export import export
from nanochat_core.paths import starter_dir
from nanochat_core.tokenizer.tokenizer import Tokenizer
from tests.support.serving import ENDLESS, KEY, SECONDS, user

pytestmark = pytest.mark.processes

QUESTION, ANSWER = "What is the capital of France?", "The capital of France is Paris."


def test_simon_willison_s_llm(server, tmp_path, monkeypatch):
    """By the file that its documentation names for servers like this."""
    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path))
    entry = {"model_id": "mine", "model_name": "starter", "api_base": server.base, "api_key_name": "mine"}
    (tmp_path / "extra-openai-models.yaml").write_text(json.dumps([entry]))  # JSON is YAML
    (tmp_path / "keys.json").write_text(json.dumps({"mine": KEY}))
    import llm

    model = llm.get_model("mine")
    assert model.prompt(QUESTION, stream=False, temperature=0).text() == ANSWER
    pieces = list(model.prompt(QUESTION, temperature=0))
    assert len(pieces) > 5
    assert "".join(pieces) == ANSWER
    chat = model.conversation()
    assert chat.prompt("My name is Anna.", temperature=0, stream=False).text()
    assert "Anna" in chat.prompt("What is my name?", temperature=0, stream=False).text()


def test_langchain(server):
    from langchain_openai import ChatOpenAI

    chat = ChatOpenAI(model="starter", base_url=server.base, api_key=KEY, temperature=0, max_retries=0)
    reply = chat.invoke([("human", QUESTION)])
    assert (reply.content, reply.response_metadata["finish_reason"]) == (ANSWER, "stop")
    chunks = list(chat.stream(QUESTION, stream_usage=True))
    assert "".join(chunk.content for chunk in chunks) == ANSWER
    [usage] = [chunk.usage_metadata for chunk in chunks if chunk.usage_metadata]
    assert usage["input_tokens"] + usage["output_tokens"] == usage["total_tokens"] > 10


@pytest.fixture
def instances():
    """lm-eval's requests, made of their arguments."""
    from lm_eval.api.instance import Instance

    def make(kind, *arguments):
        return [Instance(kind, {}, one, place) for place, one in enumerate(arguments)]

    return make


def test_lm_eval_by_the_chat(server, instances, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    from lm_eval.models.openai_completions import LocalChatCompletion

    model = LocalChatCompletion(base_url=f"{server.base}/chat/completions", model="starter")
    prompt = model.apply_chat_template(user(QUESTION))
    settings = {"until": ["\n\n", "Q:", "</s>", "<|im_end|>", "###"], "max_gen_toks": 24, "do_sample": False}
    assert model.generate_until(instances("generate_until", (prompt, settings)), disable_tqdm=True) == [ANSWER]


def test_lm_eval_by_log_probabilities(server, instances, monkeypatch, tmp_path):
    """Token ids as prompts, echoed with the log-probability of each: those that the model gives here."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    folder = export("starter", tmp_path / "exported")
    settings = {"tokenizer_backend": "huggingface", "tokenizer": str(folder), "batch_size": 2}
    there = LocalCompletionsAPI(base_url=f"{server.base}/completions", model="starter", **settings)
    model, tokenizer, _ = load_model("starter", dtype=torch.float32)
    pairs = [("The opposite of hot", " is cold."), ("The capital of France", " is Paris."), ("Hello", " cold cold")]
    found = there.loglikelihood(instances("loglikelihood", *pairs), disable_tqdm=True)
    for (context, continuation), (value, is_greedy) in zip(pairs, found, strict=True):
        ids = tokenizer.encode(context + continuation)
        told = score(model, ids, 1)[len(tokenizer.encode(context)) :]
        assert value == pytest.approx(sum(one.log_probability for one in told), abs=1e-3)
        assert is_greedy == all(one.token == one.likeliest[0][0] for one in told)
    written = there.generate_until(
        instances("generate_until", (f"{QUESTION}", {"until": ["."], "max_gen_toks": 8})), disable_tqdm=True
    )
    assert isinstance(written[0], str)


def test_open_webui_s_calls(server):
    """As its source sends them: the models, then a stream with usage, several system messages among the others."""
    client = httpx.Client(base_url=server.base, headers={"Authorization": f"Bearer {KEY}"}, timeout=SECONDS)
    [name] = [model["id"] for model in client.get("/models").json()["data"]]
    system = [{"role": "system", "content": text} for text in ("Be brief.", "Be kind.")]
    body = {"model": name, "messages": [*system, *user(QUESTION)], "stream": True, "temperature": 0}
    body |= {"stream_options": {"include_usage": True}, "max_tokens": 64, "stop": ["</s>"], "metadata": {"chat": "1"}}
    with client.stream("POST", "/chat/completions", json=body) as answer:
        lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line]
    assert lines.pop() == "[DONE]"
    chunks = [json.loads(line) for line in lines]
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks if chunk["choices"])
    plain = client.post("/chat/completions", json={**body, "stream": False, "stream_options": None}).json()
    assert text == plain["choices"][0]["message"]["content"] != ""
    tokenizer = Tokenizer.from_directory(starter_dir())
    prompt = tokenizer.render_prompt([{"role": "system", "content": "Be brief.\n\nBe kind."}, *user(QUESTION)])
    assert chunks[-1]["usage"]["prompt_tokens"] == len(prompt)


def metrics(base, **headers) -> dict:
    """Every sample of /metrics by name and labels."""
    answer = httpx.get(base.removesuffix("/v1") + "/metrics", headers=headers, timeout=SECONDS)
    assert answer.status_code == 200, answer.text
    families = text_string_to_metric_families(answer.text)
    return {(one.name, *sorted(one.labels.values())): one.value for family in families for one in family.samples}


def test_a_caller_who_hangs_up_frees_the_model(endless):
    body = {"model": ENDLESS, "messages": user("Hi"), "stream": True}
    running = ("nanochat_requests_running", ENDLESS)
    with httpx.stream("POST", f"{endless.base}/chat/completions", json=body, timeout=SECONDS) as answer:
        lines = answer.iter_lines()  # held, because its end would close the connection
        next(lines)
        assert metrics(endless.base)[running] == 1
    limit = time.monotonic() + SECONDS
    while metrics(endless.base)[running]:
        assert time.monotonic() < limit, "the reply goes on although nobody takes it"
        time.sleep(0.02)


def test_health_and_metrics(server):
    root = server.base.removesuffix("/v1")
    health = httpx.get(f"{root}/health", timeout=SECONDS)
    assert (health.status_code, health.json()) == (200, {"status": "ok", "models": ["starter"]})
    assert httpx.get(f"{root}/metrics", timeout=SECONDS).status_code == 401
    key = {"Authorization": f"Bearer {KEY}"}
    before = metrics(server.base, **key)
    usage = server.client().chat.completions.create(model="starter", messages=user(QUESTION), temperature=0).usage
    httpx.post(f"{server.base}/chat/completions", headers=key, content=b"x", timeout=SECONDS)
    after = metrics(server.base, **key)

    def grown(*name):
        return after[name] - before.get(name, 0)

    assert grown("nanochat_prompt_tokens_total", "starter") == usage.prompt_tokens
    assert grown("nanochat_completion_tokens_total", "starter") == usage.completion_tokens
    assert grown("nanochat_requests_total", "/v1/chat/completions", "200") == 1
    assert grown("nanochat_requests_total", "/v1/chat/completions", "400") == 1
    assert grown("nanochat_request_seconds_count", "/v1/chat/completions") == 2
    assert grown("nanochat_first_token_seconds_count", "starter") == 1
    assert after["nanochat_requests_waiting", "starter"] == 0
    assert after["nanochat_model_info", "5242880", "A", "cpu", "float32", "starter"] == 1
