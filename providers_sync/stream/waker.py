"""``Waker``: ends the wait of a selector, from any thread."""

from __future__ import annotations

import contextlib
import os
import socket
import sys

if sys.platform == "win32":
    from os import read, write
else:  # eventlet replaces those of ``os`` with functions that wait, even in a finalizer
    from posix import read, write


class Waker:
    """A pipe that ends a selector's wait: no socket, which test tools forbid.

    It is closed with its last reference, and not before: whoever wakes holds one.
    """

    def __init__(self) -> None:
        self.receiver, self._sender = os.pipe()
        os.set_blocking(self.receiver, False)
        os.set_blocking(self._sender, False)

    def wake(self) -> None:
        """End the wait; takes no lock."""
        with contextlib.suppress(OSError):  # full: the reader is about to wake
            write(self._sender, b"\0")

    def clear(self) -> None:
        """Forget all wake-ups."""
        with contextlib.suppress(OSError):
            read(self.receiver, 4096)

    def __del__(self) -> None:
        os.close(self.receiver)
        os.close(self._sender)


class SocketWaker(Waker):
    """The same with a pair of sockets, for Windows, whose ``select`` takes nothing else."""

    def __init__(self) -> None:
        self._sockets = socket.socketpair()
        for each in self._sockets:
            each.setblocking(False)
        self.receiver = self._sockets[0].fileno()

    def wake(self) -> None:
        with contextlib.suppress(OSError):
            self._sockets[1].send(b"\0")

    def clear(self) -> None:
        with contextlib.suppress(OSError):
            self._sockets[0].recv(4096)

    def __del__(self) -> None:
        for each in self._sockets:
            each.close()


def new_waker() -> Waker:
    """Return a new waker of the kind that this system's selectors take."""
    return SocketWaker() if sys.platform == "win32" else Waker()
