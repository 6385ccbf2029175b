"""The moments of a call at which a reader may want out, each on a server that holds it there."""

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
    """Where a call hangs: ``provider`` gets it there, ``ready()`` returns once it is there."""

    provider: Provider
    ready: Callable[[], None]
    server: Server | None = None
    opens: bool = False
    """Whether ``stream()`` has returned by then."""
    text: str = ""
    """What the reader has by then."""
    closes: bool = True
    """Whether stopping costs the connection."""
    reads: bool = True
    """Whether the reader waits; with a full buffer it is elsewhere."""


def wait_until(happened: Callable[[], bool], limit: float = 5.0) -> None:
    """Poll for what has no event."""
    deadline = time.monotonic() + limit
    while not happened():
        assert time.monotonic() < deadline, "the call did not get there"
        time.sleep(0.001)


class Cue:
    """An event that can be waited for again and again."""

    def __init__(self) -> None:
        self.event = threading.Event()

    def wait(self) -> None:
        assert self.event.wait(5)
        self.event.clear()

    def wait_once(self, *_: Any) -> float:
        """A tenacity wait: half a minute, and the cue that it begins."""
        self.event.set()
        return 30.0


def held(request: pytest.FixtureRequest, wire: str, **where: Any) -> Any:
    """Serve an answer that is held where ``where`` says."""
    cue = Cue()
    stop = (signal(cue.event), stall())
    steps = [stop if step is ... else (step,) for step in where.pop("steps", ())]
    named = {name: stop if value is ... else value for name, value in where.items()}
    script = answer(*(each for step in steps for each in step), **named)
    return cue, served(request, wire, script)


@contextlib.contextmanager
def served(request: pytest.FixtureRequest, wire: str, script: Any) -> Iterator[Server]:
    tls = request.getfixturevalue("tls") if wire == "https" else None
    with serve(script, tls=tls) as server:
        yield server


def provider_at(url: str, request: pytest.FixtureRequest, **settings: Any) -> Provider:
    if url.startswith("https"):
        settings["verify"] = request.getfixturevalue("ca")
    return OpenAICompatible("m", base_url=url, **settings)


@contextlib.contextmanager
def resolving(request: pytest.FixtureRequest, wire: str) -> Iterator[Phase]:
    """DNS does not answer."""
    real, over, cue = socket.getaddrinfo, threading.Event(), Cue()
    asked = []

    def hang(host: Any, *rest: Any, **named: Any) -> Any:
        if host != "silent.test":
            return real(host, *rest, **named)
        if named.get("flags", 0) & socket.AI_NUMERICHOST:
            cue.event.set()  # each call begins so; the look-up itself is one for all of them
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        asked.append(threading.current_thread())
        over.wait(30)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", hang)
        yield Phase(provider_at(f"{wire}://silent.test", request, verify=True), cue.wait)
        over.set()
        for thread in asked:
            thread.join(1)


@contextlib.contextmanager
def connecting(request: pytest.FixtureRequest, wire: str) -> Iterator[Phase]:
    """The TCP connect hangs."""
    host, port = request.getfixturevalue("blackhole")
    address = f"{int.from_bytes(socket.inet_aton(host), 'little'):08X}:{port:04X} {SYN_SENT}"

    def pending() -> int:
        return Path("/proc/net/tcp").read_text().count(address)

    before = pending()
    yield Phase(
        provider_at(f"{wire}://{host}:{port}", request),
        lambda: wait_until(lambda: pending() > before),
    )


@contextlib.contextmanager
def held_at(
    request: pytest.FixtureRequest, wire: str, opens: bool = False, text: str = "", **where: Any
) -> Iterator[Phase]:
    """A server that stops where ``...`` stands."""
    cue, serving = held(request, wire, **where)
    with serving as server:
        yield Phase(provider_at(server.url, request), cue.wait, server, opens, text)


@contextlib.contextmanager
def backing_off(
    request: pytest.FixtureRequest, wire: str, script: Any, opens: bool
) -> Iterator[Phase]:
    """The wait before another attempt is half a minute."""
    cue = Cue()
    retry = tenacity.Retrying(stop=tenacity.stop_after_attempt(3), wait=cue.wait_once)
    with served(request, wire, script) as server:
        provider = provider_at(server.url, request, retry=retry)
        yield Phase(provider, cue.wait, server, opens, closes=False)


@contextlib.contextmanager
def buffer_full(request: pytest.FixtureRequest, wire: str) -> Iterator[Phase]:
    """The server sends for ever and nobody reads."""
    with served(request, wire, [repeat(text("x" * 1000))]) as server:
        yield Phase(provider_at(server.url, request), lambda: None, server, opens=True, reads=False)


def fill(stream: Stream) -> None:
    """Wait until the buffer of a stream is full and the server held back."""

    def is_held() -> bool:
        size = stream.stats.bytes
        time.sleep(0.01)
        return size > BUFFER_BYTES and stream.stats.bytes == size

    wait_until(is_held)


PHASES: dict[str, Callable[[pytest.FixtureRequest, str], Any]] = {
    "resolving": resolving,
    "connecting": connecting,
    "TLS handshake": lambda r, wire: held_at(r, "https", connect=...),
    "waiting for headers": lambda r, wire: held_at(r, wire, before=...),
    "reading the error body": lambda r, wire: held_at(r, wire, steps=[b"oops", ...], status=500),
    "back-off": lambda r, wire: backing_off(r, wire, status(503), False),
    "back-off from a cut": lambda r, wire: backing_off(r, wire, answer(cut()), True),
    "before the first event": lambda r, wire: held_at(r, wire, steps=[...], opens=True),
    "in the middle": lambda r, wire: held_at(r, wire, steps=["Hel", ...], opens=True, text="Hel"),
    "buffer full": buffer_full,
}

SECURE = {"waiting for headers", "reading the error body", "before the first event",
          "in the middle", "buffer full"}  # fmt: skip
CASES = [
    pytest.param(phase, wire, id=f"{phase.replace(' ', '-')}-{wire}")
    for phase in PHASES
    for wire in (("http", "https") if phase in SECURE else ("http",))
]
