"""``Provider.close()`` and ``with``: idle connections are closed, open streams go on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from providers_sync import Failover, OpenAICompatible
from providers_sync.testing import ScriptedProvider, Server, answer, serve, wait

HELLO = answer("Hello", framing="length")


@pytest.fixture
def server() -> Iterator[Server]:
    with serve(HELLO) as server:
        yield server


def openai(server: Server) -> OpenAICompatible:
    return OpenAICompatible("m", base_url=server.url)


def test_close_closes_idle_connections(server: Server) -> None:
    """Twice does no harm, and the provider is usable again afterwards."""
    provider = openai(server)
    provider.complete("Hi")
    for number in (1, 2):
        provider.close()
        provider.close()
        server.wait_closed(number)
        assert provider.complete("Hi").text == "Hello"
        assert len(server.connections) == number + 1


def test_with_closes_at_its_end(server: Server) -> None:
    """The name is the provider itself; an error passes through."""
    provider = openai(server)

    def fail() -> None:
        with provider as same:
            assert same is provider
            same.complete("Hi")
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    server.wait_closed()


def test_open_stream_goes_on_and_closes_its_connection_at_its_end() -> None:
    """An idle connection of the same provider is closed at once."""
    one, two = threading.Event(), threading.Event()
    scripts = [answer("Hel", wait(event), "lo", framing="length") for event in (one, two)]
    with serve(scripts) as server:
        provider = openai(server)
        prepared = provider.prepare("Hi")  # keeps the connections from being collected
        first, second = prepared.open(), prepared.open()
        one.set()
        assert first.read() == "Hello"
        provider.close()
        server.wait_closed(1)
        assert len(server.open_connections) == 1
        two.set()
        assert second.read() == "Hello"
        server.wait_closed(2)
        server.play(HELLO)
        assert prepared.open().read() == "Hello"


def test_failover_and_scripted_provider_close(server: Server) -> None:
    """The first closes the connections of its members, the other has none."""
    with Failover([openai(server)]) as failover:
        failover.complete("Hi")
    server.wait_closed()
    with ScriptedProvider("Hello") as scripted:
        assert scripted.complete("Hi").text == "Hello"
    assert scripted.complete("Hi").text == "Hello"


def test_close_from_another_thread_disturbs_no_call(server: Server) -> None:
    """Whatever a call does at that moment, it gets its answer in one attempt."""
    provider = openai(server)
    ended = threading.Event()

    def close() -> None:
        while not ended.wait(0.0005):
            provider.close()

    with ThreadPoolExecutor(5) as pool:
        closers = [pool.submit(close) for _ in range(2)]
        try:
            calls = [pool.submit(lambda: provider.complete("Hi", retry=None)) for _ in range(200)]
            assert {call.result(30).text for call in calls} == {"Hello"}
        finally:
            ended.set()
        for closer in closers:
            closer.result(10)
    provider.close()
    assert len(server.requests) == 200
