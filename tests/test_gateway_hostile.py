"""Tests of the gateway with slow or malicious clients, and without free threads or descriptors."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from gateway_kit import PATHS, WAIT_S, Endless, Scripted, body_of, connect, post
from waitress.wasyncore import dispatcher

from providers_sync.engines import DisconnectWatcher
from providers_sync.errors import ProviderError
from providers_sync.gateway import Gateway, serve
from providers_sync.serving import connections

HALF = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Set limits and timeouts of the gateway's connections; a test cannot wait half a minute."""
    monkeypatch.setattr(connections, "CHECK_S", 0.02)

    def change(**constants: float) -> None:
        for name, value in constants.items():
            monkeypatch.setattr(connections, name, value)

    return change


@contextlib.contextmanager
def connected(gateway: Gateway, *sent: bytes) -> Iterator[list[socket.socket]]:
    """Open a connection for each item of ``sent``, and send it."""
    with contextlib.ExitStack() as stack:
        clients = []
        for data in sent:
            address = ("127.0.0.1", gateway.port)
            client = stack.enter_context(socket.create_connection(address, timeout=WAIT_S))
            client.sendall(data)
            clients.append(client)
        yield clients


def read(client: socket.socket) -> bytes:
    """Read until the gateway closes the connection."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while data := client.recv(65536):
            received += data
    return received


# --- slow clients


@pytest.mark.parametrize("sent", [b"POST /v1", HALF, HALF + b"Content-Length: 9\r\n\r\n{"])
def test_request_that_does_not_arrive(limits: Callable[..., None], sent: bytes) -> None:
    """Headers and body share one deadline; then the client gets a 408 and is disconnected."""
    limits(REQUEST_S=0.2)
    with serve() as gateway, connected(gateway, sent) as (client,):
        head, _, body = read(client).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 408 ") or head.startswith(b"HTTP/1.1 408 ")
    assert json.loads(body)["error"]["code"] == "request_timeout"


@pytest.mark.parametrize(("start", "drip"), [(HALF, b"X"), (b"\r\n\r\n", b"\r\n\r\n")])
def test_request_that_drips(limits: Callable[..., None], start: bytes, drip: bytes) -> None:
    """A byte now and then, or an empty line, does not extend the deadline."""
    limits(REQUEST_S=0.2)
    with serve() as gateway, connected(gateway, start) as (client,):
        client.settimeout(0.02)
        deadline = time.monotonic() + WAIT_S
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while time.monotonic() < deadline:
                client.sendall(drip)
                with contextlib.suppress(TimeoutError):
                    client.recv(65536)
                    break
        assert time.monotonic() < deadline


def test_idle_connection_ends(limits: Callable[..., None]) -> None:
    """A connection without further requests is closed without an error; earlier ones are served."""
    limits(REQUEST_S=0.2, IDLE_S=0.4)
    request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with serve() as gateway, connected(gateway, request) as (client,):
        responses = client.makefile("rb")
        for _ in range(2):
            assert responses.readline() == b"HTTP/1.1 200 OK\r\n"
            size = 0
            while (line := responses.readline()) != b"\r\n":
                name, _, value = line.partition(b":")
                size = int(value) if name.lower() == b"content-length" else size
            responses.read(size)
            client.sendall(request)
        assert responses.read().count(b"HTTP/1.1 200 OK") == 1
        responses.close()


def test_connection_is_kept_between_requests(limits: Callable[..., None]) -> None:
    """A request's timeout starts with its own first byte, not with the previous request."""
    limits(REQUEST_S=0.1)
    request = b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with serve() as gateway, connected(gateway, request) as (client,):
        assert client.recv(65536).startswith(b"HTTP/1.1 200 OK")
        with connected(gateway, HALF) as (later,):
            assert b" 408 " in read(later)
        client.sendall(request)
        assert client.recv(65536).startswith(b"HTTP/1.1 200 OK")


def test_slow_clients_are_replaced(limits: Callable[..., None]) -> None:
    """A good client is served even if slow clients exceed the connection limit."""
    limits(MAX_CONNECTIONS=20, GRACE_S=0.1)
    with serve() as gateway, connected(gateway, *[HALF] * 30):
        answer = requests.get(gateway.url(), timeout=WAIT_S)
    assert answer.status_code == 200


