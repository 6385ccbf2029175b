"""Tests of connecting: proxies, slow DNS, and the connect timeout."""

from __future__ import annotations

import contextlib
import contextvars
import errno
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import urllib3.util.connection

from providers_sync import (
    APIConnectionError,
    APITimeoutError,
    OpenAICompatible,
    ProviderError,
    Timeouts,
)
from providers_sync.testing import answer, cut, serve, signal, stall, status, wire
from providers_sync.transport import RequestAttempt, resolver
from providers_sync.transport.errors import error_chain

from .phases import ReusableEvent

TIMEOUTS = Timeouts(connect=0.4, first_token=2, idle=2, total=4)
MARGIN_S = 0.25
Address = tuple[str, int]
USER = contextvars.ContextVar[str]("USER")


def openai(url: str, **settings: Any) -> OpenAICompatible:
    return OpenAICompatible("m", base_url=url, **{"timeouts": TIMEOUTS, "retry": 1, **settings})


def test_reset_while_connecting_is_reported_as_a_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    """urllib3 would take it for a reset while sending, and read from an unconnected socket."""

    def connect(*_: Any) -> None:
        raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))

    monkeypatch.setattr(socket.socket, "connect", connect)
    with pytest.raises(APIConnectionError, match="connection reset by peer"):
        openai("http://127.0.0.1:9").complete("Hi")


def test_connect_timeout_restarts_for_every_attempt(blackhole: Address) -> None:
    """Two attempts take two timeouts and the wait between them."""
    start = time.monotonic()
    with pytest.raises(APITimeoutError):
        openai("http://{}:{}".format(*blackhole), retry=2).complete("Hi")
    assert 0.8 + 0.25 <= time.monotonic() - start < 0.8 + 0.5 + MARGIN_S


def test_proxy_that_never_answers_connect_ends_by_the_connect_timeout() -> None:
    """Opening the tunnel is part of connecting."""
    reached = ReusableEvent()
    with serve(answer(before=[signal(reached.event), stall()])) as proxy:
        start = time.monotonic()
        with pytest.raises(APITimeoutError) as caught:
            openai("https://127.0.0.2:9", proxy=proxy.url).complete("Hi")
        assert caught.value.clock == "connect"
        assert 0.4 <= time.monotonic() - start < 0.4 + MARGIN_S
        reached.wait()
        assert [request.method for request in proxy.requests] == ["CONNECT"]
        assert "Authorization" not in proxy.requests[0].headers


PROXIES: dict[str, Any] = {
    "refuses": status(403, "Not from here"),
    "wants a password": status(407, "Who are you?"),
    "disconnects": answer(before=[cut()]),
    "does not use HTTP": answer(before=[wire(b"220 smtp ready\r\n"), cut()]),
    "disconnects after its 200": answer(before=[wire(b"HTTP/1.1 200 OK\r\n\r\n"), cut()]),
}


@pytest.mark.parametrize("name", PROXIES)
def test_error_of_a_failed_tunnel_mentions_the_proxy(name: str) -> None:
    """A connection error is raised immediately, and its text mentions the proxy."""
    with serve(PROXIES[name]) as proxy:
        start = time.monotonic()
        with pytest.raises(APIConnectionError) as caught:
            openai("https://127.0.0.2:9", proxy=proxy.url, api_key="sk-1234567").complete("Hi")
        assert time.monotonic() - start < MARGIN_S
        assert caught.value.outcome == "failed"
        if name != "disconnects after its 200":
            assert "proxy" in str(caught.value)
        assert "Authorization" not in proxy.requests[0].headers


def test_unreachable_proxy_is_mentioned(refused: Address) -> None:
    """The error does not blame the server behind it."""
    with pytest.raises(APIConnectionError, match="is the proxy running"):
        openai("http://127.0.0.2:9", proxy="http://{}:{}".format(*refused)).complete("Hi")


