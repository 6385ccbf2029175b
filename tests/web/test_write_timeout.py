"""Tests that a browser which has stopped reading holds neither a server's thread nor the model."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from running import ROOT, Upstream, env, free_port, running
from servers import FOLDER, SETTINGS, run_on
from test_servers import WAIT_S, post

from providers_sync import InvalidRequestError
from providers_sync.testing import repeat, text, wait
from providers_sync.web import with_write_timeout

LIMIT_S = 0.5
SLACK_S = 5.0
"""How much later than the limit the connection may end: uWSGI's own is 4 s."""
SERVERS = ["waitress", "gunicorn gthread", "gunicorn sync", "gunicorn gevent", "flask", "uwsgi"]
FULL = repeat(text("x" * 5000))


def limited(
    server: str, upstream: Upstream, seconds: float
) -> contextlib.AbstractContextManager[str]:
    """Run the test app; with one thread, so that a thread that is held is noticed."""
    limit = {"WRITE_TIMEOUT": str(seconds)}
    if server != "flask":
        return run_on(server, upstream, threads=1, **limit)
    pytest.importorskip("flask")
    port = free_port()
    more = {"PORT": str(port), **limit, **SETTINGS, **env(upstream.url)}
    return running([sys.executable, FOLDER / "flask_test_app.py"], port, ROOT, **more)


@pytest.fixture(scope="module", params=SERVERS)
def url(request: pytest.FixtureRequest, upstream: Upstream) -> Iterator[str]:
    """The test app with a write timeout."""
    with limited(request.param, upstream, LIMIT_S) as url:
        yield url


@contextlib.contextmanager
def unread(url: str, question: str) -> Iterator[socket.socket]:
    """Post a question and read nothing; the buffers are small."""
    address = urlsplit(url)
    body = json.dumps(question).encode()
    head = (
        f"POST /chat HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(WAIT_S)
        client.connect((address.hostname, address.port))
        client.sendall(head.encode() + body)
        yield client


def test_browser_that_does_not_read(url: str, upstream: Upstream) -> None:
    """The model is stopped, and the thread answers the next question."""
    upstream.set_answer("Next", text("Yes."))
    turn = upstream.set_answer("Hi", FULL)
    with unread(url, "Hi"):
        assert upstream.wait_closed(turn, WAIT_S) < LIMIT_S + SLACK_S
        with post(url, "Next") as response:
            assert b'"Yes."' in response.read()


def test_browser_that_reads_slowly(url: str, upstream: Upstream) -> None:
    """It gets the complete answer, however long that takes: the limit is on standing still."""
    upstream.set_answer("Hi", *[text("x" * 5000)] * 50)
    seen, started = b"", time.monotonic()
    with unread(url, "Hi") as client:
        while b"event: done" not in seen:
            time.sleep(LIMIT_S / 20)
            more = client.recv(8192)
            assert more, "the connection was closed"
            seen += more
    assert time.monotonic() - started > 2 * LIMIT_S
    assert seen.count(b"x" * 5000) == 50


@pytest.mark.parametrize("server", ["gunicorn gthread", "flask"])
def test_browser_that_reads_thirty_kilobytes_a_second(server: str, upstream: Upstream) -> None:
    """It is not cut off, because its system, with a small buffer, accepts data all the time."""
    turn = upstream.set_answer("Hi", FULL)
    with limited(server, upstream, 1) as url, unread(url, "Hi") as client:
        end = time.monotonic() + 4
        while time.monotonic() < end:
            time.sleep(0.1)
            client.recv(3000)
        with pytest.raises(TimeoutError):
            upstream.wait_closed(turn, 0.1)


def test_model_that_is_silent(url: str, upstream: Upstream) -> None:
    """The limit is not on the model."""
    go = threading.Event()
    timer = threading.Timer(2 * LIMIT_S, go.set)
    upstream.set_answer("Hi", text("Hello "), wait(go), text("there."))
    timer.start()
    with post(url, "Hi") as response:
        assert b'"there."' in response.read()
    timer.join()


def test_server_without_a_socket(caplog: Any) -> None:
    """The app works, and its operator is told, once."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        return [b"Hello"]

    limited_app = with_write_timeout(app)
    with caplog.at_level(logging.WARNING, "providers_sync"):
        for _ in range(3):
            assert limited_app({"SERVER_SOFTWARE": "Some/1.0"}, None) == [b"Hello"]
    (record,) = caplog.records
    assert "Some/1.0" in record.getMessage()


def test_server_with_a_timeout_of_its_own(caplog: Any) -> None:
    app = with_write_timeout(lambda environ, start_response: [b"Hello"])
    assert app({"uwsgi.version": b"2.0"}, None) == [b"Hello"]
    assert caplog.records == []


def test_any_positive_limit_can_be_set() -> None:
    """From the shortest that the system knows to the longest; on both kinds of sockets."""
    for seconds, milliseconds in ((1e-9, 1), (30.5, 30_500), (1e300, 2**31 - 1)):
        app = with_write_timeout(lambda environ, start_response: [], seconds)
        with socket.socket() as client:
            assert app({"gunicorn.socket": client}, None) == []
            value = client.getsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, 16)
            whole, rest = struct.unpack("ll", value)
            assert abs(1000 * whole + rest / 1000 - milliseconds) < 10  # in ticks of a clock
        with socket.socket() as client:
            client.setblocking(False)
            assert app({"gunicorn.socket": client}, None) == []
            option = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
            assert option == milliseconds


def test_tls_of_the_server_itself() -> None:
    """Python repeats its write for ever after ``SO_SNDTIMEO``, so it has the other limit."""
    app = with_write_timeout(lambda environ, start_response: [])
    context = ssl.create_default_context()
    with context.wrap_socket(socket.socket(), server_hostname="localhost") as client:
        assert app({"gunicorn.socket": client}, None) == []
        assert client.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000
        assert client.getsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, 16) == bytes(16)


def test_unix_socket_is_left_alone(caplog: Any) -> None:
    """A proxy is behind it, which has a timeout of its own."""
    here, there = socket.socketpair()
    with here, there:
        app = with_write_timeout(lambda environ, start_response: [b"Hello"])
        assert app({"gunicorn.socket": here}, None) == [b"Hello"]
        assert here.getsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, 16) == bytes(16)
    assert caplog.records == []


@pytest.mark.parametrize("seconds", [0, -1, True, "30", None, float("nan"), float("inf")])
def test_invalid_limit_is_refused_at_once(seconds: Any) -> None:
    with pytest.raises(InvalidRequestError, match="seconds must be a positive number"):
        with_write_timeout(lambda environ, start_response: [], seconds)
