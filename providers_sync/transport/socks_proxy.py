"""Connects through a SOCKS proxy: PySocks negotiates on a socket that the attempt can shut down."""

from __future__ import annotations

import errno
import functools
import socket
from collections.abc import Mapping
from typing import Any

from .addresses import SocketOptions, connect
from .attempt import RequestAttempt

PORT = 1080


def connect_through(
    proxy: Mapping[str, Any],
    host: str,
    port: int,
    attempt: RequestAttempt,
    options: SocketOptions | None = None,
    source: Any = None,
) -> socket.socket:
    """Return a socket connected to ``host`` through ``proxy`` (urllib3's description of it).

    ``options`` and ``source`` are those of ``connect``, and so are the timeout and the exceptions.
    PySocks would make the socket itself, and nothing could end a proxy that sends a byte a second.
    """
    addresses = attempt.resolve(proxy["proxy_host"].strip("[]"), int(proxy["proxy_port"] or PORT))
    if not proxy["rdns"]:
        # Any proxy reaches IPv4, and SOCKS 4 nothing else.
        found = attempt.resolve(host, port)
        host = min(found, key=lambda address: address[0] != socket.AF_INET)[4][0]
    return _negotiated(connect(addresses, attempt, options, source), proxy, (host, port), attempt)


def _negotiated(
    tcp: socket.socket, proxy: Mapping[str, Any], target: tuple[str, int], attempt: RequestAttempt
) -> socket.socket:
    """Return the connection to a proxy as the connection to ``target``."""
    sock = _socket_class()(tcp.family, tcp.type, tcp.proto, fileno=tcp.detach())
    try:
        sock.negotiate(proxy, target, attempt.connect_time_left())
        left = attempt.connect_time_left()
        plain = socket.socket(fileno=sock.detach())  # without PySocks' slower methods
    except BaseException:
        sock.close()
        raise
    plain.settimeout(left)
    return plain


@functools.cache
def _socket_class() -> type[Any]:
    import socks  # an extra of requests, which has found it

    class ProxySocket(socks.socksocket):  # type: ignore[misc]
        """A socket that is connected to the proxy; PySocks' own would connect to it as well."""

        def negotiate(
            self, proxy: Mapping[str, Any], target: tuple[str, int], timeout: float | None
        ) -> None:
            version, rdns = proxy["socks_version"], proxy["rdns"]
            user = {"username": proxy["username"], "password": proxy["password"]}
            self.set_proxy(version, rdns=rdns, **user)
            self.settimeout(timeout)
            try:
                self._proxy_negotiators[version](self, *target)
            except socks.ProxyError as error:  # it has no ``strerror``
                raise OSError(errno.EPROTO, f"the SOCKS proxy: {error}") from error

    return ProxySocket
