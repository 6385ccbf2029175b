"""Something that turns while there is nothing to read yet."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import TextIO

from ..printable import one_line

FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
PLAIN_FRAMES = "|/-\\"
EVERY_S = 0.1
SECONDS_AFTER_S = 3
"""From then on it says how long it has been."""


class Spinner:
    """Turns in a thread of its own until ``stop()``, which leaves the line empty."""

    def __init__(self, out: TextIO, label: str = "") -> None:
        self.label = label
        self._out = out
        is_utf8 = (out.encoding or "").lower().replace("-", "") == "utf8"
        self._frames = FRAMES if is_utf8 else PLAIN_FRAMES
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._turn, name="spinner", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it; more than once does no harm."""
        if not self._stopped.is_set():
            self._stopped.set()
            self._thread.join()
            self._out.write("\r\x1b[K")
            self._out.flush()

    def _turn(self) -> None:
        began, turned = time.monotonic(), 0
        while not self._stopped.wait(EVERY_S):
            seconds = int(time.monotonic() - began)
            words = [self._frames[turned % len(self._frames)], one_line(self.label)]
            if seconds >= SECONDS_AFTER_S:
                words.append(f"{seconds} s")
            self._out.write("\r\x1b[K" + " ".join(filter(None, words)))
            self._out.flush()
            turned += 1


@contextlib.contextmanager
def turning(label: str) -> Iterator[None]:
    """Turn on standard error while something of our own takes its time, if somebody watches."""
    out = sys.stderr
    if not out.isatty() or os.environ.get("TERM", "dumb") in ("dumb", "unknown"):
        yield
        return
    spinner = Spinner(out, label)
    try:
        yield
    finally:
        spinner.stop()
