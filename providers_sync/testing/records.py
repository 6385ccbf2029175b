"""What the fault server remembers: requests, connections, and waiting for them."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar


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
    """How the client left: what TLS or the system said."""
    requests: int = 0
    """How many requests came over it."""


T = TypeVar("T")


class RecentItems(Generic[T]):
    """Things counted from 1, of which the last ``keep`` are kept."""

    def __init__(self, keep: int | None) -> None:
        self.kept: deque[T] = deque(maxlen=keep)
        self.count = 0

    def add(self, thing: T) -> None:
        self.kept.append(thing)
        self.count += 1

    def get(self, n: int) -> T:
        index = n - 1 - (self.count - len(self.kept))
        if index < 0:
            raise LookupError(f"number {n} is not kept any more, or never was: count from 1")
        return self.kept[index]


class Log:
    """The records of one server; every method may be called from any thread."""

    def __init__(self, keep: int | None) -> None:
        self._changed = threading.Condition()
        self._requests: RecentItems[Request] = RecentItems(keep)
        self._connections: RecentItems[Connection] = RecentItems(keep)

    def requests(self) -> list[Request]:
        with self._changed:
            return list(self._requests.kept)

    def connections(self) -> list[Connection]:
        with self._changed:
            return list(self._connections.kept)

    def opened(self) -> Connection:
        with self._changed:
            connection = Connection(self._connections.count + 1)
            self._connections.add(connection)
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
            number = self._requests.count + 1
            request = Request(number, connection.number, method, path, headers, body)
            self._requests.add(request)
            connection.requests += 1
            self._changed.notify_all()
            return request

    def wait_request(self, n: int, timeout: float) -> Request:
        with self._changed:
            self._wait(lambda: self._requests.count >= n, f"request {n}", timeout)
            return self._requests.get(n)

    def wait_connection(self, n: int, timeout: float) -> Connection:
        with self._changed:
            self._wait(lambda: self._connections.count >= n, f"connection {n}", timeout)
            return self._connections.get(n)

    def wait_closed(self, n: int, timeout: float) -> float:
        start = time.monotonic()
        connection = self.wait_connection(n, timeout)
        left = timeout - (time.monotonic() - start)
        with self._changed:
            self._wait(lambda: connection.closed_at is not None, f"the end of connection {n}", left)
        return time.monotonic() - start

    def _wait(self, happened: Callable[[], bool], what: str, timeout: float) -> None:
        if not self._changed.wait_for(happened, timeout):
            raise TimeoutError(
                f"the fault server waited {timeout:.3g} s for {what}; it has seen "
                f"{self._requests.count} requests on {self._connections.count} connections"
            )
