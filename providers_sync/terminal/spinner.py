"""A spinner: an animated line that is shown until there is text to read."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from typing import TextIO

from ..clock import monotonic
from ..printable import one_line

FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
ASCII_FRAMES = "|/-\\"
FRAME_S = 0.1
ELAPSED_AFTER_S = 3
"""After this time the spinner also shows the seconds that have passed."""


class Spinner:
    """A spinner that runs in its own thread until ``stop()``, which clears its line."""

    def __init__(self, out: TextIO, label: str = "") -> None:
        self.label = label
        self._out = out
        is_utf8 = (out.encoding or "").lower().replace("-", "") == "utf8"
        self._frames = FRAMES if is_utf8 else ASCII_FRAMES
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="spinner", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the spinner; further calls do nothing."""
        if not self._stopped.is_set():
            self._stopped.set()
            self._thread.join()
            self._out.write("\r\x1b[K")
            self._out.flush()

    def _run(self) -> None:
        started, frame = monotonic(), 0
        while not self._stopped.wait(FRAME_S):
            seconds = int(monotonic() - started)
            parts = [self._frames[frame % len(self._frames)], one_line(self.label)]
            if seconds >= ELAPSED_AFTER_S:
                parts.append(f"{seconds} s")
            self._out.write("\r\x1b[K" + " ".join(filter(None, parts)))
            self._out.flush()
            frame += 1


@contextlib.contextmanager
def show_spinner(label: str) -> Iterator[None]:
    """Show a spinner on standard error within the ``with`` block, if it is a terminal."""
    out = sys.stderr
    if not out.isatty() or os.environ.get("TERM", "dumb") in ("dumb", "unknown"):
        yield
        return
    spinner = Spinner(out, label)
    try:
        yield
    finally:
        spinner.stop()
