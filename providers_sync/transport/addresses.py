"""Connects to a host: races its addresses, and keeps the first that accepts (RFC 8305).

No threads: the sockets are non-blocking and one selector waits for all of them.
"""

from __future__ import annotations

import errno
import itertools
import os
import selectors
import socket
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from .attempt import RequestAttempt, is_real

NEXT_ADDRESS_S = 0.25
"""How long an address has for itself before the next one is tried as well: RFC 8305, section 8."""
MAX_ADDRESSES = 20
"""Addresses tried at most. Each one that does not answer holds two file descriptors."""

Address = Sequence[Any]
"""What ``socket.getaddrinfo`` returns: family, type, protocol, canonical name, socket address."""
SocketOptions = Iterable[tuple[Any, ...]]


def connect(
    addresses: Sequence[Address],
    attempt: RequestAttempt,
    options: SocketOptions | None = None,
    source: Any = None,
) -> socket.socket:
    """Return a socket connected to one of the addresses, which ``attempt`` can shut down.

    ``options`` are arguments of ``setsockopt``, and ``source`` is the local address to connect
    from. The socket's timeout is the rest of the connect timeout: for a proxy's CONNECT and the
    TLS handshake. Raises ``AttemptStopped`` if stopped, ``TimeoutError`` at the connect deadline,
    the first meaningful ``OSError`` if no address accepts, and any other exception at once.
    """
    with _Race(_in_order(addresses), attempt, options, source) as race:
        return race.run()


def _in_order(addresses: Sequence[Address]) -> Sequence[Address]:
    """Return the different addresses, alternating between families (RFC 8305, section 4)."""
    if len(addresses) == 1:
        return addresses
    families: dict[Any, dict[Any, Address]] = {}
    for address in addresses:
        families.setdefault(address[0], {}).setdefault(address[4], address)
    rounds = itertools.zip_longest(*(found.values() for found in families.values()))
    mixed = [address for each in rounds for address in each if address is not None]
    return mixed[:MAX_ADDRESSES]


class _Race:
    """Connections to several addresses, started one after the other, until one is established."""

    def __init__(
        self,
        addresses: Sequence[Address],
        attempt: RequestAttempt,
        options: SocketOptions | None,
        source: Any,
    ) -> None:
        self._count = len(addresses)
        self._untried = deque(addresses)
        self._attempt = attempt
        self._options = options or ()
        self._source = source
        self._sockets: list[socket.socket] = []
        """The open ones, in the order in which they were started."""
        self._selector: selectors.BaseSelector | None = None
        self._errors: list[OSError] = []

    def __enter__(self) -> _Race:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Close everything but the connection that was returned."""
        if self._selector is not None:  # first: gevent's must not hold a closed socket
            self._selector.close()
        if kind is not None:
            self._attempt.release_socket()
        for sock in self._sockets:
            sock.close()
        self._errors.clear()  # their tracebacks refer to this object

    def run(self) -> socket.socket:
        """Return the first connection that is established, preferring earlier addresses."""
        while self._untried or self._sockets:
            connected = self._start_next() if self._untried else None
            if connected is None and self._sockets:
                connected = self._wait()
            if connected is not None:
                return self._keep(connected)
        raise self._error()

    def _start_next(self) -> socket.socket | None:
        """Start to connect to the next address; return the socket if it is connected at once."""
        shares = len(self._untried)
        family, kind, protocol, _, target = self._untried.popleft()
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError as error:  # for example, this machine has no IPv6
            self._errors.append(error)
            return None
        self._sockets.append(sock)
        try:
            self._prepare(sock, shares)
            sock.connect(target)  # not connect_ex(), which tools that block the network overlook
        except BlockingIOError:
            self._attempt.raise_if_stopped()  # the shutdown may have come before the connect
            self._watch(sock)
            return None
        except OSError as error:
            self._discard(sock, error)
            return None
        return sock

    def _prepare(self, sock: socket.socket, shares: int) -> None:
        for option in self._options:
            sock.setsockopt(*option)
        if self._source:
            _bind(sock, self._source)
        self._attempt.track_another_socket(sock)
        if self._count > 1 and _is_selectable(sock):
            sock.setblocking(False)
        else:
            sock.settimeout(self._attempt.connect_time_left(shares))

    def _watch(self, sock: socket.socket) -> None:
        if self._selector is None:
            # Looked up here and not on import: gevent and eventlet replace it.
            self._selector = selectors.DefaultSelector()
        self._selector.register(sock, selectors.EVENT_WRITE)

    def _wait(self) -> socket.socket | None:
        """Wait until a connection is established or fails, or until the next address is due."""
        assert self._selector is not None
        left = self._attempt.connect_time_left()
        wait_s = NEXT_ADDRESS_S if left is None else min(left, NEXT_ADDRESS_S)
        ready = {key.fileobj for key, _ in self._selector.select(wait_s)}
        self._attempt.raise_if_stopped()
        for sock in [each for each in self._sockets if each in ready]:
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if not code:
                return sock
            self._selector.unregister(sock)
            self._discard(sock, OSError(code, os.strerror(code)))
        return None

    def _discard(self, sock: socket.socket, error: OSError) -> None:
        self._attempt.raise_if_stopped()  # then it is the shutdown that failed the connect
        self._errors.append(error)
        self._sockets.remove(sock)
        sock.close()

    def _keep(self, sock: socket.socket) -> socket.socket:
        """Return the connected socket, prepared for use by its owner."""
        if self._count > 1:
            self._attempt.track_socket(sock)  # and not the others any more
        sock.settimeout(self._attempt.connect_time_left())
        self._sockets.remove(sock)
        return sock

    def _error(self) -> OSError:
        """Return the first error that an address has caused, and not this machine's network."""
        meaningful = [each for each in self._errors if each.errno not in _NO_ROUTE]
        error = (meaningful or self._errors)[0]
        if self._count == 1 or error.errno is None or error.strerror is None:
            return error
        prefix = f"none of its {self._count} addresses accepted the connection"
        summary = OSError(error.errno, f"{prefix}: {error.strerror}")
        summary.__cause__ = error
        return summary


_NO_ROUTE = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}
"""A machine without IPv6 reports one of these for each IPv6 address, and vice versa."""


def _bind(sock: socket.socket, source: Any) -> None:
    try:
        sock.bind(source)
    except socket.gaierror:  # an address of the other family; not an error of the host's name
        code = errno.EADDRNOTAVAIL
        raise OSError(code, os.strerror(code)) from None


def _is_selectable(sock: Any) -> bool:
    """Return whether a selector can wait for it; httpretty's passes its calls to another socket."""
    return is_real(sock) and hasattr(type(sock), "setblocking")
