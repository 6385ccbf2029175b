"""Tests of connecting to a host with several addresses, which are raced (RFC 8305)."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import os
import re
import socket
import statistics
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import httpretty
import pytest

from providers_sync import (
    APIConnectionError,
    APITimeoutError,
    CancelToken,
    OpenAICompatible,
    StreamCancelled,
    Timeouts,
)
from providers_sync.testing import answer, serve, stall
from providers_sync.transport import RequestAttempt, addresses

from .phases import wait_until

TIMEOUTS = Timeouts(connect=2, first_token=2, idle=2, total=4)
NEXT_S = 0.25
"""How long an address has for itself."""
MARGIN_S = 0.25
Address = tuple[str, int]
UrlFor = Callable[[list[Address]], str]


def family(address: Address) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address[0] else socket.AF_INET


def as_found(found: list[Address]) -> list[Any]:
    """Return addresses as ``getaddrinfo`` does."""
    return [(family(each), socket.SOCK_STREAM, 6, "", each) for each in found]


@pytest.fixture
def url_for(monkeypatch: pytest.MonkeyPatch) -> UrlFor:
    """Return a function that makes a host name resolve to these addresses, in this order."""
    original = socket.getaddrinfo

    def resolve_to(found: list[Address]) -> str:
        def look_up(host: Any, *rest: Any, **named: Any) -> Any:
            if host != "several.test":
                return original(host, *rest, **named)
            if named.get("flags", 0) & socket.AI_NUMERICHOST:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            return as_found(found)

        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        return "http://several.test"

    return resolve_to


@contextlib.contextmanager
def full_listener(host: str) -> Iterator[socket.socket]:
    """A listener with a full backlog, on which a connect hangs (Linux)."""
    with contextlib.ExitStack() as stack:
        kind = family((host, 0))
        listener = stack.enter_context(socket.socket(kind))
        listener.bind((host, 0))
        listener.listen(0)
        for _ in range(4):  # the first is queued; the SYNs of these and later ones are dropped
            filler = stack.enter_context(socket.socket(kind))
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener


@pytest.fixture
def holes() -> Iterator[list[Address]]:
    """Three loopback addresses whose TCP connect hangs, each with an IP of its own."""
    with contextlib.ExitStack() as stack:
        hosts = ("127.0.0.2", "127.0.0.3", "127.0.0.4")
        yield [stack.enter_context(full_listener(host)).getsockname() for host in hosts]


def openai(url: str, **settings: Any) -> OpenAICompatible:
    return OpenAICompatible("m", base_url=url, **{"timeouts": TIMEOUTS, "retry": 1, **settings})


def descriptors() -> int:
    """Return how many files are open once the idle threads have ended."""
    for thread in threading.enumerate():
        if thread.name in ("providers-sync-reader", "providers-sync-request"):
            thread.join(5)
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def connecting_to(address: Address) -> int:
    """Return how many connections to an IPv4 address wait for its answer (Linux)."""
    host = f"{int.from_bytes(socket.inet_aton(address[0]), 'little'):08X}"
    with open("/proc/net/tcp", encoding="ascii") as table:
        return len(re.findall(rf"{host}:{address[1]:04X} 02 ", table.read()))


# --- which address is used, and when


def test_address_that_refuses_is_skipped_immediately(refused: Address, url_for: UrlFor) -> None:
    """The next one answers."""
    with serve("Hello") as server:
        start = time.monotonic()
        url = url_for([refused, ("127.0.0.1", server.port)])
        assert openai(url).complete("Hi").text == "Hello"
        assert time.monotonic() - start < NEXT_S - 0.05


@pytest.mark.parametrize("dead", [1, 3])
def test_addresses_that_do_not_answer_cost_a_quarter_of_a_second_each(
    dead: int, holes: list[Address], url_for: UrlFor
) -> None:
    """Then the next one is tried as well; the sockets of the others are closed."""
    idle = [connecting_to(each) for each in holes]
    with serve("Hello") as server:
        start = time.monotonic()
        url = url_for([*holes[:dead], ("127.0.0.1", server.port)])
        assert openai(url).complete("Hi").text == "Hello"
        assert dead * NEXT_S - 0.02 <= time.monotonic() - start < dead * NEXT_S + MARGIN_S
        assert [connecting_to(each) for each in holes] == idle


def test_address_that_answers_late_is_still_used(refused: Address, holes: list[Address]) -> None:
    """It keeps its chance while others are tried and fail; its SYN is repeated after a second."""
    with full_listener("127.0.0.5") as late:
        late_address = late.getsockname()
        accept = threading.Timer(0.4, late.listen, (128,))  # the kernel accepts from now on
        accept.start()
        found = as_found([late_address, refused, holes[0]])
        with addresses.connect(found, attempt := RequestAttempt(3)) as sock:
            assert sock.getpeername() == late_address
            assert 0 < (sock.gettimeout() or 0) < 3
        attempt.release_socket()
        accept.join()


def test_first_of_two_good_addresses_is_used(url_for: UrlFor) -> None:
    """The second is not even connected to."""
    with serve("first") as first, serve("second") as second:
        url = url_for([("127.0.0.1", first.port), ("127.0.0.1", second.port)])
        assert openai(url).complete("Hi").text == "first"
        assert second.connections == []


def test_families_alternate_from_the_first_one(
    monkeypatch: pytest.MonkeyPatch, url_for: UrlFor
) -> None:
    """A family that does not work delays the call by one address, however many it has."""
    tried = refuse_all(monkeypatch)
    found = [("::1", 1), ("::1", 2), ("::1", 3), ("127.0.0.1", 4), ("::1", 1), ("127.0.0.1", 5)]
    with pytest.raises(APIConnectionError, match=r"none of its 5 addresses .*: connection refused"):
        openai(url_for(found)).complete("Hi")
    assert [target[1] for target in tried] == [1, 4, 2, 5, 3]


def test_many_addresses_are_bounded(monkeypatch: pytest.MonkeyPatch, url_for: UrlFor) -> None:
    """Each is tried once, and twenty at most."""
    tried = refuse_all(monkeypatch)
    ports = [*range(1, 51), *range(1, 51)]
    with pytest.raises(APIConnectionError, match=r"none of its 20 addresses"):
        openai(url_for([("127.0.0.1", port) for port in ports])).complete("Hi")
    assert [target[1] for target in tried] == list(range(1, 21))


def refuse_all(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Refuse every connection; return the list of their addresses."""
    tried: list[Any] = []

    def connect(_: Any, target: Any) -> None:
        tried.append(target)
        raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")

    monkeypatch.setattr(socket.socket, "connect", connect)
    return tried


