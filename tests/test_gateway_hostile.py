"""Clients that hold the gateway up, and a system that has no thread or descriptor left for it."""

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
from gateway_kit import PATHS, WAIT_S, Scripted, Talking, body_of, connect, post
from waitress.wasyncore import dispatcher

from providers_sync.engines import DisconnectWatcher
from providers_sync.errors import ProviderError
from providers_sync.gateway import Gateway, serve
from providers_sync.serving import connections

HALF = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Set constants of the gateway's connections, as a test cannot wait half a minute."""
    monkeypatch.setattr(connections, "LOOK_S", 0.02)

    def change(**constants: float) -> None:
        for name, value in constants.items():
            monkeypatch.setattr(connections, name, value)

    return change


@contextlib.contextmanager
def dialled(gateway: Gateway, *sent: bytes) -> Iterator[list[socket.socket]]:
    """Connect once for each of ``sent``, and send it."""
    with contextlib.ExitStack() as stack:
        clients = []
        for data in sent:
            address = ("127.0.0.1", gateway.port)
            client = stack.enter_context(socket.create_connection(address, timeout=WAIT_S))
            client.sendall(data)
            clients.append(client)
        yield clients


def read(client: socket.socket) -> bytes:
    """Read until the gateway hangs up."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while data := client.recv(65536):
            received += data
    return received


# --- slow clients


@pytest.mark.parametrize("sent", [b"POST /v1", HALF, HALF + b"Content-Length: 9\r\n\r\n{"])
def test_request_that_does_not_arrive(soon: Callable[..., None], sent: bytes) -> None:
    """Headers and body have one deadline together; then the client is told, and hung up on."""
    soon(REQUEST_S=0.2)
    with serve() as gateway, dialled(gateway, sent) as (client,):
        head, _, body = read(client).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 408 ") or head.startswith(b"HTTP/1.1 408 ")
    assert json.loads(body)["error"]["code"] == "request_timeout"


@pytest.mark.parametrize(("start", "drip"), [(HALF, b"X"), (b"\r\n\r\n", b"\r\n\r\n")])
def test_request_that_drips(soon: Callable[..., None], start: bytes, drip: bytes) -> None:
    """A byte now and then, or an empty line, does not put the deadline off."""
    soon(REQUEST_S=0.2)
    with serve() as gateway, dialled(gateway, start) as (client,):
        client.settimeout(0.02)
        deadline = time.monotonic() + WAIT_S
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while time.monotonic() < deadline:
                client.sendall(drip)
                with contextlib.suppress(TimeoutError):
                    client.recv(65536)
                    break
        assert time.monotonic() < deadline


def test_idle_connection_ends(soon: Callable[..., None]) -> None:
    """One on which nothing more is asked is closed without a word; its next request is in time."""
    soon(REQUEST_S=0.2, IDLE_S=0.4)
    whole = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with serve() as gateway, dialled(gateway, whole) as (client,):
        answers = client.makefile("rb")
        for _ in range(2):
            assert answers.readline() == b"HTTP/1.1 200 OK\r\n"
            size = 0
            while (line := answers.readline()) != b"\r\n":
                name, _, value = line.partition(b":")
                size = int(value) if name.lower() == b"content-length" else size
            answers.read(size)
            client.sendall(whole)
        assert answers.read().count(b"HTTP/1.1 200 OK") == 1
        answers.close()


def test_connection_is_kept_between_requests(soon: Callable[..., None]) -> None:
    """The time of a request begins with its own first byte, not with the one before."""
    soon(REQUEST_S=0.1)
    whole = b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with serve() as gateway, dialled(gateway, whole) as (client,):
        assert client.recv(65536).startswith(b"HTTP/1.1 200 OK")
        with dialled(gateway, HALF) as (later,):
            assert b" 408 " in read(later)
        client.sendall(whole)
        assert client.recv(65536).startswith(b"HTTP/1.1 200 OK")


def test_slow_clients_give_way(soon: Callable[..., None]) -> None:
    """More of them than there may be connections do not keep a good client out."""
    soon(MAX_CONNECTIONS=20, GRACE_S=0.1)
    with serve() as gateway, dialled(gateway, *[HALF] * 30):
        answer = requests.get(gateway.url(), timeout=WAIT_S)
    assert answer.status_code == 200


def test_idle_client_gives_way_first(soon: Callable[..., None]) -> None:
    """A connection on which nothing is asked goes before one whose request is on its way."""
    soon(MAX_CONNECTIONS=2, GRACE_S=0.1)
    with serve() as gateway, dialled(gateway, HALF, b"") as (slow, idle):
        assert requests.get(gateway.url(), timeout=WAIT_S).status_code == 200
        assert idle.recv(1) == b""
        slow.sendall(b"Connection: close\r\nContent-Length: 0\r\n\r\n")
        assert read(slow).startswith(b"HTTP/1.1 415")


def test_answers_under_way_do_not_give_way(
    soon: Callable[..., None], scripted: tuple[Gateway, Scripted]
) -> None:
    """However long it is silent, an answer is not dropped for new clients, nor for its age."""
    soon(MAX_CONNECTIONS=2, GRACE_S=0.0, REQUEST_S=0.0, IDLE_S=0.0, UNREAD_S=0.0)
    gateway, engine = scripted
    with connect(gateway, "ai365vip") as client:
        assert engine.started.wait(WAIT_S)
        for _ in range(3):
            with dialled(gateway, b"", b"") as others:
                assert [read(each) for each in others] == [b"", b""]
        engine.pieces.put("Still here.")
        engine.pieces.put(None)
        assert b"Still here." in read(client)


def test_client_that_reads_nothing(soon: Callable[..., None]) -> None:
    """It does not hold its thread and its engine for ever."""
    soon(UNREAD_S=0.2)
    engine = Talking()
    engine.word = "x" * 100_000
    with serve(engine) as gateway, connect(gateway, "ai365vip"):
        assert engine.started.wait(WAIT_S)
        assert engine.stopped.wait(WAIT_S)


def test_large_headers(echo: Gateway) -> None:
    """They are refused at a size that no browser comes near."""
    answer = requests.get(echo.url(), headers={"X": "x" * 66_000}, timeout=WAIT_S)
    assert answer.status_code == 431


# --- no thread


class NoThreads:
    """Lets so many threads start and no more, until it is told otherwise."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, left: int) -> None:
        self.left = left
        real = threading.Thread.start

        def start(thread: threading.Thread) -> None:
            if self.left == 0:
                raise RuntimeError("can't start new thread")
            self.left -= 1
            real(thread)

        monkeypatch.setattr(threading.Thread, "start", start)


