"""Generation: the cache gives what recomputation gives, tool calls included; streams, seeds, cuts and endings."""

import pytest
import torch

from nanochat_core import engine as engine_module
from nanochat_core.engine import Engine
from nanochat_core.reply import Done, Notice, Reply, Text, ToolCall
from tests.tiny import tiny_model, tiny_tokenizer

TOKENIZER = tiny_tokenizer()
NAMES = ("assistant_end", "python_start", "python_end", "output_start", "output_end")
ASSISTANT_END, PYTHON, PYTHON_END, OUTPUT, OUTPUT_END = (TOKENIZER.special(f"<|{name}|>") for name in NAMES)
HI = [{"role": "user", "content": "Hi"}]


class Scripted:
    """The real model, run in full; after some histories the script makes one token certain."""

    def __init__(self, model, script):
        self.model, self.script = model, script
        self.tokens_run = 0

    def __getattr__(self, name):
        return getattr(self.model, name)

    def __call__(self, ids, *, lengths=None, cache=None):
        logits = self.model(ids, lengths=lengths, cache=cache).clone()
        self.tokens_run += ids.numel()
        for row in range(len(ids)):
            history = ids[row].tolist() if cache is None else cache.ids[row, : cache.lengths[row]].tolist()
            token = self.script(history)
            if token is not None:
                logits[row, -1, token] = 1000.0
        return logits


def reply_so_far(history):
    """(length of the prompt, tokens after its last <|assistant_start|>)."""
    start = len(history) - history[::-1].index(TOKENIZER.special("<|assistant_start|>"))
    return start, history[start:]


def says(*tokens, then=ASSISTANT_END):
    """A script: the reply is these tokens, whatever the tool puts between them."""

    def script(history):
        _, said = reply_so_far(history)
        own, inside = [], False
        for token in said:
            inside = inside or token == OUTPUT
            if not inside:
                own.append(token)
            inside = inside and token != OUTPUT_END
        return tokens[len(own)] if len(own) < len(tokens) else then

    return script


def says_at_each_place(*tokens):
    """A script: the reply has these tokens at these places; where the tool forces one, the script is not asked."""

    def script(history):
        _, said = reply_so_far(history)
        return tokens[len(said)] if len(said) < len(tokens) else ASSISTANT_END

    return script


def calls_the_tool(history):
    """A script: some words, a call that depends on the prompt, what the model likes, and the end after a while."""
    length, said = reply_so_far(history)
    begin = 2 + length % 5
    expression = [PYTHON, *TOKENIZER.encode(f"{length}*(3+4)" if length % 3 else f"{length}**2"), PYTHON_END]
    if len(said) < begin:
        return TOKENIZER.encode("ok")[0]
    if len(said) < begin + len(expression):
        return expression[len(said) - begin]
    return ASSISTANT_END if len(said) >= 20 + length % 13 else None


def scripted_engine(script, **changes):
    return Engine(Scripted(tiny_model(**changes), script), TOKENIZER)


def recomputed(model, prompt, max_tokens):
    """Greedy generation in the plainest way: the whole row anew for each token."""
    ids, forced = list(prompt), []
    while len(ids) < min(len(prompt) + max_tokens, model.config.sequence_len):
        token = forced.pop(0) if forced else int(model(torch.tensor([ids]))[0, -1].argmax())
        if token in (ASSISTANT_END, TOKENIZER.bos):
            break
        ids.append(token)
        said = ids[len(prompt) :]
        if token == PYTHON_END and PYTHON in said:
            expression = TOKENIZER.decode(said[len(said) - said[::-1].index(PYTHON) : -1])
            if "**" not in expression and expression.replace("*", "").replace("(3+4)", "").isdigit():
                forced = [OUTPUT, *TOKENIZER.encode(str(eval(expression))), OUTPUT_END]
    return ids[len(prompt) :]