def test_ipv6_address_that_does_not_answer_is_passed_over(url_for: UrlFor) -> None:
    """The IPv4 address is tried after a quarter of a second, before the second IPv6 address."""
    with serve("Hello") as server, full_listener("::1") as a, full_listener("::1") as b:
        found = [a.getsockname(), b.getsockname(), ("127.0.0.1", server.port)]
        start = time.monotonic()
        assert openai(url_for(found)).complete("Hi").text == "Hello"
        assert time.monotonic() - start < NEXT_S + MARGIN_S - 0.05


def test_machine_without_ipv6_uses_ipv4_at_once(
    monkeypatch: pytest.MonkeyPatch, url_for: UrlFor, refused: Address
) -> None:
    """A missing route fails without a wait, and is not the reason that is reported."""
    original = socket.socket.connect

    def connect(sock: socket.socket, target: Any) -> None:
        if sock.family == socket.AF_INET6:
            raise OSError(errno.ENETUNREACH, "Network is unreachable")
        original(sock, target)

    monkeypatch.setattr(socket.socket, "connect", connect)
    with serve("Hello") as server:
        start = time.monotonic()
        url = url_for([("::1", 9), ("127.0.0.1", server.port)])
        assert openai(url).complete("Hi").text == "Hello"
        assert time.monotonic() - start < NEXT_S - 0.05
    with pytest.raises(APIConnectionError, match=r"none of its 2 addresses .*: connection refused"):
        openai(url_for([("::1", 9), refused])).complete("Hi")


