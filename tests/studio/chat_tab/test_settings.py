"""The numbers of a chat, as a browser or a script may send them."""

import math

import pytest

from studio.chat_tab.settings import ChatSettings

GOOD = {"temperature": 0.7, "top_k": 50, "max_tokens": 256, "seed": 1}


def settings(**changes):
    return ChatSettings(
        **{"both": False, "model_0": None, "model_1": None, "system": None, "precision": None, **GOOD, **changes}
    )


def test_an_emptied_field_is_told_only_when_a_reply_is_wanted():
    assert settings(seed=None).numbers()["seed"] == 0
    with pytest.raises(ValueError, match="seed is empty"):
        settings(seed=None).sampling()


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e300, 10**400, "7", [7]])
def test_what_cannot_be_computed_with_is_a_sentence(name, value):
    with pytest.raises(ValueError, match=f"The setting {name} is .*. Give a number of ordinary size"):
        settings(**{name: value}).numbers()
