"""Tests of every row of the fault table with a real server.

The protocols that differ most are here; ``test_other_protocols.py`` has all others, and the
others over TLS.
"""

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

from .row import ATTEMPTS, TLS, Row
from .table import ROWS, TABLE

KEY = "sk-never-shown-0123456789"
FOREIGN = re.compile(r"[A-Z][a-z]\w*(Error|Exception)\b")
"""The class name of another library's exception."""
AT_ONCE = tenacity.Retrying(stop=tenacity.stop_after_attempt(ATTEMPTS), wait=tenacity.wait_none())

OVER_TLS = ("OpenAICompatible", "Anthropic", "AI365VIP")
"""The protocols whose rows also run over TLS; the transport is the same for all."""
CASES = [
    pytest.param(row, kind, scheme, id=f"{row.id}-{kind}-{scheme}")
    for row in ROWS
    for kind in row.kinds
    for scheme in row.schemes
    if scheme == "http" or kind in OVER_TLS or row.schemes == TLS
]
HEAVY = TABLE["Too much data"]
"""Rows that take seconds."""
FAST = [
    case
    for case in CASES
    if case.values[1:]
    in (("OpenAICompatible", "http"), ("OpenAICompatible", "https"), ("Anthropic", "http"))
    and case.values[0] not in HEAVY
]
"""The others are in ``test_other_protocols.py``, which is slow."""


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    """Load what is imported on first use, so that it does not count in a row's time."""
    with serve([status(500), answer("Hello")]) as server:
        providers_sync.OpenAICompatible("m", base_url=server.url, retry=AT_ONCE).complete("Hi")


@dataclass
class Observed:
    """What the caller got from one call."""

    took: float = 0.0
    error: BaseException | None = None
    stream: Stream | None = None
    chunks: list[str] = field(default_factory=list)


def observe(provider: Provider) -> Observed:
    """Read an answer to its end, as a user's loop does."""
    observed = Observed()
    start = time.monotonic()
    try:
        observed.stream = provider.stream("Hi")
        for chunk in observed.stream:
            observed.chunks.append(chunk)
    except Exception as error:  # noqa: BLE001 (also those of other libraries)
        observed.error = error
    observed.took = time.monotonic() - start
    return observed


@contextlib.contextmanager
def silent_dns(monkeypatch: pytest.MonkeyPatch, name: str) -> Iterator[None]:
    """Make the resolver hang for this name until the test ends."""
    original, finished, threads = socket.getaddrinfo, threading.Event(), []

    def hang(host: Any, *rest: Any, **named: Any) -> Any:
        if host != name:
            return original(host, *rest, **named)
        if named.get("flags", 0) & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        threads.append(threading.current_thread())
        finished.wait(10)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    yield
    finished.set()
    for thread in threads:
        thread.join(1)


