"""What a server's headers say about its rate limits."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from .clock import monotonic
from .config import RETRY_AFTER_CAP_S

DEFAULT_RESET_S = 60.0
"""For servers that do not tell when the limit is whole again: theirs is one per minute."""
_HEADERS = {
    # OpenAI, Azure, Groq and many others; Anthropic; Mistral
    "requests": (
        "x-ratelimit-{}-requests",
        "anthropic-ratelimit-requests-{}",
        "x-ratelimit-{}-req-minute",
    ),
    "tokens": (
        "x-ratelimit-{}-tokens",
        "anthropic-ratelimit-tokens-{}",
        "x-ratelimit-{}-tokens-minute",
    ),
}
"""For each kind of limit, its headers: ``{}`` is ``remaining``, ``limit`` or ``reset``."""
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")


class ServerLimit:
    """What a server has left: it fills evenly until all of the limit is there again."""

    def __init__(self, left: float, limit: float, seconds: float) -> None:
        self._since = monotonic()
        self._left = left
        self._limit = max(limit, left, 1.0)
        self._per_second = (self._limit - left) / seconds

    def take(self, number: float, now: float) -> None:
        filled = max(now - self._since, 0.0) * self._per_second
        self._left = min(self._left + filled, self._limit) - number
        self._since = max(now, self._since)

    def ready_at(self, number: float, now: float) -> float:
        """Return when so many are there, or 0 if that is too far off to wait for."""
        missing = min(number, self._limit) - self._left
        if missing <= 0 or not self._per_second:
            return 0.0
        ready_at = self._since + missing / self._per_second
        return ready_at if ready_at <= now + RETRY_AFTER_CAP_S else 0.0


class ServerLimits:
    """What a server has said about the requests for one of its models."""

    def __init__(self) -> None:
        self.not_before = 0.0
        self._left: dict[str, ServerLimit] = {}
        self._told_by = 0.0
        """When the request was sent whose answer has told it."""

    def note(self, sent_at: float, found: dict[str, ServerLimit]) -> None:
        """Record what the answer to a request tells, unless a later one has told it already."""
        if found and sent_at >= self._told_by:
            self._left.update(found)
            self._told_by = sent_at

    def take(self, tokens: int, now: float) -> None:
        """Count a request of so many tokens."""
        for kind, left in self._left.items():
            left.take(needed(kind, tokens), now)

    def ready_at(self, tokens: int, now: float) -> float:
        """Return when a request of so many tokens may be sent."""
        ready = [left.ready_at(needed(kind, tokens), now) for kind, left in self._left.items()]
        return max([self.not_before, *ready])


def needed(kind: str, tokens: int) -> int:
    """Return how much of a limit a request takes."""
    return 1 if kind == "requests" else tokens


def limits_in(headers: Mapping[str, str]) -> dict[str, ServerLimit]:
    """Return the limits that a response tells, of ``requests`` and of ``tokens``.

    A moment in them is compared with the response's own ``Date``: clocks differ.
    """
    found = {}
    for kind, names in _HEADERS.items():
        for name in names:
            left = _number(headers.get(name.format("remaining")))
            limit = _number(headers.get(name.format("limit")))
            if left is not None and limit != 0:  # some send zeros where they have no limit
                seconds = _seconds_until(headers.get(name.format("reset"), ""), headers.get("date"))
                seconds = seconds if seconds and seconds > 0 else DEFAULT_RESET_S
                found[kind] = ServerLimit(left, left + 1 if limit is None else limit, seconds)
                break
    return found


def _number(text: str | None) -> float | None:
    """Return a number of a header, if it is one that can be counted with."""
    if text is None or not re.fullmatch(r"\d{1,15}(\.\d{1,9})?", text.strip()):
        return None
    return float(text)


def _seconds_until(text: str, date: str | None) -> float | None:
    """Return in how many seconds a limit is whole again; ``None`` if the headers do not tell.

    OpenAI writes ``6m0s`` or ``20ms``, Anthropic the time as in RFC 3339, others plain seconds.
    """
    text = text.strip()[:64]
    match = _DURATION.fullmatch(text)
    if text and match:
        hours, minutes, seconds, milliseconds = (float(part or 0) for part in match.groups())
        return hours * 3600 + minutes * 60 + seconds + milliseconds / 1000
    number = _number(text)
    if number is not None and number < 1e9:
        return number
    try:
        now = parsedate_to_datetime(date or "").timestamp()
        if number is not None:  # since 1970
            return number / (1000 if number > 1e12 else 1) - now
        return datetime.datetime.fromisoformat(re.sub("[Zz]$", "+00:00", text)).timestamp() - now
    except (ValueError, TypeError, OverflowError, OSError):
        return None
