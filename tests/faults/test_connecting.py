"""The way to the server: several addresses, proxies, and the one clock over all of it."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from providers_sync import APIConnectionError, APITimeoutError, OpenAICompatible, Timeouts
from providers_sync.testing import answer, cut, serve, signal, stall, status, wire

from .phases import Cue

CLOCKS = Timeouts(connect=0.4, first_token=2, idle=2, total=4)
MARGIN_S = 0.25
Address = tuple[str, int]


@pytest.fixture
def name(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[Address]], str]:
    """Give a function that lets a name have these addresses, in this order."""
    real = socket.getaddrinfo

    def have(addresses: list[Address]) -> str:
        def look_up(host: Any, *rest: Any, **named: Any) -> Any:
            if host != "several.test":
                return real(host, *rest, **named)
            if named.get("flags", 0) & socket.AI_NUMERICHOST:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", each) for each in addresses]
            return found

        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        return "http://several.test"

    return have


def openai(url: str, **settings: Any) -> OpenAICompatible:
    return OpenAICompatible("m", base_url=url, **{"timeouts": CLOCKS, "retry": 1, **settings})


def test_address_that_refuses_is_passed_over_at_once(
    refused: Address, name: Callable[[list[Address]], str]
) -> None:
    """The next one answers."""
    with serve("Hello") as server:
        began = time.monotonic()
        url = name([refused, ("127.0.0.1", server.port)])
        assert openai(url).complete("Hi").text == "Hello"
        assert time.monotonic() - began < MARGIN_S


def test_address_that_is_dead_takes_only_its_share_of_the_clock(
    blackhole: Address, name: Callable[[list[Address]], str]
) -> None:
    """Half the time for one of two, so that the other one can still answer."""
    with serve("Hello") as server:
        began = time.monotonic()
        url = name([blackhole, ("127.0.0.1", server.port)])
        assert openai(url).complete("Hi").text == "Hello"
        assert time.monotonic() - began < 0.2 + MARGIN_S


def test_many_dead_addresses_share_one_clock(
    blackhole: Address, name: Callable[[list[Address]], str]
) -> None:
    """Not a clock each."""
    began = time.monotonic()
    with pytest.raises(APITimeoutError) as caught:
        openai(name([blackhole] * 5)).complete("Hi")
    assert caught.value.clock == "connect"
    assert 0.4 <= time.monotonic() - began < 0.4 + MARGIN_S


def test_reset_while_connecting_is_told_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """urllib3 would take it for one in sending, and read an answer from a socket that never was."""

    def connect(*_: Any) -> None:
        raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))

    monkeypatch.setattr(socket.socket, "connect", connect)
    with pytest.raises(APIConnectionError, match="connection reset by peer"):
        openai("http://127.0.0.1:9").complete("Hi")


def test_clock_is_wound_up_for_every_attempt(blackhole: Address) -> None:
    """Three attempts, three clocks, and the waits between them."""
    began = time.monotonic()
    with pytest.raises(APITimeoutError):
        openai("http://{}:{}".format(*blackhole), retry=2).complete("Hi")
    assert 0.8 + 0.25 <= time.monotonic() - began < 0.8 + 0.5 + MARGIN_S


def test_proxy_that_never_answers_connect_meets_the_connect_clock() -> None:
    """The tunnel is part of connecting."""
    cue = Cue()
    with serve(answer(before=[signal(cue.event), stall()])) as proxy:
        began = time.monotonic()
        with pytest.raises(APITimeoutError) as caught:
            openai("https://127.0.0.2:9", proxy=proxy.url).complete("Hi")
        assert caught.value.clock == "connect"
        assert 0.4 <= time.monotonic() - began < 0.4 + MARGIN_S
        cue.wait()
        assert [request.method for request in proxy.requests] == ["CONNECT"]
        assert "Authorization" not in proxy.requests[0].headers


PROXIES: dict[str, Any] = {
    "refuses": status(403, "Not from here"),
    "wants a password": status(407, "Who are you?"),
    "hangs up": answer(before=[cut()]),
    "speaks no HTTP": answer(before=[wire(b"220 smtp ready\r\n"), cut()]),
    "hangs up after its yes": answer(before=[wire(b"HTTP/1.1 200 OK\r\n\r\n"), cut()]),
}


@pytest.mark.parametrize("how", PROXIES)
def test_proxy_that_fails_a_tunnel_is_named(how: str) -> None:
    """A connection error, at once, whose text says that there is a proxy."""
    with serve(PROXIES[how]) as proxy:
        began = time.monotonic()
        with pytest.raises(APIConnectionError) as caught:
            openai("https://127.0.0.2:9", proxy=proxy.url, api_key="sk-1234567").complete("Hi")
        assert time.monotonic() - began < MARGIN_S
        assert caught.value.outcome == "failed"
        if how != "hangs up after its yes":
            assert "proxy" in str(caught.value)
        assert "Authorization" not in proxy.requests[0].headers


def test_proxy_that_is_gone_is_named(refused: Address) -> None:
    """Not the server behind it."""
    with pytest.raises(APIConnectionError, match="proxy"):
        openai("http://127.0.0.2:9", proxy="http://{}:{}".format(*refused)).complete("Hi")


def test_socks_proxy_that_is_gone_is_refused_and_not_late(refused: Address) -> None:
    """urllib3 counts it among its timeouts."""
    pytest.importorskip("socks")
    with pytest.raises(APIConnectionError, match=r"proxy: .*refused"):
        openai("http://127.0.0.2:9", proxy="socks5://{}:{}".format(*refused)).complete("Hi")


def test_proxy_that_is_a_black_hole_meets_the_connect_clock(blackhole: Address) -> None:
    """Like a server."""
    began = time.monotonic()
    with pytest.raises(APITimeoutError) as caught:
        openai("http://127.0.0.2:9", proxy="http://{}:{}".format(*blackhole)).complete("Hi")
    assert caught.value.clock == "connect"
    assert 0.4 <= time.monotonic() - began < 0.4 + MARGIN_S


@pytest.fixture
def slow_names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Any], None]]:
    """Names ending in ``.slow.test`` are looked up until the given function gives their address."""
    real, given, answers = socket.getaddrinfo, threading.Event(), list[Any]()

    def look_up(host: Any, port: Any, *rest: Any, **named: Any) -> Any:
        if not host.endswith(".slow.test"):
            return real(host, port, *rest, **named)
        if named.get("flags", 0) & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        assert given.wait(10)
        if not answers:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", answers[0])]

    def give(address: Any) -> None:
        answers.append(address)
        given.set()

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    yield give
    given.set()
    for thread in resolvers():
        thread.join(5)


def resolvers() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name == "providers-sync-resolver"]


def test_silent_dns_leaves_one_thread_a_name(slow_names: Callable[[Any], None]) -> None:
    """However many calls, attempts and providers give up on it."""
    hurried = Timeouts(connect=0.02)

    def ask(number: int) -> None:
        with pytest.raises(APITimeoutError):
            openai(f"http://{number % 2}.slow.test", timeouts=hurried, retry=2).complete("Hi")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(40)))
    assert len(resolvers()) == 2


def test_name_that_is_resolved_late_serves_all_who_wait(
    slow_names: Callable[[Any], None],
) -> None:
    """Those who came first and those who joined them; afterwards it is looked up anew."""
    with serve("Hello") as server, ThreadPoolExecutor(8) as pool:
        provider = openai("http://one.slow.test")
        asked = [pool.submit(provider.complete, "Hi") for _ in range(8)]
        slow_names(("127.0.0.1", server.port))
        assert {each.result().text for each in asked} == {"Hello"}
        assert provider.complete("Hi").text == "Hello"


def test_look_up_that_finds_no_thread_fails_and_holds_nothing(
    slow_names: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next call looks the name up again."""
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "providers-sync-resolver":
            raise RuntimeError("can't start new thread")
        start(thread)

    with serve("Hello") as server:
        slow_names(("127.0.0.1", server.port))
        monkeypatch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(APIConnectionError, match="no thread"):
            openai("http://one.slow.test").complete("Hi")
        monkeypatch.setattr(threading.Thread, "start", start)
        assert openai("http://one.slow.test").complete("Hi").text == "Hello"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_child_looks_names_up_itself(slow_names: Callable[[Any], None]) -> None:
    """The parent's threads are not there to answer it."""
    with pytest.raises(APITimeoutError):
        openai("http://one.slow.test", timeouts=Timeouts(connect=0.02)).complete("Hi")
    assert resolvers()
    with serve("Hello") as server:
        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                slow_names(("127.0.0.1", server.port))
                said = openai("http://one.slow.test").complete("Hi").text
                os._exit(0 if said == "Hello" else 1)
            os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("failure", [RuntimeError("no"), MemoryError()], ids=repr)
def test_look_up_that_fails_in_an_odd_way_leaves_nobody_waiting(
    failure: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever stands in for the system's own, and whatever it raises; nor the next call."""

    def look_up(host: str, *rest: Any, flags: int = 0, **named: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "no number") if flags else failure

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    for _ in range(2):
        with pytest.raises(APIConnectionError):
            openai("http://odd.test").complete("Hi")