@pytest.mark.parametrize("number", [1, 2])
def test_socket_options_and_source_address_are_used(number: int, refused: Address) -> None:
    """With one address and with several, of which the last one works."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        found = as_found([refused, listener.getsockname()][-number:])
        options = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
        attempt = RequestAttempt()
        with addresses.connect(found, attempt, options, ("127.0.0.9", 0)) as sock:
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert sock.getsockname()[0] == "127.0.0.9"
            assert sock.gettimeout() is None
            assert os.get_blocking(sock.fileno())
        attempt.release_socket()


# --- timeouts and cancellation


def test_dead_addresses_share_one_connect_timeout(holes: list[Address], url_for: UrlFor) -> None:
    """They do not get the full timeout each, and nothing stays open."""
    before, start = descriptors(), time.monotonic()
    with pytest.raises(APITimeoutError) as caught:
        openai(url_for(holes[:2]), timeouts=Timeouts(connect=0.3)).complete("Hi")
    assert caught.value.clock == "connect"
    assert 0.3 <= time.monotonic() - start < 0.3 + MARGIN_S
    assert descriptors() == before


def test_total_timeout_ends_a_race(holes: list[Address], url_for: UrlFor) -> None:
    """It comes before the connect timeout, and closes the sockets."""
    before, start = descriptors(), time.monotonic()
    with pytest.raises(APITimeoutError) as caught:
        openai(url_for(holes), timeouts=Timeouts(connect=3, total=0.4)).complete("Hi")
    assert caught.value.clock == "total"
    assert 0.4 <= time.monotonic() - start < 0.4 + MARGIN_S
    wait_until(lambda: descriptors() == before, 0.2)


def test_cancel_ends_a_race_at_once(holes: list[Address], url_for: UrlFor) -> None:
    """Within 50 ms, with all sockets closed, while two addresses are being tried."""
    provider = openai(url_for(holes), timeouts=Timeouts(connect=5))
    before, idle = descriptors(), connecting_to(holes[1])
    took = []
    for _ in range(3):
        token, cancelled_at = CancelToken(), list[float]()

        def cancel(token: CancelToken = token, at: list[float] = cancelled_at) -> None:
            wait_until(lambda: connecting_to(holes[1]) > idle)
            at.append(time.monotonic())
            token.cancel()

        thread = threading.Thread(target=cancel)
        thread.start()
        with pytest.raises(StreamCancelled):
            provider.complete("Hi", cancel=token)
        took.append(time.monotonic() - cancelled_at[0])
        thread.join()
        wait_until(lambda: descriptors() == before, 0.2)
    assert statistics.median(took) < 0.05


def test_call_over_the_winner_can_be_cancelled(holes: list[Address], url_for: UrlFor) -> None:
    """Its socket is the one that is shut down."""
    with serve(answer("Hel", stall())) as server:
        provider = openai(url_for([holes[0], ("127.0.0.1", server.port)]))
        stream = provider.stream("Hi")
        assert next(stream) == "Hel"
        stream.cancel()
        with pytest.raises(StreamCancelled):
            next(stream)
        server.wait_closed(timeout=1)


def test_exception_from_outside_leaves_nothing_open(holes: list[Address]) -> None:
    """It is thrown into the thread that waits for the addresses, and comes out of it."""
    before, caught = descriptors(), list[BaseException]()

    def race() -> None:
        try:
            addresses.connect(as_found(holes), RequestAttempt(5))
        except BaseException as error:  # noqa: BLE001
            caught.append(error)

    thread = threading.Thread(target=race)
    idle = connecting_to(holes[0])
    thread.start()
    wait_until(lambda: connecting_to(holes[0]) > idle)
    thrown = ctypes.py_object(ZeroDivisionError)
    assert ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), thrown)
    thread.join(2)
    assert [type(error) for error in caught] == [ZeroDivisionError]
    caught.clear()  # its traceback holds the race
    assert descriptors() == before


def test_failed_addresses_leave_no_reference_cycle(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a call holds is freed with it, and not by a garbage collection some time later."""
    refuse_all(monkeypatch)
    gc.disable()
    try:
        attempt = RequestAttempt(2)
        with contextlib.suppress(OSError):
            addresses.connect(as_found([("127.0.0.1", 8), ("127.0.0.1", 9)]), attempt)
        reference = weakref.ref(attempt)
        del attempt
        assert reference() is None
    finally:
        gc.enable()


# --- tools that replace sockets


class NoNetworkError(RuntimeError):
    """What a test tool raises instead of connecting."""


@pytest.mark.parametrize("number", [1, 2])
def test_refusal_of_a_test_tool_comes_out_at_once(
    number: int, monkeypatch: pytest.MonkeyPatch, url_for: UrlFor
) -> None:
    """pytest-socket guards ``connect`` only; no other address and no ``connect_ex`` is tried."""
    tried = []

    def connect(sock: socket.socket, target: Any) -> None:
        tried.append(target)
        sock.close()
        raise NoNetworkError("a test tried to connect")

    def connect_ex(*_: Any) -> int:
        raise AssertionError("not guarded by pytest-socket")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket.socket, "connect_ex", connect_ex)
    before = descriptors()
    with pytest.raises(APIConnectionError) as caught:
        openai(url_for([("127.0.0.1", 1), ("127.0.0.1", 2)][:number])).complete("Hi")
    assert isinstance(caught.value.__cause__, NoNetworkError)
    assert len(tried) == 1
    assert descriptors() == before


