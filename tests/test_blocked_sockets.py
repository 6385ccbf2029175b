"""pytest-socket, httpretty and pytest-httpserver: tools that work on sockets, or have real ones."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpretty
import pytest
import pytest_socket
import requests
from mock_kit import ENDPOINT, HELLO, URL, WAYS, ask, mocked, sse
from pytest_httpserver import HTTPServer

from providers_sync import APIConnectionError, Failover, OpenAICompatible, ProviderError
from providers_sync.testing import serve

REFUSED_WITHIN_S = 0.3
pytestmark = [
    pytest.mark.filterwarnings("ignore:A test tried to use:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*utcnow:DeprecationWarning"),  # in httpretty
]


@contextmanager
def no_sockets() -> Iterator[None]:
    pytest_socket.disable_socket(allow_unix_socket=True)  # asyncio needs a pair of them
    try:
        yield
    finally:
        pytest_socket.enable_socket()


@contextmanager
def only_hosts(*hosts: str) -> Iterator[None]:
    connect = socket.socket.connect
    pytest_socket.socket_allow_hosts(list(hosts))
    try:
        yield
    finally:
        socket.socket.connect = connect  # type: ignore[method-assign]


BLOCKS: dict[str, tuple[Callable[[], Any], str]] = {
    "disable_socket": (no_sockets, "SocketBlockedError: A test tried to use socket."),
    "allow_hosts": (lambda: only_hosts("10.0.0.1"), "SocketConnectBlockedError: A test tried to"),
}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", BLOCKS)
def test_blocked_socket_is_told_at_once(name: str, way: str, host: str) -> None:
    """One attempt, within 0.3 s; the error names the class; nothing reaches the server."""
    block, text = BLOCKS[name]
    with serve(["Hello"]) as server:
        provider = OpenAICompatible("m", base_url=f"http://{host}:{server.port}/v1")
        provider.prepare("Hi")  # what is imported late costs nothing below
        with block():
            started = time.perf_counter()
            _, outcome, error = ask(provider, way)
            assert time.perf_counter() - started < REFUSED_WITHIN_S
        assert text in str(error)
        assert outcome == "failed"
        assert server.connections == []
        assert ask(provider, way) == ("Hello", "complete", None)


def test_blocked_lookup_is_not_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    """One attempt looks a name up once."""
    lookups: list[Any] = []

    def refuse(*query: Any, **_: Any) -> Any:
        lookups.append(query)
        raise pytest_socket.SocketBlockedError

    monkeypatch.setattr("socket.getaddrinfo", refuse)
    with pytest.raises(APIConnectionError, match="SocketBlockedError") as caught:
        mocked().complete("Hi")
    assert not caught.value.retryable
    assert len(lookups) == 1


def test_blocked_provider_of_a_failover_is_tried_once() -> None:
    """The next provider's refusal is listed beside it."""
    with serve(["Hello"]) as server, no_sockets():
        url = f"{server.url}/v1"
        providers = [OpenAICompatible(name, base_url=url) for name in ("a", "b")]
        with pytest.raises(ProviderError) as caught:
            Failover(providers).complete("Hi", retry=3)
    assert str(caught.value).count("SocketBlockedError") == 2


def test_allowed_host_is_reached() -> None:
    """What pytest-socket allows works as ever."""
    with serve(["Hello"]) as server, only_hosts("127.0.0.1"):
        provider = OpenAICompatible("m", base_url=f"{server.url}/v1")
        assert ask(provider) == ("Hello", "complete", None)
        assert ask(provider) == ("Hello", "complete", None)


@pytest.fixture
def pretty() -> Iterator[None]:
    """Requests to the endpoint answered by httpretty; others would use real sockets."""
    with httpretty.enabled():
        for scheme in ("http", "https"):
            httpretty.register_uri(
                httpretty.POST,
                ENDPOINT.replace("http", scheme),
                body=HELLO,
                content_type="text/event-stream",
            )
        yield
        httpretty.reset()  # it keeps the sockets of all requests


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # httpretty's own sockets
@pytest.mark.parametrize("way", sorted(WAYS.keys() - {"aio.stream", "aio.complete"}))
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_httpretty_answers(scheme: str, way: str, pretty: None) -> None:
    """Twice, by one provider; httpretty breaks asyncio's own sockets, so not through aio."""
    provider = OpenAICompatible("m", base_url=URL.replace("http", scheme), retry=None)
    for _ in range(2):
        assert ask(provider, way) == ("Hello", "complete", None)
        assert b'"messages"' in httpretty.last_request().body
    provider.close()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_httpretty_without_net_connect_works_as_far_as_in_requests() -> None:
    """It fails in plain requests with urllib3 2.3 and later; then we say so, at once."""
    with httpretty.enabled(allow_net_connect=False):
        httpretty.register_uri(httpretty.POST, ENDPOINT, body=HELLO)
        try:
            requests.post(ENDPOINT, timeout=5)
            failure = ""
        except httpretty.errors.UnmockedError as unmocked:
            failure = " ".join(str(unmocked).split())
        text, _, error = ask(mocked())
    if failure:
        assert f"UnmockedError: {failure}" in str(error)
    else:
        assert (text, error) == ("Hello", None)


@pytest.mark.parametrize("way", WAYS)
def test_pytest_httpserver_is_a_real_server(way: str, httpserver: HTTPServer) -> None:
    """It checks what it is sent; a second request uses its own answer."""
    expected = {"method": "POST", "headers": {"Authorization": "Bearer sk-test"}}
    for body in (HELLO, sse("Hel", end=False)):
        httpserver.expect_ordered_request("/v1/chat/completions", **expected).respond_with_data(
            body, content_type="text/event-stream"
        )
    provider = OpenAICompatible(
        "m", base_url=httpserver.url_for("/v1"), api_key="sk-test", retry=None
    )
    assert ask(provider, way) == ("Hello", "complete", None)
    assert ask(provider, way)[:2] == ("Hel", "truncated")
    httpserver.check()
