"""Format and parse one line of the ledger, in the format of OpenAI's batch output."""

from __future__ import annotations

import json
import re
import reprlib
from typing import Any, NamedTuple, NoReturn

from ..decoding.counts import token_count
from ..decoding.parsing import join_surrogates
from ..errors import APIStatusError
from ..types import Outcome, Usage
from .results import Reply
from .rows import Row

_LINE_START = b'{"id":"batch_req_'
"""The start of every line we write, which tells a torn line from other text."""
_EXTRA_KEY = "providers_sync"
"""The key of the body for what OpenAI's format lacks."""
_COUNTS = {
    "input_tokens": "prompt_tokens",
    "output_tokens": "completion_tokens",
    "total_tokens": "total_tokens",
}
"""The counts of ``Usage``, and their names in a line."""
_DETAILS = {
    "prompt_tokens_details": {
        "cached_tokens": "cached_tokens",
        "cache_write_tokens": "cache_write_tokens",  # OpenRouter; OpenAI has no such count
    },
    "completion_tokens_details": {"reasoning_tokens": "reasoning_tokens"},
}
"""The same of the counts that are parts of others."""
_ANSWERED = (Outcome.COMPLETE, Outcome.UNVERIFIED)
_MAX_COUNT = 2**63 - 1
"""Larger counts are not plausible and are dropped."""


class NotJSON(ValueError):
    """The line is not JSON: it is torn, or other text."""


class InvalidLine(ValueError):
    """The line is JSON, but not a line of a ledger; the message says why."""


class RecordedResult(NamedTuple):
    """One parsed line: the row's fingerprint, name and reply."""

    id: str
    custom_id: str
    reply: Reply | None
    """``None`` if the row failed."""


# --- writing


def format_line(row: Row, reply: Reply) -> bytes:
    """Return the row's line, newline included."""
    record = {
        "id": row.fingerprint,
        "custom_id": row.custom_id,
        "response": _response(row, reply),
        "error": _error(reply),
    }
    # ASCII: a lone surrogate in a custom_id can only be written as a JSON escape.
    return json.dumps(record, separators=(",", ":"), default=repr).encode("ascii") + b"\n"


def _response(row: Row, reply: Reply) -> dict[str, Any] | None:
    error = reply.error
    if isinstance(error, APIStatusError):
        body: Any = {"error": {"message": join_surrogates(str(error))}}
        return {"status_code": error.status_code, "request_id": error.request_id, "body": body}
    if error is not None:
        return None
    return {"status_code": 200, "request_id": reply.request_id, "body": _completion(row, reply)}


def _completion(row: Row, reply: Reply) -> dict[str, Any]:
    return {
        "id": row.fingerprint.replace("batch_req_", "chatcmpl-"),
        "object": "chat.completion",
        "model": reply.model,
        "choices": [
            {"index": 0, "message": reply.message, "finish_reason": reply.finish_reason},
        ],
        "usage": reply.usage and _usage_record(reply.usage),
        _EXTRA_KEY: {
            "outcome": reply.outcome,
            "attempts": reply.attempts,
            "seconds": round(reply.seconds, 3),
        },
    }


def _usage_record(usage: Usage) -> dict[str, Any]:
    """Return the counts in OpenAI's form; of the details only those that the server reported."""
    record: dict[str, Any] = {key: token_count(vars(usage)[name]) for name, key in _COUNTS.items()}
    for place, names in _DETAILS.items():
        counts = {key: token_count(vars(usage)[name]) for name, key in names.items()}
        known = {key: count for key, count in counts.items() if count is not None}
        if known:
            record[place] = known
    return record


def _error(reply: Reply) -> dict[str, str] | None:
    if reply.error is None:
        return None
    record = {"code": type(reply.error).__name__, "message": join_surrogates(str(reply.error))}
    partial = reply.message.get("content")
    return {**record, "partial": partial} if partial else record


# --- reading


def parse_line(raw: bytes) -> RecordedResult:
    """Parse a line. Raises ``NotJSON``, or ``InvalidLine`` for JSON of another shape."""
    record = _object(_value(raw), "it")
    try:
        name, custom_id = record["id"], record["custom_id"]
        response, error = record["response"], record["error"]
    except KeyError as missing:
        raise InvalidLine(f"it has no {missing}") from missing
    if name.__class__ is not str:
        _refuse("id", name, "text")
    if custom_id.__class__ is not str:
        _refuse("custom_id", custom_id, "text")
    if error is not None and not isinstance(error, (dict, str)):
        _refuse("error", error, "an object or null")
    if response is None and error is None:
        raise InvalidLine("it has neither a response nor an error")
    reply = None if response is None else _reply(_object(response, "response"), error is None)
    return RecordedResult(name, custom_id, reply)


