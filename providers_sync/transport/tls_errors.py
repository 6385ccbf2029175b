"""Empties OpenSSL's queue of errors, of which each thread has one.

Where a read over TLS fails because of the operating system, Python 3.12 and later may leave the
error in the queue (with OpenSSL 3.4 and later). Then every read in that thread that finds nothing
reports it again: one connection that breaks would break all others that the reader thread reads.
Sources: python/cpython issues 81891 and 148594, pull request 127361.
"""

from __future__ import annotations

import contextlib
import functools
import ssl


def forget_tls_errors() -> None:
    """Empty the queue of this thread: call it after each error of a connection."""
    with contextlib.suppress(ssl.SSLError):
        _context().set_ciphers("none")  # fails, and empties the queue: there is no other way


@functools.lru_cache(maxsize=1)
def _context() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
