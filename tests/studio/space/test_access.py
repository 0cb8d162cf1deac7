"""Who is the owner of a Space, what its visitors may ask, where it keeps things: plain functions, no server."""

import threading
import time

import gradio.oauth
import pytest

from studio import __main__ as program
from studio.app import build_app
from studio.chat_tab.shelf import InMemory
from studio.chat_tab.state import Chat, Turn
from studio.parts.page import Page
from studio.space import home as space_home
from studio.space import visitor_limits
from studio.space.access import (
    NOBODY,
    Person,
    acting,
    current_space,
    for_visitors,
    is_for_visitors,
    is_visitor,
    person_of,
    present,
)
from studio.space.doors import is_open
from studio.space.header import who
from studio.space.home import LOST, READ_ONLY, SpaceHome, find_home, settle
from tests.support.space_app import ENVIRONMENT

ID = "0123456789abcdef"


@pytest.fixture
def space(home, monkeypatch):
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
        if hasattr(gradio.oauth, name):  # gradio has read them when it was imported
            monkeypatch.setattr(gradio.oauth, name, value)
    return current_space()


def session(**userinfo) -> dict:
    return {"oauth_info": {"userinfo": userinfo, "expires_at": 9e12}}


def test_off_a_space_everybody_may_everything(home):
    assert current_space() is None
    assert not is_visitor()
    assert type(build_app()) is Page
    assert not build_app().expects_oauth


def test_the_space_of_the_environment(space, monkeypatch):
    assert space.owners == {"ann", "ben", "cleo"}
    assert space.hosts == {"ann-studio.hf.space"}
    assert space.has_login
    monkeypatch.setenv("SPACE_HOST", "studio.example, ann-studio.hf.space")
    assert current_space().hosts == {"studio.example", "ann-studio.hf.space"}
    assert build_app().expects_oauth


@pytest.mark.parametrize("name", ["OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET", "OPENID_PROVIDER_URL", "SYSTEM"])
def test_without_a_real_sign_in_nobody_is_the_owner(space, monkeypatch, name):
    monkeypatch.setenv(name, "")
    assert person_of(session(preferred_username="ann"), current_space()) == NOBODY
    assert not build_app().expects_oauth
    assert "hf_oauth: true" in who(NOBODY, current_space(), SpaceHome(None))


@pytest.mark.parametrize(
    ("given", "person"),
    [
        (session(preferred_username="Ann"), Person("Ann", True)),
        (session(preferred_username="cleo"), Person("cleo", True)),
        (session(preferred_username="dan"), Person("dan", False)),
        # Who made a Space and gave it away has no more say in it; nor has a name that only looks alike.
        (session(preferred_username="dan", sub=ENVIRONMENT["SPACE_CREATOR_USER_ID"]), Person("dan", False)),
        (session(preferred_username="ann ", name="ann"), Person("ann ", False)),
        (session(preferred_username=""), NOBODY),
        (session(preferred_username=["ann"]), NOBODY),
        (session(name="ann"), NOBODY),
        ({"oauth_info": {"userinfo": {"preferred_username": "ann"}, "expires_at": time.time() - 1}}, NOBODY),
        ({"oauth_info": {"userinfo": {"preferred_username": "ann"}}}, NOBODY),
        ({"oauth_info": {"userinfo": "ann", "expires_at": 9e12}}, NOBODY),
        ({"oauth_info": "ann"}, NOBODY),
        ({}, NOBODY),
        (None, NOBODY),
    ],
)
def test_who_a_session_belongs_to(space, given, person):
    assert person_of(given, space) == person


def test_the_program_is_open_to_the_space_s_proxy_and_begins_with_the_tab_for_visitors(space, monkeypatch):
    monkeypatch.delenv("GRADIO_SERVER_NAME")
    assert (program._parse([]).host, program._parse([]).tab) == ("0.0.0.0", "chat")
    monkeypatch.delenv("SPACE_ID")
    assert (program._parse([]).host, program._parse([]).tab) == ("127.0.0.1", "data")


def test_who_acts_is_known_in_the_block_only(space):
    assert is_visitor()  # nobody acts while the page is built
    with acting(Person("ann", True)):
        assert (present().name, is_visitor()) == ("ann", False)
        seen = []
        thread = threading.Thread(target=lambda: seen.append(is_visitor()))
        thread.start()
        thread.join()
        assert seen == [True]
    assert is_visitor()


def test_only_what_is_marked_is_for_visitors():
    class Handlers:
        @for_visitors
        def open(self):
            """Marked."""

        def closed(self):
            """Not."""

    assert is_for_visitors(Handlers().open)
    assert not is_for_visitors(Handlers().closed)
    assert not is_for_visitors(None)


def test_a_page_of_a_space_lets_visitors_call_the_chat_s_handlers_only(space):
    named = {event.name for event in build_app().fns.values() if is_for_visitors(event.fn)}
    chat = {"send", "retry", "stop", "clear", "edit", "picked", "about", "lists", "code", "load"}
    # drawn: which rows taught a reply. It follows those, and tells a visitor nothing: `shown` asks who it is.
    assert named == {*chat, "restore", "follow", "fit", "drawn"}


