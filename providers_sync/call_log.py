"""The logger ``providers_sync``: retries and failovers (INFO), requests and outcomes (DEBUG).

A record holds no key, no prompt and no server's words, which may quote both: a failure is named by
its class, status and type. No function here may be called while a lock is held, because a handler
may do anything, even start a call.
"""

from __future__ import annotations

import logging
import re
from contextvars import ContextVar

from .errors import APIStatusError, APITimeoutError, ServerError

log = logging.getLogger("providers_sync")
INFO, DEBUG = logging.INFO, logging.DEBUG
_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_is_logging: ContextVar[bool] = ContextVar("providers_sync_is_logging", default=False)
"""Whether a handler runs now: a call that it makes is not logged, or it would be called forever."""


def is_on(level: int) -> bool:
    """Return whether anything listens to records of this level."""
    return log.isEnabledFor(level) and not _is_logging.get()


def write(level: int, text: str, *args: object) -> None:
    """Log a record; a handler or filter that raises does not end the call."""
    if not is_on(level):
        return
    token = _is_logging.set(True)
    try:
        log.log(level, text, *args)
    except Exception:  # noqa: BLE001 (a fault of the caller's logging, and no reason to lose text)
        pass
    finally:
        _is_logging.reset(token)


def reason(error: BaseException) -> str:
    """Return what failed, without anything that a server has written freely.

    >>> reason(ServerError("Rex said: …", type="overloaded_error", code="529"))
    'ServerError, status 529, type overloaded_error'
    """
    parts = [type(error).__name__]
    if isinstance(error, (APIStatusError, ServerError)) and error.status_code is not None:
        parts.append(f"status {error.status_code}")
    if isinstance(error, APITimeoutError):
        parts.append(f"timeout {error.clock}")
    if isinstance(error, ServerError):
        parts += [
            f"{name} {value}"
            for name, value in (("type", error.type), ("code", error.code))
            if _IDENTIFIER.fullmatch(value or "")
        ]
    return ", ".join(parts)


def without_query(url: str) -> str:
    """Return a URL without its query, fragment and user.

    >>> without_query("https://me:secret@example.org/v1/chat?key=secret#top")
    'https://example.org/v1/chat'
    """
    scheme, slashes, rest = re.split("[?#]", url, maxsplit=1)[0].partition("://")
    host, slash, path = rest.partition("/")
    return scheme + slashes + host.rpartition("@")[2] + slash + path
