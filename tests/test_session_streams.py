"""``session=``: streams over the caller's own connections; timeouts, stopping, other users."""

from __future__ import annotations

import contextlib
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter

from providers_sync import (
    APITimeoutError,
    CancelToken,
    OpenAICompatible,
    ProviderError,
    StreamCancelled,
    StreamCut,
    Timeouts,
)
from providers_sync.stream import wakeup
from providers_sync.testing import (
    Server,
    answer,
    cut,
    pause,
    reset,
    serve,
    stall,
    text,
    wait,
)

HELLO = answer("Hello", framing="length")


class HiddenSocketAdapter(HTTPAdapter):
    """Returns responses whose socket cannot be found, as adapters over other libraries do."""

    def send(self, *arguments: Any, **settings: Any) -> requests.Response:
        response = super().send(*arguments, **settings)
        response.raw = HiddenFile(response.raw)
        return response


class HiddenFile:
    """A body with nothing but ``read``, ``close`` and ``release_conn``."""

    def __init__(self, raw: Any) -> None:
        self.read: Callable[[int], bytes] = lambda size: raw.read1(size)
        self.close, self.release_conn = raw.close, raw.release_conn


@pytest.fixture(params=[HTTPAdapter, HiddenSocketAdapter], ids=["stock", "hidden"])
def session(request: pytest.FixtureRequest) -> Iterator[requests.Session]:
    """A session whose adapter keeps one connection per host, and blocks while it is in use."""
    with requests.Session() as session:
        session.mount("http://", request.param(pool_maxsize=1, pool_block=True))
        session.mount("https://", request.param(pool_maxsize=1, pool_block=True))
        yield session


@pytest.fixture
def stock() -> Iterator[requests.Session]:
    """A session as requests makes it."""
    with requests.Session() as session:
        yield session


def openai(server: Server, session: requests.Session, **settings: Any) -> OpenAICompatible:
    settings = {"timeouts": 5, "retry": None, **settings}
    return OpenAICompatible("m", base_url=server.url, session=session, **settings)


@pytest.mark.parametrize(
    "broken",
    [
        answer("Hel", cut()),
        answer("Hel", reset()),
        answer("Hel", cut(), framing="length"),
        answer("Hello", gzip=True, trailer=False, end=False),
    ],
)
def test_broken_stream_keeps_its_text_and_frees_the_connection(
    session: requests.Session, broken: Any
) -> None:
    """A pool of one connection would block the next call for ever."""
    with serve([broken, HELLO]) as server:
        with pytest.raises(StreamCut) as caught:
            openai(server, session).complete("Hi")
        assert caught.value.partial.startswith("Hel")
        assert openai(server, session).complete("Hi").text == "Hello"


def test_cancelled_stream_ends_at_once_and_frees_the_connection(stock: requests.Session) -> None:
    """After the headers, silent or not; the server notices at once."""
    stock.mount("http://", HTTPAdapter(pool_maxsize=1, pool_block=True))
    with serve([answer("Hel", stall()), HELLO]) as server:
        stream = openai(server, stock).stream("Hi")
        assert next(stream) == "Hel"
        start = time.monotonic()
        threading.Timer(0.05, stream.cancel).start()
        with pytest.raises(StreamCancelled):
            next(stream)
        server.wait_closed(timeout=1)
        assert time.monotonic() - start < 0.5
        assert openai(server, stock).complete("Hi").text == "Hello"


def test_caller_is_free_at_once_in_every_phase(session: requests.Session) -> None:
    """Before the headers, and in the middle of the answer."""
    go_on = threading.Event()
    silent_at_first = answer("Hello", before=[wait(go_on)])
    silent_later = answer("Hel", wait(go_on), "lo")
    for script in (silent_at_first, silent_later):
        token = CancelToken()
        with serve(script) as server:
            threading.Timer(0.1, token.cancel).start()
            start = time.monotonic()
            with pytest.raises(StreamCancelled):
                openai(server, session).complete("Hi", cancel=token)
            assert time.monotonic() - start < 0.5
            go_on.set()
            server.wait_closed(timeout=1)
        go_on.clear()


@pytest.mark.parametrize(
    ("script", "clock"),
    [
        (answer("Hello", before=[stall()]), "first_token"),
        (answer(stall()), "first_token"),
        (answer("Hel", stall()), "idle"),
    ],
    ids=["before the headers", "after the headers", "later"],
)
def test_timeouts_hold(session: requests.Session, script: Any, clock: str) -> None:
    """The caller's own wait ends, whatever the connection does."""
    limits = Timeouts(connect=5, first_token=0.2, idle=0.2, total=5)
    with serve(script) as server:
        start = time.monotonic()
        with pytest.raises(APITimeoutError) as caught:
            openai(server, session, timeouts=limits).complete("Hi")
        assert time.monotonic() - start < 0.7
        assert caught.value.clock == clock


def test_connection_that_hangs_ends_with_the_connect_timeout(
    session: requests.Session, blackhole: tuple[str, int]
) -> None:
    """It is an error of its own class, which may be retried."""
    provider = OpenAICompatible(
        "m",
        base_url=f"http://127.0.0.1:{blackhole[1]}",
        session=session,
        retry=None,
        timeouts=Timeouts(connect=0.2),
    )
    with pytest.raises(APITimeoutError) as caught:
        provider.complete("Hi")
    assert caught.value.clock == "connect"


