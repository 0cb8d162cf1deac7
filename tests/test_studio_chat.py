"""The Chat tab's handlers without a browser: replies of one and two models, stop, edit, correct; no HTML of a model."""

import json
import threading
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from nanochat_core.conversations import load_conversations
from nanochat_core.paths import home as home_folder
from studio import chat_correct, chat_models, chat_precision, data_files
from studio.chat_code import chat_code
from studio.chat_handlers import SETTINGS, STREAM, ChatHandlers, pick
from studio.chat_markdown import as_markdown, code_block
from studio.chat_state import Chat, Reply, Turn
from studio.hardware import Gpu, Hardware

MARKDOWN = MarkdownIt("commonmark", {"html": True, "breaks": True})
A, B = "pretrained/one@7", "pretrained/two@7"
ID = "0123456789abcdef"


def kinds(text: str) -> set[str]:
    return {child.type for token in MARKDOWN.parse(text) for child in [token, *(token.children or [])]}


class TestMarkdown:
    @pytest.mark.parametrize(
        "text",
        [
            "<img src=x onerror=alert(1)>",
            "<script>alert(1)</script>",
            "a\n\n<div onclick=x>\nb",
            "![picture](http://somewhere/x.png)",
            "![picture][1]\n\n[1]: http://somewhere/x.png",
            "\\<b> \\\\<b> \\![a](b)",
            "`a` <b>`",
            "\\`<b>`",
            "``<b>`",
            "```<b>```",
            "~~~\n```\n~~~\n<b>",
            "````\n```\n<b>\n````\n<i>",
            "```a`b\n<b>",
            "1. ```\n<b>",
            "1. ```\n   ```\n<b>",
            "  ```\n```\n<b>",
            "`a\nb` <b> `",
            "a\r<b>\x0b<i>\u2028<s>",
            "&lt;b&gt; &amp;",
            "<http://somewhere> <!-- x --> <?php x ?> <![CDATA[x]]>",
        ],
    )
    def test_nothing_is_html_and_nothing_is_fetched(self, text):
        assert not kinds(as_markdown(text)) & {"html_inline", "html_block", "image"}

    @settings(max_examples=400, deadline=None)
    @given(st.text(alphabet="`~<>&;![]()\\\"'=/ \n*_-#1.ab:", max_size=60))
    @example("`\\`<a>`")
    def test_whatever_is_written(self, text):
        assert not kinds(as_markdown(text)) & {"html_inline", "html_block", "image"}

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("a < b & c &lt; d", "<p>a &lt; b &amp; c &amp;lt; d</p>"),
            ("`<b>` and **bold**", "<p><code>&lt;b&gt;</code> and <strong>bold</strong></p>"),
            ("```html\n<b>&\n```", '<pre><code class="language-html">&lt;b&gt;&amp;\n</code></pre>'),
            ("```mermaid\ngraph", "<pre><code>graph\n</code></pre>"),
            ("![a](b)", "<p>![a](b)</p>"),
            ("- one\n- two", "<ul>\n<li>one</li>\n<li>two</li>\n</ul>"),
        ],
    )
    def test_text_is_shown_as_it_is(self, text, shown):
        assert MARKDOWN.render(as_markdown(text)).strip() == shown

    @given(st.text(alphabet="`a\n<", max_size=20))
    def test_a_block_of_code_holds_any_text(self, text):
        [token] = [token for token in MARKDOWN.parse(code_block(text)) if token.type == "fence"]
        assert token.content == text + "\n"


