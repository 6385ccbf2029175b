"""The phases in which a call can be cancelled, each with a server that stalls in it."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tenacity

from providers_sync import OpenAICompatible, Provider, Stream
from providers_sync.testing import Server, answer, cut, repeat, serve, signal, stall, status, text

BUFFER_BYTES = 256 * 1024
SYN_SENT = "02"


@dataclass
class Phase:
    """A provider whose call stalls in this phase; ``ready()`` returns once it has reached it."""

    provider: Provider
    ready: Callable[[], None]
    server: Server | None = None
    opens: bool = False
    """Whether ``stream()`` has returned."""
    text: str = ""
    """The text received so far."""
    closes: bool = True
    """Whether cancelling closes the connection."""
    reads: bool = True
    """Whether the caller is reading; with a full buffer it is not."""


def wait_until(condition: Callable[[], bool], limit: float = 5.0) -> None:
    """Poll until a condition is true that no event reports."""
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true"
        time.sleep(0.001)


class ReusableEvent:
    """An event that clears itself after each wait."""

    def __init__(self) -> None:
        self.event = threading.Event()

    def wait(self) -> None:
        assert self.event.wait(5)
        self.event.clear()

    def long_backoff(self, *_: Any) -> float:
        """Serve as a tenacity wait: set the event and return 30 seconds."""
        self.event.set()
        return 30.0


def serve_stalling(request: pytest.FixtureRequest, scheme: str, **options: Any) -> Any:
    """Return an event and a server whose answer stalls where an option contains ``...``."""
    reached = ReusableEvent()
    stalling = (signal(reached.event), stall())
    steps = [stalling if step is ... else (step,) for step in options.pop("steps", ())]
    settings = {name: stalling if value is ... else value for name, value in options.items()}
    script = answer(*(each for step in steps for each in step), **settings)
    return reached, serve_over(request, scheme, script)


@contextlib.contextmanager
def serve_over(request: pytest.FixtureRequest, scheme: str, script: Any) -> Iterator[Server]:
    """Serve a script over HTTP or HTTPS."""
    tls = request.getfixturevalue("tls") if scheme == "https" else None
    with serve(script, tls=tls) as server:
        yield server


def provider_at(url: str, request: pytest.FixtureRequest, **settings: Any) -> Provider:
    if url.startswith("https"):
        settings["verify"] = request.getfixturevalue("ca")
    return OpenAICompatible("m", base_url=url, **settings)


@contextlib.contextmanager
def resolving(request: pytest.FixtureRequest, scheme: str) -> Iterator[Phase]:
    """DNS does not answer."""
    original, finished, reached = socket.getaddrinfo, threading.Event(), ReusableEvent()
    threads = []

    def hang(host: Any, *rest: Any, **named: Any) -> Any:
        if host != "silent.test":
            return original(host, *rest, **named)
        if named.get("flags", 0) & socket.AI_NUMERICHOST:
            reached.event.set()  # once for each call; the look-up itself is shared by all calls
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        threads.append(threading.current_thread())
        finished.wait(30)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", hang)
        yield Phase(provider_at(f"{scheme}://silent.test", request, verify=True), reached.wait)
        finished.set()
        for thread in threads:
            thread.join(1)


@contextlib.contextmanager
def connecting(request: pytest.FixtureRequest, scheme: str) -> Iterator[Phase]:
    """The TCP connect does not complete."""
    host, port = request.getfixturevalue("blackhole")
    address = f"{int.from_bytes(socket.inet_aton(host), 'little'):08X}:{port:04X} {SYN_SENT}"

    def pending() -> int:
        return Path("/proc/net/tcp").read_text().count(address)

    before = pending()
    yield Phase(
        provider_at(f"{scheme}://{host}:{port}", request),
        lambda: wait_until(lambda: pending() > before),
    )


@contextlib.contextmanager
def stalled_at(
    request: pytest.FixtureRequest, scheme: str, opens: bool = False, text: str = "", **options: Any
) -> Iterator[Phase]:
    """The server stalls where an option contains ``...``."""
    reached, serving = serve_stalling(request, scheme, **options)
    with serving as server:
        yield Phase(provider_at(server.url, request), reached.wait, server, opens, text)


@contextlib.contextmanager
def backing_off(
    request: pytest.FixtureRequest, scheme: str, script: Any, opens: bool
) -> Iterator[Phase]:
    """The wait before the next attempt is 30 seconds."""
    reached = ReusableEvent()
    retry = tenacity.Retrying(stop=tenacity.stop_after_attempt(3), wait=reached.long_backoff)
    with serve_over(request, scheme, script) as server:
        provider = provider_at(server.url, request, retry=retry)
        yield Phase(provider, reached.wait, server, opens, closes=False)


@contextlib.contextmanager
def buffer_full(request: pytest.FixtureRequest, scheme: str) -> Iterator[Phase]:
    """The server sends forever and the caller does not read."""
    with serve_over(request, scheme, [repeat(text("x" * 1000))]) as server:
        yield Phase(provider_at(server.url, request), lambda: None, server, opens=True, reads=False)


def fill(stream: Stream) -> None:
    """Wait until the buffer of a stream is full and it receives no more."""

    def is_full() -> bool:
        size = stream.stats.bytes
        time.sleep(0.01)
        return size > BUFFER_BYTES and stream.stats.bytes == size

    wait_until(is_full)


PHASES: dict[str, Callable[[pytest.FixtureRequest, str], Any]] = {
    "resolving": resolving,
    "connecting": connecting,
    "TLS handshake": lambda r, s: stalled_at(r, "https", connect=...),
    "waiting for headers": lambda r, s: stalled_at(r, s, before=...),
    "reading the error body": lambda r, s: stalled_at(r, s, steps=[b"oops", ...], status=500),
    "back-off": lambda r, s: backing_off(r, s, status(503), False),
    "back-off from a cut": lambda r, s: backing_off(r, s, answer(cut()), True),
    "before the first event": lambda r, s: stalled_at(r, s, steps=[...], opens=True),
    "in the middle": lambda r, s: stalled_at(r, s, steps=["Hel", ...], opens=True, text="Hel"),
    "buffer full": buffer_full,
}

SECURE = {"waiting for headers", "reading the error body", "before the first event",
          "in the middle", "buffer full"}  # fmt: skip
CASES = [
    pytest.param(phase, scheme, id=f"{phase.replace(' ', '-')}-{scheme}")
    for phase in PHASES
    for scheme in (("http", "https") if phase in SECURE else ("http",))
]
