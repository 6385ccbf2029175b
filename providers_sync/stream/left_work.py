"""What a finalizer or a signal handler leaves to other threads, because it must not wait."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable

from ..clock import monotonic
from ..errors import ProviderError
from . import workers

AT_EXIT_S = 1.0
"""How long the exit of the program waits for what is being done."""

_numbers = itertools.count()
_left: dict[int, Callable[[], None]] = {}
"""What nobody has begun. Single operations need no lock."""
new: deque[int] = deque()
"""What the reader thread has to ``give`` to workers."""
_begun: deque[int] = deque()
"""What is being done."""


def add(work: Callable[[], None]) -> None:
    """Leave ``work``, which must not raise; takes no lock and starts no thread."""
    number = next(_numbers)
    _left[number] = work
    new.append(number)


def give() -> None:
    """Give everything that was left to workers."""
    while new:
        number = new.popleft()
        try:
            workers.run(_do, number)
        except ProviderError:  # no thread can be started
            _do(number)


def _do(number: int) -> None:
    _begun.append(number)  # first: ``do_left`` must find it in one of the two
    work = _left.pop(number, None)
    try:
        if work is not None:
            work()
    finally:
        _begun.remove(number)


def do_left() -> None:
    """Do here what nobody has begun, and wait for what is being done; at the exit."""
    for number in list(_left):
        _do(number)
    until = monotonic() + AT_EXIT_S
    while _begun and monotonic() < until:
        threading.Event().wait(0.001)


def forget() -> None:
    """Forget everything, in a forked child: it is the parent's."""
    for each in (_left, new, _begun):
        each.clear()
