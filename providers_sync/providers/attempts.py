"""The attempts of one call: sends the request, reads and decodes the response, retries."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Union
from urllib.parse import urlsplit

from .. import call_log, observing, retry, transport
from ..clock import monotonic
from ..config import ERROR_BODY_S, Timeouts
from ..errors import (
    APIStatusError,
    MalformedStream,
    ProviderError,
)
from ..request_usage import RequestUsage, surcharge
from ..stream import CallEnded, Channel, Reading, in_context
from ..types import Decoder, Outcome
from .http_request import HTTPRequest
from .watching import WatchedDecoder

if TYPE_CHECKING:
    from ..rate_limit import RateLimit, Turn

Readings = Generator[Reading, None, None]
"""What a source yields: a response to read."""

Amend = Callable[[dict[str, Any], APIStatusError], Union[dict[str, Any], None]]
"""Returns another body to try than the one that the server has rejected, or ``None``."""
_TEXT_TYPES = ("", "application/octet-stream")


class AttemptLoop:
    """The source of one answer: sends the request with ``send``, retries according to ``policy``.

    ``headers`` returns all headers of an attempt; it may ask the caller's own code for a key.
    ``amended`` returns another body to try if the server has rejected the first; ``explain`` adds
    the remedy to an error and removes secrets from it, before it is raised. ``secrets`` returns
    what must not be written down. Each attempt waits for its turn in ``rate_limit``. ``name`` is
    the provider's class and the model, for the log.
    """

    def __init__(
        self,
        request: HTTPRequest,
        policy: Any,
        headers: Callable[[HTTPRequest], dict[str, str]],
        send: Callable[[HTTPRequest, transport.RequestAttempt], transport.Response],
        amended: Amend,
        explain: Callable[[Exception, HTTPRequest], None],
        secrets: Callable[[HTTPRequest], list[str]],
        rate_limit: RateLimit | None = None,
        name: str = "",
    ) -> None:
        self._request = request
        self._policy = policy
        self._headers = headers
        self._send = send
        self._amended = amended
        self._explain = explain
        self._secrets = secrets
        self._rate_limit = rate_limit
        self._name = name

    def __call__(self, channel: Channel) -> Readings:
        readings = self._attempts(channel)
        return self._logged(readings, channel) if call_log.is_on(call_log.DEBUG) else readings

    def _attempts(self, channel: Channel) -> Readings:
        context = copy_context()  # the caller's: no hook has run yet
        failure: ProviderError | None = None
        try:
            yield from self._attempt(channel)
            return
        except ProviderError as error:
            if channel.started or not retry.may_retry(self._policy, error):
                raise
            failure = error
        # tenacity counts the failed first attempt as the first of its own.
        deadlines = channel.deadlines
        waits = channel.tape is None or channel.tape.waits
        attempts = retry.attempts(
            self._policy,
            lambda seconds: channel.sleep(seconds if waits else 0),
            deadlines.total_time_left,
            lambda: channel.started,
            deadlines.started_at,
            functools.partial(self._note_retry, channel),
        )
        for attempt in in_context(context.copy(), attempts):
            with attempt:
                if failure is not None:
                    first, failure = failure, None
                    raise first
                yield from in_context(context.copy(), self._attempt(channel))

    def _attempt(self, channel: Channel) -> Readings:
        """Send the request once, and once more if it is amended; explain the error of a failure.

        It is explained at once, without its secrets, because a lent policy is shown each failure.
        """
        try:
            yield from self._send_once(channel)
        except CallEnded:
            raise
        except Exception as error:  # including errors of custom providers
            self._explain(error, self._request)
            raise

    def _send_once(self, channel: Channel) -> Readings:
        channel.deadlines.only_total()  # the time to get a key, or a turn, is not that to connect
        recording = channel.tape.find(self._request) if channel.tape else None
        turn: Turn | None = None
        try:
            if recording is None:
                if self._rate_limit is not None:
                    turn = self._take_turn(channel, self._rate_limit)
                self._request.sent_headers = self._headers(self._request)
            attempt = _new_attempt(channel, turn)
            channel.start_attempt(attempt.stop)
            channel.status = None
            self._log("request", attempt=channel.attempts)
            with self._step(channel, is_played=bool(recording)) as step:
                try:
                    yield from self._exchange(channel, attempt, recording, turn, step)
                    return
                except transport.AttemptStopped:
                    raise channel.interruption() from None
                except APIStatusError as error:
                    if turn is not None:
                        turn.note_error(error)
                    body = self._request.body and self._amended(self._request.body, error)
                    if not body:
                        raise
                    self._request = self._request.with_body(body)
                finally:
                    attempt.release_socket()
        finally:
            if turn is not None:
                turn.end()
        yield from self._send_once(channel)

    def _take_turn(self, channel: Channel, limit: RateLimit) -> Turn:
        """Wait until the request may be sent."""
        request = self._request
        turn = limit.new_turn(request.url, request.body or {}, channel.notify)

        def wait(is_called: Callable[[], bool], until: float) -> None:
            self._log("wait", limit=repr(limit))
            channel.wait_until(is_called, until)

        channel.waits_for = f"its turn in {limit!r}"
        if limit.concurrent is not None:
            channel.waits_for += ", where an answer counts until it is read to its end or closed"
        try:
            turn.take(wait)
        except BaseException:
            turn.end()
            raise
        channel.waits_for = ""
        return turn

    def _exchange(
        self,
        channel: Channel,
        attempt: transport.RequestAttempt,
        recording: Any,
        turn: Turn | None,
        step: observing.CallStep,
    ) -> Readings:
        response: Any = (
            step.run(self._send, self._request, attempt)
            if channel.tape is None
            else step.run(self._open, channel, attempt, recording)
        )
        channel.status = response.status
        try:
            if turn is not None:
                turn.note_headers(response.headers)
            if not 200 <= response.status < 300:
                raise transport.status_error(response, _wait_for_body_s(channel))
            context = copy_context()
            kind = response.content_type
            decoder = context.run(self._request.decoder, kind)
            if channel.tape and not recording:
                decoder = response.watch(decoder)
            if turn is not None:
                decoder = WatchedDecoder(decoder, turn.note)
            _check_content_type(response, kind, decoder, channel)
            server = urlsplit(self._request.url).netloc
            url = call_log.without_query(self._request.url)
            request = RequestUsage(url, surcharge=surcharge(self._request.body))
            channel.headers_received(response.headers, response.request_id, server, request)
            yield Reading(response, decoder, context)
        finally:
            response.close()

    def _open(self, channel: Channel, attempt: transport.RequestAttempt, recording: Any) -> Any:
        """Send and record the request, or play its recording; return the response."""
        if recording is not None:
            return channel.tape.play(recording, attempt)
        send = functools.partial(self._send, self._request, attempt)
        secrets = functools.partial(self._secrets, self._request)
        return channel.tape.record(self._request, channel, send, secrets)

    # --- logging and observing, always without a lock

    def _step(self, channel: Channel, *, is_played: bool) -> observing.CallStep:
        """Return the step of the attempt that starts now."""
        if (observer := channel.observer) is None:
            return observing.UNWATCHED
        return observer.attempt(channel, self._request.url, is_played, self._without_secrets)

    def _logged(self, readings: Readings, channel: Channel) -> Readings:
        """Log the outcome: before a good end, or else when the source is closed or fails."""
        outcome, error = Outcome.FAILED, None
        is_logged = False

        def report_good_end() -> None:
            nonlocal is_logged
            if not (is_logged or channel.ended):
                is_logged = True
                self._log_outcome(channel, _outcome_of_ended_call(channel), None)

        channel.before_good_end = report_good_end
        try:
            yield from readings
        except (CallEnded, GeneratorExit):
            outcome, error = _outcome_of_ended_call(channel), channel.error
            raise
        except ProviderError as failure:
            outcome, error = failure.outcome, failure
            raise
        finally:
            if not is_logged:
                self._log_outcome(channel, outcome, error)

    def _log_outcome(self, channel: Channel, outcome: Outcome, error: ProviderError | None) -> None:
        usage = channel.usage
        request_id = call_log.request_id(channel.request_id)
        self._log(
            "outcome",
            outcome=str(outcome),
            status=channel.status,
            seconds=monotonic() - channel.deadlines.started_at,
            chunks=channel.chunks,
            attempts=channel.attempts,
            input_tokens=usage and usage.input_tokens,
            output_tokens=usage and usage.output_tokens,
            request_id=request_id and self._without_secrets(request_id),
            error=error and call_log.reason(error),
        )

    def _log(self, event: str, **fields: object) -> None:
        """Log an event of this request."""
        if call_log.is_on(call_log.LINES[event][0]):
            url = self._without_secrets(call_log.without_query(self._request.url))
            request = f"{self._request.method} {url}"
            call_log.write(event, request=request, provider=self._name, **fields)

    def _without_secrets(self, text: str) -> str:
        request = self._request
        secrets = (
            self._secrets(request)
            if "?" in request.url  # to look for the secrets of a query takes long
            else transport.collect_secrets(request.sent_headers)
        )
        return transport.redact_text(secrets, text)

    def _note_retry(
        self, channel: Channel, error: BaseException, seconds: float, attempt: int
    ) -> None:
        self._log("retry", delay=seconds, attempt=attempt, error=call_log.reason(error))
        if (observer := channel.observer) is not None:
            observer.note("retry", error, {"attempt": attempt, "delay_s": seconds})


def _new_attempt(channel: Channel, turn: Turn | None) -> transport.RequestAttempt:
    total = channel.deadlines.total_time_left()
    return transport.RequestAttempt(
        connect_s=channel.timeouts.connect,
        read_s=None if channel.timeouts.total is None else max(total, 0.001),
        on_connected=channel.connected if turn is None else _note_connected(channel, turn),
        on_sent=channel.sent,
        silence_s=_longest_silence(channel.timeouts),
    )


def _note_connected(channel: Channel, turn: Turn) -> Callable[[], None]:
    """Return a function that tells both of them that the request is sent now."""

    def on_connected() -> None:
        channel.connected()
        turn.note_sent()

    return on_connected


def _outcome_of_ended_call(channel: Channel) -> Outcome:
    """Return the outcome of a call that has ended well, or by the caller or a timeout."""
    with channel.lock:  # ``ended`` is set before ``error``
        error, is_stopped = channel.error, channel.is_stopped
    if error is not None:
        return error.outcome
    if is_stopped:
        return Outcome.CANCELLED
    return Outcome.COMPLETE if channel.has_end_marker else Outcome.UNVERIFIED


def _longest_silence(timeouts: Timeouts) -> float | None:
    """Return after how many seconds of silence the stream has certainly ended the attempt."""
    if timeouts.first_token is None or timeouts.idle is None:
        return None
    return max(timeouts.first_token, timeouts.idle) + 1


def _wait_for_body_s(channel: Channel) -> float:
    """Return how long to wait for a body that explains why there is no answer."""
    return min(ERROR_BODY_S, channel.deadlines.time_left() / 2)


def _check_content_type(
    response: transport.Response, kind: str, decoder: Decoder, channel: Channel
) -> None:
    """Raise ``MalformedStream`` for anything but an answer; for a page, before the stream opens."""
    if kind == "text/html" and (
        not getattr(decoder, "detects_pages", False)
        or response.peek(_wait_for_body_s(channel)).startswith(b"<")
    ):
        raise MalformedStream(
            f"{response.url} sent a web page instead of an answer; check base_url"
        )
    if not (kind.startswith("text/") or "json" in kind or kind in _TEXT_TYPES):
        raise MalformedStream(f"{response.url} sent {kind} instead of an answer; check base_url")
