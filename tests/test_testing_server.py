"""Tests of the fault server with raw sockets, http.client and requests."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from typing import Any

import pytest
import requests
from raw_client import (
    DONE,
    HELLO,
    PLAIN,
    dial,
    post,
    read_all,
    read_until,
    receive,
)

from providers_sync.testing import (
    Request,
    answer,
    cut,
    pause,
    ping,
    repeat,
    reset,
    serve,
    signal,
    stall,
    status,
    text,
    wait,
    wire,
)

# Interrupted answers


def test_cut_is_a_fin_without_the_last_chunk() -> None:
    """The framing is unfinished, and the client reads EOF."""
    got = receive(["Hello", cut()])
    assert got.endswith(HELLO + b"\r\n")


def test_cut_sends_less_than_content_length() -> None:
    """Content-Length is the size of the complete answer."""
    with serve(answer("Hello", cut(), framing="length")) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
        connection.request("POST", "/api/chat", body=b"{}")
        with pytest.raises(http.client.IncompleteRead) as caught:
            connection.getresponse().read()
        connection.close()
    assert caught.value.partial == HELLO
    assert caught.value.expected == len(DONE)


def test_reset_is_an_rst_after_the_text() -> None:
    """The data sent before arrives, then the connection is reset."""
    with serve(["Hello", reset()]) as server, dial(server) as sock:
        server.wait_closed(1)
        assert sock.recv(65536, socket.MSG_WAITALL).endswith(HELLO + b"\r\n")
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
        assert server.connections[0].closed_by == "server"


def test_wire_sends_outside_the_framing() -> None:
    """Here it sends an incomplete chunk size line."""
    assert receive(["Hello", wire(b"1f"), cut()]).endswith(HELLO + b"\r\n1f")


@pytest.mark.parametrize(
    ("options", "got"),
    [
        ({"connect": [cut()]}, b""),
        ({"connect": [wire(b"220 smtp\r\n"), cut()]}, b"220 smtp\r\n"),
        ({"before": [wire(b"HTTP/1.1 103 Early\r\n\r\n"), cut()]}, b"HTTP/1.1 103 Early\r\n\r\n"),
        ({"before": [cut()]}, b""),
    ],
)
def test_answer_cut_before_its_headers(options: Any, got: bytes) -> None:
    """Steps can be played before HTTP and before the status line."""
    assert receive(answer(**options)) == got


def test_headers_cut_by_eof_have_no_blank_line() -> None:
    """The header block ends inside a line."""
    got = receive(answer(inside=[wire(b"X-Half: o"), cut()]))
    assert got.endswith(b"\r\nX-Half: o")
    assert b"\r\n\r\n" not in got


def test_headers_dripped_are_the_same() -> None:
    """They are only sent more slowly."""
    script = [answer("Hello"), answer("Hello", head_every=0.0001)]
    with serve(script) as server:
        assert post(server).headers == post(server).headers


def test_connection_reset_immediately() -> None:
    """It is reset before any byte of TLS or HTTP."""
    with serve(answer(connect=[reset()])) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as sock:
            server.wait_closed(1)
            with pytest.raises(ConnectionResetError):
                sock.recv(1)
        assert server.requests == []


def test_answer_with_connect_steps_serves_that_connection() -> None:
    """The steps before HTTP are followed by the rest of the same answer."""
    with serve([answer("Hello", connect=[pause(0.01)]), status(500)]) as server:
        assert post(server).content == HELLO + DONE
        assert post(server).status_code == 500


# Waiting steps


@pytest.mark.parametrize(
    "script",
    [
        ["Hello", stall()],
        ["Hello", pause(60)],
        ["Hello", wait(threading.Event())],
        ["Hello", ping(0.01)],
        [repeat(text("x" * 1000))],
        answer(before=[stall()]),
        answer(head_every=60),
        answer(connect=[stall()]),
    ],
)
@pytest.mark.parametrize("leave", ["close", "reset", "shutdown", "never"])
def test_server_notices_a_disconnect_and_stops_quickly(script: Any, leave: str) -> None:
    """It sees the client disconnect in every wait, and stops while a client is connected."""
    with serve(script) as server, dial(server) as sock:
        server.wait_connection(1)
        if leave == "reset":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0, 0, 0, 0, 0]))
        if leave in ("reset", "close"):
            sock.close()
        if leave == "shutdown":
            sock.shutdown(socket.SHUT_RDWR)
        if leave != "never":
            assert server.wait_closed(1, timeout=2) < 1
            assert server.connections[0].closed_by == "client"
            assert server.open_connections == []
        start = time.monotonic()
    assert time.monotonic() - start < 1


def test_wait_holds_until_the_event_is_set() -> None:
    """The test learns how far the script is and decides when it continues."""
    reached, proceed = threading.Event(), threading.Event()
    with serve([signal(reached), wait(proceed), "Hello", cut()]) as server, dial(server) as sock:
        assert reached.wait(5)
        assert server.open_connections == server.connections
        proceed.set()
        assert HELLO in read_all(sock)


def test_signal_is_not_set_by_measuring_a_length() -> None:
    """The size is counted without playing the script."""
    reached = threading.Event()
    script = answer(stall(), signal(reached), framing="length")
    with serve(script) as server, dial(server) as sock:
        read_until(sock, b"\r\n\r\n")
        assert not reached.is_set()


def test_pause_delays_what_follows() -> None:
    """The next step is played only after this many seconds."""
    start = time.monotonic()
    receive([pause(0.2), cut()])
    assert 0.2 <= time.monotonic() - start < 1


def test_timeout_of_a_wait_reports_what_was_received() -> None:
    """A test that waits for too many requests fails with the reason."""
    with serve("Hello") as server:
        post(server)
        assert server.wait_request(1).path == PLAIN
        for wait_for in (server.wait_request, server.wait_connection, server.wait_closed):
            with pytest.raises(TimeoutError, match="1 requests on 1 connections"):
                wait_for(2, timeout=0.01)


# Records


def test_requests_are_recorded_completely() -> None:
    """Check method, path, headers without regard to case, body and JSON."""
    with serve("Hello") as server:
        post(server, headers={"X-Key": "k"})
        requests.get(server.url + "/models", timeout=5)
    first, second = server.requests
    assert (first.method, first.path, first.json()) == ("POST", PLAIN, {"n": 1})
    assert first.headers["x-KEY"] == "k"
    assert "x-key" in first.headers
    assert first.headers.get("absent") is None
    assert dict(second.headers)["host"] == f"127.0.0.1:{server.port}"
    assert (second.number, second.method, second.body) == (2, "GET", b"")


def test_chunked_request_body_is_joined() -> None:
    """Requests sends a generator in chunks."""
    with serve("Hello") as server:
        requests.post(server.url, data=iter([b"ab", b"cde"]), timeout=5)
        assert server.requests[0].body == b"abcde"


def test_kept_alive_connection_is_reused() -> None:
    """Connection numbers are equal until an answer or the client requests a close."""
    script = ["a", "b", answer("c", keep_alive=False), "d"]
    with serve([[each] if isinstance(each, str) else each for each in script]) as server:
        with requests.Session() as session:
            for _ in range(4):
                session.post(server.url, json={}, timeout=5)
            session.post(server.url, json={}, headers={"Connection": "close"}, timeout=5)
        assert [request.connection for request in server.requests] == [1, 1, 1, 2, 2]
        assert [connection.requests for connection in server.connections] == [3, 2]


def test_request_followed_by_fin_is_still_received() -> None:
    """The data of a client that disconnects afterwards is not lost."""
    with serve(answer(before=[stall()])) as server, dial(server) as sock:
        sock.close()
        assert server.wait_request(1).json() == {}
        server.wait_closed(1)


def test_pipelined_requests_are_answered_in_turn() -> None:
    """Bytes that arrive while an answer is sent are buffered."""
    request = b"GET / HTTP/1.1\r\n\r\n"
    script = [answer(b"1", end=False), answer(b"2", end=False, keep_alive=False)]
    with serve(script) as server, dial(server, body=b"") as sock:
        sock.sendall(request)
        assert read_all(sock).count(b"HTTP/1.1 200 OK") == 2


def test_keep_limits_the_records() -> None:
    """Only the last ones are kept, but all are counted."""
    with serve("Hello", keep=2) as server:
        for _ in range(3):
            post(server)
        assert [request.number for request in server.requests] == [2, 3]
        assert server.wait_request(3).number == 3
        with pytest.raises(LookupError, match="number 1"):
            server.wait_request(1)


def test_many_clients_at_once_are_all_served() -> None:
    """Each gets its own complete answer."""

    def script(request: Request) -> list[str]:
        return [request.path, request.path]

    got: dict[int, str] = {}

    def send(n: int) -> None:
        got[n] = post(server, f"/{n}").text

    with serve(script, protocol="plain") as server:
        threads = [threading.Thread(target=send, args=(n,)) for n in range(100)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert got == {n: f"/{n}/{n}" for n in range(100)}


def test_stopping_with_stuck_clients_leaves_nothing() -> None:
    """The server stops with 50 clients that never read; the test suite checks for leaks."""
    with serve([repeat("x" * 10_000)]) as server:
        clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(50)]
        for client in clients:
            client.sendall(b"POST / HTTP/1.1\r\n\r\n")
        server.wait_request(50)
        start = time.monotonic()
    assert time.monotonic() - start < 2
    for client in clients:
        client.close()


def test_port_in_use_leaves_nothing() -> None:
    """A server that cannot listen raises the system's error."""
    with serve() as server, pytest.raises(OSError, match="in use"), serve(port=server.port):
        pass


