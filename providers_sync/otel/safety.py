"""Keeps what OpenTelemetry raises away from the answers: it is logged once, and dropped."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable
from typing import Any, TypeVar, cast

from .. import call_log

F = TypeVar("F", bound=Callable[..., Any])

_has_failed = False


def never_raises(function: F) -> F:
    """Make a function return ``None`` where it would raise an ``Exception``."""

    @functools.wraps(function)
    def safe(*arguments: Any, **named: Any) -> Any:
        try:
            return function(*arguments, **named)
        except Exception as error:  # noqa: BLE001 (of a sampler, processor or exporter)
            _report(error)
            return None

    return cast(F, safe)


def forget_failure() -> None:
    """Let the next failure be logged again."""
    global _has_failed
    _has_failed = False


def _report(error: Exception) -> None:
    """Log the first failure: its class and place, and not its text, which may quote an answer."""
    global _has_failed
    if _has_failed:
        return
    _has_failed = True
    last = traceback.extract_tb(error.__traceback__)[-1]
    call_log.write("telemetry", error=type(error).__name__, file=last.filename, line=last.lineno)
