"""The precision a chat's models are loaded in: offered where it can be had, asked for, and remembered."""

import pytest

from nanochat_core.system.hardware import Gpu, Hardware
from studio.chat_tab import precision
from studio.chat_tab.handlers import ChatHandlers
from studio.chat_tab.models import ModelHandlers
from studio.chat_tab.settings import SETTINGS
from studio.models.processes import AS_IT_IS
from studio.space.access import Person, acting
from tests.support.chatting import ID, A, a_chat, chosen, run


@pytest.fixture
def machine(monkeypatch):
    """A function that sets what this machine has."""

    def set_to(gpus=(), apple=False):
        monkeypatch.setattr(precision, "find_hardware", lambda: Hardware(tuple(gpus), apple, 2, 8 << 30))
        precision.choices.cache_clear()

    set_to()
    yield set_to
    precision.choices.cache_clear()


def test_a_reply_and_the_load_button_ask_for_the_chosen_one(models, machine):
    handlers = ChatHandlers(models)
    run(handlers.send(ID, "Hi", None, *chosen()))
    updates = run(handlers.send(ID, "Hi", None, *chosen(precision="int8", both=True)))
    list(ModelHandlers(models).load(A, "bfloat16"))
    assert models.dtypes == [None, "int8", "int8", "bfloat16"]
    code = updates[-1]["code"]
    compile(code, "cell", "exec")
    assert code.startswith("import torch\n")
    assert "load_model('pretrained/one', step=7, dtype=torch.int8)" in code


def test_the_fastest_one_is_measured(models, machine):
    code = run(ChatHandlers(models).send(ID, "Hi", None, *chosen(precision="fastest here")))[-1]["code"]
    assert models.dtypes == ["auto"]
    compile(code, "cell", "exec")
    assert """dtype=dtype_asked("auto", torch.device("cpu"), print))""" in code


def test_int8_is_offered_for_a_cpu_only(models, machine):
    assert precision.choices() == ["automatic", "float32", "bfloat16", "int8", "int4", "fastest here"]
    assert "0.04% and 0.3%" in precision.info()
    for found in ({"gpus": [Gpu(0, "H100", 80 << 30, 0)]}, {"apple": True}):
        machine(**found)
        assert precision.choices() == ["automatic", "float32", "bfloat16"]
        assert "int8" not in precision.info()
    with pytest.raises(ValueError, match=r"The precision 'int8' cannot be had here\. Choose automatic,"):
        run(ChatHandlers(models).send(ID, "Hi", None, *chosen(precision="int8")))
    with pytest.raises(ValueError, match="cannot be had here"):
        list(ModelHandlers(models).load(A, "int8"))
    assert models.dtypes == []


def test_visitors_share_the_model_as_it_is(models, machine, monkeypatch):
    monkeypatch.setattr(precision, "is_visitor", lambda: True)
    run(ChatHandlers(models).send(ID, "Hi", None, *chosen(precision="int8")))
    assert models.dtypes == [AS_IT_IS]


def test_on_zero_gpu_there_is_one_precision_for_all(models, machine, monkeypatch):
    monkeypatch.setattr(precision, "is_zero_gpu", lambda: True)
    assert precision.choices() == ["automatic"]
    assert precision.offered("bfloat16") == "automatic"


def test_the_load_button_asks_for_the_owner_s_choice_on_a_space_too(models, machine, monkeypatch):
    monkeypatch.setenv("SPACE_ID", "me/mine")
    with acting(Person("me", is_owner=True)):
        list(ModelHandlers(models).load(A, "int8"))
    with acting(Person("you", is_owner=False)):
        list(ModelHandlers(models).load(A, "int8"))
    assert models.dtypes == ["int8", AS_IT_IS]


def test_it_is_remembered_with_the_chat_and_not_taken_to_a_machine_without_it(models, machine):
    run(ChatHandlers(models).send(ID, "Hi", None, *chosen(precision="int8")))
    place = 5 + SETTINGS.index("precision")
    assert ChatHandlers(models).restore(ID, *chosen())[place]["value"] == "int8"
    machine(apple=True)
    assert "value" not in ChatHandlers(models).restore(ID, *chosen())[place]  # the page's own stays
    assert ChatHandlers(models).restore(ID, *chosen(precision="int8"))[place]["value"] == "automatic"


def test_a_chat_that_was_kept_before_there_was_a_choice_is_restored(models, machine):
    chat = a_chat()
    assert "precision" not in chat.settings
    place = 5 + SETTINGS.index("precision")
    assert "value" not in ChatHandlers(models).restore(ID, *chosen())[place]