def prompts(count):
    """Prompts of 5 to 138 tokens."""
    words = ["the", "water", "of", "many", "people", "may", "find", "oil", "now"]
    questions = [" ".join((words * 6)[: 1 + 20 * i % 53]) for i in range(count)]
    return [TOKENIZER.render_prompt([{"role": "user", "content": question}]) for question in questions]


@pytest.mark.parametrize(
    ("generation", "pattern"), [("A", "L"), ("B", "SL"), ("C", "SSL"), ("D", "SL"), ("E", "SL"), ("E", "L")]
)
@pytest.mark.parametrize("count", [1, 2, 7])
def test_cached_generation_equals_recomputation(generation, pattern, count):
    model = Scripted(tiny_model(generation, window_pattern=pattern, sequence_len=160, n_kv_head=1), calls_the_tool)
    asked = prompts(7)[:count]
    replies = Engine(model, TOKENIZER).generate_batch(asked, max_tokens=30)
    with torch.no_grad():
        assert replies == [recomputed(model, prompt, 30) for prompt in asked]
    assert any(OUTPUT in reply for reply in replies)
    assert count < 7 or max(len(prompt) for prompt in asked) > 128, "longer than the sliding windows"


def test_batch_equals_each_alone(monkeypatch):
    engine = scripted_engine(calls_the_tool)
    asked = prompts(23)
    alone = [engine.generate_batch([prompt], 40)[0] for prompt in asked]
    assert len({len(reply) for reply in alone}) > 1, "rows must end at different times for this to be a test"
    assert engine.generate_batch(asked, 40) == alone
    monkeypatch.setattr(engine_module, "MAX_ROWS", 5)
    assert engine.generate_batch(asked, 40) == alone
    monkeypatch.setattr(engine_module, "MAX_CACHE_BYTES", 1)
    assert engine.generate_batch(asked, 40) == alone


def test_sampled_batch_equals_each_alone():
    engine = scripted_engine(calls_the_tool)
    asked = prompts(6)
    alone = [engine.generate_batch([prompt], 25, temperature=1.0, top_k=20, seed=3)[0] for prompt in asked]
    assert engine.generate_batch(asked, 25, temperature=1.0, top_k=20, seed=3) == alone
    assert engine.generate_batch(asked, 25, temperature=1.0, top_k=20, seed=4) != alone


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_stream_and_batch_agree(temperature):
    engine = scripted_engine(calls_the_tool)
    messages = [{"role": "user", "content": "Hi!"}]
    [ids] = engine.generate_batch([TOKENIZER.render_prompt(messages)], 30, temperature, 50, 5)
    reply = Reply(TOKENIZER)
    told = [event for token in ids for event in reply.add(token)] + reply.finish()
    events = list(engine.events(messages, 30, temperature, 50, 5))
    assert events[:-1] == told
    assert events[-1].tokens == len(ids)
    assert ToolCall("7*(3+4)", "49") in told


def test_no_prompts():
    assert Engine(tiny_model(), TOKENIZER).generate_batch([], 10) == []


def test_rows_stop_at_the_context():
    engine = scripted_engine(says(*[5] * 500), sequence_len=40)
    asked = [[7] * length + [TOKENIZER.special("<|assistant_start|>")] for length in (3, 30, 38)]
    assert [len(reply) for reply in engine.generate_batch(asked, 20)] == [20, 9, 1]


@pytest.mark.parametrize("prompt", [[], [7] * 256, [7] * 1000])
def test_prompts_without_room(prompt):
    with pytest.raises(ValueError, match=r"Prompt 2 has .* 1 to 255"):
        Engine(tiny_model(), TOKENIZER).generate_batch([[1], prompt], 5)