class FakeModels:
    """Says `words` one by one, as a model's process would; counts what was asked of it."""

    def __init__(self, words=("Good", " day", "."), wait=0.0, events=()):
        self.words, self.wait, self.extra = words, wait, events
        self.asked, self.in_memory, self.stopped, self.loading = [], set(), 0, 0.0
        self.dtypes = []

    def load(self, name, step=None, report=None, dtype=None):
        self.dtypes.append(dtype)
        if name.endswith("broken"):
            raise ValueError("The checkpoint is damaged. Take another one.")
        report(0.5, "Loading model_000007.pt")
        time.sleep(self.loading)
        self.in_memory.add((name, step))

    def generate(self, name, step, messages, stop=None, **values):
        self.asked.append((name, messages, values))
        yield from self.extra
        for word in self.words:
            if stop.wait(self.wait):
                self.stopped += 1
                yield {"event": "done", "reason": "stopped", "tokens": 1, "seconds": 0.5}
                return
            yield {"event": "text", "text": f"{word}"}
        yield {"event": "done", "reason": "stop", "tokens": 30, "seconds": 0.5}

    def loaded(self):
        return []

    def unload(self, name, step):
        return 123_000_000


@pytest.fixture
def models(home):
    for tag in ("one", "two", "broken"):
        folder = home / "models" / "pretrained" / "chatsft_checkpoints" / tag
        folder.mkdir(parents=True)
        (folder / "model_000007.pt").write_bytes(b"x")
        (folder / "meta_000007.json").write_bytes(b"{}")
    return FakeModels()


def chosen(**changes):
    values = {"both": False, "model_0": A, "model_1": B, "system": "", "temperature": 0.7, "top_k": 50}
    values["precision"] = "automatic"
    return [{**values, "max_tokens": 64, "seed": 1, **changes}[name] for name in SETTINGS]


def run(stream) -> list[dict]:
    """Every update as {output: value}."""
    return [dict(zip(STREAM, update, strict=True)) for update in stream]


def said(chat_id: str = ID, side: int = 0) -> list[str]:
    return [message["content"] for message in Chat.load(chat_id).shown(side)]


