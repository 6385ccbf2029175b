"""What a browser is told of an error, and what goes to the operator's log instead."""

from __future__ import annotations

import logging
import os

from ..errors import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    FailoverError,
    InvalidRequestError,
    MalformedStream,
    ProviderError,
    RateLimitError,
    ServerError,
    StreamCancelled,
    StreamCut,
    StreamTruncated,
)
from ..types import Outcome
from .browser_input import QuestionError

log = logging.getLogger("providers_sync")

_SENTENCES: list[tuple[type[ProviderError], str]] = [  # the first that fits
    (StreamCancelled, "The answer was stopped before its end."),
    (StreamCut, "The connection to the model's server broke in the middle of the answer."),
    (StreamTruncated, "The model's server ended the answer too early."),
    (MalformedStream, "The model's server sent something that is no answer."),
    (ServerError, "The model's server reported an error."),
    (AuthenticationError, "The model's server does not let this site ask."),
    (RateLimitError, "The model's server is too busy; try again later."),
    (APIStatusError, "The model's server did not take the question."),
    (APIConnectionError, "The model's server could not be reached."),
    (FailoverError, "None of the models' servers has answered."),
    (InvalidRequestError, "This site cannot put the question to its model."),
]
_TIMEOUTS = {
    Outcome.STALLED: "The model's server was silent for too long.",
    Outcome.DEADLINE: "The answer did not end in time.",
}
_NOT_REACHED = "The model's server could not be reached in time."
_DEFAULT = "The model did not answer."
_OPERATORS = (InvalidRequestError, AuthenticationError)
"""What only the operator can mend; other failures may pass by themselves."""
_READERS = (QuestionError, StreamCancelled)
"""No failures: the browser's own mistake, and an answer that was stopped on purpose."""
_LOGGED = 2000
"""Characters of an error's text in the log; a server may write 64 KiB."""


def error_data(error: ProviderError) -> dict[str, str]:
    """Return what a browser is told of an error: ``message``, ``kind``, ``outcome``, ``reference``.

    ``message`` is a plain sentence for each kind of error (``kind`` is the class), and the text
    itself only for a ``QuestionError``, which is about what the browser has sent. Addresses, the
    server's own words and hints for the operator go to the logger ``providers_sync``, once an
    error, in a line with the same ``reference``.
    """
    return report_error(error)


def report_error(error: ProviderError, request_id: str | None = None) -> dict[str, str]:
    """Do what ``error_data`` does; ``request_id`` is for the log, where the error has none."""
    reference = error.__dict__.get("_reference")
    if reference is None:
        reference = error.__dict__["_reference"] = os.urandom(4).hex()
        _log(error, reference, getattr(error, "request_id", None) or request_id)
    return {
        "message": _sentence(error),
        "kind": type(error).__name__,
        "outcome": str(error.outcome),
        "reference": reference,
    }


def _sentence(error: ProviderError) -> str:
    if isinstance(error, QuestionError):
        return str(error)
    if isinstance(error, APITimeoutError):
        return _TIMEOUTS.get(error.outcome, _NOT_REACHED)
    return next((text for kind, text in _SENTENCES if isinstance(error, kind)), _DEFAULT)


def _log(error: ProviderError, reference: str, request_id: str | None) -> None:
    if isinstance(error, _READERS):
        level = logging.INFO
    else:
        level = logging.ERROR if isinstance(error, _OPERATORS) else logging.WARNING
    # As reprs: a server's words must not begin a line of their own, or steer the terminal.
    log.log(
        level,
        "answer failed (reference %s): %s, outcome %s, request id %r: %r",
        reference,
        type(error).__name__,
        error.outcome,
        request_id and request_id[:_LOGGED],
        str(error)[:_LOGGED],
    )
