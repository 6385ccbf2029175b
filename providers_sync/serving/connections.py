"""The gateway's connections: limits, timeouts, and errors sent before the application runs."""

from __future__ import annotations

import errno
import logging
import sys
from typing import Any

from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.server import TcpWSGIServer
from waitress.task import ErrorTask
from waitress.utilities import Error

from ..clock import monotonic
from ..dialects import RequestError, error_body

MAX_CONNECTIONS = 300
"""At this limit a new connection replaces one that is waiting for its client; if there is none, the
new one waits. An answer of the local engine uses three descriptors, and many systems allow a
process 1024."""
REQUEST_S = 30.0
"""Timeout for a complete request, headers and body: the largest one (16 MiB) at 5 Mbit/s. Without a
total limit, a client could keep a connection forever by sending a byte now and then."""
IDLE_S = 120.0
"""Timeout for a connection without a request; clients keep theirs open for a minute or two."""
UNREAD_S = 60.0
"""Timeout for a client that reads nothing of a pending answer; then its thread is released."""
GRACE_S = 1.0
"""A connection that has waited for less is not replaced: its request may be about to arrive."""
CHECK_S = 1.0
"""Seconds between two checks for connections that have timed out."""
ACCEPT_PAUSE_S = 1.0
"""Pause before the next accept() if the system has no descriptor left."""
WARNING_S = 60.0
"""Seconds between two identical warnings in the log."""

OUT_OF_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
"""Errors of accept() that persist until something is closed."""

log = logging.getLogger(__name__)


class ThrottledWarning:
    """Logs each warning at most once in ``WARNING_S``: malicious clients must not fill the disk."""

    def __init__(self) -> None:
        self._next: dict[str, float] = {}

    def __call__(self, text: str, *arguments: Any) -> None:
        now = monotonic()
        if now >= self._next.get(text, now):
            self._next[text] = now + WARNING_S
            log.warning(text, *arguments)


class NoThread(Error):  # type: ignore[misc]
    """No thread can be started for the request."""

    code = 503
    reason = "Service Unavailable"


class RequestTimeout(Error):  # type: ignore[misc]
    """The request has not arrived in time."""

    code = 408
    reason = "Request Timeout"


class _StrictRequestParser(HTTPRequestParser):  # type: ignore[misc]
    """Refuses contradictory lengths: a proxy in front could disagree on where the request ends."""

    def parse_header(self, header_plus: bytes) -> None:
        super().parse_header(header_plus)
        # Waitress removes the Transfer-Encoding that it applies, which it does from HTTP/1.1 on.
        has_both = self.chunked and "CONTENT_LENGTH" in self.headers
        if has_both or "TRANSFER_ENCODING" in self.headers:
            raise ParsingError(
                "Transfer-Encoding is not allowed with Content-Length or before HTTP 1.1"
            )


