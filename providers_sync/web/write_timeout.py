"""``with_write_timeout()``: a browser that has stopped reading does not hold a server's thread."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import socket
import ssl
import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..config import WRITE_TIMEOUT_S
from ..errors import InvalidRequestError

WSGIApp = Callable[[dict[str, Any], Any], Iterable[bytes]]
_SOCKET_KEYS = ("gunicorn.socket", "werkzeug.socket")
_OWN_TIMEOUT = "uwsgi.version"
"""uWSGI disconnects such a client by itself (``--socket-timeout``, 4 s)."""
_USER_TIMEOUT = getattr(socket, "TCP_USER_TIMEOUT", None)  # Linux only
_LONGEST_MS = 2**31 - 1
_log = logging.getLogger("providers_sync")


def with_write_timeout(app: WSGIApp, seconds: float = WRITE_TIMEOUT_S) -> WSGIApp:
    """Return a WSGI app whose connections end when the client accepts no data for a while:

        app.wsgi_app = with_write_timeout(app.wsgi_app)               # Flask
        application = with_write_timeout(get_wsgi_application())      # Django

    Otherwise a client that stops reading, or vanishes without closing its connection, holds a
    thread of the server, and the call to the model, indefinitely. The operating system enforces
    the timeout: the server's write fails, and the server closes the body. That needs Linux, and
    gunicorn, waitress, or Werkzeug's server (``flask run``); uWSGI has a timeout of its own.
    Elsewhere a warning is logged once, and nothing changes.

    A client that reads slowly is disconnected only if its system accepts nothing for ``seconds``;
    the larger its receive buffer, the more rarely it accepts (tcp(7), ``TCP_USER_TIMEOUT``).
    Waitress and gunicorn's gevent workers, whose sockets do not block, and servers that speak TLS
    themselves, have a stricter limit: there a client must read about 20 KB a second.

    Args:
        app: The WSGI app.
        seconds: How long a client may accept no data (30).

    Raises:
        InvalidRequestError: ``seconds`` is not a positive, finite number.
    """
    is_number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if not (is_number and math.isfinite(seconds) and seconds > 0):
        raise InvalidRequestError(f"seconds must be a positive number, not {seconds!r:.40}")
    milliseconds = math.ceil(min(seconds * 1000, _LONGEST_MS))
    has_warned = False

    def limited(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        nonlocal has_warned
        if not _limit(environ, milliseconds) and not has_warned:
            has_warned = True
            _log.warning(
                "with_write_timeout has no effect on this server (%s): the system is not Linux, or "
                "the server does not expose its sockets; set the server's own write timeout",
                str(environ.get("SERVER_SOFTWARE"))[:80],
            )
        return app(environ, start_response)

    return limited


def _limit(environ: Mapping[str, Any], milliseconds: int) -> bool:
    """Set the timeout of the connection that a request came from; return whether there is one."""
    if _OWN_TIMEOUT in environ:
        return True
    connection = next(filter(None, map(environ.get, _SOCKET_KEYS)), None)
    if connection is None:  # waitress names a method of the object that has the socket
        channel = getattr(environ.get("waitress.client_disconnected"), "__self__", None)
        connection = getattr(channel, "socket", None)
    if connection is None or _USER_TIMEOUT is None:
        return False
    if connection.family == socket.AF_UNIX:  # of a proxy, which has a timeout of its own
        return True
    with contextlib.suppress(OSError):  # the client has left already
        # Python repeats a write of TLS that has timed out.
        if os.get_blocking(connection.fileno()) and not isinstance(connection, ssl.SSLSocket):
            # The limit is on a write that sends nothing.
            seconds, rest = divmod(milliseconds, 1000)
            timeout = struct.pack("ll", seconds, rest * 1000)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeout)
        else:  # The limit is on the time until the next packet, which may be 64 KB, fits.
            connection.setsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT, milliseconds)
    return True
