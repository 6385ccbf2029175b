"""One attempt at a row, in a thread or another process: submit it, run it, collect the reply."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from contextvars import Context
from dataclasses import replace
from typing import Any, TypeVar

from ..clock import monotonic
from ..errors import InvalidAnswer, ProviderError
from ..providers import Provider
from ..stream import CancelToken, Stream, channel_of, requests_of
from ..typed import TypedStream
from ..types import Outcome
from .executor import DaemonThreadPool
from .reply_message import answer_message, valid_text
from .results import Reply, failed_reply
from .rows import Row

KEPT_PROVIDERS = 4
"""Limit for a worker process: it keeps one per batch, so that connections are reused."""

E = TypeVar("E", bound=ProviderError)

_providers: dict[str, Provider] = {}


def submit(
    executor: Executor,
    provider: Provider,
    row: Row,
    cancel: CancelToken,
    ticket: str,
    context: Context,
    typed: Mapping[str, Any],
) -> Future[Reply]:
    """Submit one attempt at a row; ``cancel`` and ``context`` work in this process only.

    ``typed`` has the arguments of a typed answer: ``into`` and ``repairs``.

    Raises ``ProviderError`` if the executor accepts no more work.
    """
    if row.error is not None:
        future: Future[Reply] = Future()
        future.set_result(failed_reply(row.error))
        return future
    try:
        if isinstance(executor, (DaemonThreadPool, ThreadPoolExecutor)):
            return executor.submit(context.run, run_attempt, provider, row, typed, cancel)
        row = replace(row, input=None)
        return executor.submit(run_attempt_in_process, provider, row, ticket, typed)
    except ProviderError:
        raise
    except Exception as error:  # shut down, broken, or without a thread or process
        raise _executor_error(error) from error


def reply_or_error(future: Future[Reply]) -> Reply | ProviderError:
    """Return the reply of a finished future, or the error if the executor failed entirely."""
    if future.cancelled():
        return ProviderError(
            "the executor cancelled a request of the batch; run it again to resume"
        )
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, BrokenExecutor) or not isinstance(error, Exception):
        failure = _executor_error(error)
        failure.__cause__ = error
        return failure
    return failed_reply(
        ProviderError(f"the executor could not run the request: {type(error).__name__}: {error}")
    )


def run_attempt(
    provider: Provider, row: Row, typed: Mapping[str, Any], cancel: CancelToken | None = None
) -> Reply:
    """Send a row's request once and return the reply, also for an error; never retry."""
    started = monotonic()
    try:
        options = {**row.options, **typed}
        call = provider.prepare(row.messages, row.model, retry=None, cancel=cancel, **options)
        stream = call.begin()
    except ProviderError as error:  # nothing was sent
        return failed_reply(_without_tracebacks(error))
    return replace(_to_reply(stream), seconds=monotonic() - started)


def run_attempt_in_process(
    provider: Provider, row: Row, ticket: str, typed: Mapping[str, Any]
) -> Reply:
    """Run an attempt in a process that serves many batches.

    ``ticket`` (``batch:row:attempt``) also keeps dask from merging two equal calls into one.
    """
    batch = ticket.partition(":")[0]
    provider = _providers.setdefault(batch, provider)
    for old in list(_providers)[:-KEPT_PROVIDERS]:
        _providers.pop(old, None)
    return run_attempt(provider, row, typed)


def _to_reply(stream: Stream) -> Reply:
    error: ProviderError | None = None
    value = None
    invalid: tuple[InvalidAnswer, ...] = ()
    try:
        if isinstance(stream, TypedStream):
            value = _value(stream)
            invalid = tuple(map(_without_tracebacks, stream.invalid))
        else:
            stream.read()
    except ProviderError as caught:
        error = _without_tracebacks(caught)
    return Reply(
        message=answer_message(stream),
        outcome=stream.outcome or Outcome.FAILED,
        finish_reason=valid_text(stream.finish_reason),
        usage=stream.usage,
        model=valid_text(stream.model),
        request_id=valid_text(stream.request_id),
        error=error,
        value=value,
        invalid=invalid,
        started=channel_of(stream).started,
        attempts=stream.stats.attempts,
        requests=requests_of(stream),
    )


def _value(stream: TypedStream[Any]) -> Any:
    try:
        return stream.value
    except ProviderError:
        raise
    except Exception as bug:  # in a validator of the program: the row keeps its text
        error = ProviderError(f"the answer cannot be validated: {type(bug).__name__}: {bug}")
        error.partial = stream.text
        raise error from bug


def _executor_error(error: BaseException) -> ProviderError:
    return ProviderError(
        f"the executor does not accept any more requests: {error or type(error).__name__}"
    )


def _without_tracebacks(error: E) -> E:
    """Remove the tracebacks, whose frames would keep every failed stream alive."""
    cause: BaseException | None = error
    while cause is not None:
        cause.__traceback__ = None
        cause = cause.__cause__ or cause.__context__
    return error