class _ErrorTask(ErrorTask):  # type: ignore[misc]
    """Writes, as JSON, the errors raised before the application runs (such as a body too large)."""

    def execute(self) -> None:
        http_error = self.request.error
        code = http_error.reason.lower().replace(" ", "_")
        error = RequestError(http_error.body, status=http_error.code, code=code)
        body = error_body(error, getattr(self.request, "path", ""))
        self.status = f"{http_error.code} {http_error.reason}"
        self.response_headers.append(("Content-Type", "application/json"))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class ClientChannel(HTTPChannel):  # type: ignore[misc]
    """A client's connection, with the timeouts for its requests and its reading."""

    error_task_class = _ErrorTask
    parser_class = _StrictRequestParser
    requests: list[Any]
    request: Any

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        self.idle_since = monotonic()
        self.request_started: float | None = None
        """When the first byte of the arriving request was received; ``None`` if there is none."""
        self._unread: tuple[float, float] | None = None
        """While output is pending: waitress's time of the last activity, and when it was noted."""
        super().__init__(*arguments, **settings)

    @property
    def is_answering(self) -> bool:
        """Whether a request is being answered, or its answer is still being sent."""
        return bool(self.requests or self.total_outbufs_len)

    @property
    def waiting_since(self) -> float:
        """When the connection started to wait for a new request or for the rest of one."""
        return self.idle_since if self.request_started is None else self.request_started

    def received(self, data: bytes) -> bool:
        """Process received bytes. Empty lines before a request do not restart its timeout."""
        if self.request_started is None:
            self.request_started = monotonic()
        return bool(super().received(data))

    def request_received(self) -> None:
        """Record that a complete request has arrived."""
        self.request_started, self.idle_since = None, monotonic()

    def refuse(self, error: Error) -> None:
        """Answer the received or arriving request with an error; called in waitress's thread."""
        request = self.requests[0] if self.requests else self.request
        if request is None:  # only empty lines have arrived
            self.handle_close()
            return
        request.error = error
        self.requests, self.request = [request], None
        self.service()

    def handle_error(self) -> None:
        """Close the connection after a failure, such as a full disk while a body is stored."""
        self.server.warn("a connection failed: %r", sys.exc_info()[1])
        self.handle_close()

    def check_timeouts(self, now: float) -> None:
        """Close the connection if one of its timeouts has expired."""
        if self.is_answering:
            self.idle_since = now
            self._check_unread_output(now)
            return
        self._unread = None
        # The start of a request can arrive together with the end of the previous one.
        if self.request is not None and self.request_started is None:
            self.request_started = now
        if self.request_started is None:
            if now - self.idle_since > IDLE_S:
                self.handle_close()
        elif now - self.request_started > REQUEST_S:
            self.refuse(RequestTimeout(f"the request did not arrive within {REQUEST_S:g} seconds"))

    def _check_unread_output(self, now: float) -> None:
        if not self.total_outbufs_len:
            self._unread = None
        elif self._unread is None or self._unread[0] != self.last_activity:
            self._unread = self.last_activity, now
        elif now - self._unread[1] > UNREAD_S:
            self.handle_close()


class Listener(TcpWSGIServer):  # type: ignore[misc]
    """Accepts connections; at the limit, drops the one that has been waiting longest."""

    channel_class = ClientChannel

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        self._next_check = self._paused_until = 0.0
        self.warn = ThrottledWarning()
        super().__init__(*arguments, **settings)

    def readable(self) -> bool:
        """Return whether to accept; also check every connection's timeouts, as waitress does."""
        now = monotonic()
        if now >= self._next_check:
            self._next_check = now + CHECK_S
            for channel in list(self.active_channels.values()):
                channel.check_timeouts(now)
        if not self.accepting or now < self._paused_until:
            return False
        return len(self.active_channels) < MAX_CONNECTIONS or self._droppable() is not None

    def handle_accept(self) -> None:
        """Accept a connection; at the limit it replaces another."""
        before = len(self.active_channels)
        dropped = self._droppable() if before >= MAX_CONNECTIONS else None
        super().handle_accept()
        if dropped is not None and len(self.active_channels) > before:
            self.warn("%d connections are open: new ones replace idle ones", before)
            dropped.handle_close()

    def accept(self) -> Any:
        """Accept; if the system is out of descriptors, drop a connection or pause accepting.

        Without the pause, accept() would be called again and fail at once.
        """
        try:
            return super().accept()
        except OSError as error:
            if error.errno in OUT_OF_RESOURCES:
                self.warn("no connection can be accepted: %s; raise ulimit -n", error)
                dropped = self._droppable()
                if dropped is None:
                    self._paused_until = monotonic() + ACCEPT_PAUSE_S
                else:
                    dropped.handle_close()
            raise

    def _droppable(self) -> ClientChannel | None:
        """Return the connection that a new one may replace; idle ones before slow requests."""
        latest = monotonic() - GRACE_S
        waiting = [
            channel
            for channel in self.active_channels.values()
            if not channel.is_answering and channel.waiting_since <= latest
        ]
        return min(
            waiting,
            key=lambda each: (each.request_started is not None, each.waiting_since),
            default=None,
        )