def _value(raw: bytes) -> Any:
    try:
        return _decode(raw.decode().removeprefix("\ufeff"))  # some editors add this mark
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise NotJSON("it is not JSON") from error
    except RecursionError as error:
        raise InvalidLine("its JSON is nested too deeply") from error
    except ValueError as error:  # a number with too many digits for Python, or NaN
        raise InvalidLine(f"its JSON cannot be read: {error}") from error


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


_decode = json.JSONDecoder(parse_constant=_reject_constant).decode


def _reply(response: dict[str, Any], no_error: bool) -> Reply | None:
    """Return the answer in a response, or ``None`` if the response reports a failure."""
    status = response.get("status_code", 200)
    if type(status) is not int:
        _refuse("status_code", status, "a number")
    body = response.get("body")
    failed = not (no_error and 200 <= status < 300)
    if isinstance(body, dict) and not body.get("choices"):
        failed = failed or bool(body.get("error"))
    elif failed and isinstance(body, dict):  # ambiguous: drop neither
        raise InvalidLine("it has both an answer and an error")
    if failed:
        return None
    return _answer(_object(body, "body"), _text(response, "request_id"))


def _answer(body: dict[str, Any], request_id: str | None) -> Reply:
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices:
        raise InvalidLine("its body has no 'choices', so it is not a chat completion")
    choice = _object(choices[0], "choices[0]")
    extra = _object(body.get(_EXTRA_KEY) or {}, _EXTRA_KEY)
    return Reply(
        message=_message(_object(choice.get("message"), "message")),
        outcome=_outcome(extra.get("outcome", Outcome.COMPLETE)),
        finish_reason=_text(choice, "finish_reason"),
        usage=_usage(body.get("usage")),
        model=_text(body, "model"),
        request_id=request_id,
        attempts=_count(extra, "attempts") or 0,
        seconds=_seconds(extra.get("seconds", 0.0)),
    )


def _message(message: dict[str, Any]) -> dict[str, Any]:
    for key in ("content", "reasoning_content", "refusal"):
        _text(message, key)
    calls = message.get("tool_calls")
    if calls is not None:
        if not isinstance(calls, list):
            _refuse("tool_calls", calls, "a list or null")
        for index, call in enumerate(calls):
            _object(call, f"tool_calls[{index}]")
    return message


def _outcome(value: object) -> Outcome:
    for outcome in _ANSWERED:
        if value == outcome:
            return outcome
    raise InvalidLine(f"its outcome must be {' or '.join(_ANSWERED)}")


def _usage(value: object) -> Usage | None:
    if value is None:
        return None
    record = _object(value, "usage")
    counts: dict[str, Any] = {name: _count(record, key) for name, key in _COUNTS.items()}
    for place, names in _DETAILS.items():
        details = record.get(place)
        if isinstance(details, dict):  # other writers may have anything there
            counts.update((name, token_count(details.get(key))) for name, key in names.items())
    return Usage(**counts)


def _count(parent: dict[str, Any], key: str) -> int | None:
    value = parent.get(key)
    if value is None:
        return None
    if value.__class__ is not int or value < 0:
        _refuse(key, value, "a count or null")
    return value if value <= _MAX_COUNT else None


def _seconds(value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value <= _MAX_COUNT:
        _refuse("seconds", value, "a number of seconds")
    return float(value)


def _text(parent: dict[str, Any], key: str) -> str | None:
    value = parent.get(key)
    if value is not None and value.__class__ is not str:
        _refuse(key, value, "text or null")
    return value


def _object(value: Any, name: str) -> dict[str, Any]:
    if value.__class__ is not dict:
        _refuse(name, value, "an object")
    return value


_KINDS = {dict: "an object", list: "a list", str: "text", bool: "true or false"}


def _refuse(name: str, value: object, expected: str) -> NoReturn:
    found = "null" if value is None else _KINDS.get(type(value), reprlib.repr(value))
    raise InvalidLine(f"{name} is {found}, not {expected}")


# --- damaged lines; both functions expect a line that is not JSON


def is_torn(raw: bytes, after: int) -> bool:
    """Return whether a process was killed while writing this line, ``after`` valid lines."""
    if raw.endswith(b"\n"):
        return False
    if after and raw.startswith((b"{", b"\0")):  # a line of another writer
        return True
    return _LINE_START.startswith(raw) or raw.startswith(_LINE_START)


def is_hole(raw: bytes) -> bool:
    """Return whether a power loss left this line, or whether it is blank.

    Unwritten data reads as one run of zero bytes. UTF-16 text has zeros too, but in many places.

    >>> [is_hole(raw) for raw in (b" \\n", bytes(9), b'{"id"' + bytes(9) + b"}", b"{\\0}\\0")]
    [True, True, True, False]
    """
    before, *after = re.split(rb"\0+", raw.strip())
    if not after:
        return not before
    if before.startswith(_LINE_START):
        return True
    is_end = after[0] == b"" or after[0].endswith(b"}")
    return len(after) == 1 and _LINE_START.startswith(before) and is_end