def test_unreachable_socks_proxy_is_reported_as_refused(refused: Address) -> None:
    """urllib3 reports it as a timeout."""
    with pytest.raises(APIConnectionError, match=r"proxy: .*refused; is the proxy running"):
        openai("http://127.0.0.2:9", proxy="socks5://{}:{}".format(*refused)).complete("Hi")


def test_proxy_that_drops_packets_ends_by_the_connect_timeout(blackhole: Address) -> None:
    """The timeout is the same as for a server."""
    start = time.monotonic()
    with pytest.raises(APITimeoutError) as caught:
        openai("http://127.0.0.2:9", proxy="http://{}:{}".format(*blackhole)).complete("Hi")
    assert caught.value.clock == "connect"
    assert 0.4 <= time.monotonic() - start < 0.4 + MARGIN_S


@pytest.fixture
def slow_names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Any], None]]:
    """Make look-ups of ``*.slow.test`` wait until the returned function sets their address."""
    original, finished, addresses = socket.getaddrinfo, threading.Event(), list[Any]()

    def look_up(host: Any, port: Any, *rest: Any, **named: Any) -> Any:
        if not host.lower().endswith(".slow.test"):
            return original(host, port, *rest, **named)
        if named.get("flags", 0) & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        assert finished.wait(10)
        if not addresses:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", addresses[0])]

    def finish(address: Any) -> None:
        addresses.append(address)
        finished.set()

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    yield finish
    finished.set()
    for thread in resolvers():
        thread.join(5)


def resolvers() -> list[threading.Thread]:
    """Return the running resolver threads."""
    threads = threading.enumerate()
    return [thread for thread in threads if thread.name == "providers-sync-resolver"]


def test_silent_dns_leaves_one_thread_per_host(slow_names: Callable[[Any], None]) -> None:
    """It does not matter how many calls, attempts, providers, ports and spellings time out."""
    short = Timeouts(connect=0.02)

    def call(number: int) -> None:
        host = f"{number % 2}.slow.test" if number % 3 else f"{number % 2}.Slow.TEST"
        with pytest.raises(APITimeoutError):
            openai(f"http://{host}:{8000 + number}", timeouts=short, retry=2).complete("Hi")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(call, range(40)))
    assert len(resolvers()) == 2


def test_ports_of_one_host_are_looked_up_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """By one thread, in no caller's context; what nothing waits for any more is skipped."""
    asked, found, finished = list[Any](), list[Any](), threading.Event()

    def look_up(host: str, port: int, *rest: Any, flags: int = 0) -> Any:
        if flags:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        asked.append((host, port, *rest))
        threads.update(resolvers())
        users.add(USER.get("nobody"))
        assert finished.wait(5)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))]

    threads, users = set[threading.Thread](), set[str]()
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    USER.set("somebody")
    family = urllib3.util.connection.allowed_gai_family()
    resolver.look_up(("many.test", 1, family), found.extend)
    with pytest.raises(TimeoutError):
        RequestAttempt(0.02).resolve("many.test", 2)
    for port in (3, 4):
        resolver.look_up(("MANY.test", port, family), found.extend)
    finished.set()
    for thread in resolvers():
        thread.join(5)
    names = [("many.test", 1), ("MANY.test", 3), ("MANY.test", 4)]
    assert asked == [(*name, family, socket.SOCK_STREAM) for name in names]
    assert [address[4] for address in found] == names
    assert len(threads) == 1
    assert users == {"nobody"}
    assert not resolvers()


def test_late_look_up_serves_all_waiting_calls(
    slow_names: Callable[[Any], None],
) -> None:
    """The call that started it and those that joined it succeed; the next call looks up again."""
    with serve("Hello") as server, ThreadPoolExecutor(8) as pool:
        provider = openai("http://one.slow.test")
        calls = [pool.submit(provider.complete, "Hi") for _ in range(8)]
        slow_names(("127.0.0.1", server.port))
        assert {call.result().text for call in calls} == {"Hello"}
        assert provider.complete("Hi").text == "Hello"


