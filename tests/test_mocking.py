"""Requests that requests-mock or responses answers."""

from __future__ import annotations

import gzip
import io
import json
from typing import Any

import pytest
import requests
import requests_mock
import responses
from mock_kit import (
    ENDPOINT,
    HELLO,
    SSE,
    WAYS,
    OnlyRead,
    ask,
    mocked,
    real_server,
    sse,
)
from responses.registries import OrderedRegistry

from providers_sync import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    OpenAICompatible,
)
from providers_sync.testing import serve


@pytest.mark.parametrize("way", WAYS)
def test_requests_mock_answers_and_nothing_is_sent(way: str) -> None:
    """Its history has the call; the server at the address gets none."""
    with real_server() as (_, provider, endpoint), requests_mock.Mocker() as mocker:
        mocker.post(endpoint, content=HELLO, headers=SSE)
        assert ask(provider, way) == ("Hello", "complete", None)
        (request,) = mocker.request_history
        assert request.json()["messages"] == [{"role": "user", "content": "Hi"}]


@requests_mock.Mocker(kw="mocker")
def test_requests_mock_decorator_and_callback(**mock: Any) -> None:
    """The callback sees the request and chooses headers and text."""

    def echo(request: Any, context: Any) -> bytes:
        context.headers.update(SSE)
        return sse(request.json()["messages"][0]["content"])

    mock["mocker"].post(ENDPOINT, content=echo)
    assert mocked().complete("Echo").text == "Echo"
    assert mock["mocker"].call_count == 1


@pytest.mark.parametrize("way", WAYS)
def test_requests_mock_without_an_answer_refuses_at_once(way: str) -> None:
    """One request, not three; the error names the class and the address."""
    with real_server() as (_, provider, endpoint), requests_mock.Mocker() as mocker:
        _, outcome, error = ask(provider, way)
        assert mocker.call_count == 1
    assert f"NoMockAddress: No mock address: POST {endpoint}" in str(error)
    assert outcome == "failed"


@pytest.mark.parametrize(
    ("failure", "error_class", "calls", "text"),
    [
        (requests.ConnectionError("down today"), APIConnectionError, 2, "down today"),
        (requests.ConnectionError, APIConnectionError, 2, "the connection failed"),
        (requests.ConnectTimeout, APITimeoutError, 2, "within the connect timeout"),
        (requests.ReadTimeout, APITimeoutError, 1, "no answer from llm.test: ReadTimeout"),
        (requests.exceptions.InvalidHeader("a space"), APIConnectionError, 1, "Header: a space"),
        (TypeError("a bug"), APIConnectionError, 1, "failed: TypeError: a bug"),
    ],
)
def test_exception_of_requests_mock_is_retried_if_it_is_of_the_network(
    failure: Any, error_class: Any, calls: int, text: str
) -> None:
    """Users test their own retries so; a mistake in a mock is told at once."""
    with requests_mock.Mocker() as mocker:
        mocker.post(ENDPOINT, exc=failure)
        error = ask(mocked(retry=2), "complete").error
        assert mocker.call_count == calls
    assert type(error) is error_class
    assert text in str(error)


def test_requests_mock_series_is_retried_to_its_answer() -> None:
    """A status, a refused connection, then an answer."""
    busy = {"status_code": 503, "headers": {"Retry-After": "0"}}
    series = [busy, {"exc": requests.ConnectionError}, {"content": HELLO, "headers": SSE}]
    with requests_mock.Mocker() as mocker:
        mocker.post(ENDPOINT, series)
        assert ask(mocked()).text == "Hello"
        assert mocker.call_count == 3


def test_real_http_of_requests_mock_reaches_the_server() -> None:
    """What is not registered goes through, as its user asked."""
    with serve([*"real"]) as server, requests_mock.Mocker(real_http=True):
        provider = OpenAICompatible("m", base_url=f"{server.url}/v1")
        assert ask(provider) == ("real", "complete", None)


@pytest.mark.parametrize("body", [OnlyRead, io.BytesIO])
@pytest.mark.parametrize("end", [True, False])
def test_body_of_requests_mock_may_be_any_file(body: Any, end: bool) -> None:
    """Plain requests needs more than ``read``; an answer without its end marker is truncated."""
    with requests_mock.Mocker() as mocker:
        mocker.post(ENDPOINT, body=body(sse("Hel", "lo", end=end)), headers=SSE)
        text, outcome, _ = ask(mocked(retry=None))
    assert (text, outcome) == ("Hello", "complete" if end else "truncated")


@pytest.mark.parametrize("way", WAYS)
def test_responses_answers_and_nothing_is_sent(way: str) -> None:
    """Its calls have the request; the server at the address gets none."""
    with real_server() as (_, provider, endpoint), responses.RequestsMock() as mock:
        mock.post(endpoint, body=HELLO, content_type="text/event-stream")
        assert ask(provider, way) == ("Hello", "complete", None)
        assert [json.loads(call.request.body)["stream"] for call in mock.calls] == [True]


def test_responses_without_a_match_shows_its_own_text() -> None:
    """It raises requests' ConnectionError, so it is retried; the text names the remedy."""
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        error = ask(mocked(retry=2), "complete").error
        assert len(mock.calls) == 2
    assert "cannot connect to llm.test: Connection refused by Responses - the call" in str(error)
    assert "\n" not in str(error)


def test_responses_in_order_are_the_attempts() -> None:
    """The registry gives each attempt its own answer."""
    with responses.RequestsMock(registry=OrderedRegistry) as mock:
        mock.post(ENDPOINT, status=503, headers={"Retry-After": "0"})
        mock.post(ENDPOINT, body=requests.ConnectionError("reset"))
        mock.post(ENDPOINT, body=io.BufferedReader(io.BytesIO(HELLO)))  # type: ignore[arg-type]
        assert ask(mocked()).text == "Hello"


def test_responses_passes_a_real_address_through() -> None:
    """Only for that address; one request arrives."""
    with serve([*"real"]) as server, responses.RequestsMock() as mock:
        mock.add_passthru(server.url)
        assert ask(OpenAICompatible("m", base_url=f"{server.url}/v1")).text == "real"
        assert len(server.requests) == 1


def test_responses_redirect_is_not_followed() -> None:
    """The error names the target; nothing is sent there."""
    with responses.RequestsMock() as mock:
        mock.post(ENDPOINT, status=307, headers={"Location": "http://elsewhere.test/?key=1"})
        error = ask(mocked()).error
        assert len(mock.calls) == 1
    assert isinstance(error, APIStatusError)
    assert "redirected to http://elsewhere.test/;" in str(error)


@pytest.mark.parametrize("tool", ["requests_mock", "responses"])
@pytest.mark.parametrize(("part", "outcome"), [(None, "complete"), (60, "cut")])
def test_gzip_body_of_a_mock_is_decompressed(tool: str, part: Any, outcome: str) -> None:
    """One that ends too early is cut, as on a real connection."""
    words = [f"{number} " for number in range(50)]
    body, headers = gzip.compress(sse(*words))[:part], {"Content-Encoding": "gzip"}
    with requests_mock.Mocker() if tool == "requests_mock" else responses.RequestsMock() as mock:
        if tool == "requests_mock":
            mock.post(ENDPOINT, content=body, headers=SSE | headers)
        else:
            mock.post(ENDPOINT, body=body, headers=headers, content_type="text/event-stream")
        answer = ask(mocked(retry=None))
    assert answer.outcome == outcome
    assert "".join(words).startswith(answer.text)
