"""Converts a response whose status is not 2xx to an error with the server's message."""

from __future__ import annotations

import email.utils
import math
import time
from datetime import timezone

from ..error_words import body_message, errors_within
from ..errors import APIStatusError, AuthenticationError, RateLimitError
from ..quota import REMEDY
from ..server_json import load_json
from .response import Response


def status_error(response: Response, wait_s: float) -> APIStatusError:
    """Return the error for a response whose status is not 2xx, with the server's message.

    Waits up to ``wait_s`` seconds for the body.
    """
    body = response.read_error(wait_s).decode("utf-8", "replace")
    if response.ended:
        response.release()
    error_class = {401: AuthenticationError, 403: AuthenticationError, 429: RateLimitError}.get(
        response.status, APIStatusError
    )
    message = f"{response.status} {response.reason}".strip() + f" from {response.url}"
    location = response.header("location")
    if 300 <= response.status < 400 and location:
        target = location.partition("?")[0]
        message += f": redirected to {target}; redirects are not followed, so correct base_url"
    elif server_message := body_message(body):
        message += f": {server_message}"
    retry_after = _retry_after(response)
    retry_after = _retry_delay(body) if retry_after is None else retry_after
    if retry_after is not None:
        message += f" (the server requests a wait of {retry_after:g} s)"
    error = error_class(
        message,
        status_code=response.status,
        body=body,
        headers=response.headers,
        request_id=response.request_id,
        retry_after=retry_after,
    )
    if error.quota_exhausted:
        error.args = (f"{message}; {REMEDY}",)
    return error


def _retry_after(response: Response) -> float | None:
    """Return the seconds to wait according to ``retry-after-ms`` or ``Retry-After``."""
    milliseconds = _number(response.header("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    text = response.header("retry-after")
    seconds = _number(text)
    return _until_date(text, response.header("date")) if seconds is None else seconds


def _retry_delay(body: str) -> float | None:
    """Return the seconds that Google's APIs state in the error (``google.rpc.RetryInfo``).

    >>> _retry_delay('{"error": {"details": [{"retryDelay": "34.5s"}]}}')
    34.5
    """
    try:
        value = load_json(body)
    except ValueError:
        return None
    value = value[0] if isinstance(value, list) and value else value
    for error in errors_within(value) if isinstance(value, dict) else ():
        details = error.get("details")
        for detail in details if isinstance(details, list) else ():
            delay = detail.get("retryDelay") if isinstance(detail, dict) else None
            if isinstance(delay, str) and delay.endswith("s"):
                return _number(delay[:-1])
    return None


def _number(text: str | None) -> float | None:
    """Return the number in a header; ``None`` if there is none, or none that can be waited for."""
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if 0 <= number < math.inf else None


def _until_date(text: str | None, date: str | None) -> float | None:
    """Return the seconds until an HTTP date; ``date`` is the server's own now, if it sends one.

    The clocks of server and client may differ by more than the wait.
    """
    until, now = _timestamp(text), _timestamp(date)
    return None if until is None else max(until - (time.time() if now is None else now), 0.0)


def _timestamp(text: str | None) -> float | None:
    try:
        date = email.utils.parsedate_to_datetime(text or "")
        return (date if date.tzinfo else date.replace(tzinfo=timezone.utc)).timestamp()
    except (ValueError, TypeError, LookupError, OverflowError):
        return None
