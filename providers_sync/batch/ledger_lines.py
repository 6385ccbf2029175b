"""One line of the ledger, in the format of OpenAI's batch output: written, and read with care."""

from __future__ import annotations

import json
import re
import reprlib
from typing import Any, NamedTuple, NoReturn

from ..decoding.parsing import join_surrogates
from ..errors import APIStatusError
from ..types import Outcome, Usage
from .results import Reply
from .rows import Row

_START = b'{"id":"batch_req_'
"""How every line of ours begins, so that a torn one can be told from somebody's text."""
_EXTRA = "providers_sync"
"""What OpenAI's body has no place for stands under this key of it."""
_COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")
_GOOD = (Outcome.COMPLETE, Outcome.UNVERIFIED)
_MOST = 2**63 - 1
"""A larger count is nobody's."""


class NotJSON(ValueError):
    """The line is no JSON: torn, or somebody's text."""


class InvalidLine(ValueError):
    """The line is JSON, but no line of a ledger; the text says what is wrong with it."""


class Recorded(NamedTuple):
    """What a line says of its row."""

    id: str
    custom_id: str
    reply: Reply | None
    """``None`` where the row has failed."""


# --- writing


def format_line(row: Row, reply: Reply) -> bytes:
    """Return the row's line, newline included."""
    record = {
        "id": row.fingerprint,
        "custom_id": row.custom_id,
        "response": _response(row, reply),
        "error": _error(reply),
    }
    # ASCII: a custom_id may have half a surrogate pair, which JSON can carry as an escape only.
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
    usage = reply.usage
    counts = usage and [usage.input_tokens, usage.output_tokens, usage.total_tokens]
    return {
        "id": row.fingerprint.replace("batch_req_", "chatcmpl-"),
        "object": "chat.completion",
        "model": reply.model,
        "choices": [
            {"index": 0, "message": reply.message, "finish_reason": reply.finish_reason},
        ],
        "usage": counts
        and {
            name: count if type(count) is int and 0 <= count <= _MOST else None
            for name, count in zip(_COUNTS, counts, strict=True)
        },
        _EXTRA: {
            "outcome": reply.outcome,
            "attempts": reply.attempts,
            "seconds": round(reply.seconds, 3),
        },
    }


def _error(reply: Reply) -> dict[str, str] | None:
    if reply.error is None:
        return None
    said = {"code": type(reply.error).__name__, "message": join_surrogates(str(reply.error))}
    partial = reply.message.get("content")
    return {**said, "partial": partial} if partial else said


# --- reading


def parse_line(raw: bytes) -> Recorded:
    """Parse a line. Raises ``NotJSON``, and ``InvalidLine`` for any shape but the ledger's."""
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
    return Recorded(name, custom_id, reply)


def _value(raw: bytes) -> Any:
    try:
        return _decode(raw.decode().removeprefix("\ufeff"))  # a mark that some editors put first
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise NotJSON("it is not JSON") from error
    except RecursionError as error:
        raise InvalidLine("its JSON is nested too deeply") from error
    except ValueError as error:  # a number of more digits than Python reads, or NaN
        raise InvalidLine(f"its JSON cannot be read: {error}") from error


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


_decode = json.JSONDecoder(parse_constant=_no_number).decode


def _reply(response: dict[str, Any], good: bool) -> Reply | None:
    """Return the answer in a response, ``None`` where there is none and a failure is told."""
    status = response.get("status_code", 200)
    if type(status) is not int:
        _refuse("status_code", status, "a number")
    body = response.get("body")
    failed = not (good and 200 <= status < 300)
    if isinstance(body, dict) and not body.get("choices"):
        failed = failed or bool(body.get("error"))
    elif failed and isinstance(body, dict):  # neither may be thrown away
        raise InvalidLine("it has an answer and an error too")
    if failed:
        return None
    return _answer(_object(body, "body"), _text(response, "request_id"))


def _answer(body: dict[str, Any], request_id: str | None) -> Reply:
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices:
        raise InvalidLine("its body has no 'choices', so it is no chat completion")
    choice = _object(choices[0], "choices[0]")
    extra = _object(body.get(_EXTRA) or {}, _EXTRA)
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
    for good in _GOOD:
        if value == good:
            return good
    raise InvalidLine(f"its outcome is none that an answer has: {' or '.join(_GOOD)}")


def _usage(value: object) -> Usage | None:
    if value is None:
        return None
    counts = _object(value, "usage")
    return Usage(*[_count(counts, name) for name in _COUNTS])


def _count(holder: dict[str, Any], key: str) -> int | None:
    value = holder.get(key)
    if value is None:
        return None
    if value.__class__ is not int or value < 0:
        _refuse(key, value, "a count or null")
    return value if value <= _MOST else None


def _seconds(value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value <= _MOST:
        _refuse("seconds", value, "a number of seconds")
    return float(value)


def _text(holder: dict[str, Any], key: str) -> str | None:
    value = holder.get(key)
    if value is not None and value.__class__ is not str:
        _refuse(key, value, "text or null")
    return value


def _object(value: Any, name: str) -> dict[str, Any]:
    if value.__class__ is not dict:
        _refuse(name, value, "an object")
    return value


_KINDS = {dict: "an object", list: "a list", str: "text", bool: "true or false"}


def _refuse(name: str, value: object, wanted: str) -> NoReturn:
    found = "null" if value is None else _KINDS.get(type(value), reprlib.repr(value))
    raise InvalidLine(f"{name} is {found}, not {wanted}")


# --- what an accident leaves; both are for a line that is no JSON


def is_torn(raw: bytes, after: int) -> bool:
    """Tell whether a process was killed while it wrote this, ``after`` so many good lines."""
    if raw.endswith(b"\n"):
        return False
    if after and raw.startswith((b"{", b"\0")):  # then it need not be one of ours
        return True
    return _START.startswith(raw) or raw.startswith(_START)


def is_hole(raw: bytes) -> bool:
    """Tell whether a file system that lost its power left this, or a person's editor.

    What was not written reads as zeros, in one piece. Text in UTF-16 is full of zeros, too.

    >>> [is_hole(raw) for raw in (b" \\n", bytes(9), b'{"id"' + bytes(9) + b"}", b"{\\0}\\0")]
    [True, True, True, False]
    """
    before, *after = re.split(rb"\0+", raw.strip())
    if not after:
        return not before
    if before.startswith(_START):
        return True
    is_end = after[0] == b"" or after[0].endswith(b"}")
    return len(after) == 1 and _START.startswith(before) and is_end