@pytest.fixture
def open_target(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return a function that returns base URL, ``verify`` and server for a row and a scheme."""
    with contextlib.ExitStack() as stack:

        def unreachable(target: str, scheme: str) -> str:
            if target in ("refused", "blackhole"):
                host, port = request.getfixturevalue(target)
                return f"{scheme}://{host}:{port}"
            if target == "silent-dns":
                stack.enter_context(silent_dns(monkeypatch, "silent.test"))
                return f"{scheme}://silent.test"
            return f"{scheme}://unknown.invalid"

        def open_row(row: Row, scheme: str) -> tuple[str, Any, Any]:
            contexts = {"self-signed": "tls_self_signed", "wrong-host": "tls_wrong_host"}
            if row.target != "server" and row.target not in contexts:
                return unreachable(row.target, scheme), True, None
            tls = None
            if scheme == "https":
                tls = request.getfixturevalue(contexts.get(row.target, "tls"))
            script = row.script() if callable(row.script) else row.script
            server = stack.enter_context(serve(script, tls=tls))
            return server.url, request.getfixturevalue("ca") if tls else True, server

        yield open_row


def describe(error: BaseException | None) -> str:
    """Return a short text of an unexpected error and its cause."""
    return f"{error!r} from {error.__cause__!r}" if error else "no error"


def assert_text(text: str, row: Row) -> None:
    if isinstance(row.text, str):
        assert text == row.text
    else:
        assert row.text.fullmatch(text)


def assert_error(error: BaseException | None, row: Row, kind: str) -> None:
    """Check the exact class, the outcome, the partial text, the timeout and the message."""
    assert type(error) is row.raises, describe(error)
    assert isinstance(error, ProviderError)
    assert error.outcome == row.expected_outcome(kind)
    assert_text(error.partial, row)
    assert getattr(error, "clock", None) == row.clock
    for part in row.message:
        assert part in str(error)
    assert not FOREIGN.search(str(error)), "the message names another library's exception"
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy)) == (type(error), str(error))
    assert (copy.partial, copy.outcome) == (error.partial, error.outcome)
    assert KEY not in "".join(traceback.format_exception(error)) + repr(error.__dict__)


def assert_stream(stream: Stream, observed: Observed, row: Row, kind: str) -> None:
    """Check that the stream's attributes agree with the error, and that they are final."""
    assert stream.outcome == row.expected_outcome(kind)
    assert_text(stream.text, row)
    assert "".join(observed.chunks) == stream.text
    for chunk in observed.chunks:
        assert chunk
        assert chunk.encode()  # can be printed
    assert stream.stats.attempts == row.requests
    if observed.error is None:
        assert next(stream, None) is None
    else:
        with pytest.raises(type(observed.error)) as caught:
            next(stream)
        assert caught.value is observed.error


KEY_HEADERS = {"Anthropic": "x-api-key", "Gemini": "x-goog-api-key"}


def key_of(request: Request, kind: str) -> str:
    """Return the key in the protocol's own header; no other header may contain it."""
    expected = KEY_HEADERS.get(kind, "Authorization")
    for other in {"Authorization", *KEY_HEADERS.values()} - {expected}:
        assert other not in request.headers
    return request.headers[expected].removeprefix("Bearer ")


Observe = Callable[[Provider], Observed]


@pytest.mark.parametrize(("row", "kind", "scheme"), FAST)
def test_fault_has_the_result_in_the_table(
    row: Row, kind: str, scheme: str, open_target: Callable[..., tuple[str, Any, Any]]
) -> None:
    """Class, outcome, text, timeout and number of requests are right, and the call ends in time."""
    check(row, kind, scheme, open_target, observe)


def check(
    row: Row,
    kind: str,
    scheme: str,
    open_target: Callable[..., tuple[str, Any, Any]],
    call: Observe,
) -> None:
    """Produce the fault of a row, and compare what ``call`` returns with it."""
    took = check_result(row, kind, open_target(row, scheme), call)
    if took >= row.limit:  # other work on the machine may have delayed it
        took = check_result(row, kind, open_target(row, scheme), call)
    assert took < row.limit, f"took {took:.3f} s, the limit is {row.limit:.3f} s"


def check_result(row: Row, kind: str, target: tuple[str, Any, Any], call: Observe) -> float:
    """Produce the fault once, and check everything but the time that it took; return that."""
    url, verify, server = target
    provider = getattr(providers_sync, kind)(
        model="gpt-4o" if kind != "Vitalentum" else None,
        base_url=url, api_key=KEY, verify=verify, timeouts=row.timeouts, retry=AT_ONCE,
    )  # fmt: skip
    observed = call(provider)
    if row.raises is None:
        assert observed.error is None, describe(observed.error)
    else:
        assert_error(observed.error, row, kind)
    assert (observed.stream is not None) == row.opens
    if observed.stream is not None:
        assert_stream(observed.stream, observed, row, kind)
    for name, value in row.attributes.items():
        assert getattr(observed.error or observed.stream, name) == value
    if server is not None:
        assert len(server.requests) == row.requests
        assert all(key_of(request, kind) == KEY for request in server.requests)
    return observed.took


def test_names_of_rows_are_unique() -> None:
    """A failed test identifies one row."""
    names = [row.id for row in ROWS]
    assert sorted(names) == sorted(set(names))
    assert not [name for name in names if re.search(r"[^\w-]", name)]
