"""Requests that a program's own code answers: unittest.mock, and adapters of one's own."""

from __future__ import annotations

import gzip
import io
import threading
from http.client import HTTPResponse
from typing import Any
from unittest.mock import MagicMock, patch

import pytest
import requests
import urllib3
from mock_kit import (
    BODIES,
    HELLO,
    SSE,
    URL,
    WAYS,
    OnlyRead,
    ask,
    mocked,
    response,
    sse,
)

from providers_sync import (
    AI365VIP,
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    MalformedStream,
    OpenAICompatible,
    Outcome,
    RateLimitError,
    StreamCancelled,
    StreamCut,
    StreamTruncated,
    Timeouts,
)
from providers_sync.testing import open_streams, serve, status

SEND = ["requests.Session.send", "requests.adapters.HTTPAdapter.send"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("target", SEND)
@pytest.mark.parametrize("body", BODIES)
def test_hand_made_response_is_read(body: str, target: str, way: str) -> None:
    """``raw`` may be anything with ``read``, or missing if the content is set."""
    with patch(target, return_value=BODIES[body](HELLO)) as send:
        assert ask(mocked(), way) == ("Hello", "complete", None)
        assert send.call_count == 1


@pytest.mark.parametrize("body", BODIES)
def test_hand_made_response_without_its_end_is_truncated(body: str) -> None:
    """The text is there; ``complete()`` raises."""
    with patch(SEND[0], return_value=BODIES[body](sse("Hel", end=False))):
        text, outcome, error = ask(mocked(retry=None), "complete")
    assert (text, outcome) == ("Hel", "truncated")
    assert isinstance(error, StreamTruncated)


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (None, "Session.send returned NoneType, not a response"),
        (MagicMock(), "Session.send returned MagicMock, not a response"),
        (MagicMock(status_code=200), "the body cannot be read: TypeError: it is MagicMock"),
        (
            MagicMock(spec=requests.Response, status_code=200, headers=SSE),
            "AttributeError: Mock object has no",
        ),
        (response(io.StringIO(HELLO.decode())), "it is str, not bytes"),
        (response(MagicMock(read1=MagicMock(side_effect=KeyError("k")))), "KeyError: 'k'"),
    ],
)
def test_mock_that_is_no_response_is_told_at_once(made: Any, text: str) -> None:
    """A MagicMock turns into numbers and endless zeros where one lets it."""
    with patch(SEND[0], return_value=made) as send:
        error = ask(mocked()).error
        assert send.call_count == 1
    assert isinstance(error, (APIConnectionError, MalformedStream))
    assert text in str(error)


def test_hand_made_error_status_is_an_error_with_the_servers_message() -> None:
    """With a body, and without any."""
    body = b'{"error": {"message": "slow down"}}'
    for made in (response(_content=body, status=429), response(status=429)):
        with patch(SEND[1], return_value=made):
            error = ask(mocked(retry=None)).error
        assert isinstance(error, RateLimitError)
        assert ("slow down" in str(error)) == (made._content is not False)


def test_compressed_body_of_a_hand_made_response_is_decompressed_once() -> None:
    """A content set by hand, or read by a hook, is decompressed already; urllib3 may offer to."""

    class Connection:
        def makefile(self, _: str) -> io.BytesIO:
            return io.BytesIO(b"HTTP/1.1 200 OK\r\n\r\n" + gzip.compress(b"Hello"))

    http = HTTPResponse(Connection())  # type: ignore[arg-type]
    http.begin()
    headers = {"Content-Type": "text/plain", "Content-Encoding": "gzip"}
    raw = urllib3.HTTPResponse(http, headers, preload_content=False, decode_content=True)
    for made in (response(raw), response(_content=b"Hello")):
        made.headers.update(headers)
        with patch(SEND[0], return_value=made):
            assert AI365VIP(base_url=URL).complete("Hi").text == "Hello"


def test_error_in_the_middle_of_a_mocked_body_keeps_the_text() -> None:
    """A broken connection is a cut; another error is a broken body. Both keep what came."""
    for failure, error_class in ((ConnectionResetError, StreamCut), (TypeError, MalformedStream)):
        raw = MagicMock(spec=["read"])
        raw.read.side_effect = [sse("Hel", end=False), failure("oops")]
        with patch(SEND[0], return_value=response(raw)):
            text, _, error = ask(mocked())
        assert text == "Hel"
        assert type(error) is error_class
        assert "oops" in str(error)


class Adapter(requests.adapters.BaseAdapter):
    """An adapter of a user's own, which answers without a connection."""

    def __init__(self, *answers: Any) -> None:
        super().__init__()
        self.answers = list(answers)
        self.sent: list[Any] = []

    def send(self, request: Any, **settings: Any) -> Any:
        self.sent.append((request, settings))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        pass


