"""Ctrl-C and the notebook's stop button as something to wait for, not to be struck by."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any


class InterruptHandler:
    """While it is entered, the first Ctrl-C calls ``stop`` in place of raising.

    So it strikes between two writes and never within one; what was stopped says so itself. A
    second one, where the first does not help, is a ``KeyboardInterrupt`` as ever. Outside the main
    thread, and where Ctrl-C is ignored (``nohup``), nothing is changed.

    ::

        with InterruptHandler(token.cancel) as button:
            ...
        if button.pressed: ...
    """

    def __init__(self, stop: Callable[[], None]) -> None:
        self.pressed = False
        self._stop = stop
        self._before: Any = None

    def __enter__(self) -> InterruptHandler:
        before = signal.getsignal(signal.SIGINT)
        in_main = threading.current_thread() is threading.main_thread()
        if in_main and before not in (signal.SIG_IGN, None):
            self._before = before
            signal.signal(signal.SIGINT, self._press)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _press(self, number: int, frame: FrameType | None) -> None:
        if self.pressed:
            raise KeyboardInterrupt
        self.pressed = True
        self._stop()
