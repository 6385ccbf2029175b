"""``RawReader``: reads the body of a mock, or of an adapter that hides its socket."""

from __future__ import annotations

from http.client import HTTPResponse
from typing import Any

import requests
import urllib3.response

from ..config import READ_BYTES, SMALL_READ_BYTES


class RawReader:
    """Reads ``response.raw``, whatever it is; its framing is removed already."""

    is_plain = stays_open = at_hand = False
    socket: Any = None

    def __init__(self, response: requests.Response) -> None:
        raw: Any = getattr(response, "raw", None)
        content = vars(response).get("_content", False)
        has_content = raw is None or content is not False  # read by a hook, or set by a mock
        self._content = content or b"" if has_content else None
        self.is_decoded = has_content or getattr(raw, "is_decoded", False)
        """Whether the compression is removed, too."""
        self._raw = _without_urllib3(raw)
        self._settings: Any = {}
        if isinstance(self._raw, urllib3.response.BaseHTTPResponse):
            self._settings = {"decode_content": False}

    def is_drained(self) -> bool:
        """Return ``False``: the connection is not ours to return."""
        return False

    def release(self) -> None:
        """Do nothing."""

    def receive(self) -> bytes:
        """Return what has arrived, waiting for at least one byte; ``b""`` at the end.

        Raises ``TypeError`` for a body that is not bytes, and what the body raises.
        """
        if self._content is not None:
            data, self._content = self._content, b""
            return _check_bytes(data)
        if hasattr(getattr(self._raw, "_fp", self._raw), "read1"):
            return _check_bytes(self._raw.read1(READ_BYTES, **self._settings))
        return _check_bytes(self._raw.read(SMALL_READ_BYTES, **self._settings))

    def settimeout(self, seconds: float) -> None:
        """Limit the wait of the next ``receive``, if the body can do so."""
        if hasattr(self._raw, "settimeout"):
            self._raw.settimeout(seconds)


def _without_urllib3(raw: Any) -> Any:
    """Return the file that a mock has wrapped in a response of urllib3, which expects more of it.

    A file that has only ``read`` is enough here.
    """
    is_urllib3 = isinstance(raw, urllib3.response.BaseHTTPResponse)
    file = getattr(raw, "_fp", None) if is_urllib3 else None
    return raw if file is None or isinstance(file, HTTPResponse) else file


def _check_bytes(data: Any) -> bytes:
    """Refuse the data of a mock that is not bytes: ``bytes()`` turns a number into zeros."""
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(f"it is {type(data).__name__}, not bytes")
    return bytes(data)
