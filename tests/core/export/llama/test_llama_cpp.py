"""Exported files in stock llama.cpp: the replies, log-probabilities, tokens and stops are those of the model here."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nanochat_core import Engine, load_model
from nanochat_core.evaluation.answers import visible_text
from nanochat_core.export.chat_template import HIDE, marked_special
from nanochat_core.export.llama.tokenizer import llama_tokenizer
from nanochat_core.model.attention import Layout
from nanochat_core.paths import starter_dir
from nanochat_core.tokenizer.messages import joined
from nanochat_core.tokenizer.pickle_file import SPECIAL_TOKENS, read_tokenizer_file
from tests.support.llama_cpp import LlamaCpp
from tests.support.samples import assistant, system, user

MODELS = ("starter", "finetuned/bakery")
TOKENS = 32


@pytest.fixture(scope="module")
def theirs():
    """What llama.cpp's tokenizer is taken for on this side."""
    return llama_tokenizer(read_tokenizer_file(starter_dir() / "tokenizer.pkl"))


@pytest.fixture(scope="module")
def starter(gguf_file):
    return LlamaCpp(gguf_file("starter", "f32"))


@pytest.fixture(scope="module")
def asked():
    """Conversations of the starter's own questions, of texts alone."""
    rows = [json.loads(line)["messages"] for line in (starter_dir() / "eval.jsonl").read_text().splitlines()]
    return [row for row in rows if all(isinstance(message["content"], str) for message in row)]


def replies_of(model, tokenizer, asked, count: int = 60):
    """(conversation, greedy reply) for `count` of them in which the model does not call the calculator."""
    call, pairs = tokenizer.special("<|python_start|>"), []
    while len(pairs) < count:
        part, asked = asked[:64], asked[64:]
        replies = Engine(model, tokenizer).generate_batch([tokenizer.render_prompt(one) for one in part], TOKENS)
        pairs += [(one, visible_text(reply, tokenizer)) for one, reply in zip(part, replies) if call not in reply]
    return pairs[:count]


def uncapped_log_probabilities(model, ids):
    """Of the first token of the reply to the prompt `ids`, (V,), without the softcap."""
    with torch.no_grad():
        hidden = model.hidden(torch.tensor([ids]), Layout.of((1, len(ids)), None))
        return model.lm_head(hidden)[0, -1, : model.config.vocab_size].float().log_softmax(-1)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("quant", "bound"), [("f32", 0.02), ("q8_0", 0.1)])
def test_greedy_replies_and_first_log_probabilities(in_gguf_home, gguf_file, theirs, asked, name, quant, bound):
    """Differences that remain: a number or quotation that is split otherwise; and in q8_0 the rounding."""
    model, tokenizer, _ = load_model(name, dtype=torch.float32)
    program = LlamaCpp(gguf_file(name, quant))
    same, worst, unexplained = 0, 0.0, []
    pairs = replies_of(model, tokenizer, asked)
    for messages, expected in pairs:
        choice = program.chat(messages, max_tokens=TOKENS, logprobs=True, top_logprobs=1)
        first = choice["logprobs"]["content"][0]
        ids = theirs.render_prompt(messages)
        worst = max(worst, abs(first["logprob"] - float(uncapped_log_probabilities(model, ids)[first["id"]])))
        if choice["message"]["content"].strip() == expected.strip():
            same += 1
        elif ids == tokenizer.render_prompt(messages):
            unexplained.append((messages, expected, choice["message"]["content"]))
    print(f"{name} {quant}: {same} of 60 the same, log-probabilities within {worst:.4f}")
    assert same >= 57, "fewer than 95%"
    assert worst <= bound
    assert quant != "f32" or not unexplained


def test_a_reply_ends_by_the_model_s_stop_token(starter):
    choice = starter.chat([user("What is the capital of France?")], max_tokens=200)
    assert choice["finish_reason"] == "stop"
    assert choice["message"]["content"] == "The capital of France is Paris."


TYPED = "Say <|assistant_start|>, <|bos|> and <|assistant_end|>, please."


@pytest.mark.parametrize(
    "messages",
    [
        [user(TYPED)],
        [system("Be brief."), user("What is 12 times 34?"), assistant("It's 408."), user(TYPED)],
        [user("A"), user("B"), assistant("C"), assistant("D"), user("E\n\n  F  ")],
    ],
)
def test_the_chat_template_gives_the_ids_of_a_prompt_here(starter, theirs, messages):
    """Special tokens that somebody typed are plain text, as everywhere here."""
    ids = starter.prompt_ids(messages)
    assert ids == theirs.render_prompt(joined(messages))
    assert sum(token in theirs.special_ids for token in ids) == 2 * len(joined(turns(messages))) + 2


def turns(messages):
    return [message for message in messages if message["role"] != "system"]


def test_the_inner_spelling_of_a_special_token_is_refused(starter):
    """A text with its two characters could become one."""
    assert "Unicode noncharacters" in starter.refuses([user(f"Hello {marked_special('<|assistant_start|>')}")])
    assert starter.ids(marked_special("<|bos|>")) == [4087]


PIECES = [*SPECIAL_TOKENS, "2024", "12345678", " 7", "it's", "'S", "don't", "\n\n ", "\t", "  ", ", "]
PIECES += ["日本", "👩‍👩‍👧", "é", "ſ"]
TEXTS = st.lists(st.one_of(st.text(max_size=8), st.sampled_from(PIECES)), max_size=8).map("".join)


@settings(max_examples=300)
@given(text=TEXTS.filter(lambda text: HIDE not in text and "\0" not in text))
def test_our_copy_of_its_tokenizer_gives_its_ids(starter, theirs, text):
    assert starter.ids(text) == theirs.encode(text)
