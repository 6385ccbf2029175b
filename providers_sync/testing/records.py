"""What a scripted server received: ``Request``, ``Connection``, ``Headers``, and their log."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from ..clock import monotonic


class Headers(Mapping[str, str]):
    """Header fields as received. Lookup ignores case and returns the last field with that name.

    Args:
        pairs: Every field in its original order and spelling; it is an attribute, too.

    Examples:
        >>> headers = Headers([("X-Key", "1"), ("x-key", "2")])
        >>> headers["X-KEY"], headers.all("x-key"), "host" in headers
        ('2', ['1', '2'], False)
    """

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self.pairs = pairs
        """Every field in its original order and spelling."""

    def all(self, name: str) -> list[str]:
        """Return every value of a field.

        Args:
            name: The name of the field, in any case.
        """
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
    """One completely received request.

    Attributes:
        number: Counted from 1 over all connections of the server.
        connection: The number of its connection, counted from 1; requests that share one have equal
            numbers.
        method: Such as ``POST``.
        path: The path, with the query.
        headers: The headers.
        body: The body.
        at: When it was completely received (``monotonic()``).
    """

    number: int
    connection: int
    method: str
    path: str
    headers: Headers
    body: bytes
    at: float = field(default_factory=monotonic, compare=False)

    def json(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.body)


@dataclass
class Connection:
    """One accepted connection.

    Attributes:
        number: Counted from 1.
        opened_at: ``monotonic()``, like ``closed_at``.
        closed_at: When both sides had closed it; ``None`` while it is open.
        closed_by: Which side closed it first, ``client`` or ``server``; ``None`` while neither has.
        error: How the client disconnected: the error text of TLS or the operating system.
        requests: Number of requests received on it.
    """

    number: int
    opened_at: float = field(default_factory=monotonic)
    closed_at: float | None = None
    closed_by: str | None = None
    error: str | None = None
    requests: int = 0


T = TypeVar("T")


class RecentItems(Generic[T]):
    """A numbered list, counted from 1, that keeps only the last ``keep`` items."""

    def __init__(self, keep: int | None) -> None:
        self.items: deque[T] = deque(maxlen=keep)
        self.count = 0

    def add(self, item: T) -> None:
        self.items.append(item)
        self.count += 1

    def get(self, n: int) -> T:
        index = n - 1 - (self.count - len(self.items))
        if index < 0:
            raise LookupError(f"number {n} is no longer kept or never existed: count from 1")
        return self.items[index]


class Log:
    """The records of one server; every method may be called from any thread."""

    def __init__(self, keep: int | None) -> None:
        self._changed = threading.Condition()
        self._requests: RecentItems[Request] = RecentItems(keep)
        self._connections: RecentItems[Connection] = RecentItems(keep)

    def requests(self) -> list[Request]:
        with self._changed:
            return list(self._requests.items)

    def connections(self) -> list[Connection]:
        with self._changed:
            return list(self._connections.items)

    def opened(self) -> Connection:
        with self._changed:
            connection = Connection(self._connections.count + 1)
            self._connections.add(connection)
            self._changed.notify_all()
            return connection

    def closed(self, connection: Connection) -> None:
        with self._changed:
            connection.closed_at = monotonic()
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
        start = monotonic()
        connection = self.wait_connection(n, timeout)
        remaining = timeout - (monotonic() - start)
        with self._changed:
            self._wait(
                lambda: connection.closed_at is not None, f"the end of connection {n}", remaining
            )
        return monotonic() - start

    def _wait(self, happened: Callable[[], bool], what: str, timeout: float) -> None:
        until = monotonic() + timeout
        while not happened():  # not Condition.wait_for(), which reads a clock that may stand still
            remaining = until - monotonic()
            if remaining <= 0:
                raise TimeoutError(
                    f"{what} did not happen within {timeout:.3g} s; received so far: "
                    f"{self._requests.count} requests on {self._connections.count} connections"
                )
            self._changed.wait(remaining)
