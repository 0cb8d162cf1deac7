"""A Space simulated on this machine: a visitor can chat and change nothing by any endpoint; the owner can."""

import hashlib
import json
import time

import pytest

from nanochat_core import paths
from tests.e2e.invented import invent_run
from tests.support.space_app import SpaceApp, cookie, sentence
from tests.support.tiny import write_conversations

pytestmark = pytest.mark.processes

SECRET = "quokka"
"""In every name and text of the owner's."""
CHAT = "0123456789abcdef"


def _fill(home) -> None:
    """What the owner has made: a dataset, a run with a model, a downloaded model, a chat."""
    (home / "data").mkdir()
    write_conversations(home / "data" / f"{SECRET}_data.jsonl")
    invent_run(f"{SECRET}-run")
    base = home / "models/pretrained/chatsft_checkpoints" / f"{SECRET}-base"
    base.mkdir(parents=True)
    for folder in (base, home / "models/finetuned" / f"{SECRET}-run"):  # never loaded, so names are enough
        for name in ("model_000007.pt", "meta_000007.json"):
            (folder / name).write_bytes(b"{}")
    (home / "chats").mkdir()
    turn = {"user": f"{SECRET}?", "replies": [None, None]}
    chat = {"id": CHAT, "turns": [turn], "settings": {"model_0": f"finetuned/{SECRET}-run@7"}}
    (home / "chats" / f"{CHAT}.json").write_text(json.dumps(chat))


def tree(home) -> str:
    """Changes with any byte, name or new file under `home`."""
    digest = hashlib.sha256()
    for path in sorted(home.rglob("*")):
        digest.update(str(path.relative_to(home)).encode())
        digest.update(path.read_bytes() if path.is_file() else b"/")
    return digest.hexdigest()


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("space") / "home"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NANOCHAT_STUDIO_HOME", str(folder))
        _fill(folder)
        assert len(paths.list_models()) == 3
    return folder


@pytest.fixture(scope="module")
def space(home):
    app = SpaceApp(home)
    time.sleep(2.5)  # its threads have looked once for runs to start
    yield app
    app.close()


@pytest.fixture
def visitor(space):
    return space.guest()


@pytest.fixture
def owner(space):
    return space.guest(cookie("ann"))


def plausible(home) -> dict:
    """What somebody who knows everything would send, by elem_id."""
    data = str(home / "data" / f"{SECRET}_data.jsonl")
    model = f"finetuned/{SECRET}-run@3"
    return {
        **dict.fromkeys(("eval_run", "watch_run"), f"{SECRET}-run"),
        "eval_model": model, "eval_other": model, "eval_draft_data": data,
        "eval_questions": data.replace("_data", "_questions"),
        "eval_question_text": "changed", "eval_expected": "changed",
        "eval_shown": [f"{SECRET}-run"],
        "eval_note": "changed", "eval_name": "renamed",
        "train_base": "starter", "train_data": data, "train_tag": "theirs",
        "data-name": "theirs", "data-pick": data, "data-save-name": "theirs",
        "chat_dataset": data, "chat_corrected": "changed", "chat_id": CHAT, "chat_box": "",
    }  # fmt: skip


def handled(guest) -> list[dict]:
    return [event for event in guest.config["dependencies"] if event["backend_fn"]]


def test_the_page_tells_nothing_of_the_owner_s(visitor, home):
    pages = [visitor.http.get(path).text for path in ("/", "/config", "/gradio_api/info", "/gradio_api/openapi.json")]
    for page in pages:
        assert SECRET not in page
        assert str(home) not in page
    assert "Only the owner of this Space can use Train" in pages[1]


def test_a_visitor_changes_nothing_and_sees_nothing_by_any_event_of_the_page(visitor, home):
    before, events = tree(home), handled(visitor)
    assert len(events) > 80
    for event in events:
        visitor.join(event, **plausible(home))
    messages = visitor.messages()
    assert len([one for one in messages if one["msg"] == "process_completed"]) == len(events)
    assert SECRET not in json.dumps(messages)
    assert str(home) not in json.dumps(messages)
    assert tree(home) == before


def test_nor_by_the_names_of_the_events(visitor, home):
    before, said = tree(home), []
    for event in handled(visitor):
        asked = {"data": visitor.values(event, **plausible(home)), "session_hash": visitor.session}
        for way in ("run", "api"):
            said.append(visitor.http.post(f"/gradio_api/{way}/{event['api_name']}", json=asked))
        said.append(visitor.http.post(f"/gradio_api/call/{event['api_name']}", json=asked))
    said.append(visitor.messages())
    text = json.dumps([one if isinstance(one, list) else one.text for one in said])
    assert "Only the owner" in text
    assert SECRET not in text
    assert tree(home) == before


def test_a_click_of_a_visitor_is_answered_in_a_sentence_and_what_the_page_does_by_itself_in_silence(visitor):
    said = sentence(visitor.do("train_start"))
    assert "Only the owner of this Space may do this." in said
    assert "duplicate this Space" in said
    quiet = visitor.do("eval_run", "change", eval_run=f"{SECRET}-run")
    assert sentence(quiet) == ""
    given = quiet[-2]["output"]["data"]
    assert given
    assert all(value == {"__type__": "update"} for value in given)


