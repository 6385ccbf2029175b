"""Waitress, set up for streams: a thread a request, JSON errors, a full stop.

The only importer of waitress.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from waitress.channel import HTTPChannel
from waitress.server import create_server
from waitress.task import ErrorTask

from .dialects import RequestError, error_body

MAX_CONNECTIONS = 300
"""Above it, new clients wait. An answer of the local engine holds three descriptors, and many
systems allow a process 1024."""
BUFFER_BYTES = 256 * 1024
"""Of one answer, for a client that reads slowly; then its engine waits."""
STOP_S = 5.0
"""For engines to notice that they are to stop."""

log = logging.getLogger(__name__)


class Threads:
    """Waitress's task dispatcher: a daemon thread a request, so no stream waits for another."""

    def __init__(self) -> None:
        self._alive: set[threading.Thread] = set()
        self._lock = threading.Lock()

    def add_task(self, channel: Any) -> None:
        """Serve the request that waits in ``channel``."""
        thread = threading.Thread(target=self._serve, args=(channel,), daemon=True)
        with self._lock:  # shutdown() may join only what has been started
            self._alive.add(thread)
            thread.start()

    def shutdown(self) -> None:
        """Wait for the threads, which end when their clients are gone."""
        deadline = time.monotonic() + STOP_S
        with self._lock:
            alive = list(self._alive)
        for thread in alive:
            thread.join(max(0.0, deadline - time.monotonic()))
        if left := sum(thread.is_alive() for thread in alive):
            log.warning("%d answers did not stop: their engine does not heed cancel", left)

    def _serve(self, channel: Any) -> None:
        try:
            channel.service()
        except Exception:
            log.exception("a request broke off")
        finally:
            with self._lock:
                self._alive.discard(threading.current_thread())


class _ErrorTask(ErrorTask):  # type: ignore[misc]
    """Says what waitress itself refuses (a body too large, broken HTTP) as JSON."""

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


class _Channel(HTTPChannel):  # type: ignore[misc]
    error_task_class = _ErrorTask


class Server:
    """Runs a WSGI application on a listening socket until ``close``."""

    def __init__(
        self, app: Callable[..., Any], listener: socket.socket, *, max_body_bytes: int
    ) -> None:
        self._threads = Threads()
        self._stopped = False
        self._server = create_server(
            app,
            _dispatcher=self._threads,
            sockets=[listener],
            channel_request_lookahead=1,  # keeps the socket readable: a hang-up is seen
            max_request_body_size=max_body_bytes,
            connection_limit=MAX_CONNECTIONS,
            outbuf_high_watermark=BUFFER_BYTES,
            asyncore_use_poll=True,  # select() ends at file descriptor 1023
            log_socket_errors=False,
            ident="providers-sync",
        )
        self._server.channel_class = _Channel
        self._loop = threading.Thread(target=self._server.run, name="gateway", daemon=True)
        self._loop.start()

    def wait(self) -> None:
        """Block until the server has stopped."""
        self._loop.join()

    def close(self) -> bool:
        """Hang up on every client and stop; false if that was done before.

        The wake-up pipe goes last: a thread that still serves may write to it.
        """
        if self._stopped:
            return False
        self._stopped = True
        self._in_loop(self._hang_up)
        self._threads.shutdown()
        self._in_loop(self._server.trigger.close)
        self._loop.join()
        return True

    def _in_loop(self, work: Callable[[], None]) -> None:
        """Do ``work`` in waitress's own thread and wait for it."""
        pulled, done = threading.Event(), threading.Event()

        def act() -> None:
            pulled.wait()  # the pull may still have to write to the pipe that this work closes
            try:
                work()
            finally:
                done.set()

        self._server.trigger.pull_trigger(act)
        pulled.set()
        done.wait(STOP_S)

    def _hang_up(self) -> None:
        """Close the listening socket and the clients', so that no request is begun."""
        self._server.asyncore.dispatcher.close(self._server)
        for channel in list(self._server.active_channels.values()):
            channel.handle_close()
