"""The gateway's connections: how many there are, and how long each waits for its client."""

from __future__ import annotations

import errno
import logging
import sys
import time
from typing import Any

from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.server import TcpWSGIServer
from waitress.task import ErrorTask
from waitress.utilities import Error

from ..dialects import RequestError, error_body

MAX_CONNECTIONS = 300
"""Above it, those that ask nothing make place for new ones, or these wait. An answer of the local
engine holds three descriptors, and many systems allow a process 1024."""
REQUEST_S = 30.0
"""For a request to arrive, headers and body: the largest one (16 MiB) at 5 Mbit/s. A byte now and
then would hold a connection for ever."""
IDLE_S = 120.0
"""For a connection on which nothing is asked; clients keep theirs for a minute or two."""
UNREAD_S = 60.0
"""For a client that takes nothing of its answer while there is some; then its thread is freed."""
GRACE_S = 1.0
"""A connection that has waited for less is not dropped for a new one: its request may be near."""
LOOK_S = 1.0
"""Between two looks for connections that have had their time."""
REST_S = 1.0
"""Without accepting, where the system has no descriptor for another connection."""
COMPLAIN_S = 60.0
"""Between two lines in the log that say the same."""

FULL = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
"""What accept() fails with until something is closed."""

log = logging.getLogger(__name__)


class ThrottledWarning:
    """Warns, but of one thing once in ``COMPLAIN_S``: hostile clients must not fill the disk."""

    def __init__(self) -> None:
        self._next: dict[str, float] = {}

    def __call__(self, text: str, *arguments: Any) -> None:
        now = time.monotonic()
        if now >= self._next.get(text, now):
            self._next[text] = now + COMPLAIN_S
            log.warning(text, *arguments)


class NoThread(Error):  # type: ignore[misc]
    """There is no thread for the request."""

    code = 503
    reason = "Service Unavailable"


class TooSlow(Error):  # type: ignore[misc]
    """The request has not arrived in time."""

    code = 408
    reason = "Request Timeout"


class _StrictRequestParser(HTTPRequestParser):  # type: ignore[misc]
    """Refuses two contradicting lengths: a proxy in front may see the next request elsewhere."""

    def parse_header(self, header_plus: bytes) -> None:
        super().parse_header(header_plus)
        # Waitress takes the coding out where it obeys it, which it does from HTTP/1.1 on.
        both = self.chunked and "CONTENT_LENGTH" in self.headers
        if both or "TRANSFER_ENCODING" in self.headers:
            raise ParsingError("Transfer-Encoding contradicts another header or the version")


class _ErrorTask(ErrorTask):  # type: ignore[misc]
    """Says what is refused before the application sees it (a body too large, say) as JSON."""

    def execute(self) -> None:
        refused = self.request.error
        code = refused.reason.lower().replace(" ", "_")
        error = RequestError(refused.body, status=refused.code, code=code)
        body = error_body(error, getattr(self.request, "path", ""))
        self.status = f"{refused.code} {refused.reason}"
        self.response_headers.append(("Content-Type", "application/json"))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class ClientChannel(HTTPChannel):  # type: ignore[misc]
    """A connection, and since when it has been waiting for its client."""

    error_task_class = _ErrorTask
    parser_class = _StrictRequestParser
    requests: list[Any]
    request: Any

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        self.idle_since = time.monotonic()
        self.begun: float | None = None
        """When the first byte came of the request that is still arriving."""
        self._stuck: tuple[float, float] | None = None
        """The last byte that the client took (by waitress's watch), and since when we know."""
        super().__init__(*arguments, **settings)

    @property
    def is_answering(self) -> bool:
        """Whether a request is being answered, or the answer still on its way."""
        return bool(self.requests or self.total_outbufs_len)

    @property
    def waiting_since(self) -> float:
        """Since when the rest of a request, or a new one, is waited for."""
        return self.idle_since if self.begun is None else self.begun

    def received(self, data: bytes) -> bool:
        """Take what has come. Empty lines before a request do not make its time begin anew."""
        if self.begun is None:
            self.begun = time.monotonic()
        return bool(super().received(data))

    def request_received(self) -> None:
        """Note that a whole request is here."""
        self.begun, self.idle_since = None, time.monotonic()

    def refuse(self, error: Error) -> None:
        """Answer the request that is here, or arriving, with an error; in waitress's thread."""
        request = self.requests[0] if self.requests else self.request
        if request is None:  # only empty lines have come
            self.handle_close()
            return
        request.error = error
        self.requests, self.request = [request], None
        self.service()

    def handle_error(self) -> None:
        """Close the connection on which something failed, as a full disk does a large body."""
        self.server.warn("a connection broke off: %r", sys.exc_info()[1])
        self.handle_close()

    def check_timeouts(self, now: float) -> None:
        """Close the connection if its client has had its time."""
        if self.is_answering:
            self.idle_since = now
            self._look_at_reader(now)
            return
        self._stuck = None
        if self.request is not None and self.begun is None:  # it came in one piece with the last
            self.begun = now
        if self.begun is None:
            if now - self.idle_since > IDLE_S:
                self.handle_close()
        elif now - self.begun > REQUEST_S:
            self.refuse(TooSlow(f"the request has not arrived within {REQUEST_S:g} seconds"))

    def _look_at_reader(self, now: float) -> None:
        if not self.total_outbufs_len:
            self._stuck = None
        elif self._stuck is None or self._stuck[0] != self.last_activity:
            self._stuck = self.last_activity, now
        elif now - self._stuck[1] > UNREAD_S:
            self.handle_close()


class Listener(TcpWSGIServer):  # type: ignore[misc]
    """Accepts connections; where there are too many, those that wait longest are dropped."""

    channel_class = ClientChannel

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        self._next_look = self._rests_until = 0.0
        self.warn = ThrottledWarning()
        super().__init__(*arguments, **settings)

    def readable(self) -> bool:
        """Return whether to accept, and look at every connection on the way, as waitress does."""
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + LOOK_S
            for channel in list(self.active_channels.values()):
                channel.check_timeouts(now)
        if not self.accepting or now < self._rests_until:
            return False
        return len(self.active_channels) < MAX_CONNECTIONS or self._droppable() is not None

    def handle_accept(self) -> None:
        """Accept a connection; one above the limit takes the place of another."""
        before = len(self.active_channels)
        dropped = self._droppable() if before >= MAX_CONNECTIONS else None
        super().handle_accept()
        if dropped is not None and len(self.active_channels) > before:
            self.warn("%d connections are open: new ones take the place of idle ones", before)
            dropped.handle_close()

    def accept(self) -> Any:
        """Accept, and make a place or rest where the system has none: it would say so at once."""
        try:
            return super().accept()
        except OSError as error:
            if error.errno in FULL:
                self.warn("no connection can be accepted: %s; raise ulimit -n", error)
                dropped = self._droppable()
                if dropped is None:
                    self._rests_until = time.monotonic() + REST_S
                else:
                    dropped.handle_close()
            raise

    def _droppable(self) -> ClientChannel | None:
        """Return the connection that a new one may replace: an idle one before a slow one."""
        latest = time.monotonic() - GRACE_S
        waiting = [
            channel
            for channel in self.active_channels.values()
            if not channel.is_answering and channel.waiting_since <= latest
        ]
        return min(
            waiting, key=lambda each: (each.begun is not None, each.waiting_since), default=None
        )
