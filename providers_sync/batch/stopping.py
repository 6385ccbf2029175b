"""When a batch ends early: no row can be answered, or its budget is used up."""

from __future__ import annotations

import math
import numbers
from collections import Counter
from dataclasses import replace
from typing import Any, Literal, Union

from .. import failure_reasons
from ..clock import monotonic
from ..errors import (
    APITimeoutError,
    FailoverError,
    InvalidRequestError,
    ProviderError,
)
from ..prices import check_installed, cost_of
from ..request_usage import RequestUsage
from ..token_estimates import BYTES_PER_TOKEN, request_tokens, utf8_size
from ..types import Usage
from .pacing import InFlight
from .results import Reply, Result, failed_reply, to_result
from .rows import Row

Price = Union[tuple[float, float], Literal["list"]]
"""What a million tokens of input and of output cost, or list prices."""
LIST = "list"
IN_A_ROW = 10
"""This many rows that fail in a row for a lasting reason end the batch."""
OUTAGE_S = 30.0
"""A server that has answered rows of this batch may be unreachable for this long, for example while
it restarts."""
_ADDRESS = "address"
_ADDRESS_STATUSES = (301, 302, 307, 308, 404, 405)
_LASTING = {
    failure_reasons.AUTHENTICATION,
    failure_reasons.QUOTA,
    failure_reasons.UNKNOWN_MODEL,
    failure_reasons.CONNECTION,
}
_MODEL_OR_ADDRESS = {failure_reasons.UNKNOWN_MODEL, _ADDRESS}


class NotSentError(ProviderError):
    """The row was not sent: it cannot be answered, or the budget is used up; ``reason`` says why.

    The failure that has ended the batch is its ``__cause__``.
    """


class Stopping:
    """Decides from the rows so far whether the next one is sent.

    ``raises``: whether the batch raises ``error`` where a row is not sent. ``concurrency`` is the
    number of requests at a time. The other arguments and the errors are those of ``Budget``.
    """

    def __init__(
        self,
        budget: float | None,
        price: Price | None,
        raises: bool,
        concurrency: int,
    ) -> None:
        self._budget = Budget(budget, price)
        self.raises = raises
        self._concurrency = concurrency
        self._in_a_row = 0
        self._answered_at = 0.0
        self._unknown_models: Counter[str] = Counter()  # of rows, in a row for each model
        self._model_errors: dict[str, NotSentError] = {}
        self.error: NotSentError | None = None
        """That of the rows that are not sent; ``None`` while rows may be answered."""

    def result_of(self, row: Row) -> Result | None:
        """Return the result of a row that is not sent; ``None`` to send it."""
        if row.error is not None:
            return None
        error = self.error or self._model_errors.get(repr(row.model))
        return None if error is None else to_result(row, failed_reply(error))

    def note(self, in_flight: InFlight, reply: Reply, answered: int) -> None:
        """Add the final reply to a row; ``answered`` is the number of rows with an answer."""
        row = in_flight.row
        self._budget.note(row, reply)
        if self.error is None and (reason := self._budget.obstacle()) is not None:
            self.error = NotSentError(f"{reason}, so no more rows were sent")
        if reply.error is None:
            self._in_a_row = 0
            self._answered_at = monotonic()
            self._unknown_models.pop(repr(row.model), None)
            return
        reasons = _lasting_reasons(reply.error)
        is_model = bool(reasons) and reasons <= _MODEL_OR_ADDRESS
        if is_model and row.model is not None:
            self._note_unknown_model(repr(row.model), reply.error)
        elif reasons and not (is_model and answered):
            self._note_lasting(in_flight, reply.error, reasons, answered)
        elif not isinstance(reply.error, InvalidRequestError):  # the server has seen the row
            self._in_a_row = 0

    def _note_unknown_model(self, model: str, error: ProviderError) -> None:
        """Send no more rows that name this model, after ten."""
        self._in_a_row = 0
        self._unknown_models[model] += 1
        if self._unknown_models[model] == IN_A_ROW:
            text = (
                f"{IN_A_ROW} consecutive rows with this model failed like this, so no more of them"
            )
            self._model_errors[model] = _not_sent(text, error)

    def _note_lasting(
        self, in_flight: InFlight, error: ProviderError, reasons: set[str], answered: int
    ) -> None:
        self._in_a_row += 1
        if self.error is not None:
            return
        if _concerns_all(in_flight, reasons, answered):
            self.error = _not_sent("no row can be answered, so no more rows", error)
        elif self._is_enough(reasons, answered):
            text = f"{self._in_a_row} consecutive rows failed like this, so no more rows"
            self.error = _not_sent(text, error)

    def _is_enough(self, reasons: set[str], answered: int) -> bool:
        """Return whether so many rows in a row have failed that the others would, too."""
        if failure_reasons.CONNECTION not in reasons:
            # Failures may be much faster than answers: many may come before the next answer.
            return self._in_a_row >= max(IN_A_ROW, 2 * self._concurrency)
        is_away = not answered or monotonic() - self._answered_at >= OUTAGE_S
        return is_away and self._in_a_row >= IN_A_ROW


