"""The logger ``providers_sync``: retries and failovers (INFO), requests and outcomes (DEBUG).

A record holds no key, no prompt and no server's words, which may quote both: a failure is named by
its class, status and type. No function here may be called while a lock is held, because a handler
may do anything, even start a call. ``docs/logging.md`` explains each line.
"""

from __future__ import annotations

import logging
import re
from contextvars import ContextVar

from .errors import APIStatusError, APITimeoutError, ServerError

log = logging.getLogger("providers_sync")
DEBUG = logging.DEBUG
LINES = {
    "request": (DEBUG, "sending %(request)s for %(provider)s, attempt %(attempt)d"),
    "outcome": (
        DEBUG,
        "%(request)s for %(provider)s: outcome %(outcome)s, status %(status)s, %(seconds).3f s, "
        "chunks %(chunks)d, attempts %(attempts)d, tokens %(input_tokens)s in, %(output_tokens)s "
        "out, request id %(request_id)s, error %(error)s",
    ),
    "wait": (DEBUG, "%(request)s for %(provider)s waits for its turn in %(limit)s"),
    "retry": (
        logging.INFO,
        "retrying %(request)s for %(provider)s in %(delay).2f s after attempt %(attempt)d: "
        "%(error)s",
    ),
    "row_retry": (
        logging.INFO,
        "retrying row %(row)d with %(provider)s in %(delay).2f s after attempt %(attempt)d: "
        "%(error)s",
    ),
    "failover": (
        logging.INFO,
        "%(provider)s failed after %(seconds).2f s: %(error)s; trying %(next_provider)s",
    ),
    "continue": (
        logging.INFO,
        "asking %(host)s for the rest of an answer that broke after %(characters)d characters: "
        "%(error)s",
    ),
    "continue_in_words": (
        logging.INFO,
        "%(provider)s refuses to continue its answer (%(error)s); asking with a message",
    ),
    "not_recorded": (logging.WARNING, "an answer was not recorded: %(error)s"),
    "telemetry": (
        logging.WARNING,
        "telemetry is incomplete: %(error)s in %(file)s, line %(line)s; "
        "later failures are not logged",
    ),
}
"""Each event, with its level and its line. What is not known is ``None``, in the line ``-``."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}")
_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_is_logging: ContextVar[bool] = ContextVar("providers_sync_is_logging", default=False)
"""Whether a handler runs now: a call that it makes is not logged, or it would be called forever."""


def is_on(level: int) -> bool:
    """Return whether anything listens to records of this level."""
    return log.isEnabledFor(level) and not _is_logging.get()


def write(event: str, **fields: object) -> None:
    """Log an event of ``LINES``; a handler or filter that raises does not end the call.

    The record has the fields, and the event, in its attribute ``providers_sync``.
    """
    level, text = LINES[event]
    if not is_on(level):
        return
    shown = {name: "-" if value is None else value for name, value in fields.items()}
    token = _is_logging.set(True)
    try:
        log.log(level, text, shown, extra={"providers_sync": {"event": event, **fields}})
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


def request_id(given: str | None) -> str | None:
    """Return a request id as it may be logged: a server may send anything in its place.

    >>> request_id("req_011CT5"), request_id("a whole sentence"), request_id(None)
    ('req_011CT5', None, None)
    """
    return given if given and _REQUEST_ID.fullmatch(given) else None


def without_query(url: str) -> str:
    """Return a URL without its query, fragment and user.

    >>> without_query("https://me:secret@example.org/v1/chat?key=secret#top")
    'https://example.org/v1/chat'
    """
    scheme, slashes, rest = re.split("[?#]", url, maxsplit=1)[0].partition("://")
    host, slash, path = rest.partition("/")
    return scheme + slashes + host.rpartition("@")[2] + slash + path
