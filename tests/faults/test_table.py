"""Every row of the fault table, against a real server, for each protocol and wire it names."""

from __future__ import annotations

import contextlib
import pickle
import re
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import tenacity

import providers_sync
from providers_sync import Provider, ProviderError, Stream
from providers_sync.testing import Request, answer, serve, status

from .row import ANTHROPIC, ATTEMPTS, Row
from .table import ROWS

KEY = "sk-never-shown-0123456789"
FOREIGN = re.compile(r"[A-Z][a-z]\w*(Error|Exception)\b")
"""The name of some library's exception."""
AT_ONCE = tenacity.Retrying(stop=tenacity.stop_after_attempt(ATTEMPTS), wait=tenacity.wait_none())

CASES = [
    pytest.param(row, kind, wire, id=f"{row.id}-{kind}-{wire}")
    for row in ROWS
    for kind in row.kinds
    for wire in row.wires
]


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    """What is loaded at first use must not count against a row."""
    with serve([status(500), answer("Hello")]) as server:
        providers_sync.OpenAICompatible("m", base_url=server.url, retry=AT_ONCE).complete("Hi")


@dataclass
class Seen:
    """What a reader saw of one call."""

    took: float = 0.0
    error: BaseException | None = None
    stream: Stream | None = None
    chunks: list[str] = field(default_factory=list)


def watched(provider: Provider) -> Seen:
    """Read an answer to its end, the way a user's loop does."""
    seen = Seen()
    began = time.monotonic()
    try:
        seen.stream = provider.stream("Hi")
        for chunk in seen.stream:
            seen.chunks.append(chunk)
    except Exception as error:  # noqa: BLE001 (a foreign one is what this looks for)
        seen.error = error
    seen.took = time.monotonic() - began
    return seen


@contextlib.contextmanager
def silent_dns(monkeypatch: pytest.MonkeyPatch, name: str) -> Iterator[None]:
    """Let the resolver hang for this name until the end."""
    real, over, asked = socket.getaddrinfo, threading.Event(), []

    def hang(host: Any, *rest: Any, **named: Any) -> Any:
        if host != name:
            return real(host, *rest, **named)
        if named.get("flags", 0) & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        asked.append(threading.current_thread())
        over.wait(10)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    yield
    over.set()
    for thread in asked:
        thread.join(1)


@pytest.fixture
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Give a function: the row's place and wire in; base URL, ``verify`` and server out."""
    with contextlib.ExitStack() as stack:

        def elsewhere(kind: str, wire: str) -> str:
            if kind in ("refused", "blackhole"):
                host, port = request.getfixturevalue(kind)
                return f"{wire}://{host}:{port}"
            if kind == "silent-dns":
                stack.enter_context(silent_dns(monkeypatch, "silent.test"))
                return f"{wire}://silent.test"
            return f"{wire}://unknown.invalid"

        def find(row: Row, wire: str) -> tuple[str, Any, Any]:
            contexts = {"self-signed": "tls_self_signed", "wrong-host": "tls_wrong_host"}
            if row.place != "server" and row.place not in contexts:
                return elsewhere(row.place, wire), True, None
            tls = None
            if wire == "https":
                tls = request.getfixturevalue(contexts.get(row.place, "tls"))
            script = row.script() if callable(row.script) else row.script
            server = stack.enter_context(serve(script, tls=tls))
            return server.url, request.getfixturevalue("ca") if tls else True, server

        yield find


def told(error: BaseException | None) -> str:
    """An unexpected error and what is behind it, in short."""
    return f"{error!r} from {error.__cause__!r}" if error else "no error"


def assert_text(found: str, row: Row) -> None:
    if isinstance(row.text, str):
        assert found == row.text
    else:
        assert row.text.fullmatch(found)


def assert_error(error: BaseException | None, row: Row, kind: str) -> None:
    """The exact class, the verdict, every character, the clock and the words."""
    assert type(error) is row.raises, told(error)
    assert isinstance(error, ProviderError)
    assert error.outcome == row.verdict(kind)
    assert_text(error.partial, row)
    assert getattr(error, "clock", None) == row.clock
    for words in row.says:
        assert words in str(error)
    assert not FOREIGN.search(str(error)), "the reason is told in plain words"
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (type(error), str(error))
    assert (again.partial, again.outcome) == (error.partial, error.outcome)
    assert KEY not in "".join(traceback.format_exception(error)) + repr(error.__dict__)


def assert_stream(stream: Stream, seen: Seen, row: Row, kind: str) -> None:
    """What the stream says of itself agrees with what was raised, and stays so."""
    assert stream.outcome == row.verdict(kind)
    assert_text(stream.text, row)
    assert "".join(seen.chunks) == stream.text
    for chunk in seen.chunks:
        assert chunk
        assert chunk.encode()  # prints
    assert stream.stats.attempts == row.requests
    if seen.error is None:
        assert next(stream, None) is None
    else:
        with pytest.raises(type(seen.error)) as caught:
            next(stream)
        assert caught.value is seen.error


def key_of(request: Request, kind: str) -> str:
    """The key that was sent, in the protocol's own header and in no other."""
    own, other = "Authorization", "x-api-key"
    if kind in ANTHROPIC:
        own, other = other, own
    assert other not in request.headers
    return request.headers[own].removeprefix("Bearer ")


Watch = Callable[[Provider], Seen]


@pytest.mark.parametrize(("row", "kind", "wire"), CASES)
def test_fault_ends_as_the_table_says(
    row: Row, kind: str, wire: str, place: Callable[..., tuple[str, Any, Any]]
) -> None:
    """The class, the verdict, the text, the clock, the number of requests, and all in time."""
    check(row, kind, wire, place, watched)


def check(
    row: Row, kind: str, wire: str, place: Callable[..., tuple[str, Any, Any]], watch: Watch
) -> None:
    """Put a row to a provider, and compare what ``watch`` sees."""
    url, verify, server = place(row, wire)
    provider = getattr(providers_sync, kind)(
        model="gpt-4o" if kind != "Vitalentum" else None,
        base_url=url, api_key=KEY, verify=verify, timeouts=row.timeouts, retry=AT_ONCE,
    )  # fmt: skip
    seen = watch(provider)
    if row.raises is None:
        assert seen.error is None, told(seen.error)
    else:
        assert_error(seen.error, row, kind)
    assert (seen.stream is not None) == row.opens
    if seen.stream is not None:
        assert_stream(seen.stream, seen, row, kind)
    for name, value in row.attributes.items():
        assert getattr(seen.error or seen.stream, name) == value
    assert seen.took < row.limit, f"took {seen.took:.3f} s, the limit is {row.limit:.3f} s"
    if server is not None:
        assert len(server.requests) == row.requests
        assert all(key_of(request, kind) == KEY for request in server.requests)


def test_names_of_rows_are_unique() -> None:
    """So that a failed test points at one row."""
    names = [row.id for row in ROWS]
    assert sorted(names) == sorted(set(names))
    assert not [name for name in names if re.search(r"[^\w-]", name)]
