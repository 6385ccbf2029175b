"""One socket whose every wait also watches for the client's leaving and the server's stop."""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import struct
import threading
import time

# poll needs no descriptor of its own and has no limit of 1024 of them, as select has.
Selector: type[selectors.BaseSelector] = getattr(
    selectors, "PollSelector", selectors.SelectSelector
)
RECV_BYTES = 256 * 1024
EVENT_POLL_S = 0.002
"""How often a held script looks at the event: a socket and an event share no wait."""


class ClientGone(Exception):
    """The client closed the connection."""


class ServerStopped(Exception):
    """The server is being stopped."""


class StopFlag:
    """A flag that also wakes everybody who waits in a poll."""

    def __init__(self) -> None:
        self.is_set = False
        self.ear, self._mouth = socket.socketpair()

    def set(self) -> None:
        self.is_set = True
        self._mouth.close()  # an end of file stays readable: it wakes all, at any time

    def close(self) -> None:
        self._mouth.close()
        self.ear.close()


class ClientConnection:
    """A non-blocking connection with an inbox; used by one thread."""

    def __init__(self, sock: socket.socket, stop: StopFlag) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._stop = stop
        self._inbox = bytearray()
        self._poll = Selector()
        self._poll.register(sock, selectors.EVENT_READ)
        self._poll.register(stop.ear, selectors.EVENT_READ)

    def accept(self) -> list[socket.socket]:
        """Wait for clients and return their connections."""
        self._ready(selectors.EVENT_READ, None)
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                sock = self._sock.accept()[0]
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a step leaves at once
                found.append(sock)
        return found

    def start_tls(self, context: ssl.SSLContext) -> None:
        """Shake hands as a TLS server; ``ClientGone`` tells why it failed."""
        self._poll.unregister(self._sock)
        try:
            self._sock = context.wrap_socket(
                self._sock, server_side=True, do_handshake_on_connect=False
            )
        except OSError as error:  # the client has left already
            raise ClientGone(str(error)) from error
        finally:
            if self._sock.fileno() >= 0:
                self._poll.register(self._sock, selectors.EVENT_READ)
        assert isinstance(self._sock, ssl.SSLSocket)
        while True:
            try:
                return self._sock.do_handshake()
            except ssl.SSLWantReadError:
                self._ready(selectors.EVENT_READ, None)
            except ssl.SSLWantWriteError:
                self._ready(selectors.EVENT_WRITE, None)
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
                if self._ready(selectors.EVENT_READ | selectors.EVENT_WRITE, None) & 1:
                    self._receive()
            except ssl.SSLWantReadError:
                self._ready(selectors.EVENT_READ, None)
            except OSError as error:
                raise ClientGone(str(error)) from error

    def watch(self, seconds: float | None) -> None:
        """Let so many seconds pass (for ever with ``None``), keeping what the client sends."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while True:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return
            if self._ready(selectors.EVENT_READ, left):
                self._receive()

    def hold(self, event: threading.Event) -> None:
        """Wait until the event is set."""
        while not event.is_set():
            self.watch(EVENT_POLL_S)

    def read_until(self, mark: bytes) -> bytes:
        """Return what comes before ``mark``, and swallow the mark."""
        while mark not in self._inbox:
            self._more()
        found, _, rest = self._inbox.partition(mark)
        self._inbox = rest
        return bytes(found)

    def read_exactly(self, size: int) -> bytes:
        """Return the next ``size`` bytes."""
        while len(self._inbox) < size:
            self._more()
        found = bytes(self._inbox[:size])
        del self._inbox[:size]
        return found

    def say_goodbye(self) -> None:
        """Send TLS's ``close_notify``, which an orderly end has."""
        if isinstance(self._sock, ssl.SSLSocket):
            with contextlib.suppress(OSError, ValueError):  # sent; its answer may never come
                self._sock.unwrap()

    def half_close(self) -> None:
        """Send FIN, then throw away what comes until the client has closed too.

        Closing at once would turn into a reset where the client has just sent something.
        """
        try:
            socket.socket.shutdown(self._sock, socket.SHUT_WR)  # the TCP one: TLS's would block
            while True:
                self._receive()
                self._inbox.clear()
                self._ready(selectors.EVENT_READ, None)
        except (OSError, ClientGone):
            pass

    def reset(self) -> None:
        """Let the coming ``close()`` send RST."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def close(self) -> None:
        self._poll.close()
        self._sock.close()

    def _more(self) -> None:
        """Wait until something new is in the inbox."""
        size = len(self._inbox)
        self._receive()  # TLS may hold bytes that no poll shows
        while len(self._inbox) == size:
            self._ready(selectors.EVENT_READ, None)
            self._receive()

    def _ready(self, events: int, timeout: float | None) -> int:
        """Wait until the socket is ready; 1 means readable, 2 writable, 0 out of time."""
        self._poll.modify(self._sock, events)
        found = 0
        for key, mask in self._poll.select(timeout):
            if key.fileobj is self._stop.ear:
                raise ServerStopped
            found |= mask
        return found

    def _receive(self) -> None:
        """Take all that has come; ``ClientGone`` comes with the next call if data came first."""
        size = len(self._inbox)
        while True:
            try:
                data = self._sock.recv(RECV_BYTES)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            except OSError as error:
                if len(self._inbox) > size:
                    return
                raise ClientGone(str(error)) from error
            if not data:
                if len(self._inbox) > size:
                    return
                raise ClientGone("closed by the client")
            self._inbox += data
