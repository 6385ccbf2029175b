"""WSGI bodies that stream an answer: as server-sent events or as plain text."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from contextvars import copy_context
from typing import Any, Union

from ..config import KEEP_ALIVE_S
from ..errors import ProviderError, StreamCancelled
from ..stream import (
    GOOD_OUTCOMES,
    PreparedCall,
    Stream,
    channel_of,
    current_batch,
    ended_completion,
    fetch_batch,
)
from ..typed import TypedStream, to_json
from ..types import Completion, Outcome
from .events import COMMENT, encode, encode_event, outcome_data
from .public_errors import report_error, report_invalid, report_unsaved

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


OnEnd = Callable[[Completion], object]
"""Called with what the model has said, once the answer has ended."""


class _AtEnd:
    """Calls ``on_end`` once, in the context of the view that has made the body."""

    def __init__(self, on_end: OnEnd | None) -> None:
        if on_end is not None and not callable(on_end):
            raise TypeError(
                f"on_end must be a function that takes the completion, not {on_end!r:.40}"
            )
        self._calls = [] if on_end is None else [(copy_context(), on_end)]

    def __call__(self, stream: Stream) -> dict[str, str] | None:
        """Call it, if nobody has; return what a browser may know about its failure."""
        try:
            context, on_end = self._calls.pop()  # in one step: another thread may close the body
        except IndexError:
            return None
        try:
            context.run(on_end, _completion(stream))
        except Exception as error:  # noqa: BLE001 (it is of the app, and must not end the body)
            return report_unsaved(error)
        return None


class WSGIBody(Iterator[bytes]):
    """A WSGI body that streams an answer; made by ``sse()`` and ``plain()``.

    ``close()`` cancels the answer, from any thread, whether or not the body has been read.
    Dropping the body does the same, but does not call ``on_end``; if ``on_end`` refers to the body,
    it happens only when the garbage collector runs.
    """

    def __init__(self, answer: Streamable, on_end: OnEnd | None = None) -> None:
        if not isinstance(answer, (Stream, PreparedCall)):
            raise TypeError(
                "pass provider.stream(…) or provider.prepare(…), "
                f"not {type(answer).__name__} {answer!r:.40}"
            )
        self._answer = answer
        self._stream = answer if isinstance(answer, Stream) else None
        self._closed = False
        self._lock = threading.Lock()
        """Held while the stream is made: another thread may close the body."""
        self._at_end = _AtEnd(on_end)

    @property
    def stream(self) -> Stream | None:
        """The answer; of a prepared call ``None`` until the body is read or closed."""
        return self._stream

    def __next__(self) -> bytes:
        if not self._closed:
            chunk = self._next()
            if not self._closed:
                return chunk
        raise StopIteration

    def _next(self) -> bytes:
        raise NotImplementedError

    def _get_stream(self) -> Stream:
        """Return the stream; a prepared call is sent now, unless the body is closed."""
        with self._lock:
            if self._stream is None:
                assert isinstance(self._answer, PreparedCall)
                closed = self._closed
                self._stream = self._answer.unstarted() if closed else _begin(self._answer)
            return self._stream

    def close(self) -> None:
        """Cancel the answer now and end the body."""
        self._closed = True
        stream = self._get_stream()
        stream.close()
        self._at_end(stream)


class _Plain(WSGIBody):
    def _next(self) -> bytes:
        stream = self._get_stream()
        try:
            text = next(stream, None)
        except ProviderError as error:
            self._at_end(stream)
            report_error(error, stream.request_id)  # only to the log: the body is pure text
            if isinstance(error, OSError):
                # Werkzeug takes an OSError for a disconnected browser and leaves the response open.
                raise _without_oserror(error) from error
            raise
        if text is not None:
            return text.encode("utf-8", "replace")
        self._at_end(stream)
        if stream.outcome is Outcome.CANCELLED and not self._closed:  # by other code
            raise _cancelled()
        raise StopIteration


class _Events(WSGIBody):
    def __init__(self, answer: Streamable, on_end: OnEnd | None = None) -> None:
        super().__init__(answer, on_end)
        self._chunks: Iterator[bytes] | None = None

    def _next(self) -> bytes:
        if self._chunks is None:
            self._chunks = _encode_stream(self._get_stream(), self._at_end)
            return COMMENT  # servers hold the headers back until the first bytes
        return next(self._chunks)


def sse(answer: Streamable, *, on_end: OnEnd | None = None) -> WSGIBody:
    """Return the answer as server-sent events, for a response with ``SSE_HEADERS``.

    Reading it never raises, unless ``approve`` of a run does: a failure is sent as an ``error``
    event, and ``done`` is always last. While the model is silent, and while functions run, a
    comment is sent four times a second, since only a write reveals that the browser has
    disconnected. The JSON is ASCII, so no line break in the model's text can end an event.
    Source of the format: WHATWG HTML, "Server-sent events".

    Args:
        answer: What ``provider.stream(…)`` or ``provider.prepare(…)`` returned, or for a run
            ``provider.run(…)`` or ``provider.prepare_run(…)``.
        on_end: ``on_end(completion)`` is called once with what the model said, however the answer
            ends, if the body is read to its end or closed: also when the browser leaves
            (``completion.outcome`` is ``cancelled`` then) or nothing was sent. The thread that
            reads or closes the body calls it, in the view's context, before ``done`` is sent. If it
            raises an exception, that is logged, and the browser gets an ``error`` of the kind
            ``SaveError``; if the answer itself failed, it gets that error instead.

    Raises:
        TypeError: ``answer`` is something else.
    """
    return _Events(answer, on_end)


def plain(answer: Streamable, *, on_end: OnEnd | None = None) -> WSGIBody:
    """Return the answer as plain text in UTF-8, for a response with ``PLAIN_HEADERS``.

    If the answer fails, the iterator raises a ``ProviderError``: the WSGI server aborts the body,
    so HTTP's framing tells the client that the text is incomplete. That needs a chunked response,
    hence HTTP/1.1 on every hop. A browser that disconnects is noticed only when the next text is
    sent.

    Args:
        answer: As for ``sse``.
        on_end: As for ``sse``, called before the body ends; if it raises, that is only logged.
    """
    return _Plain(answer, on_end)


def _completion(stream: Stream) -> Completion:
    """Return what has been said; of a typed answer that is valid a ``TypedCompletion``."""
    if isinstance(stream, TypedStream) and stream.outcome in GOOD_OUTCOMES:
        with contextlib.suppress(Exception):  # a validator may raise anything
            return stream.completion()
    return ended_completion(stream)


def _begin(call: PreparedCall) -> Stream:
    """Send a prepared call; if no thread can be started, its stream fails like any other."""
    try:
        return call.begin()
    except ProviderError as error:
        stream = call.unstarted()
        channel_of(stream).end(error)
        return stream


def _encode_stream(stream: Stream, at_end: _AtEnd) -> Iterator[bytes]:
    value: dict[str, Any] = {}
    failure = None
    try:
        more = True
        while more:
            batch = current_batch(stream)
            events = b"".join(map(encode, stream.ready_events()))
            if events:
                yield events
            while not stream.wait(KEEP_ALIVE_S):
                yield COMMENT
            more = fetch_batch(stream, batch)
        if stream.outcome is Outcome.CANCELLED:
            raise _cancelled()
    except ProviderError as error:
        failure = report_error(error, stream.request_id)
    if isinstance(stream, TypedStream) and stream.outcome in GOOD_OUTCOMES:
        try:
            value["value"] = _without_nan(to_json(stream.value))
        except ProviderError as error:
            failure = report_error(error, stream.request_id)
        except Exception as error:  # noqa: BLE001 (of the type's own validators and serializers)
            failure = report_invalid(error)
    unsaved = at_end(stream)
    if failure := failure or unsaved:
        yield encode_event("error", failure)
    yield encode_event("done", {**outcome_data(stream), **value})


def _without_nan(value: Any) -> Any:
    """Return a value with ``None`` for numbers that JSON lacks."""
    return json.loads(json.dumps(value), parse_constant=lambda name: None)


def _cancelled() -> StreamCancelled:
    return StreamCancelled("the answer was cancelled before it was complete")


def _without_oserror(error: ProviderError) -> ProviderError:
    copy = ProviderError(str(error))
    copy.partial, copy.outcome = error.partial, error.outcome
    return copy
