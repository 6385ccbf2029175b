"""Parsing shared by the decoders: JSON, surrogates, tool calls, errors."""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Iterator
from typing import Any

from ..config import JSON_VALUES, TOOL_CALLS
from ..errors import MalformedStream, ServerError, http_status
from ..quota import REMEDY, detailed_codes
from ..types import ToolCall

_SURROGATE = re.compile("[\ud800-\udfff]")
ERROR_CODE_CHARACTERS = 200
"""Maximum length of an error's type and code; real ones are a word or two."""
STATUS_KEYS = ("code", "status", "status_code", "statusCode")
"""Where an error object may name the HTTP status of the failure."""
WRONG_SHAPE = (TypeError, AttributeError, LookupError, RecursionError)
"""Exceptions raised by code that reads JSON of an unexpected structure."""
_decode_json = json.JSONDecoder().raw_decode


def parse_json(data: str) -> Any:
    """Parse the JSON of one event; raise ``MalformedStream``, which reports where it is invalid."""
    if len(data) > JSON_VALUES and has_too_many_values(data):
        raise MalformedStream(f"the JSON of an event has more than {JSON_VALUES} values")
    try:
        value, end = _decode_json(data)
        if end == len(data):
            return value
    except (ValueError, RecursionError):
        pass  # json.loads below accepts leading white space and describes every other problem
    try:
        return json.loads(data)
    except RecursionError as error:
        raise MalformedStream("the JSON of an event is nested too deeply") from error
    except ValueError as error:
        raise MalformedStream(f"an event is not JSON: {error}: {short_repr(data)}") from error


def has_too_many_values(data: str) -> bool:
    """Return whether JSON has too many values; each takes up to fifty times the memory of its text.

    Counts commas and brackets without parsing.
    """
    return len(data) > JSON_VALUES and sum(map(data.count, ",[{")) > JSON_VALUES


def short_repr(value: object) -> str:
    """Return the ``repr`` of the first 80 characters of a value, for an error message."""
    text = as_text(value)
    return repr(text if len(text) <= 80 else text[:77] + "...")


def as_text(value: object) -> str:
    """Return a string unchanged, and a bounded ``repr`` of any other value, which may be huge."""
    return value if isinstance(value, str) else reprlib.repr(value)


class SurrogateJoiner:
    """Joins escaped surrogate pairs that are split between chunks; a lone half becomes U+FFFD."""

    def __init__(self) -> None:
        self.held = ""
        """A high half, or empty; while it is empty, ASCII text needs no ``feed``."""

    def feed(self, text: str) -> str:
        """Return ``text`` without surrogates; keep a high half at its end for the next chunk."""
        if not self.held and text.isascii():
            return text
        text = self.held + text
        self.held = ""
        if "\ud800" <= text[-1:] <= "\udbff":
            self.held, text = text[-1], text[:-1]
        if not _SURROGATE.search(text):
            return text
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

    def end(self) -> str:
        """Return U+FFFD if a half is still held, else an empty string."""
        held, self.held = self.held, ""
        return "\ufffd" if held else ""


def join_surrogates(text: str) -> str:
    r"""Return a complete text with its surrogate pairs joined and lone halves replaced.

    >>> join_surrogates("\ud83d\ude00 \ud83d")
    '😀 �'
    """
    joiner = SurrogateJoiner()
    return joiner.feed(text) + joiner.end()


class ToolCallAssembler:
    """Assembles tool calls from their fragments."""

    def __init__(self) -> None:
        self._calls: list[dict[str, Any]] = []
        self._open: dict[object, dict[str, Any]] = {}
        self._started = 0

    def add(self, key: object, call_id: str, name: str, arguments: str) -> None:
        """Add a fragment of the call ``key``; a different id for the same key starts a new call."""
        call = self._open.get(key)
        if call is None or (call_id and call["id"] and call_id != call["id"]):
            call = self._open[key] = {"id": "", "name": "", "raw": []}
            self._calls.append(call)
            self._started += 1
            if self._started > TOOL_CALLS:
                raise MalformedStream(f"the answer has more than {TOOL_CALLS} tool calls")
        call["id"] = call["id"] or call_id
        call["name"] = call["name"] or name
        call["raw"].append(arguments)

    def start(self, key: object, call_id: str, name: str, arguments: Any) -> None:
        """Start a call; ``arguments`` is an object if the arguments are already complete."""
        self.add(key, call_id, name, json.dumps(arguments) if arguments else "")

    def finished(self) -> Iterator[ToolCall]:
        """Yield the calls, now complete, in order, and remove them."""
        calls, self._calls, self._open = self._calls, [], {}
        for call in calls:
            raw = join_surrogates("".join(call["raw"]))
            call_id, name = join_surrogates(str(call["id"])), join_surrogates(str(call["name"]))
            yield ToolCall(call_id, name, _arguments(raw), raw)


def _arguments(raw: str) -> dict[str, Any] | None:
    try:
        value = None if has_too_many_values(raw) else json.loads(raw or "{}")
        if "\\ud" in raw.lower():  # escaped surrogates, which ``join_surrogates(raw)`` does not see
            value = json.loads(join_surrogates(json.dumps(value, ensure_ascii=False)))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def token_count(value: Any) -> int | None:
    """Return a valid token count unchanged, ``None`` for anything else.

    >>> token_count(7), token_count(True), token_count("7"), token_count(2**63)
    (7, None, None, None)
    """
    return value if type(value) is int and 0 <= value < 2**63 else None


def server_error(value: Any) -> ServerError:
    """Return the error for an error event, ``{"error": {"message": …}}`` or text."""
    if isinstance(value, str):
        try:
            value = parse_json(value)
        except MalformedStream:
            value = {"message": value}
    outer = value if isinstance(value, dict) else {}
    detail = outer.get("error", value)
    if not isinstance(detail, dict):
        is_text = isinstance(detail, str) or "message" not in outer
        detail = {**outer, "message": detail if is_text else outer["message"]}
    kind = _error_name(detail.get("type"))
    code = _error_name(next(detailed_codes(detail), detail.get("code")))
    message = join_surrogates(
        as_text(detail.get("message") or kind or code or "no reason given")[:2000]
    )
    error = ServerError(
        f"the server reports an error: {message}",
        type=kind,
        code=code,
        status_code=_named_status(detail) or _named_status(outer),
    )
    if error.quota_exhausted:
        error.args = (f"{error}; {REMEDY}",)
    return error


def _error_name(value: object) -> str | None:
    """Return an error's type or code as text; ``None`` stays ``None``."""
    return None if value is None else join_surrogates(as_text(value)[:ERROR_CODE_CHARACTERS])


def _named_status(error: dict[str, Any]) -> int | None:
    """Return the HTTP status that an error names, under whichever key, else ``None``."""
    statuses = (http_status(error.get(name)) for name in STATUS_KEYS)
    return next((status for status in statuses if status is not None), None)
