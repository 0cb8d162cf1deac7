"""Which requests are refused: a foreign Host, a foreign Origin."""

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from studio.security import RefuseForeign, refusal


@pytest.mark.parametrize("host", ["127.0.0.1:7860", "localhost:7860", "[::1]:7860", "LOCALHOST"])
@pytest.mark.parametrize("origin", [None, "http://127.0.0.1:7860", "http://localhost:7860"])
def test_this_machine_is_welcome(host, origin):
    assert refusal(host, origin, any_host=False) is None


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("evil.example", None),
        ("127.0.0.1.evil.example:7860", None),
        ("", None),
        ("[::1", None),
        ("127.0.0.1:7860", "http://evil.example"),
        ("127.0.0.1:7860", "http://127.0.0.1.evil.example"),
        ("127.0.0.1:7860", "null"),
        ("127.0.0.1:7860", ""),
    ],
)
def test_others_are_not(host, origin):
    assert refusal(host, origin, any_host=False)


@pytest.mark.parametrize(
    ("host", "origin", "is_welcome"),
    [
        ("studio.example", None, True),
        ("studio.example", "https://studio.example", True),
        ("studio.example:7860", "http://studio.example:7860", True),
        ("studio.example", "https://evil.example", False),
        ("studio.example", "http://127.0.0.1:7860", False),
        ("studio.example", "null", False),
    ],
)
def test_an_app_opened_to_others_still_answers_only_its_own_pages(host, origin, is_welcome):
    assert (refusal(host, origin, any_host=True) is None) == is_welcome


def test_the_middleware_answers_for_the_app():
    app = Starlette(
        routes=[Route("/", lambda request: PlainTextResponse("in"), methods=["GET", "POST"])],
        middleware=[Middleware(RefuseForeign)],
    )
    client = TestClient(app, base_url="http://127.0.0.1")
    assert client.get("/").text == "in"
    refused = client.post("/", headers={"Origin": "https://evil.example"})
    assert (refused.status_code, "another page" in refused.text) == (403, True)
    assert client.get("/", headers={"Host": "rebound.example"}).status_code == 403