def test_tool_call_in_a_stream():
    before, expression, after = (TOKENIZER.encode(text) for text in ("It is ", "2*(3+4)", " now."))
    engine = scripted_engine(says(*before, PYTHON, *expression, PYTHON_END, *after))
    events = list(engine.events(HI, temperature=0.0))
    done = events.pop()
    assert "".join(event.text for event in events if isinstance(event, Text)) == "It is  now."
    assert [event for event in events if isinstance(event, ToolCall)] == [ToolCall("2*(3+4)", "14")]
    forced = [OUTPUT, *TOKENIZER.encode("14"), OUTPUT_END]
    assert (done.reason, done.cut_tokens) == ("stop", 0)
    assert done.tokens == len(before) + len(expression) + 2 + len(forced) + len(after)
    assert engine.reply(HI, temperature=0.0) == "It is  now."
    [ids] = engine.generate_batch([TOKENIZER.render_prompt(HI)], 100)
    assert ids == [*before, PYTHON, *expression, PYTHON_END, *forced, *after]


@pytest.mark.parametrize("expression", ["2**3", "1/0", "", "hello", "__import__('os')"])
def test_refused_expression_forces_nothing(expression):
    own = [PYTHON, *TOKENIZER.encode(expression), PYTHON_END, *TOKENIZER.encode("Hm.")]
    engine = scripted_engine(says(*own))
    events = list(engine.events(HI, temperature=0.0))
    assert events[:-1] == [ToolCall(expression, None), *[Text(letter) for letter in "Hm."]]
    assert engine.generate_batch([TOKENIZER.render_prompt(HI)], 100) == [own]


def test_the_result_is_cut_off_at_max_tokens():
    own = [PYTHON, *TOKENIZER.encode("999*999"), PYTHON_END]
    engine = scripted_engine(says(*own))
    for extra in (1, 2, 3):
        [ids] = engine.generate_batch([TOKENIZER.render_prompt(HI)], len(own) + extra)
        assert ids == [*own, OUTPUT, *TOKENIZER.encode("998001")][: len(own) + extra]
        done = list(engine.events(HI, max_tokens=len(own) + extra, temperature=0.0))[-1]
        assert (done.reason, done.tokens) == ("length", len(own) + extra)


def test_odd_special_tokens_are_never_visible():
    own = [PYTHON_END, *b"a", OUTPUT, *b"bcd", OUTPUT_END, *b"e", PYTHON, *b"f", PYTHON, *b"1+1", PYTHON_END]
    forced = [OUTPUT, *b"2", OUTPUT_END]
    rest = [*b"g", TOKENIZER.special("<|user_start|>"), *b"h", PYTHON, *b"left open"]
    engine = scripted_engine(says_at_each_place(*own, *forced, *rest))
    events = list(engine.events(HI, temperature=0.0))
    assert [event.text for event in events if isinstance(event, Text)] == ["a", "e", "g", "h"]
    assert [event for event in events if isinstance(event, ToolCall)] == [ToolCall("1+1", "2")]


@pytest.mark.parametrize("stop", [ASSISTANT_END, TOKENIZER.bos])
def test_stop_tokens(stop):
    engine = scripted_engine(says(*b"ab", then=stop))
    assert list(engine.stream(HI, temperature=0.0)) == ["a", "b"]


def test_characters_are_never_split():
    text = "Grüße, 日本 🙂!"
    engine = scripted_engine(says(*text.encode()))  # the ids below 256 are the single bytes
    pieces = list(engine.stream(HI, temperature=0.0))
    assert pieces == list(text)


@pytest.mark.parametrize(
    ("own", "pieces"),
    [
        (b"ab\xe6\x97", ["a", "b", "\ufffd"]),
        (b"a\xffb", ["a", "\ufffd", "b"]),
        ((*b"\xf0\x9f", PYTHON, PYTHON_END, *b"\x99\x82c"), ["\ufffd", "\ufffd", "\ufffd", "c"]),
    ],
)
def test_broken_characters_become_replacements(own, pieces):
    engine = scripted_engine(says(*own))
    assert list(engine.stream(HI, temperature=0.0)) == pieces


