"""``monotonic()``: the kernel's clock, which freezegun and time-machine do not replace.

They replace ``time.monotonic``, and a wait whose clock stands still never ends. Every module here
reads this function instead.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable

monotonic: Callable[[], float]
"""Return the seconds since some fixed moment, as ``time.monotonic`` does."""
if sys.platform == "win32":
    monotonic = time.monotonic
else:
    monotonic = functools.partial(time.clock_gettime, time.CLOCK_MONOTONIC)