class TestReplies:
    def test_one_model_answers(self, models):
        updates = run(ChatHandlers(models).send(ID, " Hello ", None, *chosen(system="Be kind.", seed=4)))
        assert said() == ["Hello", "Good day."]
        assert said(side=1) == ["Hello"]
        name, messages, values = models.asked[0]
        assert name == "pretrained/one"
        assert messages == [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}]
        assert values == {"max_tokens": 64, "temperature": 0.7, "top_k": 50, "seed": 4}
        assert (updates[0]["box"], updates[0]["stop"].visible, updates[0]["send"].visible) == ("", True, False)
        assert (updates[-1]["stop"].visible, updates[-1]["send"].visible) == (False, True)
        assert "30 tokens · 60.0 tokens/s" in updates[-1]["facts_0"]
        assert "load_model('pretrained/one', step=7)" in updates[-1]["code"]

    def test_two_models_answer_the_same_each_from_its_own_past(self, models):
        handlers = ChatHandlers(models)
        run(handlers.send(ID, "One", None, *chosen(both=True)))
        models.words = ("Other",)
        run(handlers.send(ID, "Two", None, *chosen(both=True)))
        assert {name for name, _, _ in models.asked[2:]} == {"pretrained/one", "pretrained/two"}
        assert said() == said(side=1) == ["One", "Good day.", "Two", "Other"]

    def test_a_second_model_that_comes_later_sees_what_the_first_said(self, models):
        handlers = ChatHandlers(models)
        run(handlers.send(ID, "One", None, *chosen()))
        run(handlers.send(ID, "Two", None, *chosen(both=True)))
        messages = next(messages for name, messages, _ in models.asked if name == "pretrained/two")
        assert [message["content"] for message in messages] == ["One", "Good day.", "Two"]

    def test_updates_are_few_however_fast_the_model_is(self, models):
        models.words, models.wait = ["a"] * 400, 0.001
        updates = run(ChatHandlers(models).send(ID, "Hi", None, *chosen()))
        assert said()[-1] == "a" * 400
        assert 3 < len(updates) < 100

    def test_stop_reaches_the_model_and_what_it_said_stays(self, models):
        models.words, models.wait = ["word "] * 10_000, 0.01
        handlers = ChatHandlers(models)
        stream = handlers.send(ID, "Hi", None, *chosen())
        next(stream)
        while "word" not in str(Chat.load(ID).shown(0)) and not models.asked:
            next(stream)
        time.sleep(0.1)
        handlers.stop(ID)
        updates = run(stream)
        assert models.stopped == 1
        assert "stopped" in updates[-1]["facts_0"]
        assert said()[-1].startswith("word word")
        assert handlers.stop(ID) == ""

    def test_a_closed_page_stops_the_model(self, models):
        models.words, models.wait = ["word "] * 10_000, 0.01
        handlers = ChatHandlers(models)
        stream = handlers.send(ID, "Hi", None, *chosen())
        next(stream)
        while not models.asked:
            next(stream)
        time.sleep(0.1)
        stream.close()  # and opened again at once: what was said is there
        assert "word" in str(ChatHandlers.restore(handlers, ID, *chosen())[1])
        for thread in [one for one in threading.enumerate() if one.name.startswith("reply-")]:
            thread.join(10)
        assert models.stopped == 1
        models.words = ["Yes"]
        run(handlers.send(ID, "Again", 0, *chosen()))
        assert said() == ["Again", "Yes"]

    def test_a_second_message_while_one_is_answered_is_refused(self, models):
        models.words, models.wait = ["word "] * 1000, 0.01
        handlers = ChatHandlers(models)
        first = handlers.send(ID, "Hi", None, *chosen())
        next(first)
        [update] = run(handlers.send(ID, "Me too", None, *chosen()))
        assert "still being written" in update["said"]
        assert update["box"] == "Me too"
        first.close()
        assert [turn.user for turn in Chat.load(ID).turns] == ["Hi"]

    def test_a_model_that_fails_says_so_in_its_place_and_the_other_answers(self, models):
        run(ChatHandlers(models).send(ID, "Hi", None, *chosen(both=True, model_1="pretrained/broken@7")))
        assert said()[-1] == "Good day."
        assert said(side=1)[-1] == "**The checkpoint is damaged. Take another one.**"

    @pytest.mark.parametrize(
        ("changes", "words"),
        [({"model_0": None}, "No model is chosen"), ({"model_0": "finetuned/gone@4"}, "There is no model")],
    )
    def test_no_model_is_a_sentence_in_the_chat(self, models, changes, words):
        run(ChatHandlers(models).send(ID, "Hi", None, *chosen(**changes)))
        assert words in said()[-1]

    def test_an_empty_message_or_setting_is_a_sentence(self, models):
        handlers = ChatHandlers(models)
        assert "Write a message" in run(handlers.send(ID, "  ", None, *chosen()))[0]["said"]
        [update] = run(handlers.send(ID, "Hi", None, *chosen(seed=None)))
        assert "The setting seed is empty" in update["said"]
        assert Chat.load(ID).turns == []

    def test_retry_answers_the_last_message_with_the_next_seed(self, models):
        handlers = ChatHandlers(models)
        assert "no message to answer again" in run(handlers.retry(ID, *chosen()))[0]["said"]
        run(handlers.send(ID, "One", None, *chosen()))
        updates = run(handlers.retry(ID, *chosen()))
        assert updates[0]["seed"] == 2
        assert [values["seed"] for _, _, values in models.asked] == [1, 2]
        assert said() == ["One", "Good day."]

    def test_an_edited_message_takes_the_place_of_all_that_came_after(self, models):
        handlers = ChatHandlers(models)
        for text in ("One", "Two", "Three"):
            run(handlers.send(ID, text, None, *chosen()))
        box, turn, note = handlers.edit(ID, 1)
        assert (box, turn) == ("Two", 1)
        assert "replaces message 2 and what came after it (1 more message)" in note
        run(handlers.send(ID, "Two, please", turn, *chosen()))
        assert said() == ["One", "Good day.", "Two, please", "Good day."]
        assert handlers.edit(ID, None)[:2] == ("Two, please", 1)

    def test_a_tool_call_is_a_fold_and_part_of_what_the_model_sees_next(self, models):
        call = {"event": "tool", "expression": "2*3", "output": "6"}
        refused = {"event": "tool", "expression": "import os", "output": None}
        models.extra = [{"event": "notice", "text": "Left out: <b>."}, call, refused]
        handlers = ChatHandlers(models)
        updates = run(handlers.send(ID, "Sum?", None, *chosen()))
        shown = Chat.load(ID).shown(0)
        assert [message.get("metadata", {}).get("title") for message in shown[1:]] == ["Calculator"] * 2 + [None]
        assert shown[1]["content"] == "```\n2*3\n= 6\n```"
        assert "refused" in shown[2]["content"]
        assert "Left out: &lt;b&gt;." in updates[-1]["facts_0"]
        models.extra = []
        run(handlers.send(ID, "And?", None, *chosen()))
        parts = models.asked[-1][1][1]["content"]
        assert parts[:2] == [{"type": "python", "text": "2*3"}, {"type": "python_output", "text": "6"}]

    def test_the_chat_survives_a_reload_and_is_deleted_when_cleared(self, models):
        handlers = ChatHandlers(models)
        run(handlers.send(ID, "One", None, *chosen()))
        restored = ChatHandlers(models).restore(ID, *chosen(seed=9, model_0=B))
        chat_id, bot, facts, other, _ = restored[:5]
        settings = dict(zip(SETTINGS, restored[5:14], strict=True))
        assert (settings["model_0"].value, settings["model_1"].value, settings["seed"]) == (A, B, 1)
        assert "'One'" in restored[-1]
        assert (chat_id, [message["content"] for message in bot]) == (ID, ["One", "Good day."])
        assert "30 tokens" in facts
        assert len(other) == 1
        handlers.clear(ID)
        assert Chat.load(ID).turns == []
        assert len(handlers.restore("", *chosen())[0]) == 16

    @pytest.mark.parametrize("chat_id", ["../../../etc/passwd", "", "0123456789ABCDEF", None])
    def test_an_id_from_the_browser_reaches_no_other_file(self, home, chat_id):
        with pytest.raises(ValueError, match="cannot be found"):
            Chat(chat_id).save()
        assert list(home.iterdir()) == []


