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
from .results import Reply, Result, failed_reply, to_result
from .rows import Row

IN_A_ROW = 10
"""So many rows that fail for a lasting reason, without an answer between them, end the batch."""
_LASTING = {
    failure_reasons.AUTHENTICATION,
    failure_reasons.QUOTA,
    failure_reasons.UNKNOWN_MODEL,
    failure_reasons.CONNECTION,
}


class NotSentError(ProviderError):
    """The row was not sent: no row can be answered, or the budget is used up; ``reason`` says why.

    The failure that has ended the batch is its ``__cause__``.
    """


class Stopping:
    """Decides from the rows so far whether the next one is sent.

    ``raises``: whether ``result_of`` raises for a row that is not sent. The other arguments and the
    errors are those of ``Budget``.
    """

    def __init__(
        self, budget: float | None, price: tuple[float, float] | None, raises: bool
    ) -> None:
        self._budget = Budget(budget, price)
        self.raises = raises
        self._in_a_row = 0
        self.error: NotSentError | None = None
        """That of the rows that are not sent; ``None`` while rows may be answered."""

    def result_of(self, row: Row) -> Result | None:
        """Return the result of a row that is not sent; ``None`` to send it.

        Raises ``NotSentError`` if the budget is used up, and as ``raises`` says.
        """
        if row.error is not None:
            return None
        if self.error is None:
            self._budget.check()
            return None
        if self.raises:
            raise self.error
        return to_result(row, failed_reply(self.error))

    def note(self, in_flight: InFlight, reply: Reply, answered: int) -> None:
        """Add the final reply to a row; ``answered`` is the number of rows with an answer."""
        self._budget.note(in_flight.row, reply)
        if reply.error is None:
            self._in_a_row = 0
        elif _is_lasting(reply.error):
            self._note_lasting(in_flight, reply.error, answered)
        elif not isinstance(reply.error, InvalidRequestError):  # the server has seen the row
            self._in_a_row = 0

    def _note_lasting(self, in_flight: InFlight, error: ProviderError, answered: int) -> None:
        self._in_a_row += 1
        if self.error is not None:
            return
        if _concerns_all(in_flight, error, answered):
            text = "no row can be answered"
        elif self._in_a_row >= IN_A_ROW:
            text = f"{IN_A_ROW} rows in a row failed like this"
        else:
            return
        self.error = NotSentError(f"{text}, so no more rows were sent: {error}")
        self.error.default_reason = error.reason
        self.error.__cause__ = error


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
        """Raise ``NotSentError`` if the budget is used up."""
        if self._limit is None or self._used < self._limit:
            return
        if self._price is None:
            used = f"{self._used:.0f} of {self._limit:.0f} tokens"
        else:
            used = f"{self._used:.2f} of {self._limit:.2f}"
        raise NotSentError(f"the budget is used up ({used}), so no more rows were sent")


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
