"""Waitress, set up for streams: a thread a request, JSON errors, a full stop.

The only importer of waitress; ``connections`` says how long a client may take.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from waitress.adjustments import Adjustments

from ..engines import start_thread
from .connections import Listener, NoThread, ThrottledWarning

BUFFER_BYTES = 256 * 1024
"""Of one answer, for a client that reads slowly; then its engine waits."""
HEADER_BYTES = 64 * 1024
"""Of one request; browsers and proxies send less than 16 KiB."""
STOP_S = 5.0
"""For engines to notice that they are to stop."""

log = logging.getLogger(__name__)


class ThreadPerRequest:
    """Waitress's task dispatcher: a daemon thread a request, so no stream waits for another."""

    def __init__(self) -> None:
        self._alive: set[threading.Thread] = set()
        self._lock = threading.Lock()
        self._warn = ThrottledWarning()

    def add_task(self, channel: Any) -> None:
        """Serve the request that waits in ``channel``; without a thread it is refused."""
        channel.request_received()
        thread = threading.Thread(target=self._serve, args=(channel,), daemon=True)
        try:
            with self._lock:  # shutdown() may join only what has been started
                thread.start()
                self._alive.add(thread)
        except (RuntimeError, MemoryError) as error:
            self._warn("a request was refused: %s", error)
            refused = NoThread("the gateway cannot start a thread now; try again later")
            # Later, as waitress now holds a lock that the answer takes as well.
            with contextlib.suppress(OSError):  # the server is just being closed
                channel.server.trigger.pull_trigger(functools.partial(channel.refuse, refused))

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
            channel_request_lookahead=1,  # keeps the socket readable: a hang-up is seen
            max_request_header_size=HEADER_BYTES,
            max_request_body_size=max_body_bytes,
            outbuf_high_watermark=BUFFER_BYTES,
            asyncore_use_poll=True,  # select() ends at file descriptor 1023
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
        """Hang up on every client and stop; nothing happens the second time.

        The wake-up pipe goes last: a thread that still serves may write to it.
        """
        if self._stopped:
            return
        self._stopped = True
        self._in_loop(self._hang_up)
        self._threads.shutdown()
        self._in_loop(self._server.trigger.close)
        self._loop.join()

    def _in_loop(self, work: Callable[[], None]) -> None:
        """Do ``work`` in waitress's own thread and wait for it; here if that has ended."""
        pulled, done = threading.Event(), threading.Event()

        def act() -> None:
            pulled.wait()  # the pull may still have to write to the pipe that this work closes
            try:
                work()
            finally:
                done.set()

        if self._loop.is_alive():
            self._server.trigger.pull_trigger(act)
            pulled.set()
            done.wait(STOP_S)
        if not done.is_set() and not self._loop.is_alive():
            work()

    def _hang_up(self) -> None:
        """Close the listening socket and the clients', so that no request is begun."""
        self._server.asyncore.dispatcher.close(self._server)
        for channel in list(self._server.active_channels.values()):
            with contextlib.suppress(OSError):  # the others are to be closed as well
                channel.handle_close()