@pytest.fixture
def machine(monkeypatch):
    """Sets what this machine has: machine(gpus=..., apple=...)."""

    def set_to(gpus=(), apple=False):
        monkeypatch.setattr(chat_precision, "find_hardware", lambda: Hardware(tuple(gpus), apple, 2, 8 << 30))
        chat_precision.choices.cache_clear()

    set_to()
    yield set_to
    chat_precision.choices.cache_clear()


class TestPrecision:
    def test_a_reply_and_the_load_button_ask_for_the_chosen_one(self, models, machine):
        handlers = ChatHandlers(models)
        run(handlers.send(ID, "Hi", None, *chosen()))
        updates = run(handlers.send(ID, "Hi", None, *chosen(precision="int8", both=True)))
        list(handlers.load(A, "bfloat16"))
        assert models.dtypes == [None, "int8", "int8", "bfloat16"]
        code = updates[-1]["code"]
        compile(code, "cell", "exec")
        assert code.startswith("import torch\n")
        assert "load_model('pretrained/one', step=7, dtype=torch.int8)" in code

    def test_int8_is_offered_for_a_cpu_only(self, models, machine):
        assert chat_precision.choices() == ["automatic", "float32", "bfloat16", "int8"]
        assert "0.4%" in chat_precision.info()
        for found in ({"gpus": [Gpu(0, "H100", 80 << 30, 0)]}, {"apple": True}):
            machine(**found)
            assert chat_precision.choices() == ["automatic", "float32", "bfloat16"]
            assert "int8" not in chat_precision.info()
        updates = run(ChatHandlers(models).send(ID, "Hi", None, *chosen(precision="int8")))
        assert "The precision &#x27;int8&#x27; cannot be had here. Choose automatic," in updates[-1]["said"]
        assert updates[-1]["box"] == "Hi"
        assert "cannot be had here" in list(ChatHandlers(models).load(A, "int8"))[-1]
        assert models.dtypes == []

    def test_visitors_share_the_model_as_it_is(self, models, machine, monkeypatch):
        monkeypatch.setattr(chat_precision, "is_visitor", lambda: True)
        run(ChatHandlers(models).send(ID, "Hi", None, *chosen(precision="int8")))
        assert models.dtypes == [None]

    def test_it_is_remembered_with_the_chat_and_not_taken_to_a_machine_without_it(self, models, machine):
        run(ChatHandlers(models).send(ID, "Hi", None, *chosen(precision="int8")))
        place = 5 + SETTINGS.index("precision")
        assert ChatHandlers(models).restore(ID, *chosen())[place] == "int8"
        machine(apple=True)
        assert ChatHandlers(models).restore(ID, *chosen())[place] == "automatic"

    def test_a_chat_that_was_kept_before_there_was_a_choice_is_restored(self, models, machine):
        chat = a_chat()
        assert "precision" not in chat.settings
        assert ChatHandlers(models).restore(ID, *chosen())[5 + SETTINGS.index("precision")] == "automatic"


