"""An answer as a WSGI body: server-sent events, or its bare text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Union

from ..config import KEEP_ALIVE_S
from ..errors import ProviderError, StreamCancelled
from ..stream import PreparedCall, Stream, fetch_batch
from ..types import Event, Outcome, ReasoningDelta, Refusal, TextDelta, ToolCall
from .public_errors import report_error

Streamable = Union[Stream, PreparedCall]
"""What becomes a body: ``provider.stream(…)``, or ``provider.prepare(…)``."""

_UNBUFFERED = {
    "Cache-Control": "no-cache, no-transform",  # no-transform: a proxy's gzip would hold text back
    "X-Accel-Buffering": "no",  # nginx, and those that follow it
    "X-Content-Type-Options": "nosniff",  # the model's text never becomes a web page
}
# Dicts, not read-only mappings: Werkzeug 3.0 takes those for lists of pairs.
SSE_HEADERS = {"Content-Type": "text/event-stream; charset=utf-8", **_UNBUFFERED}
"""The headers of a response whose body is ``sse(…)``; no proxy holds it back."""
PLAIN_HEADERS = {"Content-Type": "text/plain; charset=utf-8", **_UNBUFFERED}
"""The headers of a response whose body is ``plain(…)``; no proxy holds it back."""

_NAMES = {TextDelta: "delta", ReasoningDelta: "reasoning", Refusal: "refusal"}
_COUNTS = ("input_tokens", "output_tokens", "total_tokens")
_COMMENT = b":\n\n"


class WSGIBody(Iterator[bytes]):
    """An answer as a WSGI body; made by ``sse()`` and ``plain()``.

    ``close()`` stops the answer, from any thread, whether or not the body was ever read; so does
    dropping it.
    """

    def __init__(self, answer: Streamable) -> None:
        if not isinstance(answer, (Stream, PreparedCall)):
            raise TypeError(
                "give provider.stream(…) or provider.prepare(…), "
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

    def _begun(self) -> Stream:
        if self._stream is None:
            assert isinstance(self._answer, PreparedCall)
            self._stream = self._answer.begin()
            if self._closed:  # meanwhile, by another thread
                self._stream.close()
        return self._stream

    def close(self) -> None:
        """Stop the answer now; the body is at its end."""
        self._closed = True
        if self._stream is not None:
            self._stream.close()


class _Plain(WSGIBody):
    def _next(self) -> bytes:
        stream = self._begun()
        try:
            text = next(stream, None)
        except ProviderError as error:
            report_error(error, stream.request_id)  # to the log alone: it has no place in the text
            if isinstance(error, OSError):
                # Werkzeug takes that for a browser that has left, and would let this one wait.
                raise _broken_off(error) from error
            raise
        if text is not None:
            return text.encode("utf-8", "replace")
        if stream.outcome is Outcome.CANCELLED and not self._closed:  # by somebody else
            raise _stopped()
        raise StopIteration


class _Events(WSGIBody):
    def __init__(self, answer: Streamable) -> None:
        super().__init__(answer)
        self._chunks: Iterator[bytes] | None = None

    def _next(self) -> bytes:
        if self._chunks is None:
            self._chunks = _chunks(self._begun())
            return _COMMENT  # servers hold the headers back until the first bytes
        return next(self._chunks)


def sse(answer: Streamable) -> WSGIBody:
    """Return the answer as server-sent events, for a response with ``SSE_HEADERS``.

    Raises nothing while it is read: a failure is an ``error`` event, and ``done`` is the last one.
    A comment goes out more than twice a second while the model is silent, as only a write tells
    that a browser has left. JSON is ASCII, so no line break of the model's ends an event.
    """
    return _Events(answer)


def plain(answer: Streamable) -> WSGIBody:
    """Return the answer as its bare text in UTF-8, for a response with ``PLAIN_HEADERS``.

    Where the answer fails, a ``ProviderError`` comes out of the iterator: the server breaks the
    body off, so that HTTP's framing tells the client that the text is not whole. That needs a
    chunked response, hence HTTP/1.1 on the whole way. A browser that leaves is noticed with the
    next text only.
    """
    return _Plain(answer)


def _chunks(stream: Stream) -> Iterator[bytes]:
    try:
        more = True
        while more:
            events = b"".join(map(_written, stream.ready_events()))
            if events:
                yield events
            while not stream.wait(KEEP_ALIVE_S):
                yield _COMMENT
            more = fetch_batch(stream)
        failure = report_error(_stopped()) if stream.outcome is Outcome.CANCELLED else None
    except ProviderError as error:
        failure = report_error(error, stream.request_id)
    if failure:
        yield _event("error", failure)
    yield _event("done", _verdict(stream))


def _stopped() -> StreamCancelled:
    return StreamCancelled("the answer was stopped before its end")


def _broken_off(error: ProviderError) -> ProviderError:
    broken = ProviderError(str(error))
    broken.partial, broken.outcome = error.partial, error.outcome
    return broken


def _written(event: Event) -> bytes:
    if isinstance(event, (TextDelta, ReasoningDelta, Refusal)):
        return _event(_NAMES[type(event)], {"text": event.text})
    if isinstance(event, ToolCall):  # raw only: parsed, it may hold what JSON cannot, such as NaN
        return _event("tool_call", {"id": event.id, "name": event.name, "raw": event.raw})
    return b""  # usage and finish are part of the verdict


def _verdict(stream: Stream) -> dict[str, Any]:
    return {
        "outcome": stream.outcome,
        "finish_reason": stream.finish_reason,
        "model": stream.model,
        "usage": stream.usage and {name: getattr(stream.usage, name) for name in _COUNTS},
        "stats": vars(stream.stats),
    }


def _event(name: str, data: Mapping[str, Any]) -> bytes:
    text = json.dumps(data, separators=(",", ":"))
    return f"event: {name}\ndata: {text}\n\n".encode("ascii")
