"""Tests of SOCKS proxies: the connect timeout and the stop button in every phase, and secrets."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from providers_sync import (
    APIConnectionError,
    APITimeoutError,
    CancelToken,
    OpenAICompatible,
    ProviderError,
    StreamCancelled,
    Timeouts,
)
from providers_sync.testing import serve

from .phases import ReusableEvent, wait_until
from .test_secrets import everything

CONNECT_S, MARGIN_S = 0.4, 0.25
TIMEOUTS = Timeouts(connect=CONNECT_S, first_token=5, idle=5, total=10)
USER, PASSWORD = "somebody", "S3cret/Pass-Word"
URL = f"socks5h://{USER}:{PASSWORD.replace('/', '%2F')}@127.0.0.1:"
CHOOSES_NOTHING, CHOOSES_PASSWORD = b"\x05\x00", b"\x05\x02"
CONNECTED = b"\x05\x00\x00\x01" + bytes(6)


class Socks:
    """A SOCKS server on loopback: ``handle`` has each connection, in a thread of its own."""

    def __init__(self, handle: Callable[[Socks, socket.socket], None]) -> None:
        self._handle = handle
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.reached = ReusableEvent()
        """Set by ``handle`` where it stalls."""
        self.targets: list[tuple[int, str, int]] = []
        """Of each request: the kind of address, the address and the port."""
        self.ended = threading.Event()
        """Set when the client has closed a connection."""
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock = self._listener.accept()[0]
                sock.settimeout(10)
                self._threads.append(threading.Thread(target=self._serve, args=(sock,)))
                self._threads[-1].start()

    def _serve(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            self._handle(self, sock)
            while sock.recv(65536):
                pass
        self.ended.set()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(5)


@contextlib.contextmanager
def socks(handle: Callable[[Socks, socket.socket], None]) -> Iterator[Socks]:
    server = Socks(handle)
    try:
        yield server
    finally:
        server.close()


def openai(url: str, proxy: str, **settings: Any) -> OpenAICompatible:
    return OpenAICompatible(
        "m", base_url=url, proxy=proxy, retry=1, **{"timeouts": TIMEOUTS, **settings}
    )


# --- a proxy that works


def read_until_zero(sock: socket.socket) -> str:
    return b"".join(iter(lambda: sock.recv(1), b"\0")).decode()


def read_target(sock: socket.socket) -> tuple[int, str, int]:
    """Read the target of a SOCKS 5 request: the kind of address, the address and the port."""
    kind = sock.recv(4)[3]
    if kind == 3:
        host = sock.recv(sock.recv(1)[0]).decode()
    else:
        family = socket.AF_INET if kind == 1 else socket.AF_INET6
        host = socket.inet_ntop(family, sock.recv(4 if kind == 1 else 16))
    return kind, host, struct.unpack(">H", sock.recv(2))[0]


def negotiate(proxy: Socks, sock: socket.socket) -> None:
    """Answer any version as a server does; ask for a password if the client has one."""
    first = sock.recv(2)
    if first[0] == 4:
        port, address = struct.unpack(">H4s", sock.recv(6))
        read_until_zero(sock)
        name = read_until_zero(sock) if address[:3] == bytes(3) else socket.inet_ntoa(address)
        proxy.targets.append((4, name, port))
        sock.sendall(b"\x00\x5a" + bytes(6))
        return
    if 2 in sock.recv(first[1]):
        sock.sendall(CHOOSES_PASSWORD)
        user = sock.recv(sock.recv(2)[1])
        assert (user, sock.recv(sock.recv(1)[0])) == (USER.encode(), PASSWORD.encode())
        sock.sendall(b"\x01\x00")
    else:
        sock.sendall(CHOOSES_NOTHING)
    proxy.targets.append(read_target(sock))
    for byte in CONNECTED:  # in pieces: a client must not need it whole
        sock.sendall(bytes([byte]))


def forward_to(port: int) -> Callable[[Socks, socket.socket], None]:
    """Return what connects every client to a port of this machine, wherever it wants to go."""

    def copy(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def handle(proxy: Socks, sock: socket.socket) -> None:
        negotiate(proxy, sock)
        with socket.create_connection(("127.0.0.1", port)) as server:
            back = threading.Thread(target=copy, args=(server, sock))
            back.start()
            copy(sock, server)
            back.join()

    return handle


TARGETS = {"socks5h": 3, "socks4a": 4, "socks5": 1, "socks4": 4}
"""How each version names its target: 1 is an IPv4 address, 3 a name."""


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("version", TARGETS)
def test_answer_comes_through_the_proxy(
    version: str, scheme: str, request: pytest.FixtureRequest
) -> None:
    """With each version of SOCKS; two requests use one connection."""
    tls, ca = (None, True) if scheme == "http" else map(request.getfixturevalue, ("tls", "ca"))
    with serve("Hello", keep=2, tls=tls) as server, socks(forward_to(server.port)) as proxy:
        url = f"{scheme}://localhost:{server.port}/v1"
        provider = openai(url, f"{version}://127.0.0.1:{proxy.port}", verify=ca)
        assert [provider.complete("Hi").text for _ in range(2)] == ["Hello", "Hello"]
        host = "localhost" if version in ("socks5h", "socks4a") else "127.0.0.1"
        assert proxy.targets == [(TARGETS[version], host, server.port)]
        provider.close()


@pytest.mark.parametrize("host", ["[::1]", "127.0.0.1"])
def test_address_is_sent_as_an_address(host: str) -> None:
    """IPv6 too; and the proxy asks for the password that its URL has."""
    with serve("Hello") as server, socks(forward_to(server.port)) as proxy:
        provider = openai(f"http://{host}:{server.port}", f"{URL}{proxy.port}")
        assert provider.complete("Hi").text == "Hello"
        assert proxy.targets == [(4 if ":" in host else 1, host.strip("[]"), server.port)]
        provider.close()


# --- a proxy that stalls


def stall_after(*answers: bytes) -> Callable[[Socks, socket.socket], None]:
    """Return what reads once before each answer, and then says no more."""

    def handle(proxy: Socks, sock: socket.socket) -> None:
        for each in answers:
            sock.recv(600)
            sock.sendall(each)
        proxy.reached.event.set()

    return handle


def drip_after(*answers: bytes) -> Callable[[Socks, socket.socket], None]:
    """Return what answers at last with the longest name, a byte after the other."""

    def handle(proxy: Socks, sock: socket.socket) -> None:
        stall_after(*answers, b"")(proxy, sock)
        for byte in b"\x05\x00\x00\x03\xff" + bytes(257):
            sock.sendall(bytes([byte]))
            time.sleep(CONNECT_S / 4)

    return handle


STALLS = {
    "greeting": stall_after(b""),
    "half a greeting": stall_after(b"\x05"),
    "password": stall_after(CHOOSES_PASSWORD, b""),
    "request": stall_after(CHOOSES_NOTHING, b""),
    "half a reply": stall_after(CHOOSES_NOTHING, CONNECTED[:5]),
    "slow reply": drip_after(CHOOSES_NOTHING),
    "slow reply after the password": drip_after(CHOOSES_PASSWORD, b"\x01\x00"),
    "TLS": stall_after(CHOOSES_NOTHING, CONNECTED, b""),
}

Call = Callable[..., OpenAICompatible]


@contextlib.contextmanager
def stalled_proxy(name: str) -> Iterator[tuple[Call, Callable[[], None]]]:
    with socks(STALLS[name]) as proxy:
        url = "https://127.0.0.2" if name == "TLS" else "http://127.0.0.2"
        yield functools.partial(openai, url, f"{URL}{proxy.port}"), proxy.reached.wait
        assert proxy.ended.wait(1), "the connection to the proxy is still open"


@contextlib.contextmanager
def stalled_look_up(url: str, proxy: str) -> Iterator[tuple[Call, Callable[[], None]]]:
    """The name server does not answer."""
    original, finished, reached = socket.getaddrinfo, threading.Event(), ReusableEvent()
    threads = []

    def hang(host: Any, *rest: Any, **named: Any) -> Any:
        if host != "silent.test":
            return original(host, *rest, **named)
        if named.get("flags", 0) & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        threads.append(threading.current_thread())
        reached.event.set()
        finished.wait(30)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", hang)
        yield functools.partial(openai, url, proxy), reached.wait
        finished.set()
        for thread in threads:
            thread.join(1)
        assert {thread.name for thread in threads} == {"providers-sync-resolver"}


@contextlib.contextmanager
def stalled(
    name: str, blackhole: tuple[str, int]
) -> Iterator[tuple[Call, Callable[[], None] | None]]:
    """Yield what makes a provider whose call stalls there, and what waits until it does."""
    if name == "proxy's name":
        with stalled_look_up("http://127.0.0.2", "socks5h://silent.test:9") as found:
            yield found
    elif name == "server's name":
        with stalled_look_up("http://silent.test", "socks5://127.0.0.1:9") as found:
            yield found
    elif name == "TCP connect":
        yield (
            functools.partial(openai, "http://127.0.0.2", "socks5h://{}:{}".format(*blackhole)),
            None,
        )
    else:
        with stalled_proxy(name) as found:
            yield found


PHASES = ["proxy's name", "server's name", "TCP connect", *STALLS]


@pytest.mark.parametrize("name", PHASES)
def test_connect_timeout_ends_every_phase(name: str, blackhole: tuple[str, int]) -> None:
    """It ends a proxy that is silent, and one that sends a byte now and then."""
    with stalled(name, blackhole) as (make, _):
        started = time.monotonic()
        with pytest.raises(APITimeoutError) as caught:
            make().complete("Hi")
        assert CONNECT_S - 0.01 <= time.monotonic() - started < CONNECT_S + MARGIN_S
        assert caught.value.clock == "connect"


def by_token(token: CancelToken) -> None:
    token.cancel()


def by_ctrl_c(_: CancelToken) -> None:
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("stop", [by_token, by_ctrl_c])
@pytest.mark.parametrize("name", PHASES)
def test_stop_ends_every_phase(
    name: str, stop: Callable[[CancelToken], None], blackhole: tuple[str, int]
) -> None:
    """The caller is free at once, and the thread and the connection are gone soon after."""
    token, at = CancelToken(), list[float]()

    def act() -> None:
        if ready is None:  # nothing tells when the kernel has sent the first packet
            time.sleep(0.1)
        else:
            ready()
        at.append(time.monotonic())
        stop(token)

    with stalled(name, blackhole) as (make, ready):
        provider = make(timeouts=Timeouts(connect=10, total=20))
        thread = threading.Thread(target=act)
        thread.start()
        with pytest.raises((StreamCancelled, KeyboardInterrupt)) as caught:
            provider.complete("Hi", cancel=token)
        assert time.monotonic() - at[0] < MARGIN_S
        assert caught.type is (StreamCancelled if stop is by_token else KeyboardInterrupt)
        thread.join()
        wait_until(lambda: not our_threads(), 1)


def our_threads() -> list[str]:
    """Return the names of our threads, except those that the name server keeps waiting."""
    names = [thread.name for thread in threading.enumerate()]
    mine = [name for name in names if name.startswith("providers-sync-")]
    return [name for name in mine if name != "providers-sync-resolver"]


# --- a proxy that refuses

REFUSALS = {
    "no method": ([b"\x05\xff"], "authentication methods were rejected"),
    "wrong password": ([CHOOSES_PASSWORD, b"\x01\x01"], "authentication failed"),
    "no route": ([CHOOSES_NOTHING, b"\x05\x04\x00\x01" + bytes(6)], "host unreachable"),
    "other protocol": ([b"220 smtp ready\r\n"], "invalid data"),
    "closes": ([CHOOSES_NOTHING, b""], "closed unexpectedly"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusal_is_quoted_and_hides_the_password(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The error says what the proxy has answered, and that it was the proxy."""
    answers, reason = REFUSALS[name]

    def refuse(_: Socks, sock: socket.socket) -> None:
        for each in answers:
            sock.recv(600)
            sock.sendall(each)
        sock.shutdown(socket.SHUT_WR)

    with socks(refuse) as proxy, caplog.at_level("DEBUG"):
        with pytest.raises(APIConnectionError, match=f"through the proxy: .*{reason}") as caught:
            openai("http://127.0.0.2", f"{URL}{proxy.port}").complete("Hi")
        shown = everything(caught.value, caplog)
        assert not [
            each for each in (PASSWORD, PASSWORD.replace("/", "%2F")) if each.lower() in shown
        ]
        assert USER not in shown


def test_timeout_hides_the_password(caplog: pytest.LogCaptureFixture) -> None:
    """It is raised while PySocks still has the password in its variables."""
    with stalled_proxy("password") as (make, _), caplog.at_level("DEBUG"):
        with pytest.raises(ProviderError) as caught:
            make(timeouts=Timeouts(connect=0.1)).complete("Hi")
        assert PASSWORD.lower() not in everything(caught.value, caplog)
