"""WSGI bodies that stream an answer: as server-sent events or as plain text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Union

from ..config import KEEP_ALIVE_S
from ..errors import ProviderError, StreamCancelled
from ..stream import PreparedCall, Stream, current_batch, explain, fetch_batch
from ..types import Event, Outcome, ReasoningDelta, Refusal, TextDelta, ToolCall, ToolResult
from .public_errors import report_error

Streamable = Union[Stream, PreparedCall]
"""What a body is made from: ``provider.stream(…)`` or ``provider.prepare(…)``; of a run:
``provider.run(…)`` or ``provider.prepare_run(…)``."""

_NO_BUFFERING = {
    "Cache-Control": "no-cache, no-transform",  # no-transform: a proxy's gzip would delay text
    # "Not compressed", so middleware leaves it alone: compressed, it waits for a full buffer.
    "Content-Encoding": "identity",
    "X-Accel-Buffering": "no",  # for nginx and proxies that copy it
    "X-Content-Type-Options": "nosniff",  # the model's text is never rendered as HTML
}
# Dicts, not read-only mappings: Werkzeug 3.0 mistakes those for lists of pairs.
SSE_HEADERS = {"Content-Type": "text/event-stream; charset=utf-8", **_NO_BUFFERING}
"""Headers for a response whose body is ``sse(…)``; they disable buffering and compression."""
PLAIN_HEADERS = {"Content-Type": "text/plain; charset=utf-8", **_NO_BUFFERING}
"""Headers for a response whose body is ``plain(…)``; they disable buffering and compression."""

_EVENT_NAMES = {TextDelta: "delta", ReasoningDelta: "reasoning", Refusal: "refusal"}
_COUNTS = ("input_tokens", "output_tokens", "total_tokens")
_COMMENT = b":\n\n"
_TOOL_FAILURE = "The function was not called, or has failed."


class WSGIBody(Iterator[bytes]):
    """A WSGI body that streams an answer; made by ``sse()`` and ``plain()``.

    ``close()`` cancels the answer, from any thread, whether or not the body has been read.
    Dropping the body does the same.
    """

    def __init__(self, answer: Streamable) -> None:
        if not isinstance(answer, (Stream, PreparedCall)):
            raise TypeError(
                "pass provider.stream(…) or provider.prepare(…), "
                f"not {type(answer).__name__} {answer!r:.40}"
            )
        self._answer = answer
        self._stream = answer if isinstance(answer, Stream) else None
        self._closed = False

    def __next__(self) -> bytes:
        if not self._closed:
            chunk = self._next()
            if not self._closed:
                return chunk
        raise StopIteration

    def _next(self) -> bytes:
        raise NotImplementedError

    def _start_stream(self) -> Stream:
        if self._stream is None:
            assert isinstance(self._answer, PreparedCall)
            self._stream = self._answer.begin()
            if self._closed:  # by another thread in the meantime
                self._stream.close()
        return self._stream

    def close(self) -> None:
        """Cancel the answer now and end the body."""
        self._closed = True
        if self._stream is not None:
            self._stream.close()


class _Plain(WSGIBody):
    def _next(self) -> bytes:
        stream = self._start_stream()
        try:
            text = next(stream, None)
        except ProviderError as error:
            report_error(error, stream.request_id)  # only to the log: the body is pure text
            if isinstance(error, OSError):
                # Werkzeug takes an OSError for a disconnected browser and leaves the response open.
                raise _without_oserror(error) from error
            raise
        if text is not None:
            return text.encode("utf-8", "replace")
        if stream.outcome is Outcome.CANCELLED and not self._closed:  # by other code
            raise _cancelled()
        raise StopIteration


class _Events(WSGIBody):
    def __init__(self, answer: Streamable) -> None:
        super().__init__(answer)
        self._chunks: Iterator[bytes] | None = None

    def _next(self) -> bytes:
        if self._chunks is None:
            self._chunks = _encode_stream(self._start_stream())
            return _COMMENT  # servers hold the headers back until the first bytes
        return next(self._chunks)


def sse(answer: Streamable) -> WSGIBody:
    """Return the answer as server-sent events, for a response with ``SSE_HEADERS``.

    Reading it raises nothing, except what ``approve`` of a run raises: a failure is sent as an
    ``error`` event, and ``done`` is always last. While the model is silent, and while functions
    run, a comment is sent four times a second, since only a write reveals that the browser has
    disconnected. The JSON is ASCII, so no line break in the model's text can end an event.
    """
    return _Events(answer)


def plain(answer: Streamable) -> WSGIBody:
    """Return the answer as plain text in UTF-8, for a response with ``PLAIN_HEADERS``.

    If the answer fails, the iterator raises a ``ProviderError``: the WSGI server aborts the body,
    so HTTP's framing tells the client that the text is incomplete. That needs a chunked response,
    hence HTTP/1.1 on every hop. A browser that disconnects is noticed only when the next text is
    sent.
    """
    return _Plain(answer)


def _encode_stream(stream: Stream) -> Iterator[bytes]:
    try:
        more = True
        while more:
            batch = current_batch(stream)
            events = b"".join(map(_encode, stream.ready_events()))
            if events:
                yield events
            while not stream.wait(KEEP_ALIVE_S):
                yield _COMMENT
            more = fetch_batch(stream, batch)
        failure = report_error(_cancelled()) if stream.outcome is Outcome.CANCELLED else None
    except ProviderError as error:
        failure = report_error(error, stream.request_id)
    if failure:
        yield _event("error", failure)
    yield _event("done", _outcome(stream))


def _cancelled() -> StreamCancelled:
    return StreamCancelled("the answer was cancelled before it was complete")


def _without_oserror(error: ProviderError) -> ProviderError:
    copy = ProviderError(str(error))
    copy.partial, copy.outcome = error.partial, error.outcome
    return copy


def _encode(event: Event) -> bytes:
    if isinstance(event, (TextDelta, ReasoningDelta, Refusal)):
        return _event(_EVENT_NAMES[type(event)], {"text": event.text})
    if isinstance(event, ToolCall):  # raw: parsed, it may hold values that JSON lacks, such as NaN
        return _event("tool_call", {"id": event.id, "name": event.name, "raw": event.raw})
    if isinstance(event, ToolResult):
        # The text of an exception may hold anything, such as the address of a database.
        shown = {"content": _TOOL_FAILURE} if event.is_error else {}
        return _event("tool_result", {**vars(event), **shown})
    return b""  # usage and finish reason are sent with ``done``


def _outcome(stream: Stream) -> dict[str, Any]:
    return {
        "outcome": stream.outcome,
        "finish_reason": stream.finish_reason,
        "is_whole": stream.is_whole,
        "note": explain(stream) or None,
        "model": stream.model,
        "usage": stream.usage and {name: getattr(stream.usage, name) for name in _COUNTS},
        "stats": vars(stream.stats),
    }


def _event(name: str, data: Mapping[str, Any]) -> bytes:
    text = json.dumps(data, separators=(",", ":"))
    return f"event: {name}\ndata: {text}\n\n".encode("ascii")
