"""The exception classes of the package.

::

    ProviderError                    .partial  .partial_value  .outcome  .attempts
    ├── InvalidRequestError          also a ValueError; nothing was sent
    │   └── ModelNotSupportedError
    ├── APIConnectionError           also a ConnectionError: refused, DNS, TLS, reset
    ├── APITimeoutError              also a TimeoutError; .clock names the timeout that expired
    ├── APIStatusError               .status_code .body .headers .request_id .retry_after
    │   ├── AuthenticationError      401, 403
    │   └── RateLimitError           429
    ├── InvalidAnswer                also a ValueError; .errors  .partial_value
    ├── ToolError                    a run of tools that cannot go on
    ├── FailoverError                none of a Failover's providers answered; .attempts
    └── StreamError
        ├── StreamTruncated          a clean end without the end marker
        ├── StreamCut                the connection broke in the middle
        ├── MalformedStream          also a ValueError: not the expected protocol
        ├── ServerError              an error event inside the stream; .type .code .status_code
        └── StreamCancelled          cancel() was called

Every error can be pickled, and carries the exception that caused it as ``__cause__``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import failure_reasons
from .quota import error_names, reports_exhausted_quota
from .types import Outcome


class ProviderError(Exception):
    """Base of every error that a provider raises.

    Args:
        message: What happened, and what to do about it.

    Attributes:
        partial: The text that had arrived before the error.
        partial_value: For a typed answer (``into=``), as much of the plain object as had arrived.
        outcome: The outcome of the answer.
        attempts: The providers of a ``Failover`` that failed before it, in order; otherwise empty.
    """

    partial: str
    partial_value: Any = None
    outcome: Outcome
    attempts: tuple[ProviderFailure, ...] = ()
    default_outcome = Outcome.FAILED
    default_reason = failure_reasons.OTHER

    @property
    def reason(self) -> str:
        """Why it failed, as one word, which a ``Failover`` uses to decide.

        Such as ``quota``, ``rate_limit``, ``server``, ``timeout``, ``connection`` or ``broken``;
        ``docs/failover.md`` lists them all.
        """
        return self.default_reason

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.partial = ""
        self.outcome = self.default_outcome

    def _render_traceback_(self) -> list[str]:
        """Return what IPython and Jupyter show in place of the traceback."""
        from .short_traceback import render  # only they need it

        return render(self)

    def __reduce__(self) -> tuple[Callable[..., ProviderError], tuple[Any, ...]]:
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(
    kind: type[ProviderError], args: tuple[Any, ...], state: dict[str, Any]
) -> ProviderError:
    """Rebuild a pickled error without its constructor, which may require more arguments."""
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class InvalidRequestError(ProviderError, ValueError):
    """The call is invalid; the message names the item and the remedy. Nothing was sent."""

    default_reason = failure_reasons.INVALID_REQUEST


class ModelNotSupportedError(InvalidRequestError):
    """The provider does not know this model; the message lists those it knows."""

    default_reason = failure_reasons.UNKNOWN_MODEL


class APIConnectionError(ProviderError, ConnectionError):
    """The server could not be reached, or closed the connection before it answered.

    Attributes:
        retryable: False if another attempt cannot help: a certificate that fails to verify, for
            example.
    """

    default_reason = failure_reasons.CONNECTION
    retryable = True


_TIMEOUT_OUTCOMES = {
    "first_token": Outcome.STALLED,
    "idle": Outcome.STALLED,
    "total": Outcome.DEADLINE,
}


class APITimeoutError(ProviderError, TimeoutError):
    """One of the ``Timeouts`` expired.

    Args:
        message: How long the call waited, and for what.
        clock: The timeout: ``connect``, ``first_token``, ``idle`` or ``total``. It is an attribute
            of the error, too.
    """

    default_reason = failure_reasons.TIMEOUT

    def __init__(self, message: str, *, clock: str) -> None:
        super().__init__(message)
        self.outcome = _TIMEOUT_OUTCOMES.get(clock, Outcome.FAILED)
        self.clock = clock


class APIStatusError(ProviderError):
    """The server answered with a status other than 2xx.

    Args:
        message: The status, and the server's own message.

    Attributes:
        status_code: The HTTP status.
        body: At most 64 KiB of the response body, as text.
        headers: The response headers; names are case-insensitive.
        request_id: The id that the server gave the request, if any.
        retry_after: Seconds the server asks to wait (``retry-after-ms``, or ``Retry-After``: RFC
            9110, 10.2.3); ``None`` if it does not.
    """

    def __init__(
        self,
        message: str,
        *,
        status_code: int,
        body: str = "",
        headers: Mapping[str, str] | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.body = body
        self.headers = headers or {}
        self.request_id = request_id
        self.retry_after = retry_after

    @property
    def quota_exhausted(self) -> bool:
        """Whether the account has no credit left or has reached a limit: a retry cannot help."""
        if self.status_code == 402 and self.retry_after is None:
            return True
        return reports_exhausted_quota(*error_names(self.body))

    @property
    def reason(self) -> str:
        """Why it failed, by the status and by what the server says."""
        if self.quota_exhausted:
            return failure_reasons.QUOTA
        names = error_names(self.body)
        return failure_reasons.reason_of_failure(self.status_code, names, str(self))


class AuthenticationError(APIStatusError):
    """401 or 403: the key is missing, wrong, or not allowed to do this."""


class RateLimitError(APIStatusError):
    """429: too many requests, or no quota left."""


@dataclass(frozen=True)
class ProviderFailure:
    """One provider's failure within a ``Failover``.

    Attributes:
        provider: The provider; after pickling its ``repr`` instead, because a provider holds an API
            key.
        error: Its error.
        seconds: From the request to the failure.
    """

    provider: Any
    error: ProviderError
    seconds: float

    def __reduce__(self) -> tuple[type[ProviderFailure], tuple[Any, ...]]:
        return type(self), (_as_text(self.provider), self.error, self.seconds)


def _as_text(provider: Any) -> str:
    return provider if isinstance(provider, str) else repr(provider)


class FailoverError(ProviderError):
    """No provider of a ``Failover`` answered; ``.attempts`` and the message contain the reasons."""


class InvalidAnswer(ProviderError, ValueError):
    """A typed answer (``into=``) that is not JSON, does not validate, or was ended by a limit.

    Args:
        message: What is wrong with it.

    Attributes:
        errors: What is wrong, as the validator reports it: dicts with ``type``, ``loc`` (the path)
            and ``msg``.
    """

    def __init__(self, message: str, *, errors: Sequence[Mapping[str, Any]] = ()) -> None:
        super().__init__(message)
        self.errors = [dict(error) for error in errors]


class ToolError(ProviderError):
    """A run of tools cannot go on: too many rounds, wrong calls, or functions left running.

    ``run.messages`` holds the calls and their results; if a function caused the error, its
    exception is the ``__cause__``.
    """


class StreamError(ProviderError):
    """The answer started and then failed; ``.partial`` holds what had arrived."""

    default_reason = failure_reasons.BROKEN


class StreamTruncated(StreamError):
    """The stream ended cleanly, but without the protocol's end marker, or empty."""

    default_outcome = Outcome.TRUNCATED