def test_look_up_that_cannot_start_a_thread_fails_and_leaves_nothing_behind(
    slow_names: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next call looks the name up again."""
    original = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "providers-sync-resolver":
            raise RuntimeError("can't start new thread")
        original(thread)

    with serve("Hello") as server:
        slow_names(("127.0.0.1", server.port))
        monkeypatch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(ProviderError, match=r"no thread .* raise the limit") as caught:
            openai("http://one.slow.test").complete("Hi")
        assert type(caught.value) is ProviderError  # not retried
        assert isinstance(caught.value.__cause__, RuntimeError)
        monkeypatch.setattr(threading.Thread, "start", original)
        assert openai("http://one.slow.test").complete("Hi").text == "Hello"


@pytest.mark.parametrize("is_running", [True, False])
def test_interrupted_start_of_a_look_up_does_not_affect_later_ones(
    is_running: bool, slow_names: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C may arrive before or after the thread has been started."""
    original = threading.Thread.start

    def interrupt(thread: threading.Thread) -> None:
        if is_running:
            original(thread)
        raise KeyboardInterrupt

    slow_names(("127.0.0.1", 80))
    monkeypatch.setattr(threading.Thread, "start", interrupt)
    with pytest.raises(KeyboardInterrupt):
        RequestAttempt(5).resolve("one.slow.test", 80)
    monkeypatch.setattr(threading.Thread, "start", original)
    assert RequestAttempt(5).resolve("one.slow.test", 80)[0][4] == ("127.0.0.1", 80)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_child_does_its_own_look_up(slow_names: Callable[[Any], None]) -> None:
    """The parent's resolver threads do not exist in the child."""
    with pytest.raises(APITimeoutError):
        openai("http://one.slow.test", timeouts=Timeouts(connect=0.02)).complete("Hi")
    assert resolvers()
    with serve("Hello") as server:
        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                slow_names(("127.0.0.1", server.port))
                text = openai("http://one.slow.test").complete("Hi").text
                os._exit(0 if text == "Hello" else 1)
            os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


class BlockedError(RuntimeError):
    """An exception that cannot be copied, as a test tool may raise it."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(f"no look-up of {host}:{port}")


@pytest.mark.parametrize(
    "failure", [RuntimeError("no"), MemoryError(), BlockedError("odd.test", 80)], ids=repr
)
def test_look_up_with_an_unexpected_exception_leaves_no_call_waiting(
    failure: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replaced ``getaddrinfo`` may raise any exception: the call fails, and so does the next."""

    def look_up(host: str, *rest: Any, flags: int = 0, **named: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "no number") if flags else failure

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    for _ in range(2):
        with pytest.raises(APIConnectionError) as caught:
            openai("http://odd.test").complete("Hi")
        assert type(failure) in {type(inner) for inner in error_chain(caught.value)}


@pytest.mark.parametrize("failure", [SystemExit(3), pytest.fail.Exception("no")], ids=repr)
def test_look_up_that_is_ended_by_force_leaves_no_call_waiting(
    failure: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call that waits gets the exception, and not a timeout."""

    def look_up(host: str, *rest: Any, flags: int = 0, **named: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "no number") if flags else failure

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    for _ in range(2):
        with pytest.raises(type(failure)):
            RequestAttempt(5).resolve("odd.test", 80)


def test_name_without_an_address_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replaced ``getaddrinfo`` may find nothing."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [])
    with pytest.raises(APIConnectionError, match="could not be resolved"):
        openai("http://odd.test").complete("Hi")


def test_replaced_create_connection_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs replace urllib3's function to choose the address of a host themselves."""
    with serve("Hello") as server:

        def create(address: Any, *rest: Any, **options: Any) -> socket.socket:
            assert address == ("chosen.test", 80)
            return socket.create_connection(("127.0.0.1", server.port), 5)

        monkeypatch.setattr(urllib3.util.connection, "create_connection", create)
        assert openai("http://chosen.test").complete("Hi").text == "Hello"
