"""Plays a recorded exchange: a response whose body comes piece by piece, and ends as it did."""

from __future__ import annotations

from collections.abc import Callable
from http.client import responses
from typing import Any, cast

from .. import transport
from ..errors import ProviderError
from .exchange import Exchange


def play(exchange: Exchange, attempt: transport.RequestAttempt, *, paced: bool) -> Any:
    """Return the response of a recorded exchange, or raise the error that came in its place.

    ``paced``: whether it takes the time that it took.
    """
    wait = _Pace(attempt) if paced else lambda until: attempt.raise_if_stopped()
    attempt.raise_if_stopped()
    if exchange.status is None:
        wait(exchange.seconds)
        raise exchange.failure() or ProviderError("the recording ends before the headers")
    attempt.connected()
    attempt.sent()
    return transport.Response(cast(Any, _PlayedResponse(exchange, wait)), attempt)


class _Pace:
    """Waits until so many seconds after the start."""

    def __init__(self, attempt: transport.RequestAttempt) -> None:
        self._attempt = attempt
        self._waited = 0.0

    def __call__(self, until: float) -> None:
        seconds = max(0.0, until - self._waited)
        self._attempt.wait_for(lambda: False, seconds)
        self._waited += seconds


class _PlayedResponse:
    """Stands in for a requests ``Response``, and for its raw body."""

    is_decoded = True

    def __init__(self, exchange: Exchange, wait: Callable[[float], None]) -> None:
        self.url = exchange.request.url
        self.status_code = exchange.status
        self.reason = responses.get(exchange.status or 0, "")
        self.headers = transport.CaseInsensitiveDict(exchange.headers)
        self.raw = self
        self._exchange = exchange
        self._wait = wait
        self._pieces = iter(exchange.pieces)

    def settimeout(self, seconds: float | None) -> None:
        """Do nothing: a recorded body ends."""

    def read1(self, size: int) -> bytes:
        """Return the next piece, ``b""`` at a clean end; raise the error of another end."""
        for seconds, data in self._pieces:
            self._wait(seconds)
            return data
        self._wait(self._exchange.seconds)
        failure = self._exchange.failure()
        if failure is not None:
            raise failure
        return b""

    def close(self) -> None:
        """Do nothing: nothing is open."""
