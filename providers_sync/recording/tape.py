"""``Tape``: records the exchanges of one call, or plays them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import call_log, transport
from ..clock import monotonic
from ..errors import APITimeoutError, MalformedStream, ProviderError, StreamCut
from ..finish_reasons import is_whole
from ..providers.http_request import HTTPRequest
from ..providers.watching import WatchedDecoder
from ..stream import Channel
from ..types import Decoder, Delta, Finish, Outcome, Refusal
from . import unwritten
from .exchange import Exchange, RecordedRequest, to_request
from .file import RecordingError, RecordingFile
from .nearest import describe_nearest
from .playback import play

Find = Callable[[RecordedRequest], "tuple[Exchange | None, list[str]]"]
"""Returns the recording to play, or else the ids of those that the answer replaces."""

_PLACEHOLDERS = {
    "empty",
    "ollama",
    "lm-studio",
    "sk-no-key-required",
    "no-key",
    "not-needed",
    "dummy",
}
"""Keys that the guides of local servers tell to use: no secrets, but words of many answers."""


class Tape:
    """Between the attempts of a call and the network: what is in the file is not sent."""

    def __init__(self, file: RecordingFile, find: Find, *, paced: bool, waits: bool) -> None:
        self._file = file
        self._find = find
        self._replaces: list[str] = []
        self._paced = paced
        self.waits = waits
        """Whether the time between two attempts is waited for."""

    def find(self, request: HTTPRequest) -> Exchange | None:
        """Return the recording to play in place of sending; ``None`` to send and record."""
        asked = to_request(request.method, request.url, request.body)
        found, self._replaces = self._find(asked)
        return found

    def play(self, exchange: Exchange, attempt: transport.RequestAttempt) -> Any:
        """Return the recorded response, or raise the recorded error."""
        return play(exchange, attempt, paced=self._paced)

    def record(
        self,
        request: HTTPRequest,
        channel: Channel,
        send: Callable[[], transport.Response],
        secrets: Callable[[], list[str]],
    ) -> Any:
        """Send, and return a response that is recorded while it is read."""
        recorder = _Recorder(request, channel, self._file, secrets, self._replaces)
        try:
            response = send()
        except BaseException as error:
            recorder.end_without_response(error)
            raise
        return _RecordedResponse(response, recorder)


class _Recorder:
    """Makes one exchange, and writes it at its end."""

    def __init__(
        self,
        request: HTTPRequest,
        channel: Channel,
        file: RecordingFile,
        secrets: Callable[[], list[str]],
        replaces: list[str],
    ) -> None:
        asked = to_request(request.method, request.url, request.body)
        self.exchange = Exchange(asked, replaces)
        self.reason: str | None = None
        self.refusal = ""
        self._secrets = secrets
        self._channel = channel
        self._file = file
        self._started_at = monotonic()
        self._is_written = False
        unwritten.begin(self, file.path, lambda: channel.ended)

    def note(self, delta: Delta) -> None:
        """Note the finish reason and the refusal."""
        if isinstance(delta, Finish):
            self.reason = delta.reason or self.reason
        elif isinstance(delta, Refusal):
            self.refusal += delta.text

    def now(self) -> float:
        return monotonic() - self._started_at

    def end_without_response(self, error: BaseException) -> None:
        if isinstance(error, transport.AttemptStopped):
            failure = self._timeout()
            error = error if failure is None else failure  # else the caller has stopped it
        if isinstance(error, ProviderError):
            self._write("timeout" if isinstance(error, APITimeoutError) else "error", error)
        unwritten.end(self)

    def end(self, failure: BaseException | None, *, is_good: bool, is_read: bool) -> None:
        """Write how the body has ended.

        ``is_good``: whether the answer has ended well. ``is_read``: whether the body was read to
        its end.
        """
        failure = failure or self._timeout()
        if failure is not None and isinstance(failure, ProviderError):
            self._write(_how(failure), failure, is_good=is_good)
        else:
            self._write("clean" if is_good or is_read else "stopped", None, is_good=is_good)

    def _timeout(self) -> ProviderError | None:
        channel = self._channel
        with channel.lock:
            error, expired = channel.error, channel.expired
        if isinstance(error, APITimeoutError):
            return APITimeoutError(str(error), clock=error.clock)
        interruption = channel.interruption() if expired else None
        return interruption if isinstance(interruption, ProviderError) else None

    def _write(self, how: str, failure: ProviderError | None, *, is_good: bool = False) -> None:
        if self._is_written:
            return
        self._is_written = True
        try:
            self._finish_exchange(how, failure, is_good)
        except Exception as error:  # noqa: BLE001 (the answer must not be lost with its recording)
            reason = str(error) if isinstance(error, RecordingError) else call_log.reason(error)
            call_log.write("not_recorded", error=reason)
        finally:
            unwritten.end(self)

    def _finish_exchange(self, how: str, failure: ProviderError | None, is_good: bool) -> None:
        exchange = self.exchange
        exchange.how, exchange.seconds = how, self.now()
        if failure is not None:
            exchange.note_failure(failure)
        outcome = Outcome.COMPLETE if self._channel.has_end_marker else Outcome.UNVERIFIED
        exchange.is_whole = is_good and is_whole(outcome, self.reason, self.refusal)
        exchange.hide([each for each in self._secrets() if each.lower() not in _PLACEHOLDERS])
        self._file.append(exchange)


def _how(failure: ProviderError) -> str:
    if isinstance(failure, APITimeoutError):
        return "timeout"
    if isinstance(failure, StreamCut):
        return "reset" if isinstance(failure.__cause__, ConnectionResetError) else "cut"
    return "malformed" if isinstance(failure, MalformedStream) else "error"


class _RecordedResponse:
    """A response that keeps what is read of it."""

    def __init__(self, response: transport.Response, recorder: _Recorder) -> None:
        self._response = response
        self._recorder = recorder
        self._failure: BaseException | None = None
        self._peeked = b""
        exchange = recorder.exchange
        exchange.status = response.status
        exchange.keep_headers(response.headers)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._response, name)

    def watch(self, decoder: Decoder) -> Decoder:
        """Return a decoder that tells how the answer ends."""
        own = getattr(decoder, "checked_decoder", decoder)
        self._recorder.exchange.decoder = type(own).__name__
        return WatchedDecoder(decoder, self._recorder.note)

    def receive(self) -> bytes | None:
        try:
            data = self._response.receive()
        except BaseException as error:
            self._failure = error
            raise
        self._peeked = b""
        if data:
            self._keep(data)
        return data

    def peek(self, wait_s: float) -> bytes:
        try:
            self._peeked = self._response.peek(wait_s)
        except BaseException as error:
            self._failure = error
            raise
        return self._peeked

    def read_error(self, wait_s: float) -> bytes:
        data = self._response.read_error(wait_s)
        if data:
            self._keep(data)
        return data

    def release(self) -> None:
        self._response.release()
        self._end(is_good=self._response.status < 300)

    def close(self) -> None:
        self._response.close()
        self._end(is_good=False)

    def _end(self, *, is_good: bool) -> None:
        if self._peeked:
            self._keep(self._peeked)
            self._peeked = b""
        self._recorder.end(self._failure, is_good=is_good, is_read=self._response.ended)

    def _keep(self, data: bytes) -> None:
        self._recorder.exchange.pieces.append((self._recorder.now(), data))


def finder(
    file: RecordingFile,
    mode: str,
    max_age: float | None,
    unknown: Callable[[str], RecordingError],
) -> Find:
    """Return what finds the recording of a request: it depends on the mode.

    ``unknown`` returns the error for a request that has no recording.
    """

    def find_next(request: RecordedRequest) -> tuple[Exchange | None, list[str]]:
        return file.next_whole(request.fingerprint, max_age)

    def find_nth(request: RecordedRequest) -> tuple[Exchange | None, list[str]]:
        exchange, number = file.nth(request.fingerprint)
        if exchange is not None:
            return exchange, []
        if number > 1:
            raise unknown(f"has no recording number {number} of this request")
        nearest = describe_nearest(request, file.all())
        raise unknown(f"has no recording of this request{nearest}")

    def find_none(request: RecordedRequest) -> tuple[Exchange | None, list[str]]:
        return None, file.replaced(request.fingerprint)

    return {"auto": find_next, "replay": find_nth, "record": find_none}[mode]