@pytest.mark.parametrize(
    ("name", "value", "is_fine"),
    [
        ("chat_model_0", "starter", True),
        ("chat_model_0", "starter@2200", True),
        ("chat_model_0", None, True),
        ("chat_model_1", "finetuned/mine@7", False),
        ("chat_model_0", "starter/../../x", False),
        ("chat_model_0", "starter@", False),
        ("chat_model_0", "", False),
        ("chat_model_0", {"starter": 1}, False),
        ("chat_box", "Hello", True),
        ("chat_box", "x" * 2001, False),
        ("chat_box", ["x"], False),
        ("chat_max_tokens", 256, True),
        ("chat_max_tokens", 257, False),
        ("chat_max_tokens", float("nan"), False),
        ("chat_temperature", "hot", False),
        ("chat_seed", float("inf"), False),
        ("chat_id", "x" * 65, False),
        ("eval_run", "mine", False),
        ("", "of a field without a name", False),
    ],
)
def test_what_a_visitor_may_send(name, value, is_fine):
    if is_fine:
        visitor_limits.check({name: value})
        return
    with pytest.raises(ValueError) as said:
        visitor_limits.check({name: value})
    assert str(said.value).endswith(".")


def test_visitors_share_a_few_places_and_are_told_when_all_are_taken():
    taken = [visitor_limits.place() for _ in range(visitor_limits.MOST_REPLIES)]
    for one in taken:
        one.__enter__()
    with pytest.raises(ValueError, match="Try again in a few seconds"), visitor_limits.place():
        pass
    for one in taken:
        one.__exit__(None, None, None)
    with visitor_limits.place():
        pass
    with pytest.raises(ValueError, match="Clear it"):
        visitor_limits.check_turns(visitor_limits.MOST_TURNS)


def test_visitors_chats_are_in_memory_and_apart_from_the_owner_s(space, home):
    with acting(Person("ann", True)):
        mine = Chat(ID, [Turn("mine")])
    Chat(ID, [Turn("theirs")]).save()
    assert not (home / "chats").exists()
    mine.save()  # by a thread in which nobody acts
    assert Chat.load(ID).turns[0].user == "theirs"
    with acting(Person("ann", True)):
        assert Chat.load(ID).turns[0].user == "mine"


def test_the_memory_for_chats_is_bounded():
    shelf = InMemory(2)
    for name in "abc":
        shelf.write(name, {"id": name})
    assert shelf.read("c") == {"id": "c"}
    with pytest.raises(ValueError, match="not there any more"):
        shelf.read("a")


@pytest.mark.parametrize(
    ("method", "path", "welcome"),
    [
        ("GET", "/", True),
        ("GET", "/config", True),
        ("GET", "/assets/index.js", True),
        ("GET", "/gradio_api/queue/data", True),
        ("POST", "/gradio_api/queue/join", True),
        ("POST", "/gradio_api/call/send", True),
        ("GET", "/login/huggingface", True),
        ("POST", "/gradio_api/upload", False),
        ("POST", "/gradio_api/upload/", False),
        ("GET", "/gradio_api/file=/tmp/x", False),
        ("GET", "/gradio_api/file/tmp/x", False),
        ("GET", "/static/../gradio_api/file=/x", False),
        ("GET", "//gradio_api/file=/x", False),
        ("POST", "/gradio_api/component_server", False),
        ("GET", "/gradio_api/deep_link", False),
        ("GET", "/monitoring", False),
        ("PUT", "/", False),
        ("DELETE", "/gradio_api/queue/join", False),
    ],
)
def test_the_addresses_that_are_open_to_visitors(method, path, welcome):
    assert is_open(method, path) == welcome


def test_where_a_space_keeps_things(tmp_path, monkeypatch):
    bucket = tmp_path / "data"
    assert find_home({}, bucket) == SpaceHome(None, LOST)
    bucket.mkdir()
    assert find_home({}, bucket) == SpaceHome(None, LOST)  # a folder of the container is no volume
    monkeypatch.setattr(space_home.os.path, "ismount", lambda path: str(path) in (str(bucket), "/"))
    assert find_home({}, bucket) == SpaceHome(bucket)
    environment = {}
    assert settle(environment, bucket).warning == ""
    assert environment == {"NANOCHAT_STUDIO_HOME": str(bucket)}
    inside, beside = str(bucket / "studio"), str(tmp_path / "beside")
    assert find_home({"NANOCHAT_STUDIO_HOME": inside}, bucket).warning == ""
    assert find_home({"NANOCHAT_STUDIO_HOME": beside}, bucket).warning == LOST
    monkeypatch.setattr(space_home.os, "access", lambda *_: False)
    assert find_home({}, bucket) == SpaceHome(None, READ_ONLY)
    assert "/data" in LOST


def test_the_owner_is_told_that_nothing_is_kept(space):
    owner = Person("ann", True)
    assert "lost when this Space restarts" in who(owner, space, SpaceHome(None, LOST))
    assert "lost" not in who(owner, space, SpaceHome(None))
    assert "lost" not in who(NOBODY, space, SpaceHome(None, LOST))
    assert "&lt;b&gt;" in who(Person("<b>"), space, SpaceHome(None))