def test_a_character_cut_off_by_max_tokens():
    engine = scripted_engine(says(*"日本".encode()))
    assert "".join(engine.stream(HI, max_tokens=4, temperature=0.0)) == "日\ufffd"


def test_same_seed_same_reply():
    engine = Engine(tiny_model(), TOKENIZER)
    first = engine.reply(HI, max_tokens=40, temperature=1.0, seed=1)
    assert engine.reply(HI, max_tokens=40, temperature=1.0, seed=1) == first
    assert Engine(tiny_model(), TOKENIZER).reply(HI, max_tokens=40, temperature=1.0, seed=1) == first
    assert engine.reply(HI, max_tokens=40, temperature=1.0, seed=2) != first
    assert engine.reply(HI, max_tokens=40, temperature=1.0, seed=-1)


def test_top_k_one_is_greedy():
    engine = Engine(tiny_model(), TOKENIZER)
    greedy = engine.reply(HI, max_tokens=30, temperature=0)
    assert engine.reply(HI, max_tokens=30, temperature=5.0, top_k=1) == greedy
    assert engine.reply(HI, max_tokens=30, temperature=1e-300, top_k=None) == greedy


@pytest.mark.parametrize("none", [None, 0, 10**9])
def test_top_k_off(none):
    engine = Engine(tiny_model(), TOKENIZER)
    assert engine.reply(HI, max_tokens=30, temperature=2.0, top_k=none) == engine.reply(
        HI, max_tokens=30, temperature=2.0, top_k=512
    )


def test_top_k_excludes_the_unlikely():
    model = Scripted(tiny_model(), lambda history: None)
    [ids] = Engine(model, TOKENIZER).generate_batch(
        [TOKENIZER.render_prompt(HI)], 60, temperature=50.0, top_k=3, seed=1
    )
    history = TOKENIZER.render_prompt(HI)
    assert len(ids) > 5
    with torch.no_grad():
        for token in ids:
            assert token in model(torch.tensor([history]))[0, -1].topk(3).indices
            history = [*history, token]


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"temperature": -1}, "temperature is -1"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": float("inf")}, "temperature"),
        ({"top_k": -1}, "top_k is -1"),
        ({"max_tokens": 0}, "max_tokens is 0"),
    ],
)
def test_settings_out_of_range(settings, part):
    engine = Engine(tiny_model(), TOKENIZER)
    for call in (engine.stream, engine.events):
        with pytest.raises(ValueError, match=part):
            call(HI, **settings)
    with pytest.raises(ValueError, match=part):
        engine.generate_batch([[1]], **{"max_tokens": 5, **settings})


def test_malformed_messages_are_refused_at_once():
    with pytest.raises(ValueError, match="Message 1"):
        Engine(tiny_model(), TOKENIZER).stream([{"role": "assistant", "content": "x"}])


def test_model_and_tokenizer_that_do_not_match():
    with pytest.raises(ValueError, match="600 tokens and the tokenizer 512"):
        Engine(tiny_model(vocab_size=600), TOKENIZER)


def test_nan_is_a_clear_error():
    model = tiny_model()
    with torch.no_grad():
        model.lm_head.weight[3, 5] = float("nan")
    with pytest.raises(ValueError, match="NaN"):
        list(Engine(model, TOKENIZER).stream(HI))
    with pytest.raises(ValueError, match="NaN"):
        Engine(model, TOKENIZER).generate_batch([[1, 2]], 3)


def test_reason_length_and_context():
    engine = scripted_engine(says(*[5] * 500), sequence_len=40)
    length = len(TOKENIZER.render_prompt(HI))
    assert list(engine.events(HI, max_tokens=10))[-1].reason == "length"
    assert list(engine.events(HI, max_tokens=40 - length))[-1].reason == "length"
    done = list(engine.events(HI, max_tokens=41 - length))[-1]
    assert (done.reason, done.tokens) == ("context", 40 - length)
    assert list(engine.events(HI, max_tokens=1000))[-1] == Done("context", 40 - length, 0, pytest.approx(0, abs=60))


