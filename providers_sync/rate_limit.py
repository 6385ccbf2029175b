"""``RateLimit``: keeps the requests of all threads under the limits of a server."""

from __future__ import annotations

import math
import os
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from .clock import monotonic
from .config import RETRY_AFTER_CAP_S
from .errors import APIStatusError, InvalidRequestError
from .server_limits import ServerLimit, limits_in
from .types import Delta, Usage

WINDOW_S = 60.0
CHARACTERS_PER_TOKEN = 4
"""What a request is counted with until the server has told its tokens."""
Wait = Callable[[Callable[[], bool], float], None]
"""Waits until the function returns true, at most until a moment; raises if the call is stopped."""


class RateLimit:
    """A limit that all threads of a process share, given to one provider or to several.

    ::

        limit = RateLimit(requests_per_minute=500, tokens_per_minute=200_000, concurrent=20)
        provider = OpenAICompatible("gpt-5-mini", rate_limit=limit)

    - ``requests_per_minute``: in no minute more requests are sent, retries included.
    - ``tokens_per_minute``: nor more tokens, those of the answers included. Until the server has
      counted them, a request counts with a quarter of its characters and its ``max_tokens``.
    - ``concurrent``: at no time more answers are open. One that is not read stays open.

    A request waits for its turn, first come, first served, at most until its ``total`` timeout
    expires. What servers say is obeyed too, also without limits of your own (``RateLimit()``):
    ``x-ratelimit-*`` and ``anthropic-ratelimit-*`` headers, which tell what is left, and
    ``Retry-After``, which holds back all requests; but no wait of more than a minute.

    Raises ``InvalidRequestError`` for limits that are no positive whole numbers. A pickled limit
    and that of a forked process begin anew.
    """

    def __init__(
        self,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        concurrent: int | None = None,
    ) -> None:
        self.requests_per_minute = _checked(requests_per_minute, "requests_per_minute")
        self.tokens_per_minute = _checked(tokens_per_minute, "tokens_per_minute")
        self.concurrent = _checked(concurrent, "concurrent")
        self._line = _Line(self)

    def __repr__(self) -> str:
        limits = ", ".join(f"{name}={value}" for name, value in self._limits() if value)
        return f"RateLimit({limits})"

    def __reduce__(self) -> tuple[type[RateLimit], tuple[int | None, ...]]:
        return RateLimit, tuple(value for _, value in self._limits())

    def __copy__(self) -> RateLimit:
        return self

    def __deepcopy__(self, memo: object) -> RateLimit:
        return self

    def _limits(self) -> list[tuple[str, int | None]]:
        names = ("requests_per_minute", "tokens_per_minute", "concurrent")
        return [(name, getattr(self, name)) for name in names]

    def new_turn(self, body: Mapping[str, Any], size: int, notify: Callable[[], None]) -> Turn:
        """Return the turn of a request of so many bytes. Internal: for the attempts of a call.

        ``notify`` wakes the thread that waits for it, from any thread.
        """
        if self._line.pid != os.getpid():  # the lock may have been held during the fork
            self._line = _Line(self)
        return Turn(self._line, size // CHARACTERS_PER_TOKEN + 1, _most_tokens(body), notify)


class Turn:
    """One request, from its place in the line to the end of its answer."""

    def __init__(
        self, line: _Line, tokens: int, most_tokens: int, notify: Callable[[], None]
    ) -> None:
        self.tokens = tokens + most_tokens
        """How many it counts for."""
        self._request_tokens = tokens
        self.sent_at = 0.0
        self.has_headers = False
        self._usage: Usage | None = None
        self._characters = 0
        self.is_called = False
        """Whether it is to look again if it may start."""
        self.notify = notify
        self._line = line

    def take(self, wait: Wait) -> None:
        """Wait until the request may be sent. Raises what ``wait`` raises."""
        self._line.join(self)
        try:
            while (start_at := self._line.start(self)) is not None:
                wait(lambda: self.is_called, start_at)
        except BaseException:
            self._line.leave(self)
            raise

    def note_headers(self, headers: Mapping[str, str]) -> None:
        """Record what the server says it has left."""
        self._line.note_headers(self, headers)

    def note_error(self, error: APIStatusError) -> None:
        """Record whether the server asks for a pause."""
        if error.retry_after is not None and not error.quota_exhausted:
            self._line.pause(error.retry_after)

    def note(self, delta: Delta) -> None:
        """Count what the answer brings."""
        if isinstance(delta, Usage):
            self._usage = delta
        elif isinstance(delta, str):
            self._characters += len(delta)

    def end(self) -> None:
        """Record the end of the answer, and the tokens of both."""
        usage = self._usage or Usage()
        answer = usage.output_tokens or self._characters // CHARACTERS_PER_TOKEN
        request = self._request_tokens if usage.input_tokens is None else usage.input_tokens
        self._line.end(self, usage.total_tokens or request + answer)


class _Line:
    """The line of the requests that wait, and what was sent in the last minute."""

    def __init__(self, limit: RateLimit) -> None:
        self.pid = os.getpid()
        self._limit = limit
        self._lock = threading.RLock()  # a finalizer may end a turn in the thread that holds it
        self._waiting: deque[Turn] = deque()
        self._sent: deque[Turn] = deque()
        """Those of the last minute."""
        self._open: set[Turn] = set()
        self._not_before = 0.0
        self._left: dict[str, ServerLimit] = {}

    def join(self, turn: Turn) -> None:
        with self._lock:
            self._waiting.append(turn)

    def start(self, turn: Turn) -> float | None:
        """Start a turn if it may; else return when to try again, if nobody calls before."""
        with self._lock:
            turn.is_called = False
            if self._waiting[0] is not turn:
                return math.inf
            now = monotonic()
            start_at = self._start_at(turn, now)
            if start_at > now:
                return start_at
            self._waiting.popleft()
            turn.sent_at = now
            self._sent.append(turn)
            self._open.add(turn)
            for kind, left in self._left.items():
                left.take(_need(turn, kind))
        self._call_next()
        return None

    def leave(self, turn: Turn) -> None:
        """Remove a turn that waits no longer."""
        with self._lock:
            if turn in self._waiting:
                self._waiting.remove(turn)
        self._call_next()

    def note_headers(self, turn: Turn, headers: Mapping[str, str]) -> None:
        with self._lock:
            turn.has_headers = True
            for kind, left in limits_in(headers).items():
                # The server may not have counted yet what it has not answered.
                left.take(sum(_need(each, kind) for each in self._open if not each.has_headers))
                self._left[kind] = left
        self._call_next()

    def pause(self, seconds: float) -> None:
        if seconds <= RETRY_AFTER_CAP_S:  # else the next request is told so by the server itself
            with self._lock:
                self._not_before = max(self._not_before, monotonic() + seconds)

    def end(self, turn: Turn, tokens: int) -> None:
        with self._lock:
            self._open.discard(turn)
            turn.tokens = tokens
        self._call_next()

    def _call_next(self) -> None:
        """Let the first in the line look again; without our lock, because it takes one."""
        with self._lock:
            first = self._waiting[0] if self._waiting else None
            if first is not None:
                first.is_called = True
        if first is not None:
            first.notify()

    def _start_at(self, turn: Turn, now: float) -> float:
        """Return when a turn may start, as far as one can tell; infinity: when another ends."""
        limit, sent = self._limit, self._sent
        while sent and sent[0].sent_at <= now - WINDOW_S:
            sent.popleft()
        if limit.concurrent is not None and len(self._open) >= limit.concurrent:
            return math.inf
        start_at = self._not_before
        if limit.requests_per_minute is not None and len(sent) >= limit.requests_per_minute:
            start_at = max(start_at, sent[-limit.requests_per_minute].sent_at + WINDOW_S)
        if limit.tokens_per_minute is not None:
            excess = sum(each.tokens for each in sent) + turn.tokens - limit.tokens_per_minute
            for each in sent:  # one that is too large is sent when nothing else counts
                if excess <= 0:
                    break
                excess -= each.tokens
                start_at = max(start_at, each.sent_at + WINDOW_S)
        for kind, left in self._left.items():
            start_at = max(start_at, left.ready_at(_need(turn, kind), now))
        return start_at


def _need(turn: Turn, kind: str) -> int:
    return 1 if kind == "requests" else turn.tokens


def _most_tokens(body: Mapping[str, Any]) -> int:
    """Return the limit of the answer that a request sets: servers count with it until the end."""
    config = body.get("generationConfig", body.get("options"))
    names = ("max_tokens", "max_completion_tokens", "max_output_tokens")
    values = [body.get(name) for name in names]
    if isinstance(config, Mapping):
        values += [config.get("maxOutputTokens"), config.get("num_predict")]
    return max((value for value in values if isinstance(value, int) and value > 0), default=0)


def _checked(value: int | None, name: str) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise InvalidRequestError(f"{name} must be a whole number, 1 or more, not {value!r}")
    return value
