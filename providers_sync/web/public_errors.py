"""Error messages that are safe to show in a browser; the details go to the operator's log."""

from __future__ import annotations

import logging
import os

from ..errors import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    FailoverError,
    InvalidAnswer,
    InvalidRequestError,
    MalformedStream,
    ProviderError,
    RateLimitError,
    ServerError,
    StreamCancelled,
    StreamCut,
    StreamTruncated,
    ToolError,
)
from ..types import Outcome
from .browser_input import QuestionError

log = logging.getLogger("providers_sync")

_MESSAGES: list[tuple[type[ProviderError], str]] = [  # the first match is used
    (StreamCancelled, "The answer was stopped before it was complete."),
    (StreamCut, "The connection to the model's server broke in the middle of the answer."),
    (StreamTruncated, "The model's server ended the answer too early."),
    (MalformedStream, "The model's server sent something that is not an answer."),
    (ServerError, "The model's server reported an error."),
    (AuthenticationError, "The model's server refuses requests from this site."),
    (RateLimitError, "The model's server is too busy; try again later."),
    (APIStatusError, "The model's server rejected the question."),
    (APIConnectionError, "The model's server could not be reached."),
    (InvalidAnswer, "The model's answer does not have the form that this site needs."),
    (ToolError, "The tools of this site could not complete the answer."),
    (FailoverError, "None of the models' servers answered."),
    (InvalidRequestError, "This site cannot send the question to its model."),
]
_TIMEOUTS = {
    Outcome.STALLED: "The model's server was silent for too long.",
    Outcome.DEADLINE: "The answer did not end in time.",
}
_NOT_REACHED = "The model's server could not be reached in time."
_DEFAULT = "The model did not answer."
_OPERATOR_ERRORS = (InvalidRequestError, AuthenticationError)
"""Errors that only the operator can fix; other failures may be temporary."""
_USER_ERRORS = (QuestionError, StreamCancelled)
"""Not failures of the app: invalid browser input, and an answer that was cancelled on purpose."""
_LOGGED_CHARACTERS = 2000
"""Maximum characters of an error's text in the log; a server may send 64 KiB."""


def error_data(error: ProviderError) -> dict[str, str]:
    """Return what a browser may know about an error, as a dict that can be sent as JSON.

    The keys are ``message``, a fixed sentence for each kind of error; ``kind``, the class name;
    ``outcome``; and ``reference``, eight random characters. Only a ``QuestionError`` shows its own
    text, which is about what the browser has sent. URLs, the server's messages and hints for the
    operator go to the logger ``providers_sync``, once per error, in a line with the same
    ``reference``.

    Args:
        error: The error.
    """
    return report_error(error)


def report_error(error: ProviderError, request_id: str | None = None) -> dict[str, str]:
    """Do what ``error_data`` does; ``request_id`` is logged if the error itself has none."""
    reference = error.__dict__.get("_reference")
    if reference is None:
        reference = error.__dict__["_reference"] = os.urandom(4).hex()
        _log(error, reference, getattr(error, "request_id", None) or request_id)
    return {**_public_data(error), "reference": reference}


def report_unsaved(error: Exception) -> dict[str, str]:
    """Log an error of ``on_end``; return what a browser may know about it."""
    reference = _log_traceback("on_end of an answer failed", error)
    message, outcome = "This site could not save the answer.", str(Outcome.FAILED)
    return {"message": message, "kind": "SaveError", "outcome": outcome, "reference": reference}


def report_invalid(error: Exception) -> dict[str, str]:
    """Log what the app's own type raised; the browser is told of an ``InvalidAnswer``."""
    reference = _log_traceback("the type of a typed answer failed", error)
    return {**_public_data(InvalidAnswer("")), "reference": reference}


def _log_traceback(what: str, error: Exception) -> str:
    reference = os.urandom(4).hex()
    log.error("%s (reference %s)", what, reference, exc_info=error)
    return reference


def _public_data(error: ProviderError) -> dict[str, str]:
    outcome = str(error.outcome)
    return {"message": _message(error), "kind": type(error).__name__, "outcome": outcome}


def _message(error: ProviderError) -> str:
    if isinstance(error, QuestionError):
        return str(error)
    if isinstance(error, APITimeoutError):
        return _TIMEOUTS.get(error.outcome, _NOT_REACHED)
    return next((text for kind, text in _MESSAGES if isinstance(error, kind)), _DEFAULT)


def _log(error: ProviderError, reference: str, request_id: str | None) -> None:
    if isinstance(error, _USER_ERRORS):
        level = logging.INFO
    else:
        level = logging.ERROR if isinstance(error, _OPERATOR_ERRORS) else logging.WARNING
    # Logged as reprs: a server's text must not start a new log line or control the terminal.
    log.log(
        level,
        "answer failed (reference %s): %s, outcome %s, request id %r: %r",
        reference,
        type(error).__name__,
        error.outcome,
        request_id and request_id[:_LOGGED_CHARACTERS],
        str(error)[:_LOGGED_CHARACTERS],
    )
