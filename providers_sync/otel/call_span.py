"""``CallSpan``: the span of a call, and below it those of its attempts and functions.

Only the span of the call itself is of the kind ``CLIENT``. That of an attempt is ``INTERNAL``: the
instrumentation of requests or urllib3 adds one of the kind ``CLIENT`` below it for the same
request.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from opentelemetry import context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context

from .. import call_log
from ..clock import monotonic
from ..observing import UNWATCHED, CallStep, Question
from ..stream import CallEnded, Channel, Stream, channel_of
from ..types import Outcome, ToolCall
from . import attributes, contents
from .instruments import Instruments
from .safety import never_raises

T = TypeVar("T")
_STOPPED = (Outcome.CANCELLED, Outcome.PAUSED)
_EVENTS = "providers_sync."
_SUPPRESSED = (
    "suppress_instrumentation",
    getattr(context, "_SUPPRESS_INSTRUMENTATION_KEY", "suppress_instrumentation"),
)
"""What programs set in a context in which nothing is to be traced, and what the SDK's processors
set while they export."""


class Telemetry:
    """Where spans and metrics go, and whether spans hold what is said."""

    def __init__(self, tracer: Tracer, instruments: Instruments, captures_content: bool) -> None:
        self.tracer = tracer
        self.instruments = instruments
        self.captures_content = captures_content

    @never_raises
    def observe(self, question: Question) -> CallSpan | None:
        """Begin to watch a call, under the current span."""
        if any(map(context.get_value, _SUPPRESSED)):
            return None
        return CallSpan(self, question)


class CallSpan:
    """Watches one call."""

    def __init__(self, telemetry: Telemetry, question: Question) -> None:
        self._telemetry = telemetry
        self._names = attributes.of_provider(question.provider, question.model)
        self._span = telemetry.tracer.start_span(
            f"chat {question.model}", kind=SpanKind.CLIENT, attributes=self._names
        )
        self._context = set_span_in_context(self._span)
        self._open_attempts: list[AttemptSpan] = []
        self._has_ended = False
        self._redact: Callable[[str], str] = str
        """Removes the secrets of the last request from a text."""
        self._records = self._span.is_recording()
        if self._records:
            self._note_question(question)

    @never_raises
    def _note_question(self, question: Question) -> None:
        self._span.set_attributes(attributes.of_question(question))
        if self._telemetry.captures_content:
            self._span.set_attributes(contents.of_input(question))

    @never_raises
    def enter(self) -> None:
        """Make the span the current one, in a context that belongs to the call."""
        context.attach(self._context)

    @never_raises
    def use(self, provider: Any, model: str) -> None:
        """Name the provider that is asked next."""
        self._names = attributes.of_provider(provider, model)
        self._span.update_name(f"chat {model}")
        self._span.set_attributes(self._names)

    def attempt(
        self, channel: Channel, url: str, is_played: bool, redact: Callable[[str], str]
    ) -> CallStep:
        """Return the span of one request; none if the call is not sampled."""
        self._redact = redact
        return self._attempt(channel, url, is_played) or UNWATCHED

    @never_raises
    def _attempt(self, channel: Channel, url: str, is_played: bool) -> CallStep:
        self._end_attempt()
        if not self._records:
            return UNWATCHED
        found = attributes.of_server(url)
        found["providers_sync.attempt"] = channel.attempts
        if is_played:
            found["providers_sync.recorded"] = True
        span = self._telemetry.tracer.start_span(
            "chat attempt", context=self._context, attributes=found
        )
        step = AttemptSpan(span, self._context, channel)
        self._open_attempts.append(step)
        if self._has_ended:  # meanwhile, in another thread
            self._end_attempt()
        return step

    def _end_attempt(self) -> None:
        """End the span of the last attempt; once, in whichever thread comes first."""
        with contextlib.suppress(IndexError):
            self._open_attempts.pop().end()

    def tool(self, call: ToolCall) -> CallStep:
        """Return the span of one call of a function."""
        return self._tool(call) or UNWATCHED

    @never_raises
    def _tool(self, call: ToolCall) -> CallStep:
        return ToolSpan(self._telemetry, self._context, call, self._redact)

    @never_raises
    def note(self, event: str, error: BaseException | None, details: Mapping[str, Any]) -> None:
        """Add an event to the span, and count a retry."""
        found = {f"{_EVENTS}{name}": value for name, value in details.items()}
        if error is not None:
            found.update(attributes.of_error(error))
        self._span.add_event(f"{_EVENTS}{event}", found)
        if event == "retry":
            self._telemetry.instruments.record_retry(self._names, type(error).__name__)

    @never_raises
    def end(self, stream: Stream) -> None:
        """End the span at the moment when the answer had arrived, and record the metrics."""
        channel = channel_of(stream)
        error = channel.error
        first_s = None
        if channel.first_event_at is not None:
            first_s = channel.first_event_at - channel.deadlines.started_at
        self._has_ended = True  # first: see ``_attempt``
        self._end_attempt()
        self._end_span(stream, error, first_s)
        kind = type(error).__name__ if _is_failure(error) else None
        with_span = context.attach(self._context)  # so that metrics may have exemplars
        try:
            self._telemetry.instruments.record_call(stream, first_s, self._names, kind)
        finally:
            context.detach(with_span)

    @never_raises
    def _end_span(self, stream: Stream, error: BaseException | None, first_s: float | None) -> None:
        if self._records:
            if _is_failure(error):
                _set_error(self._span, error)
            self._note_answer(stream, first_s)
        self._span.end(_wall_clock(channel_of(stream).ended_at))

    @never_raises
    def _note_answer(self, stream: Stream, first_event_s: float | None) -> None:
        self._span.set_attributes(attributes.of_end(stream, first_event_s, self._redact))
        if self._telemetry.captures_content:
            self._span.set_attributes(contents.of_output(stream))


class _Span(CallStep):
    """A span below that of the call, and current while ``run`` runs."""

    def __init__(self, span: Span, parent: context.Context) -> None:
        self._span = span
        self._context = set_span_in_context(span, parent)

    def run(self, function: Callable[..., T], *arguments: Any) -> T:
        token = self._attach()
        try:
            return function(*arguments)
        finally:
            if token is not None:
                self._detach(token)

    @never_raises
    def _attach(self) -> Any:
        return context.attach(self._context)

    @never_raises
    def _detach(self, token: Any) -> None:
        context.detach(token)


class AttemptSpan(_Span):
    """The span of one request: from before it is sent to the end of its response.

    That end may come in the reader thread, which must not wait for an exporter: it is noted there,
    and ``end`` is called when the next attempt begins, or the call has ended.
    """

    def __init__(self, span: Span, parent: context.Context, channel: Channel) -> None:
        super().__init__(span, parent)
        self._channel = channel
        self._noted: tuple[BaseException | None, int | None, float] | None = None
        """Error, status and moment of the end, once it has come."""

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        self._noted = error, self._channel.status, monotonic()

    @never_raises
    def end(self) -> None:
        """End the span; if the attempt has not ended, the call has."""
        channel, span = self._channel, self._span
        error, status, ended_at = self._noted or (None, channel.status, channel.ended_at)
        if status is not None:
            span.set_attribute("http.response.status_code", status)
        if error is None or isinstance(error, (CallEnded, GeneratorExit)):
            error = channel.error  # of who has ended the call
        if _is_failure(error):
            _set_error(span, error)
        elif status is not None and status >= 400:  # another body is tried
            span.set_status(Status(StatusCode.ERROR, f"status {status}"))
            span.set_attribute("error.type", str(status))
        span.end(_wall_clock(ended_at))


class ToolSpan(_Span):
    """The span of one call of a function."""

    def __init__(
        self,
        telemetry: Telemetry,
        parent: context.Context,
        call: ToolCall,
        redact: Callable[[str], str],
    ) -> None:
        self._telemetry = telemetry
        self._call = call
        self._started_at = monotonic()
        self._result: Any = None
        found = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": call.name,
            "gen_ai.tool.type": "function",
            "gen_ai.tool.call.id": attributes.short(call.id, redact),
        }
        name = f"execute_tool {call.name}"
        span = telemetry.tracer.start_span(name, context=parent, attributes=found)
        super().__init__(span, parent)

    def run(self, function: Callable[..., T], *arguments: Any) -> T:
        result = super().run(function, *arguments)
        self._result = result
        return result

    @never_raises
    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        span = self._span
        if self._telemetry.captures_content:
            self._note_content()
        if error is not None:
            _set_error(span, error)
        span.end()
        name = None if error is None else type(error).__name__
        seconds = monotonic() - self._started_at
        self._telemetry.instruments.record_tool(self._call.name, seconds, name)

    @never_raises
    def _note_content(self) -> None:
        call = self._call
        arguments = call.raw if call.arguments is None else call.arguments
        self._span.set_attributes(contents.of_tool(arguments, self._result))


def _wall_clock(moment: float | None) -> int | None:
    """Return a moment of ``monotonic`` as OpenTelemetry has it; ``None``: now."""
    return None if moment is None else int((time.time() - (monotonic() - moment)) * 1e9)


def _is_failure(error: BaseException | None) -> bool:
    return error is not None and getattr(error, "outcome", None) not in _STOPPED


def _set_error(span: Span, error: BaseException | None) -> None:
    """Mark a span as failed; the text of the error is left out, because a server may write it."""
    assert error is not None
    span.set_status(Status(StatusCode.ERROR, call_log.reason(error)))
    span.set_attributes(attributes.of_error(error))
