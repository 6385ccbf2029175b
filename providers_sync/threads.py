"""Starts daemon threads; where none can start, the error says why and what helps."""

from __future__ import annotations

import threading
from contextvars import Context
from sys import is_finalizing

from .errors import ProviderError

_AT_EXIT = (
    "no thread can be started while the interpreter shuts down{}: send the request before that, "
    "not in an atexit handler; a stream that is open can still be read there"
)
_SUBINTERPRETER = (
    "no daemon thread can be started in this subinterpreter{}: use the main interpreter, or "
    "create this one with allow_daemon_threads"
)
_SYSTEM = (
    "no thread can be started{}: end other programs, lower concurrency, or raise the limit on "
    "processes (ulimit -u) or memory"
)


def start_thread(thread: threading.Thread) -> None:
    """Start a thread as a daemon, which does not delay the exit.

    Raises ``ProviderError`` if the system or the interpreter refuses.
    """
    if is_finalizing():  # up to Python 3.11 start() would wait forever
        raise ProviderError(_AT_EXIT.format(""))
    try:
        thread.daemon = True  # an isolated subinterpreter refuses it here
        # In no context: a thread that outlives its first call must not keep that one's.
        Context().run(thread.start)
    except (RuntimeError, MemoryError) as error:
        raise thread_error(error) from error


def thread_error(error: Exception) -> ProviderError:
    """Return the error to raise where ``error`` says that a thread could not be started."""
    text = str(error)
    if "shutdown" in text:
        template = _AT_EXIT
    else:
        template = _SUBINTERPRETER if "interpreter" in text else _SYSTEM
    return ProviderError(template.format(f" ({text or type(error).__name__})"))
