"""``api_key=`` as a function that returns the key, for tokens that expire."""

from __future__ import annotations

import asyncio
import gc
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest

from providers_sync import (
    Anthropic,
    APITimeoutError,
    AuthenticationError,
    CancelToken,
    Failover,
    FailoverError,
    InvalidRequestError,
    OpenAICompatible,
    ProviderError,
    RateLimitError,
    StreamCancelled,
    Timeouts,
    aio,
    batch,
)
from providers_sync.testing import Server, answer, json_body, serve, status

SECRET = "sk-very-secret-key-0123456789"


@pytest.fixture
def server() -> Iterator[Server]:
    with serve() as server:
        yield server


class Counter:
    """Returns ``key-1``, ``key-2``, …, and remembers the threads."""

    def __init__(self) -> None:
        self.threads: list[str] = []

    def __call__(self) -> str:
        self.threads.append(threading.current_thread().name)
        return f"key-{len(self.threads)}"


def fixed_key() -> str:
    return SECRET


def openai(server: Server, key: Any, **settings: Any) -> OpenAICompatible:
    return OpenAICompatible("m", base_url=server.url, api_key=key, **settings)


def keys_of(server: Server) -> list[str]:
    return [request.headers["Authorization"] for request in server.requests]


def test_key_is_asked_for_before_each_attempt_in_the_worker() -> None:
    """A retry sends the renewed key; the caller's thread runs none of the function."""
    key = Counter()
    with serve([status(503, headers={"Retry-After": "0"}), answer("Hello")]) as server:
        provider = openai(server, key)
        assert not key.threads
        assert provider.complete("Hi").text == "Hello"
        assert keys_of(server) == ["Bearer key-1", "Bearer key-2"]
    assert all(name.startswith("providers-sync") for name in key.threads)


def test_every_kind_of_call_asks_for_it(server: Server) -> None:
    """``list_models``, the async adapter, a batch, a ``Failover``."""
    key = Counter()
    provider = openai(server, key)
    asyncio.run(aio.complete(provider, "Hi"))
    assert [row.text for row in batch.map(provider, ["one", "two"])] == ["Hello!"] * 2
    Failover([provider]).complete("Hi")
    server.play(json_body({"data": [{"id": "m"}]}))
    assert provider.list_models() == ["m"]
    assert sorted(keys_of(server)) == [f"Bearer key-{n}" for n in range(1, 6)]


def test_provider_of_ones_own_puts_the_key_where_it_likes(server: Server) -> None:
    """``authorization`` gets the key, and what it returns is hidden, whatever its name."""

    class Ticket(OpenAICompatible):
        def authorization(self, api_key: str) -> dict[str, str]:
            return {"X-Ticket": f"Ticket {api_key}"}

    server.play(status(401, f"unknown ticket {SECRET}"))
    with pytest.raises(AuthenticationError) as caught:
        Ticket("m", base_url=server.url, api_key=fixed_key).complete("Hi")
    assert server.requests[0].headers["X-Ticket"] == f"Ticket {SECRET}"
    assert SECRET not in f"{caught.value!r} {caught.value.body}"
    server.play("Hello")
    Anthropic("m", base_url=server.url, api_key=fixed_key).complete("Hi")
    assert server.requests[1].headers["x-api-key"] == SECRET


def test_key_that_the_server_quotes_is_hidden(server: Server) -> None:
    """In the text, the body, the representation and the local variables."""
    server.play(status(401, f"wrong key {SECRET}"))
    provider = openai(server, fixed_key)
    with pytest.raises(AuthenticationError, match=r"wrong key \*\*\*") as caught:
        provider.complete("Hi")
    assert "no key was set" not in str(caught.value)
    assert SECRET not in f"{caught.value!r} {caught.value.body} {provider!r}"
    trace = caught.value.__traceback__
    while trace is not None:
        if trace.tb_frame.f_globals["__name__"].startswith("providers_sync"):
            assert SECRET not in repr(trace.tb_frame.f_locals)
        trace = trace.tb_next


