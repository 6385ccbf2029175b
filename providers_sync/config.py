"""``Timeouts``, ``NOT_GIVEN``, the version, and the defaults and limits that modules share."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import Any

from .errors import InvalidRequestError

__version__ = "0.1.0"

CONNECT_S = 10.0
"""A TCP connect across the world with two lost SYNs takes 3 s; TLS and a proxy as much again."""
FIRST_TOKEN_S = 120.0
"""Reasoning models think for a minute before they send anything."""
IDLE_S = 60.0
"""Between two bytes a healthy server is silent for seconds at most; servers ping every 15–30 s."""
TOTAL_S = 600.0
"""Ten minutes: longer than a person waits for any answer."""
AFTER_FINISH_S = 5.0
"""Usage and ``[DONE]`` follow a finish reason at once; the answer is complete, so wait briefly."""

ATTEMPTS = 3
"""One failure and one unlucky repeat; more only adds load to a server in trouble."""
REPAIRS = 1
"""How many times a typed answer that does not validate is requested again; two failures suffice."""
BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 8.0
"""The wait before attempt n is random between half and all of min(0.5 · 2ⁿ⁻², 8) seconds."""
RETRY_AFTER_CAP_S = 60.0
"""A longer ``Retry-After`` is for the caller to decide on."""
FAILOVER_FAILURES = 3
"""One failure and one unlucky repeat are not a pattern; a third in a row is."""
FAILOVER_COOLDOWN_S = 30.0
"""A restart takes about as long; while it lasts, one call in 30 s pays for trying again."""

SOCKET_WAIT_S = 1_000_000.0
"""The longest wait of a socket, eleven days: Python counts it in 32 bits of milliseconds."""
READ_BYTES = 64 * 1024
"""Per read; the usual size of a socket's receive buffer."""
SMALL_READ_BYTES = 1024
"""Per read of a stream that sends word by word; 4 KiB cost 200 streams 4 MB."""
BUFFER_BYTES = 256 * 1024
"""Buffered for a slow caller; beyond that the connection is not read, which slows the server."""
EVENT_BYTES = 64 * 1024 * 1024
"""Per event; the largest legitimate ones carry one or a few images of 5–10 MB in base64. Bounds
memory: reading an event briefly takes three times its size, nine times with an emoji in it."""
EVENT_LINES = 1000
"""Lines per event; legitimate ones have a handful. Bounds sseclient's quadratic joining."""
EVENT_LINES_BYTES = 1024 * 1024 * 1024
"""Lines of an event times its size, for the same reason: 1000 of 1 MiB, 16 of 64 MiB."""
LEADING_SPACE_BYTES = 64 * 1024
"""White space before an answer whose format is not known yet; legitimate servers send a line."""
TOOL_CALLS = 10_000
"""Per answer; models make a few hundred at most. Bounds memory."""
JSON_BYTES = 16 * 1024 * 1024
"""Per complete JSON answer, sent instead of the expected stream."""
IMAGE_BYTES = 20 * 1024 * 1024
"""Per image, from a file or as bytes; vendors accept 5 to 20 MB. Bounds memory."""
FILE_BYTES = 50 * 1024 * 1024
"""Per other file; vendors accept 20 to 50 MB."""
QUESTION_MESSAGES = 200
"""Messages from a browser, and parts of them: a hundred questions with their answers."""
QUESTION_CHARACTERS = 200_000
"""Total text from a browser: some 50,000 tokens, which fits every current model."""
ANTHROPIC_MAX_TOKENS = 16_000
"""Anthropic requires a limit, and counts reasoning, too, which Claude 5.5 models do by default.

Some 10,000 words; within the limit of every current model."""
ERROR_BODY_BYTES = 64 * 1024
"""How much of the body of an error response is kept."""
POOL_SIZE = 256
"""Connections kept per host: as many streams as a busy threaded server runs at once."""
ERROR_BODY_S = 1.0
"""For reading the body of an error response: the status is known, the body only adds detail."""
IDLE_THREAD_S = 0.1
"""How long an idle worker thread is kept: a loop over prompts sends the next one sooner."""
DRAIN_S = 0.02
"""For reading the last bytes after the end marker, so that the pool can reuse the connection."""

READ_STREAMS = 64
"""Streams read before their callers are woken: each one woken competes with the reader thread."""
LONGEST_WAIT_S = 3600.0
"""Selectors count milliseconds in 32 bits."""
SELECT_SOCKETS = 500
"""Where a system has ``select`` only, it waits for at most 512 sockets (Windows)."""
IDLE_WORKERS = 4
"""Idle worker threads that are kept: requests of one program rarely start more at once."""
MAIN_THREAD_WAIT_S = 0.1
"""The main thread waits in slices: a signal delivered just before ``acquire()`` blocks would not
interrupt it."""
THREAD_WAIT_S = 1.0
"""Other threads wait in longer slices: an exception thrown into one is raised between two."""
KEEP_ALIVE_S = 0.25
"""Between two comments to a browser. After it has disconnected, the first write is answered with a
reset, the second fails, and waitress reports it with the third only: all well within a second."""
WRITE_TIMEOUT_S = 30.0
"""While a browser takes no data. A phone that changes its network needs seconds; a tab in the
background goes on reading."""


class NotGiven(enum.Enum):
    """The type of a default that means "not given", for arguments whose ``None`` means "none"."""

    NOT_GIVEN = "not given"

    def __repr__(self) -> str:
        return self.name


NOT_GIVEN = NotGiven.NOT_GIVEN


def seconds(value: object, name: str) -> float:
    """Return ``value`` as a positive, finite number of seconds.

    Raises ``InvalidRequestError``, which names the argument ``name``, for anything else.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidRequestError(f"{name} must be a number of seconds, not {type(value).__name__}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or number <= 0:
        raise InvalidRequestError(
            f"{name} must be a finite number of seconds above 0, not {number:g}; "
            "use None to disable it"
        )
    return number


@dataclass(frozen=True)
class Timeouts:
    """The four timeouts of a call, in seconds; ``None`` switches one off.

    Attributes:
        connect: DNS, every address (raced: RFC 8305), proxy and TLS handshake together; per
            attempt.
        first_token: From the request to the first text, reasoning, refusal or tool call; per
            attempt.
        idle: Without a byte from the server after that; suspended while the caller does not read.
        total: From the call to the end, over all attempts.

    Raises:
        InvalidRequestError: For zero, negative numbers, NaN, infinity and booleans.

    Examples:
        >>> Timeouts(total=30)
        Timeouts(connect=10.0, first_token=120.0, idle=60.0, total=30.0)
    """

    connect: float | None = CONNECT_S
    first_token: float | None = FIRST_TOKEN_S
    idle: float | None = IDLE_S
    total: float | None = TOTAL_S

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None:
                object.__setattr__(self, name, seconds(value, f"Timeouts.{name}"))

    @classmethod
    def of(cls, value: Any) -> Timeouts:
        """Return the timeouts that ``timeouts=`` means.

        Args:
            value: ``Timeouts``; a number, which is ``total`` in seconds; or ``None``, no timeouts.

        Raises:
            InvalidRequestError: For anything else.
        """
        if isinstance(value, Timeouts):
            return value
        if value is None:
            return cls(None, None, None, None)
        return cls(total=seconds(value, "timeouts"))
