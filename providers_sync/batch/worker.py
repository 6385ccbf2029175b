"""What one worker does, here or in another process: ask a row once; how it gets there and back."""

from __future__ import annotations

import time
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from ..decoding.parsing import join_surrogates
from ..errors import ProviderError
from ..providers import Provider
from ..stream import CancelToken, Stream, channel_of
from ..types import Outcome
from .executor import DaemonThreadPool
from .results import Reply, failed_reply
from .rows import Row
from .same_thread import run_in_this_thread

KEPT_PROVIDERS = 4
"""In a worker process; one a batch, so that its connections live from row to row."""

_kept: dict[str, Provider] = {}


def submit(
    executor: Executor, provider: Provider, row: Row, cancel: CancelToken, ticket: str
) -> Future[Reply]:
    """Have a row asked once; ``cancel`` reaches this process only.

    Raises ``ProviderError`` where the executor takes no more work.
    """
    if row.error is not None:
        future: Future[Reply] = Future()
        future.set_result(failed_reply(row.error))
        return future
    try:
        if isinstance(executor, (DaemonThreadPool, ThreadPoolExecutor)):
            return executor.submit(ask, provider, row, cancel)
        return executor.submit(ask_in_process, provider, replace(row, input=None), ticket)
    except ProviderError:
        raise
    except Exception as error:  # it was shut down, is broken, or finds no thread or process
        raise _broken(error) from error


def reply_of(future: Future[Reply]) -> Reply:
    """Return what a finished future holds.

    Raises ``ProviderError`` where the executor, and not the row, is at its end.
    """
    if future.cancelled():
        raise ProviderError("the executor has cancelled a request")
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, BrokenExecutor) or not isinstance(error, Exception):
        raise _broken(error) from error
    return failed_reply(ProviderError(f"the worker failed: {type(error).__name__}: {error}"))


def ask(provider: Provider, row: Row, cancel: CancelToken | None = None) -> Reply:
    """Ask once and return what came, good or bad; whether to ask again is the run's business."""
    began = time.monotonic()
    try:
        call = provider.prepare(row.messages, row.model, retry=None, cancel=cancel, **row.options)
        stream = run_in_this_thread(call)
    except ProviderError as error:  # nothing was sent
        return failed_reply(_bare(error))
    return replace(_read(stream), seconds=time.monotonic() - began)


def ask_in_process(provider: Provider, row: Row, ticket: str) -> Reply:
    """Ask from a process that serves many batches.

    ``ticket`` (``batch:row:attempt``) also keeps dask from taking equal calls for one.
    """
    batch = ticket.partition(":")[0]
    provider = _kept.setdefault(batch, provider)
    for old in list(_kept)[:-KEPT_PROVIDERS]:
        _kept.pop(old, None)
    return ask(provider, row)


def _read(stream: Stream) -> Reply:
    error: ProviderError | None = None
    try:
        stream.read()
    except ProviderError as caught:
        error = _bare(caught)
    return Reply(
        message=_message(stream),
        outcome=stream.outcome or Outcome.FAILED,
        finish_reason=_said(stream.finish_reason),
        usage=stream.usage,
        model=_said(stream.model),
        request_id=_said(stream.request_id),
        error=error,
        started=channel_of(stream).started,
        attempts=stream.stats.attempts,
    )


def _message(stream: Stream) -> dict[str, Any]:
    """Return the answer as OpenAI's message; reasoning under the name most servers give it."""
    calls = [
        {
            "id": _said(call.id),
            "type": "function",
            "function": {"name": _said(call.name), "arguments": _said(call.raw)},
        }
        for call in stream.tool_calls
    ]
    text = _said(stream.text)
    message = {
        "role": "assistant",
        "content": text or (None if calls else ""),
        "reasoning_content": _said(stream.reasoning),
        "refusal": _said(stream.refusal),
        "tool_calls": calls,
    }
    return {name: value for name, value in message.items() if value or name == "content"}


def _said(value: object) -> str | None:
    """Return what a server said as text that every JSON reader takes; nothing stays nothing."""
    return None if value is None else join_surrogates(str(value))


def _broken(error: BaseException) -> ProviderError:
    return ProviderError(f"the executor takes no more work: {error or type(error).__name__}")


def _bare(error: ProviderError) -> ProviderError:
    """Take the tracebacks off: their frames would keep every failed stream alive."""
    link: BaseException | None = error
    while link is not None:
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
    return error
