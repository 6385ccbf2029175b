"""``RecordedAnswers``: answers each request with the recording of an equal one."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from ..recording import Exchange
from ..recording.exchange import RecordedRequest, to_request
from .answers import Answer, recorded_answer, status
from .records import Request


class RecordedAnswers:
    """A function for ``serve()``: the n-th equal request gets the n-th recording of it.

    Requests are equal if method, body, and path or its end are: a base URL with or without ``/v1``
    finds the same. Any other request gets the next recording of its method, in the order of the
    file. The last one repeats. If there is none, the status is 404.

    ``paced``: see ``recorded_answer``.
    """

    def __init__(self, exchanges: Iterable[Exchange], *, paced: bool = False) -> None:
        self._exchanges = list(exchanges)
        self._paced = paced
        self._lock = threading.Lock()
        self._count: Counter[str] = Counter()

    def __call__(self, request: Request) -> Answer:
        """Return the answer to a request."""
        asked = to_request(request.method, request.path, _json_of(request.body))
        found = [each for each in self._exchanges if _is_equal(each.request, asked)]
        kind = asked.fingerprint
        if not found:
            kind = asked.method
            found = [each for each in self._exchanges if each.request.method == asked.method]
        if not found:
            return status(404, f"there is no recording of a {asked.method} request")
        with self._lock:
            number = self._count[kind]
            self._count[kind] += 1
        return recorded_answer(found[min(number, len(found) - 1)], paced=self._paced)


def _json_of(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _is_equal(recorded: RecordedRequest, asked: RecordedRequest) -> bool:
    if (recorded.method, recorded.body) != (asked.method, asked.body):
        return False
    paths = [_path(recorded.url), _path(asked.url)]
    return paths[0].endswith(paths[1]) or paths[1].endswith(paths[0])


def _path(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path