def test_the_page_opens_without_a_word_of_refusal(visitor):
    messages = visitor.open()
    assert {message["success"] for message in messages if message["msg"] == "process_completed"} == {True}
    assert "Only the owner of this Space may" not in json.dumps(messages)


def test_files_go_neither_in_nor_out_for_a_visitor(visitor, owner, home):
    file = {"files": ("data.jsonl", b"{}")}
    refused = visitor.http.post("/gradio_api/upload", files=file)
    assert (refused.status_code, "Only the owner" in refused.text) == (403, True)
    (path,) = owner.http.post("/gradio_api/upload", files=file).json()
    assert owner.http.get(f"/gradio_api/file={path}").status_code == 200
    for address in (f"file={path}", f"file/{path}", f"file=/gradio_api/../{path}", f"file={home}/data"):
        assert visitor.http.get(f"/gradio_api/{address}").status_code == 403
    for address in ("component_server", "process_recording", "vibe-edit", "stream/x", "deep_link"):
        assert visitor.http.post(f"/gradio_api/{address}", json={}).status_code == 403


@pytest.mark.parametrize(
    "session",
    [
        cookie("mallory"),
        cookie("ann", expires_in=-10),
        cookie("ann", secret="guessed"),
        cookie("ann", secret=""),
        cookie(""),
        {"session": "eyJ9"},
    ],
    ids=["somebody else", "expired", "another key", "no key", "no name", "nonsense"],
)
def test_only_a_valid_session_of_an_owner_counts(space, session):
    assert "Only the owner" in sentence(space.guest(session).do("eval_keep"))


def test_a_foreign_page_is_refused_even_with_the_owner_s_cookie(owner):
    answer = owner.http.post("/gradio_api/queue/join", json={}, headers={"Origin": "https://evil.hf.space"})
    assert (answer.status_code, "another page" in answer.text) == (403, True)


def test_a_visitor_chats_with_the_starter_and_nothing_is_written(visitor, home):
    before = tree(home)
    messages = visitor.do("chat_send", chat_box="What is the capital of France?", chat_temperature=0)
    assert sentence(messages) == ""
    assert "Paris" in json.dumps(messages)
    assert tree(home) == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"chat_model_0": f"pretrained/{SECRET}-base@7"}, "the model 'starter' only"),
        ({"chat_model_1": f"finetuned/{SECRET}-run@7"}, "the model 'starter' only"),
        ({"chat_model_0": ["starter", "finetuned"]}, "the model 'starter' only"),
        ({"chat_model_0": "starter@../x"}, "the model 'starter' only"),
        ({"chat_box": "x" * 2001}, "2,001 characters"),
        ({"chat_system": "x" * 2001}, "2,001 characters"),
        ({"chat_max_tokens": 2048}, "at most 256 tokens"),
        ({"chat_max_tokens": "9"}, "at most 256 tokens"),
        ({"chat_precision": "int8"}, "share the model as it is"),
        ({"chat_precision": ["automatic"]}, "share the model as it is"),
        ({"chat_id": "../../data/x"}, ""),
    ],
)
def test_a_visitor_s_chat_has_limits_whatever_the_request_says(visitor, home, change, said):
    before = tree(home)
    messages = visitor.do("chat_send", **{"chat_box": "Hi", **change})
    assert said in sentence(messages)
    assert SECRET not in json.dumps(messages)
    assert tree(home) == before


def test_a_chat_is_reached_by_who_began_it_only(visitor, owner, home):
    restore = next(e for e in handled(visitor) if e["api_name"].startswith("restore") and len(e["outputs"]) > 10)
    visitor.join(restore, chat_id=CHAT)
    assert SECRET not in json.dumps(visitor.messages())
    owner.join(restore, chat_id=CHAT)
    assert SECRET in json.dumps(owner.messages())


@pytest.mark.parametrize("name", ["Ann", "cleo"])
def test_the_owner_can(space, home, name):
    owner = space.guest(cookie(name))
    owner.open()
    tag = f"{SECRET}-run"
    assert "The note is saved" in json.dumps(owner.do("eval_keep", eval_run=tag, eval_note=f"note of {name}"))
    files = [path for path in (home / "models").rglob("*") if path.is_file()]
    assert any(f"note of {name}".encode() in path.read_bytes() for path in files)
    data = str(home / "data" / f"{SECRET}_data.jsonl")
    chosen = {"train_base": "starter", "train_data": data, "train_tag": f"{name.lower()}-next"}
    said = json.dumps(owner.do("train_queue", **chosen))
    assert f"{name.lower()}-next" in said, said
    owner.do("train_unqueue")


def test_the_owner_s_page_shows_everything(owner):
    fit = next(event for event in handled(owner) if event["api_name"] == "fit")
    owner.join(fit)
    line, *columns = owner.messages()[-2]["output"]["data"]
    assert SECRET in json.dumps(owner.open())  # what the visitors' answers are searched for
    assert "this Space is yours" in line
    assert [column["visible"] for column in columns] == [True] * 3 + [False] * 3
    assert "lost when this Space restarts" in line  # its home is no mounted volume