class TestModels:
    def test_loading_shows_how_far_it_is_and_unloading_what_it_gave_back(self, models):
        models.loading = 0.5
        handlers = ChatHandlers(models)
        shown = list(handlers.load(A))
        assert 'aria-valuenow="50"' in shown[0]
        assert "Loading model_000007.pt" in shown[0]
        assert "damaged" in list(handlers.load("pretrained/broken@7"))[-1]
        assert "Unloaded: 123 MB given back" in handlers.unload(A)

    def test_a_choice_made_while_the_lists_are_fetched_is_kept_and_a_typed_name_counts(self, models):
        handlers = ChatHandlers(models)
        first, second, *_ = handlers.lists("pretrained/one", "finetuned/gone@3")
        assert "value" not in first
        assert second.value not in (None, "finetuned/gone@3")

    def test_a_run_has_its_best_and_its_last_checkpoint(self, home, monkeypatch):
        folder = home / "models" / "finetuned" / "mine"
        folder.mkdir(parents=True)
        for step in (20, 40):
            (folder / f"model_{step:06d}.pt").write_bytes(b"x")
            (folder / f"meta_{step:06d}.json").write_bytes(b"{}")
        (folder / "config.json").write_text(json.dumps({"settings": {}}))
        (folder / "status.json").write_text(json.dumps({"state": "finished", "best_step": 20}))
        mine = [choice for choice in chat_models.choices() if "mine" in choice[1]]
        assert mine == [("mine: best (step 20)", "finetuned/mine@20"), ("mine: last (step 40)", "finetuned/mine@40")]
        assert chat_models.defaults()[1] == "finetuned/mine@20"
        assert chat_models.key_of("finetuned/mine@20") == ("finetuned/mine", 20)
        assert chat_models.key_of(str(folder)) == (str(folder), 40)
        with pytest.raises(ValueError, match="no checkpoint of step 30"):
            chat_models.key_of("finetuned/mine@30")

    def test_the_code_is_python_that_names_the_models_and_the_settings(self):
        chat = Chat(ID, [Turn('It\'s a "test"', [Reply("one"), None])])
        code = chat_code(chat, ["starter@800", "finetuned/mine@20"], {"max_tokens": 5, "seed": 2})
        compile(code, "cell", "exec")
        assert "load_model('starter', step=800)" in code
        assert "stream(messages, max_tokens=5, seed=2)" in code


def a_chat() -> Chat:
    parts = [{"type": "python", "text": "2*3"}, {"type": "python_output", "text": "6"}, {"type": "text", "text": "7"}]
    chat = Chat(
        ID, [Turn("One", [Reply("m", [{"type": "text", "text": "Uno"}]), None])], settings={"system": "Be kind."}
    )
    chat.turns.append(Turn("2*3?", [Reply("m", parts), Reply("n", [{"type": "text", "text": "5"}])]))
    chat.save()
    return chat


