"""When a batch ends early: no row can be answered, or its budget is used up."""

from __future__ import annotations

import math
from typing import Any

from .. import failure_reasons
from ..errors import (
    APIStatusError,
    APITimeoutError,
    FailoverError,
    InvalidRequestError,
    ProviderError,
)
from ..token_estimates import BYTES_PER_TOKEN, request_tokens, utf8_size
from .pacing import InFlight
from .results import Reply
from .rows import Row

IN_A_ROW = 10
"""So many rows that fail for a lasting reason, without an answer between them, end the batch."""
_LASTING = {
    failure_reasons.AUTHENTICATION,
    failure_reasons.QUOTA,
    failure_reasons.UNKNOWN_MODEL,
    failure_reasons.CONNECTION,
}


class LastingFailures:
    """Tells from the failed rows whether the others can be answered at all."""

    def __init__(self) -> None:
        self._in_a_row = 0

    def note_answer(self) -> None:
        """Record that a row was answered."""
        self._in_a_row = 0

    def stop_after(
        self, in_flight: InFlight, error: ProviderError, answered: int
    ) -> ProviderError | None:
        """Return the error that ends the batch after this failure of a row, if it is to end.

        ``answered`` is the number of rows that this run has answered.
        """
        if not _is_lasting(error):
            if not isinstance(error, InvalidRequestError):  # the server has seen the row
                self._in_a_row = 0
            return None
        self._in_a_row += 1
        if _concerns_all(in_flight, error, answered):
            text = "no row can be answered"
        elif self._in_a_row >= IN_A_ROW:
            text = f"{IN_A_ROW} rows in a row failed like this"
        else:
            return None
        stopped = ProviderError(f"{text}, so no more rows were sent: {error}")
        stopped.default_reason = error.reason
        stopped.__cause__ = error
        return stopped


def _is_lasting(error: ProviderError) -> bool:
    if isinstance(error, FailoverError) and error.attempts:
        return all(_is_lasting(each.error) for each in error.attempts)
    if isinstance(error, APITimeoutError):
        return error.clock == "connect"
    is_missing = isinstance(error, APIStatusError) and error.status_code == 404  # a wrong address
    return is_missing or error.reason in _LASTING


def _concerns_all(in_flight: InFlight, error: ProviderError, answered: int) -> bool:
    """Return whether one such failure says that no other row can be answered either.

    A 403 may be about the row, and so is a model that the row names.
    """
    if error.reason == failure_reasons.QUOTA:
        return answered == in_flight.answered_before
    if error.reason == failure_reasons.UNKNOWN_MODEL:
        return not answered and in_flight.row.model is None
    return not answered and isinstance(error, APIStatusError) and error.status_code == 401


class Budget:
    """What a batch may use: tokens, or with a ``price`` money. ``None``: as much as it likes.

    ``price`` is what a million tokens cost: those of the input, and those of the output. Raises
    ``InvalidRequestError`` for other values.
    """

    def __init__(self, limit: float | None, price: tuple[float, float] | None) -> None:
        if limit is not None and not _is_number(limit):
            raise InvalidRequestError("budget must be a number above 0, or None")
        if price is None:
            if limit is not None and limit != int(limit):
                raise InvalidRequestError(
                    "budget is a number of tokens; for money, say with price= what a million "
                    "tokens of input and of output cost: price=(0.15, 0.60)"
                )
        elif limit is None:
            raise InvalidRequestError("price= needs budget=, the money that may be used")
        elif not _is_price(price):
            raise InvalidRequestError(
                "price must be two numbers, what a million tokens of input and of output cost, "
                "such as (0.15, 0.60)"
            )
        self._limit = limit
        self._price = price
        self._used = 0.0

    def note(self, row: Row, reply: Reply) -> None:
        """Add what a row has used; estimated where the server does not say it."""
        read, written = _tokens(row, reply)
        if self._price is None:
            self._used += read + written
        else:
            self._used += (read * self._price[0] + written * self._price[1]) / 1e6

    def check(self) -> None:
        """Raise ``ProviderError`` if the budget is used up."""
        if self._limit is None or self._used < self._limit:
            return
        if self._price is None:
            used = f"{self._used:.0f} of {self._limit:.0f} tokens"
        else:
            used = f"{self._used:.2f} of {self._limit:.2f}"
        raise ProviderError(f"the budget is used up ({used}), so no more rows were sent")


def _tokens(row: Row, reply: Reply) -> tuple[int, int]:
    """Return the tokens of a row's input and output."""
    usage = reply.usage
    if usage is not None and usage.input_tokens is not None and usage.output_tokens is not None:
        return usage.input_tokens, usage.output_tokens
    if reply.error is not None and not reply.started:
        return 0, 0
    text = reply.message.get("content") or ""
    written = utf8_size(text) + utf8_size(reply.message.get("reasoning_content") or "")
    return request_tokens({"messages": row.messages}), written // BYTES_PER_TOKEN + 1


def _is_number(value: Any) -> bool:
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and value > 0
        and math.isfinite(value)
    )


def _is_price(price: Any) -> bool:
    return (
        isinstance(price, (tuple, list))
        and len(price) == 2
        and all(each == 0 or _is_number(each) for each in price)
        and any(price)
    )
