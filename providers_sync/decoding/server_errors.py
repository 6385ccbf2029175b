"""Errors that a server reports inside an answer: how to recognize them, and what they say.

Shapes: OpenAI's and Anthropic's ``{"error": {"message": …}}``; FastChat's and vLLM's
``{"object": "error", "message": …}``; DashScope's ``{"code": …, "message": …}``; MiniMax's
``{"base_resp": {"status_code": …, "status_msg": …}}``; FastAPI's ``{"detail": …}``; Google's
``{"error": {"code": 503, "status": "UNAVAILABLE", …}}``; OpenRouter's ``metadata.raw`` and Groq's
``failed_generation`` beside the message.
"""

from __future__ import annotations

import re
from typing import Any

from ..config import ERROR_BODY_BYTES
from ..error_words import MESSAGE_KEYS, as_text, errors_within, first_value, server_message
from ..errors import MalformedStream, ServerError, http_status
from ..quota import REMEDY, detailed_codes
from .parsing import join_surrogates, json_text, parse_json

ERROR_CODE_CHARACTERS = 200
"""Maximum length of an error's type and code; real ones are a word or two."""
MESSAGE_CHARACTERS = 4000
"""Maximum length of an error's message; the body holds all of it."""
STATUS_KEYS = ("code", "status", "status_code", "statusCode")
"""Where an error object may name the HTTP status of the failure."""
_ERROR_KEYS = ("error_type", "error_code", "errors", "__type")
_ERROR_NAME = re.compile(r"(^|[._-])(error|exception)$", re.IGNORECASE)
_TYPE_KEYS = ("type", "error_type", "__type")
_FAILED_REASONS = ("error", "network_error", "insufficient_system_resource")
"""Finish reasons of an answer that broke off (OpenRouter; Z.ai; DeepSeek, "finish_reason")."""


def server_error(value: Any, body: str = "") -> ServerError:
    """Return the error for what a server sent in place of an answer: text, JSON or its value.

    ``body`` is the text it came in, if ``value`` is not that text.
    """
    if isinstance(value, str):
        body = body or value
        try:
            value = parse_json(value)
        except MalformedStream:
            value = {"message": value}
    if isinstance(value, list) and value:
        value = value[0]
    outer = value if isinstance(value, dict) else {"message": value}
    chain = list(errors_within(outer))
    kind, code = first_value(chain, _TYPE_KEYS), first_value(chain, ("code",))
    code = next((each for error in chain for each in detailed_codes(error)), code)
    if kind in (None, "error"):
        kind = _named_state(chain)
    names = _error_name(kind), _error_name(code)
    message = server_message(chain) or names[0] or names[1] or "no reason given"
    error = ServerError(
        f"the server reports an error: {join_surrogates(message)[:MESSAGE_CHARACTERS]}",
        type=names[0],
        code=names[1],
        status_code=_named_status(chain),
        body=join_surrogates(body or json_text(value))[:ERROR_BODY_BYTES],
    )
    if error.quota_exhausted:
        error.args = (f"{error}; {REMEDY}",)
    return error


def reports_error(value: dict[str, Any], *, is_answer: bool) -> bool:
    """Return whether an event is an error; ``is_answer``: it also has the keys of an answer.

    >>> reports_error({"error": None, "choices": []}, is_answer=True)
    False
    >>> reports_error({"code": "InvalidParameter", "message": "too long"}, is_answer=False)
    True
    """
    if (
        is_error(value.get("error"))
        or value.get("object") == "error"
        or value.get("type") == "error"
    ):
        return True
    base, data = value.get("base_resp"), value.get("data")
    if isinstance(base, dict) and base.get("status_code"):
        return True
    if isinstance(data, dict) and is_error(data.get("error")):
        return True
    return not is_answer and any(value.get(key) for key in (*MESSAGE_KEYS, *_ERROR_KEYS))


def is_error_name(name: str) -> bool:
    """Return whether an event's name says that it is an error.

    >>> is_error_name("error"), is_error_name("exception"), is_error_name("errors_found")
    (True, True, False)
    """
    return _ERROR_NAME.search(name) is not None


def is_error(value: Any) -> bool:
    """Return whether the value under ``error`` says that there is one.

    >>> is_error({"code": 0, "message": ""}), is_error({"message": "overloaded"})
    (False, True)
    """
    return any(value.values()) if isinstance(value, dict) else bool(value)


def is_failed_reason(reason: str) -> bool:
    """Return whether a finish reason says that the answer broke off."""
    return reason.lower() in _FAILED_REASONS


def _error_name(value: object) -> str | None:
    """Return an error's type or code as text; ``None`` stays ``None``."""
    return None if value is None else join_surrogates(as_text(value)[:ERROR_CODE_CHARACTERS])


def _named_state(chain: list[dict[str, Any]]) -> str | None:
    """Return the name of a failure that Google's APIs call its status: ``UNAVAILABLE``, …"""
    status = first_value(chain, ("status",))
    return status if isinstance(status, str) and not status.isdecimal() else None


def _named_status(chain: list[dict[str, Any]]) -> int | None:
    """Return the HTTP status that an error names, under whichever key, else ``None``."""
    statuses = (http_status(error.get(key)) for error in reversed(chain) for key in STATUS_KEYS)
    return next((status for status in statuses if status is not None), None)