class TestCorrecting:
    def test_two_clicks_from_a_bad_reply_to_a_row(self, home):
        a_chat()
        handlers = ChatHandlers(FakeModels())
        panel, title, text, which, menu, earlier, _ = handlers.correct(ID, 0, None, "")
        assert panel.visible
        assert "2*3?" in title
        assert text.value == "<|python_start|>2*3<|python_end|><|output_start|>6<|output_end|>7"
        assert (which, menu.value, earlier.visible) == ([0, 1], chat_correct.NEW, True)
        _, note, path = handlers.add(ID, which, text.value[:-1] + "6", menu.value, True)
        assert "Added to corrections.jsonl as line 1" in note
        [row] = load_conversations(path)
        assert [message["role"] for message in row["messages"]] == ["system", "user", "assistant", "user", "assistant"]
        assert row["messages"][-1]["content"][-1] == {"type": "text", "text": "6"}
        assert row["messages"][-1]["content"][:2] == a_chat().turns[1].replies[0].parts[:2]

    def test_without_the_messages_before_it(self, home):
        row = chat_correct.corrected(a_chat(), 1, 1, "6", False)
        assert [message["content"] for message in row["messages"]] == ["Be kind.", "2*3?", "6"]

    def test_the_rest_of_the_file_stays_and_its_old_version_is_kept(self, home):
        path = data_files.data_dir() / "mine.jsonl"
        path.parent.mkdir(parents=True)
        path.write_bytes(b'{"broken\r\n{"messages": []}')
        row = chat_correct.corrected(a_chat(), 0, 0, "Eins", True)
        assert chat_correct.add(str(path), row) == (path, 3)
        assert path.read_bytes().startswith(b'{"broken\r\n{"messages": []}\n{"messages": [{"role": "system"')
        assert [version.path.read_bytes() for version in data_files.versions(path)] == [b'{"broken\r\n{"messages": []}']

    @pytest.mark.parametrize("value", ["/etc/passwd", "gone.jsonl", "example"])
    def test_no_other_file_is_written_to(self, home, value):
        shipped = next(one for one in data_files.list_datasets() if one.is_shipped)
        target = str(shipped.path) if value == "example" else value
        before = shipped.path.read_bytes()
        with pytest.raises(ValueError, match=r"There is no dataset|stays as it is"):
            chat_correct.add(target, chat_correct.corrected(a_chat(), 0, 0, "Eins", True))
        assert shipped.path.read_bytes() == before

    def test_a_file_that_is_one_array_is_refused(self, home):
        path = data_files.data_dir() / "array.jsonl"
        path.parent.mkdir(parents=True)
        path.write_text("[]")
        with pytest.raises(ValueError, match="one JSON array"):
            chat_correct.add(str(path), chat_correct.corrected(a_chat(), 0, 0, "Eins", True))

    def test_what_cannot_be_a_row_is_a_sentence(self, home):
        chat = a_chat()
        chat.turns[0].replies = [Reply("m"), None]
        with pytest.raises(ValueError, match="leave the earlier turns out"):
            chat_correct.corrected(chat, 0, 1, "6", True)
        with pytest.raises(ValueError, match="is empty"):
            chat_correct.corrected(chat, 0, 1, "  ", True)
        handlers = ChatHandlers(FakeModels())
        assert "no reply to correct yet" in handlers.correct("f" * 16, 0, None, "")[-1]

    def test_a_click_picks_the_turn_of_a_message(self, home):
        a_chat()
        assert [pick(ID, 0, index)[0] for index in range(5)] == [0, 0, 1, 1, 1]
        assert pick(ID, 0, 99) == (None, "")

    @given(st.lists(st.tuples(st.sampled_from(["text", "python", "python_output"]), st.text("ab\n", min_size=1))))
    def test_a_reply_as_text_and_back(self, pieces):
        parts = [{"type": kind, "text": text} for kind, text in pieces]
        merged: list[dict] = []
        for part in parts:
            if merged and part["type"] == merged[-1]["type"] == "text":
                merged[-1]["text"] += part["text"]
            else:
                merged.append(dict(part))
        content = chat_correct.as_content(chat_correct.as_text(parts))
        assert content == (
            merged if any(part["type"] != "text" for part in merged) else "".join(p["text"] for p in parts)
        )


def test_everything_is_under_the_home(home):
    Chat(ID).save()
    assert home_folder() == home
    assert [path.name for path in (home / "chats").iterdir()] == [f"{ID}.json"]
