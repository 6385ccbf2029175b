"""Recognizes an error that reports an exhausted account, which no wait and no retry can help."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .server_json import load_json

REMEDY = (
    "the account has no credit left or has reached a spending limit, so a retry does not help: "
    "add credit or raise the limit with the provider"
)
_NAMES = frozenset(
    {
        # OpenAI, "Troubleshooting API rate limits and 429 errors"; the last one has status 400
        *("insufficient_quota", "credit_balance_exhausted", "organization_spend_limit_exceeded"),
        *("project_spend_limit_exceeded", "organization_usage_limit_exceeded"),
        "billing_hard_limit_reached",
        # Anthropic, "Errors" (status 402) and the code of a 429 without Retry-After
        *("billing_error", "enforced_spend_limit_reached"),
        "exceeded_current_quota_error",  # Moonshot, status 429
        "1113",  # Zhipu and Z.ai, "API error codes", status 429
        # DashScope, "Error codes", status 400 and 403
        *("arrearage", "allocationquota.freetieronly"),
        "insufficient_balance",  # resellers of OpenAI's API
    }
)
"""The types and codes that vendors document for it, in lower case."""
_NAME_KEYS = ("type", "code", "status")
"""Where an error has its names; Google's APIs call one its status."""


def reports_exhausted_quota(*names: object) -> bool:
    """Return whether one of an error's types and codes stands for an exhausted account.

    >>> reports_exhausted_quota(None, "insufficient_quota"), reports_exhausted_quota(1113)
    (True, True)
    >>> reports_exhausted_quota("rate_limit_error")
    False
    """
    return any(str(name).lower() in _NAMES for name in names)


def error_names(body: str) -> list[object]:
    """Return the types and codes of an error that came as JSON, wherever vendors put them.

    >>> error_names('{"error": {"type": "requests", "code": "slow_down", "message": "Wait"}}')
    ['requests', 'slow_down']
    """
    try:
        value = load_json(body)
    except ValueError:
        return []
    return list(_names(value[0] if isinstance(value, list) and value else value))


def _names(value: Any) -> Iterator[object]:
    outer = value if isinstance(value, dict) else {}
    for part in (outer, outer.get("error"), outer.get("detail")):
        if isinstance(part, dict):
            yield from (part[name] for name in _NAME_KEYS if part.get(name) is not None)
            yield from detailed_codes(part)
        elif isinstance(part, str):
            yield part


def detailed_codes(error: dict[str, Any]) -> Iterator[object]:
    """Yield the ``error_code`` that Anthropic puts into an error's ``details``."""
    details = error.get("details")
    if isinstance(details, dict) and details.get("error_code") is not None:
        yield details["error_code"]
