"""What the fault server remembers: requests, connections, and waiting for them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any


class Headers(Mapping[str, str]):
    """Header fields as received, looked up without regard to case; the last of a name counts.

    >>> headers = Headers([("X-Key", "1"), ("x-key", "2")])
    >>> headers["X-KEY"], headers.all("x-key"), "host" in headers
    ('2', ['1', '2'], False)
    """

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self.pairs = pairs
        """Every field in the order and the spelling it came in."""

    def all(self, name: str) -> list[str]:
        """Return every value of ``name``."""
        return [value for key, value in self.pairs if key.lower() == name.lower()]

    def __getitem__(self, name: str) -> str:
        found = self.all(name)
        if not found:
            raise KeyError(name)
        return found[-1]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool(self.all(name))

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(key.lower() for key, _ in self.pairs))

    def __len__(self) -> int:
        return len({key.lower() for key, _ in self.pairs})

    def __repr__(self) -> str:
        return f"Headers({self.pairs!r})"


@dataclass(frozen=True)
class Request:
    """One request, received whole."""

    number: int
    """Counted from 1 over the whole server."""
    connection: int
    """The number of its connection, counted from 1; equal numbers mean keep-alive."""
    method: str
    path: str
    headers: Headers
    body: bytes
    at: float = field(default_factory=time.monotonic, compare=False)
    """When it was complete, by ``time.monotonic()``."""

    def json(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.body)


@dataclass
class Connection:
    """One accepted connection."""

    number: int
    opened_at: float = field(default_factory=time.monotonic)
    """By ``time.monotonic()``, like ``closed_at``."""
    closed_at: float | None = None
    """When it was over on both sides; ``None`` while it is open."""
    closed_by: str | None = None
    """Who ended it first, ``client`` or ``server``; ``None`` while nobody has."""
    error: str | None = None
    """What TLS said when the handshake failed."""
    requests: int = 0
    """How many requests came over it."""


class Log:
    """The records of one server; every method may be called from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._requests: list[Request] = []
        self._connections: list[Connection] = []

    def requests(self) -> list[Request]:
        with self._changed:
            return list(self._requests)

    def connections(self) -> list[Connection]:
        with self._changed:
            return list(self._connections)

    def opened(self) -> Connection:
        with self._changed:
            connection = Connection(len(self._connections) + 1)
            self._connections.append(connection)
            self._changed.notify_all()
            return connection

    def closed(self, connection: Connection) -> None:
        with self._changed:
            connection.closed_at = time.monotonic()
            self._changed.notify_all()

    def received(
        self, connection: Connection, method: str, path: str, headers: Headers, body: bytes
    ) -> Request:
        with self._changed:
            number = len(self._requests) + 1
            request = Request(number, connection.number, method, path, headers, body)
            self._requests.append(request)
            connection.requests += 1
            self._changed.notify_all()
            return request

    def wait_request(self, n: int, timeout: float) -> Request:
        self._wait(lambda: len(self._requests) >= n, f"request {n}", timeout)
        return self._requests[n - 1]

    def wait_connection(self, n: int, timeout: float) -> Connection:
        self._wait(lambda: len(self._connections) >= n, f"connection {n}", timeout)
        return self._connections[n - 1]

    def wait_closed(self, n: int, timeout: float) -> float:
        def is_over() -> bool:
            return len(self._connections) >= n and self._connections[n - 1].closed_at is not None

        return self._wait(is_over, f"the end of connection {n}", timeout)

    def _wait(self, happened: Callable[[], bool], what: str, timeout: float) -> float:
        start = time.monotonic()
        with self._changed:
            if not self._changed.wait_for(happened, timeout):
                raise TimeoutError(
                    f"the fault server waited {timeout} s for {what}; it has seen "
                    f"{len(self._requests)} requests on {len(self._connections)} connections"
                )
        return time.monotonic() - start
