"""The error for an answer whose status is not 2xx, with the server's own words."""

from __future__ import annotations

import email.utils
import json
import math
import time

from ..errors import APIStatusError, AuthenticationError, RateLimitError
from .response import Response


def status_error(answer: Response, wait_s: float) -> APIStatusError:
    """Return the error for an answer whose status is not 2xx, with the server's own words."""
    body = answer.read_error(wait_s).decode("utf-8", "replace")
    if answer.has_ended:
        answer.return_connection()
    kind = {401: AuthenticationError, 403: AuthenticationError, 429: RateLimitError}.get(
        answer.status, APIStatusError
    )
    message = f"{answer.status} {answer.reason}".strip() + f" from {answer.url}"
    target = answer.header("location")
    if 300 <= answer.status < 400 and target:
        message += f": redirected to {target.partition('?')[0]}; give that address as base_url"
    elif said := _server_message(body):
        message += f": {said}"
    retry_after = _retry_after(answer)
    if retry_after is not None:
        message += f" (the server asks to wait {retry_after:g} s)"
    return kind(
        message,
        status_code=answer.status,
        body=body,
        headers=answer.headers,
        request_id=answer.request_id,
        retry_after=retry_after,
    )


def _server_message(body: str) -> str:
    """Return the server's own message: ``error.message``, ``error``, ``message`` or ``detail``."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        text = " ".join(body.split())
        return "" if text.startswith("<") else text[:300]
    for name in ("error", "message", "detail"):
        if isinstance(value, dict) and value.get(name):
            value = value[name]
    text = (value if isinstance(value, str) else json.dumps(value))[:2000]
    return text.encode("utf-8", "replace").decode()  # half a surrogate pair: "?"


def _retry_after(answer: Response) -> float | None:
    """Return the wait in seconds that a server asks for, as a number or an HTTP date."""
    if (text := answer.header("retry-after")) is None:
        return None
    try:
        wait = float(text)
    except ValueError:
        try:
            wait = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return max(wait, 0.0) if math.isfinite(wait) else None