@pytest.mark.parametrize("when", ["before", "after"])
def test_silence_within_the_timeouts_ends_nothing(session: requests.Session, when: str) -> None:
    """The read timeout of the connection is longer than any silence that is allowed."""
    steps: dict[str, Any] = {"before": [pause(0.3)]} if when == "before" else {}
    words = [pause(0.3), "Hello"] if when == "after" else ["Hello"]
    limits = Timeouts(connect=0.15, first_token=2, idle=0.15, total=None)
    with serve(answer(*words, **steps)) as server:
        assert openai(server, session, timeouts=limits).complete("Hi").text == "Hello"


def test_read_timeout_is_the_longest_silence_allowed(session: requests.Session) -> None:
    """So that a thread behind a connection that cannot be stopped ends soon after it."""
    given: list[Any] = []
    adapter: Any = session.adapters["http://"]
    send = adapter.send
    adapter.send = lambda *a, **k: (given.append(k["timeout"]), send(*a, **k))[1]
    limits = [
        Timeouts(connect=3, first_token=120, idle=60, total=600),
        Timeouts(connect=3, first_token=120, idle=60, total=9),
        Timeouts(connect=None, first_token=None, idle=60, total=9),
        None,
    ]
    with serve(HELLO) as server:
        for each in limits:
            openai(server, session, timeouts=each).complete("Hi")
    connects, reads = zip(*given, strict=True)
    assert connects == (pytest.approx(3, abs=0.5), pytest.approx(3, abs=0.5), None, None)
    assert reads == (121, pytest.approx(9, abs=0.5), pytest.approx(9, abs=0.5), None)


class ImpatientAdapter(HTTPAdapter):
    """Has a read timeout of its own, as adapters in many programs do."""

    def send(self, *arguments: Any, **settings: Any) -> requests.Response:
        return super().send(*arguments, **{**settings, "timeout": 0.2})


def test_timeout_of_an_adapter_is_named(stock: requests.Session) -> None:
    """While the adapter waits for the headers; it is not one of our timeouts."""
    stock.mount("http://", ImpatientAdapter())
    with serve(answer("Hello", before=[stall()])) as server:
        with pytest.raises(APITimeoutError, match="session=") as caught:
            openai(server, stock).complete("Hi")
        assert caught.value.clock == "first_token"


def test_timeout_of_an_adapter_does_not_cut_the_answer(stock: requests.Session) -> None:
    """Once the headers are there, ``idle`` limits the silence."""
    stock.mount("http://", ImpatientAdapter())
    with serve([text("Hel"), pause(0.4), text("lo")]) as server:
        assert openai(server, stock).complete("Hi").text == "Hello"


# --- other users of the session


def test_connection_is_as_before_for_its_next_user(
    stock: requests.Session, tls: ssl.SSLContext, ca: str
) -> None:
    """No timeout or TLS setting of ours stays on the socket."""
    stock.verify = ca
    with serve([HELLO, answer("Hello"), HELLO], tls=tls) as server:
        for _ in range(2):
            openai(server, stock, verify=ca, timeouts=77).complete("Hi")
        (pool,) = [
            manager.pools[key]
            for manager in [stock.adapters["https://"].poolmanager]  # type: ignore[attr-defined]
            for key in manager.pools.keys()  # noqa: SIM118
        ]
        connection = pool.pool.get()
        assert connection.sock.suppress_ragged_eofs
        assert 60 < connection.sock.gettimeout() <= 77  # urllib3's own, set for each request
        pool.pool.put(connection)
        assert stock.post(f"{server.url}/chat/completions", json={}, verify=ca).ok
        assert len(server.connections) == 1


def test_stopped_stream_never_ends_another_request(stock: requests.Session) -> None:
    """A stop that comes late must not hit the next request on the same connection."""
    words = ["a"] * 3

    def other(url: str) -> None:
        for _ in range(60):
            assert stock.post(f"{url}/chat/completions", json={}).status_code == 200

    with serve(answer(*words, framing="length")) as server, ThreadPoolExecutor(3) as pool:
        others = [pool.submit(other, server.url) for _ in range(2)]
        provider = openai(server, stock)
        for number in range(200):
            stream = provider.stream("Hi")
            stopper = threading.Thread(target=stream.cancel)
            if number % 2:
                next(stream, None)
            stopper.start()
            with contextlib.suppress(StreamCancelled):
                stream.read()
            stopper.join()
        for each in others:
            each.result(30)


def test_error_of_a_connection_refused_by_an_adapter(stock: requests.Session) -> None:
    """What an adapter raises before it has sent anything is not retried as a broken connection."""

    class Failing(HTTPAdapter):
        def send(self, *arguments: Any, **settings: Any) -> requests.Response:
            raise RuntimeError("not configured")

    stock.mount("http://", Failing())
    provider = OpenAICompatible("m", base_url="http://127.0.0.1:1", session=stock)
    with pytest.raises(ProviderError, match="session= raised RuntimeError"):
        provider.complete("Hi")


def test_headers_are_seen_before_the_first_text(
    session: requests.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also by a caller in another thread, while the body is being waited for."""
    monkeypatch.setattr(wakeup, "THREAD_WAIT_S", 60)
    go = threading.Event()
    with serve([wait(go), "Hello"]) as server, ThreadPoolExecutor(1) as pool:
        opening = pool.submit(openai(server, session).stream, "Hi")
        try:
            stream = opening.result(5)
        finally:
            go.set()
        assert stream.read() == "Hello"
