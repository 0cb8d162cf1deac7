"""Wrong guesses of a password are slowed down, for each address by itself; everything else passes."""

import asyncio

import pytest

from studio.space.guesses import FREE_GUESSES, LONGEST_SECONDS, MOST_ADDRESSES, MOST_WAITING, SlowGuesses, address


class Door:
    """A sign-in that knows one password, and the middleware in front of it with a clock that only counts."""

    def __init__(self):
        self.waited = []
        self.slow = SlowGuesses(self.app, self.sleep)

    async def sleep(self, seconds):
        self.waited.append(seconds)
        await asyncio.sleep(0)

    async def app(self, scope, receive, send):
        await send({"type": "http.response.start", "status": 200 if scope["password"] == "right" else 400})

    async def ask(self, password, host="10.0.0.1", path="/login", method="POST"):
        statuses = []

        async def send(message):
            statuses.append(message.get("status"))

        scope = {"type": "http", "method": method, "path": path, "client": (host, 1), "password": password}
        await self.slow(scope, None, send)
        return statuses[0]

    def guess(self, *passwords, **more):
        async def all_of_them():
            return [await self.ask(password, **more) for password in passwords]

        return asyncio.run(all_of_them())


def test_each_wrong_guess_beyond_the_free_ones_waits_longer():
    door = Door()
    assert set(door.guess(*["wrong"] * 20)) == {400}
    assert door.waited[:FREE_GUESSES] == [0] * FREE_GUESSES
    assert door.waited[FREE_GUESSES : FREE_GUESSES + 4] == [1, 2, 4, 8]
    assert door.waited[-1] == LONGEST_SECONDS


def test_the_right_password_is_heard_and_forgives():
    door = Door()
    assert door.guess(*["wrong"] * 8, "right", "wrong")[-2:] == [200, 400]
    assert door.waited[8] > 0
    assert door.waited[9] == 0


def test_another_address_is_not_slowed_down():
    door = Door()
    door.guess(*["wrong"] * 10)
    door.guess("wrong", host="10.0.0.2")
    assert door.waited[-1] == 0


def test_many_at_once_gain_nothing():
    door = Door()

    async def at_once():
        return await asyncio.gather(*(door.ask("wrong") for _ in range(50)))

    statuses = asyncio.run(at_once())
    assert statuses.count(429) == 50 - MOST_WAITING
    assert statuses.count(400) == MOST_WAITING


def test_other_requests_never_wait():
    door = Door()
    door.guess(*["wrong"] * 10)
    before = len(door.waited)
    door.guess("wrong", path="/config")
    door.guess("wrong", method="GET")
    assert len(door.waited) == before


def test_the_memory_of_addresses_is_bounded():
    door = Door()
    for number in range(MOST_ADDRESSES + 10):
        door.slow._guesser(str(number))
    assert len(door.slow._guessers) == MOST_ADDRESSES


@pytest.mark.parametrize(
    ("host", "who"),
    [("10.0.0.1", "10.0.0.1"), ("2001:db8::1", "2001:db8::/64"), ("", ""), ("name", "name")],
)
def test_who_asks(host, who):
    assert address({"client": (host, 1)}) == who
    assert address({}) == ""