def test_idle_client_is_replaced_first(limits: Callable[..., None]) -> None:
    """A connection without a request is dropped before one whose request is arriving."""
    limits(MAX_CONNECTIONS=2, GRACE_S=0.1)
    with serve() as gateway, connected(gateway, HALF, b"") as (slow, idle):
        assert requests.get(gateway.url(), timeout=WAIT_S).status_code == 200
        assert idle.recv(1) == b""
        slow.sendall(b"Connection: close\r\nContent-Length: 0\r\n\r\n")
        assert read(slow).startswith(b"HTTP/1.1 415")


def test_answers_in_progress_are_not_replaced(
    limits: Callable[..., None], scripted: tuple[Gateway, Scripted]
) -> None:
    """However long it pauses, an answer is not dropped for new clients, nor for its age."""
    limits(MAX_CONNECTIONS=2, GRACE_S=0.0, REQUEST_S=0.0, IDLE_S=0.0, UNREAD_S=0.0)
    gateway, engine = scripted
    with connect(gateway, "ai365vip") as client:
        assert engine.started.wait(WAIT_S)
        for _ in range(3):
            with connected(gateway, b"", b"") as others:
                assert [read(each) for each in others] == [b"", b""]
        engine.script.put("Still here.")
        engine.script.put(None)
        assert b"Still here." in read(client)


def test_client_that_reads_nothing(limits: Callable[..., None]) -> None:
    """It does not hold its thread and its engine forever."""
    limits(UNREAD_S=0.2)
    engine = Endless()
    engine.text = "x" * 100_000
    with serve(engine) as gateway, connect(gateway, "ai365vip"):
        assert engine.started.wait(WAIT_S)
        assert engine.stopped.wait(WAIT_S)


def test_large_headers(echo: Gateway) -> None:
    """They are refused at a size far above what browsers send."""
    answer = requests.get(echo.url(), headers={"X": "x" * 66_000}, timeout=WAIT_S)
    assert answer.status_code == 431


# --- no thread


class NoThreads:
    """Lets at most ``remaining`` threads start; set it to -1 to remove the limit."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, remaining: int) -> None:
        self.remaining = remaining
        real = threading.Thread.start

        def start(thread: threading.Thread) -> None:
            if self.remaining == 0:
                raise RuntimeError("can't start new thread")
            self.remaining -= 1
            real(thread)

        monkeypatch.setattr(threading.Thread, "start", start)


def test_request_without_a_thread(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is refused, logged once and cleaned up: later requests are answered."""
    engine = Scripted("Hi", None)
    with serve(engine) as gateway:
        threads = NoThreads(monkeypatch, 0)
        for name in ("openai", "anthropic", "anthropic"):
            refused = post(gateway, name)
            assert refused.status_code == 503
            assert "cannot start a thread" in refused.json()["error"]["message"]
        threads.remaining = -1
        assert "Hi" in post(gateway, "openai").text
    assert engine.closed == 1
    assert [record.message for record in caplog.records] == [
        "a request was refused: can't start new thread"
    ]


def test_close_after_a_request_without_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """``close`` needs no thread, and closes the engine."""
    engine = Scripted()
    gateway = serve(engine)
    NoThreads(monkeypatch, 0)
    assert post(gateway, "openai").status_code == 503
    gateway.close()
    assert engine.closed == 1


@pytest.mark.parametrize("remaining", [0, 1])
def test_gateway_without_a_thread(monkeypatch: pytest.MonkeyPatch, remaining: int) -> None:
    """``serve`` raises, and leaves no socket, thread or engine open."""
    engines = Scripted(), Scripted()
    folder = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
    files = len(os.listdir(folder))
    threads = NoThreads(monkeypatch, remaining)
    with pytest.raises(ProviderError, match=r"cannot start a thread .* raise the limit"):
        serve(engines[0])
    threads.remaining = remaining
    listener = socket.create_server(("127.0.0.1", 0))
    with pytest.raises(ProviderError, match="cannot start a thread"):
        Gateway(listener, engines[1], None)
    assert [engine.closed for engine in engines] == [1, 1]
    assert len(os.listdir(folder)) == files