@pytest.mark.parametrize("way", WAYS)
def test_adapter_of_ones_own_answers(way: str) -> None:
    """Mounted on the caller's session, or given by a patched ``get_adapter``."""
    adapter = Adapter(response(OnlyRead(HELLO)), response(OnlyRead(HELLO)))
    with requests.Session() as session:
        session.mount(URL, adapter)
        assert ask(mocked(session=session), way) == ("Hello", "complete", None)
    with patch.object(requests.Session, "get_adapter", return_value=adapter):
        assert ask(mocked(), way) == ("Hello", "complete", None)
    assert [settings["stream"] for _, settings in adapter.sent] == [True, True]


class Down(requests.ConnectionError):
    """An error class of an adapter."""


def test_error_of_an_adapter_is_retried_only_for_a_failure_of_the_network() -> None:
    """Its own class, raised from an error of the network, is one; without that it is a refusal."""
    failure = Down("the tunnel is down")
    failure.__cause__ = ConnectionRefusedError(111, "Connection refused")
    adapter = Adapter(failure, response(_content=HELLO), Down("not today"))
    with requests.Session() as session:
        session.mount(URL, adapter)
        assert ask(mocked(session=session)).text == "Hello"
        error = ask(mocked(session=session)).error
    assert isinstance(error, APIConnectionError)
    assert not error.retryable
    assert str(error) == "the request to llm.test failed: Down: not today"
    assert isinstance(error.__cause__, Down)


def test_hook_that_raises_for_status_gives_the_status_error() -> None:
    """Many sessions have one; the server's message and the retry stay."""
    busy = status(503, "busy", headers={"Retry-After": "0"})
    with serve([busy, busy, [*"Hello"]]) as server, requests.Session() as session:
        session.hooks["response"].append(lambda response, **_: response.raise_for_status())
        settings: Any = {"base_url": f"{server.url}/v1", "session": session}
        error = ask(OpenAICompatible("m", **settings, retry=None)).error
        assert isinstance(error, APIStatusError)
        assert (error.status_code, "busy" in error.body) == (503, True)
        assert ask(OpenAICompatible("m", **settings)).text == "Hello"


@pytest.mark.parametrize("end", ["cancel", "close", "timeout"])
def test_mocked_body_that_waits_is_left_at_once(end: str) -> None:
    """The caller is free at once; the worker when the read returns."""
    waiting, free = threading.Event(), threading.Event()

    class Waiting(OnlyRead):
        def read(self, size: int = -1) -> bytes:
            data = super().read()
            if not data:
                waiting.set()
                free.wait(10)
            return data

    with patch(SEND[0], return_value=response(Waiting(sse("Hel", end=False), 1000))):
        stream = mocked().stream("Hi", timeouts=Timeouts(idle=0.1 if end == "timeout" else 10))
        assert next(stream) == "Hel"
        assert waiting.wait(5)
        if end == "timeout":
            with pytest.raises(APITimeoutError):
                next(stream)
        else:
            getattr(stream, end)()
    assert not free.is_set()
    free.set()
    if end == "cancel":
        with pytest.raises(StreamCancelled):
            next(stream)
    assert stream.outcome == (Outcome.STALLED if end == "timeout" else Outcome.CANCELLED)
    assert open_streams() == []


@pytest.mark.parametrize("target", SEND)
def test_mocked_body_without_an_event_meets_the_first_token_timeout(target: str) -> None:
    """A mock reports no connection, but its answer is one."""
    free = threading.Event()
    raw = MagicMock(spec=["read"])
    raw.read.side_effect = lambda _: b"" * free.wait(10)
    with patch(target, return_value=response(raw)):
        error = ask(mocked(timeouts=Timeouts(first_token=0.1))).error
    free.set()
    assert isinstance(error, APITimeoutError)
    assert error.clock == "first_token"


@pytest.mark.parametrize("error", [ValueError, RuntimeError])
@pytest.mark.parametrize("whole", [True, False])
def test_body_that_cannot_be_closed_ends_its_call(error: type[Exception], whole: bool) -> None:
    """It is not ours; what it raises there must not leave the caller waiting."""

    class Unclosable(OnlyRead):
        def close(self) -> None:
            raise error

    body = HELLO if whole else sse("Hello", end=False)
    with patch(SEND[0], return_value=response(Unclosable(body))):
        answered = ask(mocked(timeouts=Timeouts(total=5), retry=None))
    assert (answered.text, answered.outcome) == ("Hello", "complete" if whole else "truncated")
