"""Tests of what the browser receives about a failure, and what goes only to the log."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from typing import Any

import pytest

from providers_sync import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    Failover,
    FailoverError,
    InvalidAnswer,
    InvalidRequestError,
    ModelNotSupportedError,
    OpenAICompatible,
    ProviderError,
    RateLimitError,
    StreamCancelled,
    StreamCut,
    StreamTruncated,
    ToolError,
)
from providers_sync.errors import MalformedStream, ServerError, StreamError
from providers_sync.testing import Server, answer, cut, error, html, serve, stall, status, text
from providers_sync.web import QuestionError, error_data, plain, question, sse

KEY = "sk-very-secret-key"
PROMPT = "A confidential prompt"
MESSAGE = "Quota of project 4711 at internal.example"
SENTENCE = re.compile(r"[A-Z][a-z' ,;]+\.")


def of_status(kind: type[APIStatusError], code: int) -> APIStatusError:
    return kind(MESSAGE, status_code=code, body=MESSAGE, request_id="req_1")


EVERY_KIND: list[ProviderError] = [
    ProviderError(MESSAGE),
    InvalidRequestError(MESSAGE),
    ModelNotSupportedError(MESSAGE),
    APIConnectionError(MESSAGE),
    *(
        APITimeoutError(MESSAGE, clock=clock)
        for clock in ("connect", "first_token", "idle", "total")
    ),
    of_status(APIStatusError, 500),
    of_status(AuthenticationError, 401),
    of_status(RateLimitError, 429),
    FailoverError(MESSAGE),
    InvalidAnswer(MESSAGE),
    ToolError(MESSAGE),
    StreamError(MESSAGE),
    StreamTruncated(MESSAGE),
    StreamCut(MESSAGE),
    MalformedStream(MESSAGE),
    ServerError(MESSAGE, type=MESSAGE, code=MESSAGE),
    StreamCancelled(MESSAGE),
]


@pytest.mark.parametrize("failure", EVERY_KIND, ids=lambda failure: type(failure).__name__)
def test_a_browser_gets_a_fixed_sentence(
    failure: ProviderError, caplog: pytest.LogCaptureFixture
) -> None:
    """The error's own text is only in the log, once, with the same reference."""
    caplog.set_level(logging.INFO, "providers_sync")
    failure.partial = PROMPT
    data = error_data(failure)
    assert SENTENCE.fullmatch(data["message"])
    assert data["kind"] == type(failure).__name__
    assert data["outcome"] == str(failure.outcome)
    assert set(data) == {"message", "kind", "outcome", "reference"}
    assert error_data(failure) == data
    [record] = caplog.records
    assert record.name == "providers_sync"
    line = record.getMessage()
    assert data["reference"] in line
    assert MESSAGE in line
    assert ("'req_1'" in line) == isinstance(failure, APIStatusError)
    assert PROMPT not in line
    is_failure = not isinstance(failure, StreamCancelled)
    assert (record.levelno >= logging.WARNING) == is_failure


def test_every_error_class_is_tested() -> None:
    """New classes must be added to ``EVERY_KIND``."""
    found, classes = set(), [ProviderError]
    while classes:
        kind = classes.pop()
        classes += kind.__subclasses__()
        if kind.__module__ == "providers_sync.errors":
            found.add(kind)
    assert found == {type(failure) for failure in EVERY_KIND}


def test_references_differ() -> None:
    """Two failures of the same class can be distinguished."""
    references = {error_data(StreamCut("x"))["reference"] for _ in range(100)}
    assert len(references) == 100


def test_invalid_browser_input_is_logged_at_info_only(caplog: pytest.LogCaptureFixture) -> None:
    """Otherwise anyone could flood the log with failures."""
    caplog.set_level(logging.INFO, "providers_sync")
    with pytest.raises(QuestionError) as caught:
        question([{"role": "system", "content": PROMPT}])
    error_data(caught.value)
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert PROMPT not in caplog.text


def test_a_servers_message_stays_on_one_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """It cannot start a new line or control the terminal, and its length is limited."""
    malicious = "a\n2030-01-01 root logged in\x1b[2J\u202e\u200b\ud800" + "x" * 70_000
    error_data(APIStatusError(malicious, status_code=500, request_id="r\n\x1b[2J" + "x" * 70_000))
    [record] = caplog.records
    line = record.getMessage()
    assert line.isprintable()
    assert len(line) < 5000


def prepare(server: Server) -> Any:
    provider = OpenAICompatible("m", base_url=server.url, api_key=KEY, retry=1, timeouts=0.5)
    return provider.prepare(PROMPT)


SECRETS = [status(401, MESSAGE), status(500, MESSAGE), error(MESSAGE), html(), [text("Hel"), cut()]]


@pytest.mark.parametrize("script", [*SECRETS, [text("Hel"), stall()]])
@pytest.mark.parametrize("make", [sse, plain])
def test_details_of_a_failed_answer_are_only_in_the_log(
    make: Any, script: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """They are logged once; neither the browser nor the log gets the key or the prompt."""
    with serve(script) as server:
        body = make(prepare(server))
        sent = b""
        try:
            for chunk in body:
                sent += chunk
        except ProviderError:
            assert make is plain
        for _ in range(2):
            with pytest.raises((ProviderError, StopIteration)):
                next(body)
    [record] = caplog.records
    line = record.getMessage()
    for secret in (MESSAGE, KEY, PROMPT, str(server.port), "127.0.0.1", "OPENAI"):
        assert secret not in sent.decode()
    for secret in (KEY, PROMPT):
        assert secret not in line
    if make is sse:
        assert re.search(r'"reference":"(\w+)"', sent.decode())[1] in line  # type: ignore[index]


def test_a_failover_does_not_send_its_urls_to_the_browser(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Only the operator may know them."""
    with serve(status(500, MESSAGE)) as server:
        provider = OpenAICompatible("m", base_url=server.url, retry=1)
        sent = b"".join(sse(Failover([provider]).prepare("Hi"))).decode()
    assert str(server.port) not in sent
    assert MESSAGE not in sent
    assert len(caplog.records) == 1


def test_the_log_has_the_request_id_of_a_cut_answer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The error has no request ID, so that of the answer is logged."""
    with serve(answer(text("Hel"), cut(), headers={"X-Request-Id": "req_2"})) as server:
        b"".join(sse(prepare(server)))
    assert "request id 'req_2'" in caplog.text


def test_a_failure_is_printed_without_a_logging_setup() -> None:
    """It goes to standard error: the package adds no handler that would suppress it."""
    program = (
        "from providers_sync import StreamCut\n"
        "from providers_sync.web import error_data\n"
        "print(error_data(StreamCut('it broke'))['reference'])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() in done.stderr
    assert "it broke" in done.stderr
