"""``HTTPRequest``: one request, before its headers are known."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from ..errors import InvalidRequestError
from ..types import Decoder


class HTTPRequest:
    """A request, with its body encoded at once so that bad input raises before the call starts.

    ``headers`` are those of the call, which override the provider's. ``hint`` is added to the error
    if the server refuses the body.
    """

    def __init__(
        self,
        method: str,
        url: str,
        headers: dict[str, str | None],
        body: dict[str, Any] | None,
        decoder: Callable[[str], Decoder],
        hint: str = "",
    ) -> None:
        self.method = method
        self.url = url
        self.headers = headers
        self.body = body
        self.data = None if body is None else encode_json(body)
        self.decoder = decoder
        self.hint = hint
        self.sent_headers: dict[str, str] = {}
        """All headers of the last attempt."""

    def with_body(self, body: dict[str, Any]) -> HTTPRequest:
        """Return the same request with another body."""
        return HTTPRequest(self.method, self.url, self.headers, body, self.decoder, self.hint)


def encode_json(body: dict[str, Any]) -> bytes:
    """Return the body as JSON.

    Raises ``InvalidRequestError`` naming the item that JSON cannot represent.
    """
    try:
        return json.dumps(body, allow_nan=False).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        for name, value in body.items():
            try:
                json.dumps(value, allow_nan=False)
            except (TypeError, ValueError, RecursionError):
                raise InvalidRequestError(f"{name} cannot be sent as JSON: {error}") from error
        raise InvalidRequestError(f"the request cannot be sent as JSON: {error}") from error