def chat(turns, system=None):
    messages = [{"role": "system", "content": system}] if system else []
    for number in range(turns):
        messages += [{"role": "user", "content": f"{number} is the number"}, {"role": "assistant", "content": "ok"}]
    return [*messages, {"role": "user", "content": "and now?"}]


def test_old_turns_are_left_out_openly():
    engine = Engine(tiny_model(sequence_len=100), TOKENIZER)
    messages = chat(30, system="Be kind.")
    events = list(engine.events(messages, max_tokens=5))
    assert isinstance(events[0], Notice)
    assert isinstance(events[-1], Done)
    seen = len(TOKENIZER.render_prompt(messages)) - events[-1].cut_tokens
    assert 70 < seen <= 95
    assert f"({events[-1].cut_tokens} tokens)" in events[0].text
    assert "context of 100 tokens" in events[0].text
    assert list(engine.events(chat(1), max_tokens=5))[-1].cut_tokens == 0


@pytest.mark.parametrize("turns", [0, 3])
@pytest.mark.parametrize("system", [None, "Be kind.", "Be very kind. " * 60])
@pytest.mark.parametrize("question", ["word " * 300, "日本" * 200])
def test_a_question_longer_than_the_context(turns, system, question):
    engine = Engine(tiny_model(sequence_len=64), TOKENIZER)
    messages = chat(turns, system)
    messages[-1]["content"] = question
    events = list(engine.events(messages, max_tokens=500))
    assert "the beginning of the last one" in events[0].text
    assert events[-1].reason in ("stop", "context")
    assert events[-1].cut_tokens == len(TOKENIZER.render_prompt(messages)) - 56


def test_second_turn_uses_the_cache_again():
    model = Scripted(tiny_model(), says(*b"an answer"))
    engine = Engine(model, TOKENIZER)
    first = [{"role": "user", "content": "the water of many people"}]
    answer = engine.reply(first, temperature=0.0)
    second = [*first, {"role": "assistant", "content": answer}, {"role": "user", "content": "and now?"}]
    prompt = TOKENIZER.render_prompt(second)
    model.tokens_run = 0
    reply = engine.reply(second, temperature=0.0)
    assert model.tokens_run < len(prompt)
    assert reply == Engine(model, TOKENIZER).reply(second, temperature=0.0)


def smeared_model():
    """Of generation E, in which the token before has a strong say."""
    model = tiny_model("E", window_pattern="SL")
    with torch.no_grad():
        model.smear_lambda.fill_(30.0)
    return model


@pytest.mark.parametrize("make", [tiny_model, smeared_model])
def test_reused_and_grown_caches_change_nothing(monkeypatch, make):
    monkeypatch.setattr(engine_module, "CACHE_STEP", 8)
    engine = Engine(make(), TOKENIZER)
    for messages in (chat(0), chat(2), chat(5), HI, chat(3, "Be kind."), chat(3)):
        for max_tokens in (3, 20):
            fresh = Engine(make(), TOKENIZER)
            assert engine.reply(messages, max_tokens, 0.0) == fresh.reply(messages, max_tokens, 0.0)


def test_two_streams_at_once_and_abandoned_ones():
    engine = Engine(tiny_model(), TOKENIZER)
    alone = [engine.reply(messages, 20, 0.0) for messages in (HI, chat(2))]
    streams = [engine.stream(HI, 20, 0.0), engine.stream(chat(2), 20, 0.0)]
    abandoned = engine.stream(chat(1), 20, 0.0)
    next(abandoned)
    texts = ["", ""]
    while streams[0] or streams[1]:
        for index, stream in enumerate(streams):
            piece = next(stream, None) if stream else None
            streams[index] = stream if piece is not None else None
            texts[index] += piece or ""
    abandoned.close()
    assert texts == alone
    assert [engine.reply(messages, 20, 0.0) for messages in (HI, chat(2))] == alone
