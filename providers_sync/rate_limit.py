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
from .server_limits import ServerLimits, limits_in, needed
from .token_estimates import BYTES_PER_TOKEN, most_tokens, request_tokens, utf8_size
from .types import Delta, Usage

WINDOW_S = 60.0
Wait = Callable[[Callable[[], bool], float], None]
"""Waits until the function returns true, at most until a moment; raises if the call is stopped."""


class RateLimit:
    """A limit that all threads of a process share, given to one provider or to several:

        limit = RateLimit(requests_per_minute=500, tokens_per_minute=200_000, concurrent=20)
        provider = OpenAICompatible("gpt-6-luna", rate_limit=limit)

    A request waits for its turn, first come, first served, at most until its ``total`` timeout
    expires. Limits that servers report are obeyed too, even without your own (``RateLimit()``):
    ``x-ratelimit-*`` and ``anthropic-ratelimit-*`` headers, which say what is left, and
    ``Retry-After``. Both delay all requests to that address for that model, but no others, and
    never for more than a minute. A pickled limit, and the copy in a forked process, start anew.
    Sources: OpenAI and Anthropic, "Rate limits"; RFC 9110, 10.2.3.

    Args:
        requests_per_minute: The maximum number of requests in any minute, retries included.
        tokens_per_minute: The maximum number of tokens in any minute, in requests and answers.
            Until the server has counted them, a request counts as a quarter of its characters,
            1000 for each image or other file, and its ``max_tokens``.
        concurrent: The maximum number of answers that are open at a time. An answer that nobody
            reads stays open.

    Raises:
        InvalidRequestError: A limit is not a positive whole number.
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
        self._lines: dict[int, _Line] = {}

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

    @property
    def _line(self) -> _Line:
        """The line of this process: the lock of another may have been held during the fork."""
        pid = os.getpid()
        return self._lines.get(pid) or self._lines.setdefault(pid, _Line(self, pid))

    def new_turn(self, url: str, body: Mapping[str, Any], notify: Callable[[], None]) -> Turn:
        """Return the turn of a request. Internal: for the attempts of a call.

        Args:
            url: The address of the request.
            body: Its body.
            notify: Wakes the thread that waits for the turn, from any thread.
        """
        line = self._line
        server = line.server(url, str(body.get("model", "")))
        return Turn(line, server, request_tokens(body), most_tokens(body), notify)


class Turn:
    """One request, from its place in the line to the end of its answer."""

    def __init__(
        self,
        line: _Line,
        server: ServerLimits,
        tokens: int,
        most_tokens: int,
        notify: Callable[[], None],
    ) -> None:
        self.server = server
        self.tokens = tokens + most_tokens
        """How many it counts for."""
        self._request_tokens = tokens
        self.sent_at = math.inf
        self.has_headers = False
        self._usage: Usage | None = None
        self._bytes = 0
        self.is_called = False
        """Whether it is to look again if it may start."""
        self.notify = notify
        self._line = line

    def take(self, wait: Wait) -> None:
        """Wait until the request may be sent; raises what ``wait`` raises. ``end`` it then too."""
        self._line.join(self)
        while (start_at := self._line.start(self)) is not None:
            wait(lambda: self.is_called, start_at)

    def note_sent(self) -> None:
        """Record that the request is sent now: before, it might have waited for a connection."""
        self._line.note_sent(self)

    def note_headers(self, headers: Mapping[str, str]) -> None:
        """Record what the server says it has left."""
        self._line.note_headers(self, headers)

    def note_error(self, error: APIStatusError) -> None:
        """Record whether the server asks for a pause."""
        if error.retry_after is not None and not error.quota_exhausted:
            self._line.pause(self.server, error.retry_after)

    def note(self, delta: Delta) -> None:
        """Count what the answer brings."""
        if isinstance(delta, Usage):
            self._usage = delta
        elif isinstance(delta, str):
            self._bytes += utf8_size(delta)

    def end(self) -> None:
        """Record the end of the answer and the tokens of both, or that nobody waits any longer."""
        usage = self._usage or Usage()
        answer = usage.output_tokens or self._bytes // BYTES_PER_TOKEN
        request = self._request_tokens if usage.input_tokens is None else usage.input_tokens
        self._line.end(self, usage.total_tokens or request + answer)


class _Line:
    """The line of the requests that wait, and what was sent in the last minute."""

    def __init__(self, limit: RateLimit, pid: int) -> None:
        self.pid = pid
        self._limit = limit
        self._lock = threading.RLock()  # a finalizer may end a turn in the thread that holds it
        self._waiting: deque[Turn] = deque()
        self._open: set[Turn] = set()
        self._unsent: set[Turn] = set()
        """Those of the open ones that wait for a key or a connection."""
        self._sent: deque[Turn] = deque()
        """Those of the last minute."""
        self._servers: dict[tuple[str, str], ServerLimits] = {}

    def server(self, url: str, model: str) -> ServerLimits:
        with self._lock:
            return self._servers.setdefault((url, model), ServerLimits())

    def join(self, turn: Turn) -> None:
        with self._lock:
            self._waiting.append(turn)

    def start(self, turn: Turn) -> float | None:
        """Start a turn if it may; else return when to try again, if nobody calls before."""
        with self._lock:
            turn.is_called = False
            now = monotonic()
            if self._is_behind(turn, now):
                return math.inf
            start_at = self._start_at(turn, now)
            if start_at > now:
                return start_at
            self._waiting.remove(turn)
            self._open.add(turn)
            self._unsent.add(turn)
            turn.server.take(turn.tokens, now)
        self._call_next()
        return None

    def note_sent(self, turn: Turn) -> None:
        with self._lock:
            if turn not in self._unsent:
                return
            self._unsent.remove(turn)
            turn.sent_at = monotonic()
            self._sent.append(turn)
        self._call_next()

    def note_headers(self, turn: Turn, headers: Mapping[str, str]) -> None:
        self.note_sent(turn)
        found = limits_in(headers)
        with self._lock:
            turn.has_headers = True
            # The server may not have counted yet what it has not answered.
            for each in list(self._open):
                if each.server is turn.server and not each.has_headers:
                    for kind, left in found.items():
                        left.take(needed(kind, each.tokens), monotonic())
            turn.server.note(turn.sent_at, found)
        self._call_next()

    def pause(self, server: ServerLimits, seconds: float) -> None:
        if seconds <= RETRY_AFTER_CAP_S:  # else the next request is told so by the server itself
            with self._lock:
                server.not_before = max(server.not_before, monotonic() + seconds)
            self._call_next()  # requests to other servers need not wait

    def end(self, turn: Turn, tokens: int) -> None:
        if self.pid != os.getpid():  # a forked process drops what its parent goes on with
            return
        with self._lock:
            if turn in self._open:
                self._open.remove(turn)
                self._unsent.discard(turn)
            elif turn in self._waiting:
                self._waiting.remove(turn)
            turn.tokens = tokens
        self._call_next()

    def _call_next(self) -> None:
        """Let the first one of each server look again; without our lock, because it takes one."""
        first: dict[ServerLimits, Turn] = {}
        with self._lock:
            for turn in self._waiting:
                first.setdefault(turn.server, turn).is_called = True
                if len(first) == len(self._servers):
                    break
        for turn in first.values():
            turn.notify()

    def _is_behind(self, turn: Turn, now: float) -> bool:
        """Return whether another comes first; one that its server holds back lets others pass."""
        for each in self._waiting:
            if each is turn:
                break
            if each.server is turn.server or each.server.ready_at(each.tokens, now) <= now:
                return True
        return False

    def _start_at(self, turn: Turn, now: float) -> float:
        """Return when a turn may start, as far as one can tell; infinity: when others go on."""
        limit, sent = self._limit, self._sent
        while sent and sent[0].sent_at <= now - WINDOW_S:
            sent.popleft()
        if limit.concurrent is not None and len(self._open) >= limit.concurrent:
            return math.inf
        start_at = turn.server.ready_at(turn.tokens, now)
        counted = [*sent, *self._unsent]
        if limit.requests_per_minute is not None and len(counted) >= limit.requests_per_minute:
            start_at = max(start_at, counted[-limit.requests_per_minute].sent_at + WINDOW_S)
        if limit.tokens_per_minute is not None:
            excess = sum(each.tokens for each in counted) + turn.tokens - limit.tokens_per_minute
            for each in counted:  # one that is too large is sent when nothing else counts
                if excess <= 0:
                    break
                excess -= each.tokens
                start_at = max(start_at, each.sent_at + WINDOW_S)
        return start_at


def _checked(value: int | None, name: str) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise InvalidRequestError(f"{name} must be a whole number, 1 or more, not {value!r}")
    return value
