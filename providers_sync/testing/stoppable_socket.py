"""``StoppableSocket``: a server socket whose waits end when the client or the server stops."""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import struct
import threading

from ..clock import monotonic

# Unlike epoll, poll needs no file descriptor; unlike select, it has no limit of 1024 of them.
Selector: type[selectors.BaseSelector] = getattr(
    selectors, "PollSelector", selectors.SelectSelector
)
RECV_BYTES = 256 * 1024
EVENT_POLL_S = 0.002
"""Polling interval of ``wait_for()``: one call cannot wait for a socket and an event."""


class ClientGone(Exception):
    """The client closed the connection."""


class ServerStopped(Exception):
    """The server is being stopped."""


class StopFlag:
    """A flag that also wakes every thread that waits in a poll."""

    def __init__(self) -> None:
        self.is_set = False
        self.receiver, self._sender = socket.socketpair()

    def set(self) -> None:
        self.is_set = True
        self._sender.close()  # EOF stays readable, so it also wakes threads that poll later

    def close(self) -> None:
        self._sender.close()
        self.receiver.close()


class StoppableSocket:
    """A non-blocking connection with a receive buffer; used by one thread."""

    def __init__(self, sock: socket.socket, stop: StopFlag) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._stop = stop
        self._buffer = bytearray()
        self._poll = Selector()
        self._poll.register(sock, selectors.EVENT_READ)
        self._poll.register(stop.receiver, selectors.EVENT_READ)

    def accept(self) -> list[socket.socket]:
        """Wait for clients and return their sockets."""
        self._wait_ready(selectors.EVENT_READ, None)
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                sock = self._sock.accept()[0]
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # send at once
                found.append(sock)
        return found

    def start_tls(self, context: ssl.SSLContext) -> None:
        """Do the server side of the TLS handshake; raise ``ClientGone`` if it fails."""
        self._poll.unregister(self._sock)
        try:
            self._sock = context.wrap_socket(
                self._sock, server_side=True, do_handshake_on_connect=False
            )
        except OSError as error:  # the client has already disconnected
            raise ClientGone(str(error)) from error
        finally:
            if self._sock.fileno() >= 0:
                self._poll.register(self._sock, selectors.EVENT_READ)
        assert isinstance(self._sock, ssl.SSLSocket)
        while True:
            try:
                return self._sock.do_handshake()
            except ssl.SSLWantReadError:
                self._wait_ready(selectors.EVENT_READ, None)
            except ssl.SSLWantWriteError:
                self._wait_ready(selectors.EVENT_WRITE, None)
            except OSError as error:
                raise ClientGone(str(error)) from error

    def send(self, data: bytes) -> None:
        """Send everything, however slowly the client reads."""
        view = memoryview(data)
        while view:
            if self._stop.is_set:
                raise ServerStopped
            try:
                view = view[self._sock.send(view) :]
            except (BlockingIOError, ssl.SSLWantWriteError):
                if self._wait_ready(selectors.EVENT_READ | selectors.EVENT_WRITE, None) & 1:
                    self._receive()
            except ssl.SSLWantReadError:
                self._wait_ready(selectors.EVENT_READ, None)
            except OSError as error:
                raise ClientGone(str(error)) from error

    def wait(self, seconds: float | None) -> None:
        """Wait for ``seconds`` (``None``: forever), buffering what the client sends."""
        deadline = None if seconds is None else monotonic() + seconds
        while True:
            remaining = None if deadline is None else deadline - monotonic()
            if remaining is not None and remaining <= 0:
                return
            if self._wait_ready(selectors.EVENT_READ, remaining):
                self._receive()

    def wait_for(self, event: threading.Event) -> None:
        """Wait until the event is set."""
        while not event.is_set():
            self.wait(EVENT_POLL_S)

    def read_until(self, mark: bytes) -> bytes:
        """Return the bytes before ``mark``, and discard the mark."""
        while mark not in self._buffer:
            self._receive_more()
        found, _, rest = self._buffer.partition(mark)
        self._buffer = rest
        return bytes(found)

    def read_exactly(self, size: int) -> bytes:
        """Return the next ``size`` bytes."""
        while len(self._buffer) < size:
            self._receive_more()
        found = bytes(self._buffer[:size])
        del self._buffer[:size]
        return found

    def send_close_notify(self) -> None:
        """Send TLS's ``close_notify``, which is part of an orderly close."""
        if isinstance(self._sock, ssl.SSLSocket):
            with contextlib.suppress(OSError, ValueError):  # sent; the client's may never arrive
                self._sock.unwrap()

    def half_close(self) -> None:
        """Send FIN, then discard incoming data until the client has closed too.

        Closing immediately would become a reset if the client had just sent something.
        """
        try:
            socket.socket.shutdown(self._sock, socket.SHUT_WR)  # TCP only: TLS's would block
            while True:
                self._receive()
                self._buffer.clear()
                self._wait_ready(selectors.EVENT_READ, None)
        except (OSError, ClientGone):
            pass

    def reset(self) -> None:
        """Make the next ``close()`` send RST."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def close(self) -> None:
        self._poll.close()
        self._sock.close()

    def _receive_more(self) -> None:
        """Wait until the buffer has grown."""
        size = len(self._buffer)
        self._receive()  # TLS may hold bytes that poll does not report
        while len(self._buffer) == size:
            self._wait_ready(selectors.EVENT_READ, None)
            self._receive()

    def _wait_ready(self, events: int, timeout: float | None) -> int:
        """Wait until the socket is ready; return 1 for readable, 2 writable, 0 timed out."""
        self._poll.modify(self._sock, events)
        found = 0
        for key, mask in self._poll.select(timeout):
            if key.fileobj is self._stop.receiver:
                raise ServerStopped
            found |= mask
        return found

    def _receive(self) -> None:
        """Buffer all available data; raise ``ClientGone`` on EOF or error.

        If data came first, the next call raises.
        """
        size = len(self._buffer)
        while True:
            try:
                data = self._sock.recv(RECV_BYTES)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            except OSError as error:
                if len(self._buffer) > size:
                    return
                raise ClientGone(str(error)) from error
            if not data:
                if len(self._buffer) > size:
                    return
                raise ClientGone("closed by the client")
            self._buffer += data