@pytest.mark.parametrize("number", [1, 2])
def test_socket_of_a_test_tool_without_a_descriptor_is_used(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is connected in the simple way: with a timeout, and without a selector."""

    class FakeSocket:
        timeouts: list[float] = []

        def __init__(self, *_: Any) -> None:
            pass

        def settimeout(self, seconds: float) -> None:
            self.timeouts.append(seconds)

        def connect(self, target: Any) -> None:
            self.target = target

        def close(self) -> None:
            raise AssertionError("it is in use")

        def __getattr__(self, name: str) -> Any:
            raise NoNetworkError(f"there is no real socket to {name}")

    monkeypatch.setattr(socket, "socket", FakeSocket)
    sock: Any = addresses.connect(
        as_found([("fake.test", 80), ("fake.test", 81)][:number]), RequestAttempt(4)
    )
    assert sock.target == ("fake.test", 80)
    assert FakeSocket.timeouts[0] == pytest.approx(4 / number, abs=0.1)
    assert FakeSocket.timeouts[-1] == pytest.approx(4, abs=0.1)


@pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")
def test_socket_of_httpretty_is_connected_without_a_leak() -> None:
    """It finds two addresses for each host, and makes a real socket beside its own."""
    gc.collect()
    before = descriptors()
    with httpretty.enabled():
        httpretty.register_uri(httpretty.GET, "http://several.test/", body="Hello")
        attempt = RequestAttempt(2)
        found = attempt.resolve("several.test", 80)
        assert len(found) == 2
        sock = addresses.connect(found, attempt)
        sock.sendall(b"GET / HTTP/1.1\r\nHost: several.test\r\n\r\n")
        assert b"Hello" in sock.recv(65536)
        attempt.release_socket()
        sock.close()
        del sock
    gc.collect()  # the files of httpretty's socket
    assert descriptors() == before


GEVENT = """
from gevent import monkey
monkey.patch_all()
import contextlib, os, socket, sys, time
import gevent
from providers_sync import APITimeoutError, CancelToken, OpenAICompatible
from providers_sync import StreamCancelled, Timeouts

addresses = [(host, int(port)) for host, port in (pair.split(":") for pair in sys.argv[1:])]
hosts = {"good.test": addresses, "dead.test": addresses[:2]}
original = socket.getaddrinfo

def look_up(host, port, *rest, **named):
    if host not in hosts or named.get("flags"):
        return original(host, port, *rest, **named)
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", each) for each in hosts[host]]

socket.getaddrinfo = look_up
ticks = []

def tick():
    while True:
        ticks.append(time.monotonic())
        gevent.sleep(0.01)

def provider(host, **settings):
    return OpenAICompatible("m", base_url=f"http://{host}", retry=1, **settings)

def sockets():
    found = 0
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # of the listing itself
            found += os.readlink(f"/proc/self/fd/{descriptor}").startswith("socket:")
    return found

ticker = gevent.spawn(tick)
good = provider("good.test")  # and its connection is kept open
assert good.complete("Hi").text == "Hello"
before = sockets()

token, start = CancelToken(), time.monotonic()
gevent.spawn_later(0.4, token.cancel)
try:
    provider("dead.test").complete("Hi", cancel=token)
except StreamCancelled:
    assert time.monotonic() - start < 0.6
else:
    raise AssertionError("not cancelled")

try:
    provider("dead.test", timeouts=Timeouts(connect=0.3)).complete("Hi")
except APITimeoutError as error:
    assert error.clock == "connect"
gevent.sleep(0.1)
assert sockets() == before
gaps = [b - a for a, b in zip(ticks, ticks[1:])]
assert max(gaps) < 0.2, f"the hub was blocked for {max(gaps)} s"
print("done")
"""


def test_addresses_are_raced_under_gevent(holes: list[Address]) -> None:
    """The hub is never blocked; a cancel and the connect timeout end the race."""
    with serve("Hello") as server:
        found = [holes[0], holes[1], ("127.0.0.1", server.port)]
        arguments = [f"{host}:{port}" for host, port in found]
        script = [sys.executable, "-c", GEVENT, *arguments]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(script, env=environment, capture_output=True, text=True, timeout=20)
        assert done.stderr == ""
        assert done.stdout == "done\n"