class StreamCut(StreamError):
    """The connection broke, or the body ended inside a character or a gzip stream."""

    default_outcome = Outcome.CUT


class MalformedStream(StreamError, ValueError):
    """The response does not follow the protocol: a web page, broken JSON, an oversized event."""


_BUSY_CODES = {429, 503, 529}
_BUSY_WORDS = ("overload", "rate_limit", "unavailable", "capacity")


class ServerError(StreamError):
    """The server reported an error inside a stream that it had started with status 200.

    Args:
        message: The server's own message.

    Attributes:
        type: The type of the error, as the server names it.
        code: Its code, as the server names it.
        status_code: The HTTP status that the error names, if it names one.
        body: The complete error as the server sent it, as text; at most 64 KiB.
        overloaded: Whether the server is too busy now; another attempt may help.
    """

    def __init__(
        self,
        message: str,
        *,
        type: str | None = None,
        code: str | None = None,
        status_code: int | None = None,
        body: str = "",
    ) -> None:
        super().__init__(message)
        self.body = body
        self.type = type
        self.code = code
        self.status_code = http_status(code) if status_code is None else status_code
        names = f"{type} {code}".lower()
        self.overloaded = self.status_code in _BUSY_CODES or any(
            word in names for word in _BUSY_WORDS
        )

    @property
    def quota_exhausted(self) -> bool:
        """Whether the account has no credit left or has reached a limit: a retry cannot help."""
        return self.status_code == 402 or reports_exhausted_quota(self.type, self.code)

    @property
    def reason(self) -> str:
        """Why it failed, by what the server says."""
        if self.quota_exhausted:
            return failure_reasons.QUOTA
        names: list[object] = [each for each in (self.type, self.code) if each]
        return failure_reasons.reason_of_failure(self.status_code, names, str(self))


def http_status(value: object) -> int | None:
    """Return a number, or the text of one, that is the HTTP status of a failure, else ``None``.

    >>> http_status(502), http_status("429"), http_status("E42"), http_status(1113)
    (502, 429, None, None)
    """
    text = str(value)
    is_status = len(text) == 3 and text.isascii() and text.isdecimal() and text[0] in "45"
    return int(text) if is_status else None


class StreamCancelled(StreamError):
    """``cancel()`` was called on the stream or on its token."""

    default_outcome = Outcome.CANCELLED
    default_reason = failure_reasons.OTHER
