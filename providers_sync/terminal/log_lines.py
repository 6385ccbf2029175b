"""The lines of ``--log``: on standard error, and never inside what a terminal shows.

While an answer or an input is on the last line of the screen, they wait; each has its time.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import Iterator

from ..printable import one_line

EXIT_WAIT_S = 1.0
"""For the threads of the last call, which write its outcome; they end by themselves."""
_CLEAR = "\r\x1b[K"
"""Removes what stands on the last line, such as a spinner, which draws itself again."""


class LogLines(logging.Handler):
    """Writes each record in one line, and holds it back where it would disturb the screen."""

    def __init__(self) -> None:
        super().__init__()
        line = logging.Formatter("%(asctime)s.%(msecs)03d %(levelname)s %(message)s", "%H:%M:%S")
        self.setFormatter(line)
        self._held: list[str] = []
        self._is_held = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, or hold it back; logging calls this with the handler's lock."""
        self._held.append(one_line(self.format(record)))
        if not self._is_held:
            self._write()

    def hold(self, is_held: bool) -> None:
        """Hold records back from now on, or write those that were held back."""
        with self.lock or contextlib.nullcontext():
            self._is_held = is_held and sys.stderr.isatty()
            if not self._is_held:
                self._write()

    def _write(self) -> None:
        lines, self._held = self._held, []
        if lines:
            with contextlib.suppress(OSError, ValueError):  # it is closed: nobody reads it
                start = _CLEAR if sys.stderr.isatty() else ""
                sys.stderr.write(start + "\n".join(lines) + "\n")
                sys.stderr.flush()


_shown: list[LogLines] = []


@contextlib.contextmanager
def shown_log(level: str) -> Iterator[None]:
    """Show the log, from this level on, within the ``with`` block."""
    handler, logger = LogLines(), logging.getLogger("providers_sync")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(level.upper())
    _shown.append(handler)
    try:
        yield
    finally:
        for thread in threading.enumerate():
            if thread.name.startswith("providers-sync-request"):
                thread.join(EXIT_WAIT_S)
        hold(False)
        _shown.remove(handler)
        logger.setLevel(before)
        logger.removeHandler(handler)


def hold(is_held: bool) -> None:
    """Hold log lines back while something stands on the last line of the terminal, or not."""
    for handler in _shown:
        handler.hold(is_held)


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Hold log lines back within the ``with`` block."""
    hold(True)
    try:
        yield
    finally:
        hold(False)