def test_close_reaches_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine is closed, once, even if an earlier step of ``close`` fails."""
    engine = Scripted()
    real = DisconnectWatcher.close

    def close(watcher: DisconnectWatcher) -> None:
        real(watcher)
        raise OSError("broken")

    monkeypatch.setattr(DisconnectWatcher, "close", close)
    gateway = serve(engine)
    with pytest.raises(OSError, match="broken"):
        gateway.close()
    gateway.close()
    assert engine.closed == 1


# --- no descriptor


class NoDescriptors:
    """While ``full``, makes accept() fail as in a process without descriptors; counts the calls."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = True
        self.calls = 0
        self.twice = threading.Event()
        real = dispatcher.accept

        def accept(listener: Any) -> Any:
            self.calls += 1
            if self.calls == 2:
                self.twice.set()
            if self.full:
                raise OSError(errno.EMFILE, "Too many open files")
            return real(listener)

        monkeypatch.setattr(dispatcher, "accept", accept)


def test_gateway_without_descriptors_pauses(
    limits: Callable[..., None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It pauses between attempts, logs one warning and recovers automatically."""
    caplog.set_level(logging.INFO)
    limits(ACCEPT_PAUSE_S=0.2)
    started = time.monotonic()
    with serve() as gateway:
        system = NoDescriptors(monkeypatch)
        with connected(gateway, b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n") as (client,):
            assert system.twice.wait(WAIT_S)
            assert system.calls <= 2 + (time.monotonic() - started) / 0.2
            system.full = False
            assert read(client).startswith(b"HTTP/1.0 200 OK")
    assert [record.message for record in caplog.records] == [
        "no connection can be accepted: [Errno 24] Too many open files; raise ulimit -n"
    ]


def test_gateway_without_descriptors_drops_idle_clients(
    limits: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connections without a request are dropped, so that slow clients cannot block others."""
    limits(GRACE_S=0.1, ACCEPT_PAUSE_S=0.1)
    with serve() as gateway, connected(gateway, b"", HALF) as (idle, slow):
        idle.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert idle.recv(15) == b"HTTP/1.1 200 OK"
        NoDescriptors(monkeypatch)
        with connected(gateway, b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n"):
            assert b"providers_sync gateway" in read(idle)
            assert read(slow) == b""


# --- malicious bodies


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("openai", {"messages": [{"role": "user", "content": [{"type": "new", "text": 5}]}]}),
        ("openai", {"response_format": {"type": "json_object", "json_schema": 5}}),
        ("openai", {"messages": [{"role": "\ud800", "content": "\ud800"}], "model": "\ud800"}),
        ("anthropic", {"system": "\ud800", "model": "a\r\nX-Injected: b"}),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_unusual_body_is_answered(
    echo: Gateway, name: str, fields: dict[str, Any], stream: bool
) -> None:
    """Unusual but valid bodies are answered."""
    body = {**body_of(name), **fields, "stream": stream}
    answer = requests.post(echo.url() + PATHS[name], json=body, timeout=WAIT_S)
    assert answer.status_code == 200
    assert "X-Injected" not in answer.headers


@pytest.mark.parametrize("number", ["1e999", "-1e999", "Infinity", "1" * 5000])
def test_number_too_large(echo: Gateway, number: str) -> None:
    """Infinite or huge numbers are refused in any field: they cannot be written as JSON again."""
    body = json.dumps(body_of("openai", x=["?"])).replace('"?"', number)
    headers = {"Content-Type": "application/json"}
    answer = requests.post(echo.url() + PATHS["openai"], data=body, headers=headers, timeout=WAIT_S)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_json")


def test_engine_that_nests_too_deeply(scripted: tuple[Gateway, Scripted]) -> None:
    """A request nested too deeply for the engine is the client's mistake."""
    gateway, engine = scripted
    engine.script.put(RecursionError("maximum recursion depth exceeded"))
    answer = post(gateway, "openai")
    assert (answer.status_code, answer.json()["error"]["message"]) == (
        400,
        "the request is nested too deeply",
    )


def test_unstreamed_answer_takes_linear_time(echo: Gateway) -> None:
    """Ten times the words take ten times the time, also in Anthropic's form."""
    words = "word " * 300_000
    answer = post(echo, "anthropic", words, stream=False, max_tokens=10**9)
    assert answer.json()["content"] == [{"type": "text", "text": f"You said: {words}"}]