def test_request_without_a_thread(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is refused, said once in the log, and leaves nothing behind: later ones are answered."""
    engine = Scripted("Hi", None)
    with serve(engine) as gateway:
        threads = NoThreads(monkeypatch, 0)
        for name in ("openai", "anthropic", "anthropic"):
            refused = post(gateway, name)
            assert refused.status_code == 503
            assert "cannot start a thread" in refused.json()["error"]["message"]
        threads.left = -1
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


@pytest.mark.parametrize("left", [0, 1])
def test_gateway_without_a_thread(monkeypatch: pytest.MonkeyPatch, left: int) -> None:
    """It says so, and leaves no socket, thread or engine open."""
    engines = Scripted(), Scripted()
    folder = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
    files = len(os.listdir(folder))
    threads = NoThreads(monkeypatch, left)
    with pytest.raises(ProviderError, match=r"cannot start a thread .* raise the limit"):
        serve(engines[0])
    threads.left = left
    listener = socket.create_server(("127.0.0.1", 0))
    with pytest.raises(ProviderError, match="cannot start a thread"):
        Gateway(listener, engines[1], None)
    assert [engine.closed for engine in engines] == [1, 1]
    assert len(os.listdir(folder)) == files


def test_close_reaches_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever fails before it is closed, and only once."""
    engine = Scripted()
    real = DisconnectWatcher.close

    def close(watch: DisconnectWatcher) -> None:
        real(watch)
        raise OSError("broken")

    monkeypatch.setattr(DisconnectWatcher, "close", close)
    gateway = serve(engine)
    with pytest.raises(OSError, match="broken"):
        gateway.close()
    gateway.close()
    assert engine.closed == 1


# --- no descriptor


class NoDescriptors:
    """Fails to accept, as in a process that has no descriptor left, while ``full``; and counts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = True
        self.asked = 0
        self.twice = threading.Event()
        real = dispatcher.accept

        def accept(listener: Any) -> Any:
            self.asked += 1
            if self.asked == 2:
                self.twice.set()
            if self.full:
                raise OSError(errno.EMFILE, "Too many open files")
            return real(listener)

        monkeypatch.setattr(dispatcher, "accept", accept)


def test_gateway_without_descriptors_rests(
    soon: Callable[..., None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It does not try without a pause, says so once, and comes back by itself."""
    caplog.set_level(logging.INFO)
    soon(REST_S=0.2)
    began = time.monotonic()
    with serve() as gateway:
        system = NoDescriptors(monkeypatch)
        with dialled(gateway, b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n") as (client,):
            assert system.twice.wait(WAIT_S)
            assert system.asked <= 2 + (time.monotonic() - began) / 0.2
            system.full = False
            assert read(client).startswith(b"HTTP/1.0 200 OK")
    assert [record.message for record in caplog.records] == [
        "no connection can be accepted: [Errno 24] Too many open files; raise ulimit -n"
    ]


def test_gateway_without_descriptors_drops_idle_clients(
    soon: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nobody asks anything on makes place, so that slow clients cannot keep others out."""
    soon(GRACE_S=0.1, REST_S=0.1)
    with serve() as gateway, dialled(gateway, b"", HALF) as (idle, slow):
        idle.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert idle.recv(15) == b"HTTP/1.1 200 OK"
        NoDescriptors(monkeypatch)
        with dialled(gateway, b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n"):
            assert b"providers_sync gateway" in read(idle)
            assert read(slow) == b""


# --- hostile bodies


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("openai", {"messages": [{"role": "user", "content": [{"type": "new", "text": 5}]}]}),
        ("openai", {"response_format": {"type": "new", "json_schema": 5}}),
        ("openai", {"messages": [{"role": "\ud800", "content": "\ud800"}], "model": "\ud800"}),
        ("anthropic", {"system": "\ud800", "model": "a\r\nX-Injected: b"}),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_odd_body_is_no_failure(
    echo: Gateway, name: str, fields: dict[str, Any], stream: bool
) -> None:
    """What is odd but valid is answered."""
    body = {**body_of(name), **fields, "stream": stream}
    answer = requests.post(echo.url() + PATHS[name], json=body, timeout=WAIT_S)
    assert answer.status_code == 200
    assert "X-Injected" not in answer.headers


@pytest.mark.parametrize("number", ["1e999", "-1e999", "Infinity", "1" * 5000])
def test_number_without_bounds(echo: Gateway, number: str) -> None:
    """What no number can hold is refused, wherever it stands: it would come back as no JSON."""
    body = json.dumps(body_of("openai", x=["?"])).replace('"?"', number)
    headers = {"Content-Type": "application/json"}
    answer = requests.post(echo.url() + PATHS["openai"], data=body, headers=headers, timeout=WAIT_S)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_json")


def test_engine_that_nests_too_deeply(scripted: tuple[Gateway, Scripted]) -> None:
    """A request that is nested too deeply for an engine is the client's mistake."""
    gateway, engine = scripted
    engine.pieces.put(RecursionError("maximum recursion depth exceeded"))
    answer = post(gateway, "openai")
    assert (answer.status_code, answer.json()["error"]["message"]) == (
        400,
        "the request is nested too deeply",
    )


def test_whole_answer_costs_what_its_words_cost(echo: Gateway) -> None:
    """Ten times the words take ten times the time, in Anthropic's form, too."""
    words = "word " * 300_000
    answer = post(echo, "anthropic", words, stream=False, max_tokens=10**9)
    assert answer.json()["content"] == [{"type": "text", "text": f"You said: {words}"}]