def is_unreachable(error: ProviderError) -> bool:
    """Return whether the server could not be reached."""
    return failure_reasons.CONNECTION in _lasting_reasons(error)


def _not_sent(text: str, error: ProviderError) -> NotSentError:
    not_sent = NotSentError(f"{text} were sent: {error}")
    not_sent.default_reason = error.reason
    not_sent.__cause__ = error
    return not_sent


def _lasting_reasons(error: ProviderError) -> set[str]:
    """Return why a row failed, if other rows may fail for it too: one reason, or a Failover's."""
    if isinstance(error, FailoverError) and error.attempts:
        each = [_lasting_reasons(attempt.error) for attempt in error.attempts]
        return set().union(*each) if all(each) else set()
    if isinstance(error, APITimeoutError):
        return {failure_reasons.CONNECTION} if error.clock == "connect" else set()
    status = getattr(error, "status_code", None)
    if status == 403 and error.reason == failure_reasons.AUTHENTICATION:  # it is about the row
        return set()
    if error.reason not in _LASTING and status in _ADDRESS_STATUSES:
        return {_ADDRESS}
    return {error.reason} & _LASTING


def _concerns_all(in_flight: InFlight, reasons: set[str], answered: int) -> bool:
    """Return whether one such failure says that no other row can be answered either.

    That of a row with its own model or options may be about these.
    """
    if in_flight.row.model is not None or in_flight.row.options:
        return False
    if reasons == {failure_reasons.QUOTA}:
        return answered == in_flight.answered_before
    return not answered and reasons in (
        {failure_reasons.UNKNOWN_MODEL},
        {failure_reasons.AUTHENTICATION},
    )


class Budget:
    """What a batch may use: tokens, or with a ``price`` money. ``None``: as much as it likes.

    ``price`` is what a million tokens cost: those of the input, and those of the output; or
    ``"list"`` for list prices, in US dollars. Raises ``InvalidRequestError`` for other values, and
    ``ImportError`` if list prices need an extra that is not installed.
    """

    def __init__(self, limit: float | None, price: Price | None) -> None:
        self._has_list_prices = False
        if limit is not None and not is_above_zero(limit):
            raise InvalidRequestError("budget must be a number above 0")
        if price is None:
            if limit is not None and limit != int(limit):
                raise InvalidRequestError(
                    "budget is a number of tokens; for an amount of money, add the prices per "
                    "million input and output tokens: price=(0.15, 0.60)"
                )
        elif limit is None:
            raise InvalidRequestError("price= needs budget=, the amount of money to spend")
        elif isinstance(price, str) and price == LIST:
            check_installed()
            self._has_list_prices = True
        elif not _is_price(price):
            raise InvalidRequestError(
                "price must be two numbers, the prices per million input and output tokens, "
                'such as (0.15, 0.60), or "list" for list prices'
            )
        self._limit = None if limit is None else float(limit)
        self._price = None if price is None or isinstance(price, str) else tuple(map(float, price))
        self._used = 0.0
        self._unknown: tuple[str, ...] = ()
        """Why the money that was used is not known."""

    def note(self, row: Row, reply: Reply) -> None:
        """Add what a row has used; estimated where the server does not say it."""
        if self._limit is None:
            return
        read, written = _tokens(row, reply)
        if self._has_list_prices:
            cost = cost_of(_estimated(each, Usage(read, written)) for each in reply.requests)
            self._used += float(cost.known_usd)
            self._unknown = cost.unknown
        elif self._price is None:
            self._used += read + written
        else:
            self._used += (read * self._price[0] + written * self._price[1]) / 1e6

    def obstacle(self) -> str | None:
        """Return in words why no more rows may be sent: the budget is used up, or unknown."""
        if self._unknown:
            return f"the budget cannot be enforced ({self._unknown[0]}: set price to two numbers)"
        if self._limit is None or self._used < self._limit:
            return None
        if self._has_list_prices:
            used = f"${self._used:.2f} of ${self._limit:.2f}"
        elif self._price is None:
            used = f"{self._used:.0f} of {self._limit:.0f} tokens"
        else:
            used = f"{self._used:.2f} of {self._limit:.2f}"
        return f"the budget is used up ({used})"


def _estimated(request: RequestUsage, tokens: Usage) -> RequestUsage:
    """Return a request with the tokens of the whole row, if its own are not all counted."""
    own = request.usage
    is_counted = own is not None and own.input_tokens is not None and own.output_tokens is not None
    if request.is_final and is_counted:
        return request
    return replace(request, usage=tokens, is_final=True)


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


def is_above_zero(value: Any) -> bool:
    """Return whether a value is a finite number above 0, of any type of numbers but ``bool``."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return False
    try:
        return 0 < float(value) < math.inf
    except OverflowError:
        return False


def _is_price(price: Any) -> bool:
    return (
        isinstance(price, (tuple, list))
        and len(price) == 2
        and all(each == 0 or is_above_zero(each) for each in price)
        and any(price)
    )
