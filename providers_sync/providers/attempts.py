"""One call in its thread: the attempts, and within each the request and its answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from .. import retry, transport
from ..config import ERROR_BODY_S
from ..errors import (
    APIStatusError,
    InvalidRequestError,
    MalformedStream,
    ProviderError,
    StreamCut,
    StreamTruncated,
)
from ..stream import CallEnded, Channel
from ..types import Delta

_TEXT_TYPES = ("", "application/octet-stream", "application/x-ndjson")


class HTTPRequest:
    """What is asked: encoded when it is made, so that bad input is refused in time."""

    def __init__(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        body: dict[str, Any] | None,
        decode: Callable[[Iterable[bytes], str], Iterator[Delta]],
    ) -> None:
        self.method = method
        self.url = url
        self.headers = headers
        self.body = body
        self.data = None if body is None else encode_json(body)
        self.decode = decode

    def with_body(self, body: dict[str, Any]) -> HTTPRequest:
        """Return the same request with another body."""
        return HTTPRequest(self.method, self.url, self.headers, body, self.decode)


class AttemptLoop:
    """The source of one answer: asks by ``send``, again as ``policy`` says.

    ``amended`` returns a body to try where the server has refused the first; ``explain`` completes
    an error before it is raised.
    """

    def __init__(
        self,
        request: HTTPRequest,
        policy: Any,
        send: Callable[[HTTPRequest, transport.Call], transport.Response],
        amended: Callable[[dict[str, Any], APIStatusError], dict[str, Any] | None],
        explain: Callable[[Exception, HTTPRequest], None],
    ) -> None:
        self._request = request
        self._policy = policy
        self._send = send
        self._amended = amended
        self._explain = explain

    def __call__(self, pipe: Channel) -> Iterator[Delta]:
        try:
            yield from self._attempts(pipe)
        except CallEnded:
            raise
        except Exception as error:  # also what a provider of one's own raises
            self._explain(error, self._request)
            raise

    def _attempts(self, pipe: Channel) -> Iterator[Delta]:
        failure: ProviderError | None = None
        try:
            yield from self._attempt(pipe)
            return
        except ProviderError as error:
            if pipe.has_started() or self._policy in (None, 1) or not retry.is_retryable(error):
                raise
            failure = error
        # The first attempt has failed: tenacity hears of it as its own first, and takes over.
        clocks = pipe.deadlines
        for trial in retry.attempts(
            self._policy, pipe.sleep, clocks.total_time_left, pipe.has_started
        ):
            trial.retry_state.start_time = clocks.started_at  # for stop_after_delay and its like
            with trial:
                if failure is not None:
                    first, failure = failure, None
                    raise first
                yield from self._attempt(pipe)

    def _attempt(self, pipe: Channel) -> Iterator[Delta]:
        total = pipe.deadlines.total_time_left()
        call = transport.Call(
            connect_s=pipe.timeouts.connect,
            read_s=None if pipe.timeouts.total is None else max(total, 0.001),
            on_connected=pipe.connected,
            on_sent=pipe.sent,
        )
        pipe.start_attempt(call.stop)
        try:
            yield from self._answer(pipe, call)
            return
        except transport.CallStopped:
            raise pipe.interruption() from None
        except APIStatusError as error:
            body = self._request.body and self._amended(self._request.body, error)
            if not body:
                raise
            self._request = self._request.with_body(body)
        finally:
            call.release_socket()
        yield from self._attempt(pipe)

    def _answer(self, pipe: Channel, call: transport.Call) -> Iterator[Delta]:
        answer = self._send(self._request, call)
        try:
            if not 200 <= answer.status < 300:
                raise transport.status_error(
                    answer, min(ERROR_BODY_S, pipe.deadlines.time_left() / 2)
                )
            _check_content_type(answer)
            pipe.headers_received(answer.headers, answer.request_id)
            try:
                yield from self._request.decode(_body(answer, pipe), answer.content_type)
            except (StreamCut, StreamTruncated):
                if not pipe.has_end_marker:
                    raise
            if not answer.has_ended:  # what we have is not held back by what may follow
                pipe.flush()
            answer.return_connection()
        finally:
            answer.close()


def _body(answer: transport.Response, pipe: Channel) -> Iterator[bytes]:
    """Yield the body as it arrives; what was decoded so far is handed over before each wait."""
    data = answer.read_available()
    while True:
        if data:
            pipe.bytes_received(len(data))
            yield data
        pipe.flush()
        if not (data := answer.read()):
            return


def _check_content_type(answer: transport.Response) -> None:
    kind = answer.content_type
    if kind == "text/html":
        raise MalformedStream(f"{answer.url} sent a web page instead of an answer; check base_url")
    if not (kind.startswith("text/") or kind.endswith("json") or kind in _TEXT_TYPES):
        raise MalformedStream(f"{answer.url} sent {kind} instead of an answer; check base_url")


def encode_json(body: dict[str, Any]) -> bytes:
    """Return the body as JSON, naming the item that JSON cannot hold."""
    try:
        return json.dumps(body, allow_nan=False).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        for name, value in body.items():
            try:
                json.dumps(value, allow_nan=False)
            except (TypeError, ValueError, RecursionError):
                raise InvalidRequestError(f"{name} cannot be sent as JSON: {error}") from error
        raise InvalidRequestError(f"the request cannot be sent as JSON: {error}") from error
