"""The places of a server's batch: taken, waited for, refused, and given back by whoever leaves."""

import signal
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

from tests.support.serving import ENDLESS, SECONDS, create, install_endless_model, served

pytestmark = pytest.mark.processes


def endless_stream(server, **settings):
    """A reply of 90,000 tokens, begun: if its place were not given back, whoever waits would wait for many minutes."""
    stream = create(server.client(), model=ENDLESS, stream=True, max_tokens=90_000, **settings)
    next(stream)
    return stream


def test_a_closed_stream_frees_its_place(endless):
    for _ in range(3):
        streams = [endless_stream(endless) for _ in range(2)]
        for stream in streams:
            stream.close()
        assert create(endless.client(), model=ENDLESS, max_tokens=5).usage.completion_tokens == 5


def test_a_caller_who_gives_up_waiting_frees_its_place(endless):
    streams = [endless_stream(endless) for _ in range(2)]
    with pytest.raises(openai.APITimeoutError):  # it waits in the queue
        create(endless.client(timeout=1), model=ENDLESS, max_tokens=90_000)
    streams[0].close()
    with pytest.raises(openai.APITimeoutError):  # it is being answered
        create(endless.client(timeout=1), model=ENDLESS, max_tokens=90_000)
    assert create(endless.client(), model=ENDLESS, max_tokens=5).usage.completion_tokens == 5
    streams[1].close()


def test_other_addresses_answer_while_the_model_works(endless):
    streams = [endless_stream(endless) for _ in range(2)]
    assert [model.id for model in endless.client().models.list()] == [ENDLESS]
    for stream in streams:
        stream.close()


def test_a_full_house_is_said_and_those_who_wait_are_answered(endless):
    streams = [endless_stream(endless) for _ in range(2)]
    with ThreadPoolExecutor(16) as pool:
        patient = endless.client(max_retries=50)  # the client itself comes back after a 429
        waiting = [pool.submit(create, patient, model=ENDLESS, max_tokens=3) for _ in range(16)]
        refused = None
        while refused is None:  # until all 16 have arrived
            try:
                create(endless.client(timeout=0.5), model=ENDLESS, max_tokens=3)
            except openai.APITimeoutError:
                continue
            except openai.RateLimitError as error:
                refused = error
        assert refused.code == "server_busy"
        assert refused.response.headers["retry-after"] == "1"
        for stream in streams:
            stream.close()
        assert {call.result(SECONDS).usage.completion_tokens for call in waiting} == {3}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_says_so_to_everybody(tmp_path, number):
    with served(install_endless_model(tmp_path), tmp_path, "--max-batch", "2") as running:
        streams = [endless_stream(running) for _ in range(2)]
        assert running.end(number) == (0, "Stopping; unfinished replies that end here: 2.\n", "")
        for stream in streams:
            with pytest.raises(openai.APIError, match="stopped before the reply was complete"):
                list(stream)