def test_server_listens_on_ipv6_too() -> None:
    """The URL has the address in brackets."""
    with serve("Hello", host="::1") as server:
        assert server.url == f"http://[::1]:{server.port}"
        assert post(server).content == HELLO + DONE


# TLS


def test_tls_answer_is_the_same(tls: ssl.SSLContext, ca: str) -> None:
    """Only the scheme differs."""
    with serve("Hello", tls=tls) as server:
        assert server.url.startswith("https://")
        assert post(server, verify=ca).content == HELLO + DONE


@pytest.mark.parametrize("bad", ["tls_wrong_host", "tls_self_signed"])
def test_bad_certificate_is_refused_by_the_client(
    bad: str, ca: str, request: pytest.FixtureRequest
) -> None:
    """The server sees the connection close without a request."""
    with serve("Hello", tls=request.getfixturevalue(bad)) as server:
        with pytest.raises(requests.exceptions.SSLError, match="certificate verify failed"):
            post(server, verify=ca)
        server.wait_closed(1)
        assert server.requests == []


@pytest.mark.parametrize(
    ("script", "clean"), [(answer(framing="close"), True), (["Hello", cut()], False)]
)
def test_tls_ends_with_close_notify_unless_cut(
    script: Any, clean: bool, tls: ssl.SSLContext, ca: str
) -> None:
    """A cut over TLS omits ``close_notify``."""
    context = ssl.create_default_context(cafile=ca)
    with serve(script, tls=tls) as server, dial(server, body=b"") as plain_sock:
        plain_sock.close()
        sock = socket.create_connection(("127.0.0.1", server.port), timeout=5)
        with context.wrap_socket(
            sock, server_hostname="127.0.0.1", suppress_ragged_eofs=False
        ) as tls_sock:
            tls_sock.sendall(b"POST / HTTP/1.1\r\n\r\n")
            if clean:
                assert read_all(tls_sock)
            else:
                with pytest.raises(ssl.SSLEOFError):
                    read_all(tls_sock)


@pytest.mark.parametrize("script", [["Hello", stall()], [repeat("x" * 1000)], ["Hello", reset()]])
@pytest.mark.parametrize("leave", [True, False])
def test_server_notices_a_disconnect_over_tls(
    script: Any, leave: bool, tls: ssl.SSLContext, ca: str
) -> None:
    """While it stalls and while it writes; and it can stop while the client is connected."""
    context = ssl.create_default_context(cafile=ca)
    with serve(script, tls=tls) as server:
        sock = socket.create_connection(("127.0.0.1", server.port), timeout=5)
        with context.wrap_socket(sock, server_hostname="127.0.0.1") as tls_sock:
            tls_sock.sendall(b"POST / HTTP/1.1\r\n\r\n")
            server.wait_request(1)
            if leave:
                tls_sock.close()
                assert server.wait_closed(1, timeout=2) < 1


def test_tls_handshake_that_never_comes(tls: ssl.SSLContext) -> None:
    """The client times out, and the server can still stop."""
    with serve(answer(connect=[stall()]), tls=tls) as server:
        with pytest.raises(requests.exceptions.Timeout):
            post(server, timeout=0.1)
        server.wait_closed(1)
