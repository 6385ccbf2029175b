"""Turns Ctrl-C and Jupyter's stop button into a callback instead of an exception."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any


class InterruptHandler:
    """Context manager that calls ``stop`` at the first Ctrl-C instead of raising.

    This way Ctrl-C never interrupts a write half-way, and the stopped call reports the cancellation
    itself. A second Ctrl-C, if the first did not help, raises ``KeyboardInterrupt`` as usual.
    Outside the main thread, and where Ctrl-C is ignored (``nohup``), nothing changes.

    ::

        with InterruptHandler(token.cancel) as interrupt:
            ...
        if interrupt.pressed: ...
    """

    def __init__(self, stop: Callable[[], None]) -> None:
        self.pressed = False
        self.raises = True
        """Whether a second Ctrl-C raises: not while the end is shown, which must not break off."""
        self._stop = stop
        self._previous: Any = None

    def __enter__(self) -> InterruptHandler:
        previous = signal.getsignal(signal.SIGINT)
        in_main = threading.current_thread() is threading.main_thread()
        if in_main and previous not in (signal.SIG_IGN, None):
            self._previous = previous
            signal.signal(signal.SIGINT, self._on_sigint)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)

    def _on_sigint(self, number: int, frame: FrameType | None) -> None:
        if self.pressed and self.raises:
            raise KeyboardInterrupt
        self.pressed = True
        self._stop()
