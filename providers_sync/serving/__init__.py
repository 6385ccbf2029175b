"""The gateway's HTTP server: waitress with one thread per request and a complete shutdown.

Only this package imports waitress; ``connections`` holds connection limits and timeouts.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import socket
import threading
from collections.abc import Callable
from typing import Any

from waitress.adjustments import Adjustments

from ..clock import monotonic
from ..engines import start_thread
from .connections import Listener, NoThread, ThrottledWarning

BUFFER_BYTES = 256 * 1024
"""Buffered per answer for a client that reads slowly; when the buffer is full, its engine waits."""
HEADER_BYTES = 64 * 1024
"""Limit for the headers of one request; browsers and proxies send less than 16 KiB."""
STOP_S = 5.0
"""Time for engines to stop after they are cancelled."""

log = logging.getLogger(__name__)


class ThreadPerRequest:
    """A waitress task dispatcher: one daemon thread per request, so no stream waits for another."""

    def __init__(self) -> None:
        self._alive: set[threading.Thread] = set()
        self._lock = threading.Lock()
        self._warn = ThrottledWarning()

    def add_task(self, channel: Any) -> None:
        """Serve the request waiting in ``channel``; refuse it if no thread can be started."""
        channel.request_received()
        thread = threading.Thread(target=self._serve, args=(channel,), daemon=True)
        try:
            with self._lock:  # shutdown() may only join threads that have been started
                thread.start()
                self._alive.add(thread)
        except (RuntimeError, MemoryError) as error:
            self._warn("a request was refused: %s", error)
            no_thread = NoThread("the gateway cannot start a thread now; try again later")
            # Deferred: waitress now holds a lock that the error response needs too.
            with contextlib.suppress(OSError):  # the server is being closed
                channel.server.trigger.pull_trigger(functools.partial(channel.refuse, no_thread))

    def shutdown(self) -> None:
        """Wait for the threads, which end once their clients are disconnected."""
        deadline = monotonic() + STOP_S
        with self._lock:
            alive = list(self._alive)
        for thread in alive:
            thread.join(max(0.0, deadline - monotonic()))
        if remaining := sum(thread.is_alive() for thread in alive):
            log.warning(
                "answers still running: %d; their engine does not check its cancel token", remaining
            )

    def _serve(self, channel: Any) -> None:
        try:
            channel.service()
        except Exception:
            log.exception("a request failed")
            channel.will_close = True
        finally:
            with self._lock:
                self._alive.discard(threading.current_thread())


class WSGIServer:
    """Runs a WSGI application on a listening socket until ``close``."""

    def __init__(
        self, app: Callable[..., Any], listener: socket.socket, *, max_body_bytes: int
    ) -> None:
        self._threads = ThreadPerRequest()
        self._stopped = False
        settings = Adjustments(
            sockets=[listener],
            channel_request_lookahead=1,  # keeps the socket readable, to notice disconnects
            max_request_header_size=HEADER_BYTES,
            max_request_body_size=max_body_bytes,
            outbuf_high_watermark=BUFFER_BYTES,
            asyncore_use_poll=True,  # select() is limited to file descriptors below 1024
            log_socket_errors=False,
            ident="providers-sync",
        )
        address = (listener.family, listener.type, listener.proto, listener.getsockname())
        self._server = Listener(
            app,
            {},
            _sock=listener,
            dispatcher=self._threads,
            adj=settings,
            bind_socket=False,
            sockinfo=address,
        )
        self._loop = threading.Thread(target=self._server.run, name="gateway", daemon=True)
        try:
            start_thread(self._loop)
        except BaseException:
            self._server.close()
            raise

    def wait(self) -> None:
        """Block until the server has stopped."""
        self._loop.join()

    def close(self) -> None:
        """Disconnect every client and stop the server; a second call does nothing.

        The wake-up pipe is closed last: a thread that is still serving may write to it.
        """
        if self._stopped:
            return
        self._stopped = True
        self._run_in_loop(self._close_sockets)
        self._threads.shutdown()
        self._run_in_loop(self._server.trigger.close)
        self._loop.join()

    def _run_in_loop(self, work: Callable[[], None]) -> None:
        """Run ``work`` in waitress's thread and wait for it; in this thread if that has ended."""
        pulled, done = threading.Event(), threading.Event()

        def run_work() -> None:
            pulled.wait()  # pull_trigger() may still be writing to the pipe that ``work`` closes
            try:
                work()
            finally:
                done.set()

        if self._loop.is_alive():
            self._server.trigger.pull_trigger(run_work)
            pulled.set()
            done.wait(STOP_S)
        if not done.is_set() and not self._loop.is_alive():
            work()

    def _close_sockets(self) -> None:
        """Close the listening socket and the clients' sockets, so that no new request starts."""
        self._server.asyncore.dispatcher.close(self._server)
        for channel in list(self._server.active_channels.values()):
            with contextlib.suppress(OSError):  # continue with the other channels
                channel.handle_close()