@pytest.mark.parametrize("kind", [KeyError, RateLimitError])
def test_error_of_the_function_is_the_cause(server: Server, kind: type[Exception]) -> None:
    """It is not retried, its text stays in the cause, and a ``Failover`` moves on."""
    calls: list[int] = []

    def fail() -> str:
        calls.append(1)
        raise kind("token") if kind is KeyError else RateLimitError("x", status_code=429)

    with pytest.raises(ProviderError, match=rf"api_key function raised {kind.__name__}") as e:
        openai(server, fail).complete("Hi")
    assert type(e.value) is ProviderError
    assert type(e.value.__cause__) is kind
    assert len(calls) == 1
    assert not server.requests
    backup = openai(server, "sk-backup")
    assert Failover([openai(server, fail), backup]).complete("Hi").text == "Hello!"
    with pytest.raises(FailoverError, match="api_key function raised"):
        Failover([openai(server, fail)]).complete("Hi")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "must return the key as a string, not NoneType"),
        ("", "not an empty string"),
        (b"sk-1", "not bytes"),
        (f"{SECRET}\n", "line break"),
        (f" {SECRET}", "white space"),
        ("schlüssel-€", "Latin-1"),
        (mock.Mock(), "not Mock"),
    ],
)
def test_useless_key_is_named_and_nothing_is_sent(server: Server, value: Any, text: str) -> None:
    """The error says what is wrong, and never shows the key."""
    with pytest.raises(ProviderError, match=text) as caught:
        openai(server, lambda: value).complete("Hi")
    assert not isinstance(caught.value, InvalidRequestError)
    assert SECRET not in repr(caught.value)
    assert not server.requests


async def async_key() -> str:
    return SECRET


def test_async_function_is_refused(server: Server) -> None:
    """At once if that can be known, otherwise at the call, without a warning from Python."""
    with pytest.raises(InvalidRequestError, match="not an async one"):
        openai(server, async_key)
    with pytest.raises(ProviderError, match="must not be async"):
        openai(server, lambda: async_key()).complete("Hi")
    gc.collect()


@pytest.mark.parametrize(("wrong", "text"), [(Counter, "not the class Counter"), (5, "a function")])
def test_class_or_number_is_refused(server: Server, wrong: Any, text: str) -> None:
    """An instance of the class would do."""
    with pytest.raises(InvalidRequestError, match=f"api_key must be .*{text}"):
        openai(server, wrong)


def slow(started: threading.Event, go_on: threading.Event) -> Callable[[], str]:
    def key() -> str:
        started.set()
        go_on.wait(10)
        return "key"

    return key


def test_slow_function_has_until_the_total_timeout(server: Server) -> None:
    """The time to get a key is not that to connect."""
    started, go_on = threading.Event(), threading.Event()
    threading.Timer(0.3, go_on.set).start()
    provider = openai(server, slow(started, go_on), timeouts=Timeouts(connect=0.1, total=5))
    assert provider.complete("Hi").text == "Hello!"


def test_slow_function_in_a_second_request_at_once() -> None:
    """The timeout of the first, which was rejected, does not end the call meanwhile."""
    calls: list[int] = []

    def key() -> str:
        calls.append(1)
        threading.Event().wait(0.3 * (len(calls) - 1))
        return "key"

    limits = Timeouts(first_token=0.2)
    with serve([status(400, "stream_options is unknown"), answer("Hello")]) as server:
        assert openai(server, key, timeouts=limits).complete("Hi").text == "Hello"
    assert len(calls) == 2


def test_function_that_hangs_ends_with_the_total_timeout(server: Server) -> None:
    """The caller is free then, or when it cancels; nothing is sent when the key comes at last."""
    started, go_on = threading.Event(), threading.Event()
    with pytest.raises(APITimeoutError) as caught:
        openai(server, slow(started, go_on), timeouts=0.2).complete("Hi")
    assert caught.value.clock == "total"
    token = CancelToken()
    started.clear()
    threading.Thread(target=lambda: started.wait(5) and token.cancel()).start()
    begun = time.monotonic()
    with pytest.raises(StreamCancelled):
        openai(server, slow(started, go_on)).complete("Hi", cancel=token)
    assert time.monotonic() - begun < 0.5
    go_on.set()
    assert not server.requests


def test_pickling_is_up_to_the_function(server: Server) -> None:
    """A function of a module works; for a lambda Python's own error is clear."""
    provider = pickle.loads(pickle.dumps(openai(server, fixed_key)))
    provider.complete("Hi")
    assert keys_of(server) == [f"Bearer {SECRET}"]
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(openai(server, lambda: "key"))


def test_function_wins_over_the_environment(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Like any ``api_key=``."""
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-environment")
    OpenAICompatible("m", api_key=fixed_key).complete("Hi")
    assert keys_of(server) == [f"Bearer {SECRET}"]
