"""Recordings as answers of the fault server: as recorded, so ends the stream of a plain client."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from providers_sync import Anthropic, OpenAICompatible, Provider, ProviderError, Timeouts
from providers_sync.recording import Exchange, Recorded, read_recordings
from providers_sync.recording.exchange import RecordedRequest
from providers_sync.testing import (
    Headers,
    Request,
    ScriptedProvider,
    answer,
    cut,
    html,
    recorded_answer,
    reset,
    serve,
    stall,
    status,
    text,
    tool_call,
    usage,
    wire,
)
from providers_sync.testing.recordings import RecordedAnswers
from providers_sync.testing.step_types import ConnectionStep

KINDS = (OpenAICompatible, Anthropic)
TIMES = Timeouts(first_token=0.2, idle=0.2)
GARBAGE = wire(b"3\r\n\xff\xff\xff\r\n")
SCRIPTS: dict[str, Any] = {
    "clean": [text("Hel"), text("lo 😀"), tool_call("f", {"a": 1}), usage(3, 4)],
    "truncated": answer("Hel", end=False),
    "half-character": answer("Hel", b"\xc3", end=False),
    "cut": [text("Hel"), text("lo"), cut()],
    "reset": [text("Hel"), reset()],
    "timeout": [text("Hel"), stall()],
    "broken-gzip": answer("Hel", GARBAGE, gzip=True),
    "status": status(429, "Slow down", headers={"Retry-After": "7"}),
    "html": html(),
    "no-content": answer(status=204, framing="length", end=False),
    "hang-up": answer(before=[cut()]),
    "silent": answer(before=[stall()]),
}


def observe(provider: Provider) -> tuple[Any, ...]:
    """Return what a caller sees of one answer."""
    try:
        with provider.stream("Hi") as stream:
            try:
                stream.read()
                error = None
            except ProviderError as caught:
                error = caught
    except ProviderError as caught:
        return type(caught), caught.outcome, getattr(caught, "retry_after", None)
    is_reset = isinstance(getattr(error, "__cause__", None), ConnectionResetError)
    told = (type(error), is_reset, getattr(error, "partial", None), getattr(error, "clock", None))
    return (*told, stream.text, stream.outcome, stream.finish_reason, stream.usage, stream.message)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SCRIPTS)
def test_served_recording_is_read_as_the_recorded_answer(
    kind: type[Provider], name: str, tmp_path: Path
) -> None:
    """Text, outcome, error and its partial text are the same."""
    path = tmp_path / "answers.jsonl"

    def client(url: str) -> Provider:
        return kind("m", base_url=url, api_key="k", timeouts=TIMES, retry=1)

    with serve(SCRIPTS[name]) as server, Recorded(client(server.url), path, "record") as provider:
        first = observe(provider)
    (exchange,) = read_recordings(path)
    with serve(exchange) as server, client(server.url) as plain:
        assert observe(plain) == first
    if name != "broken-gzip":  # which exists on a real connection only
        scripted = ScriptedProvider(exchange, like=client("http://llm.test"))
        assert observe(scripted) == first


def test_nth_request_gets_the_nth_recording(tmp_path: Path) -> None:
    """Also among other answers; the last one repeats."""
    path = tmp_path / "answers.jsonl"
    with serve([["one"], ["two"]]) as server:
        provider = Recorded(OpenAICompatible("m", base_url=server.url), path, "record")
        with provider:
            assert [provider.complete(each).text for each in "ab"] == ["one", "two"]
    for script, texts in (
        ([*read_recordings(path), ["three"]], ["one", "two", "three"]),
        (read_recordings(path), ["one", "two", "two"]),
    ):
        with serve(script) as server, OpenAICompatible("m", base_url=server.url) as plain:
            assert [plain.complete("?").text for _ in "abc"] == texts


def test_recording_is_sent_at_once_or_at_its_pace() -> None:
    """Each piece waits for its time, and the end for the last one."""
    event = b'data: {"choices": [{"delta": {"content": "Hi"}}]}\n\n'
    asked = RecordedRequest("POST", "http://llm.test/v1/chat/completions", {})
    pieces = [(0.02, event), (0.06, event)]
    exchange = Exchange(asked, status=200, how="clean", pieces=pieces, seconds=0.1)
    exchange.headers["content-type"] = "text/event-stream"
    paced = recorded_answer(exchange, paced=True)
    with serve(paced) as server, OpenAICompatible("m", base_url=server.url) as plain:
        stream = plain.stream("?", retry=1)
        with pytest.raises(ProviderError):
            stream.read()
    assert stream.text == "HiHi"
    assert stream.stats.first_chunk_s is not None
    assert 0.02 <= stream.stats.first_chunk_s < stream.stats.duration_s
    assert stream.stats.duration_s >= 0.1
    exchange.seconds = 1000.0
    exchange.pieces = [(900.0, event), (950.0, event + b"data: [DONE]\n\n")]
    with serve(exchange) as server, OpenAICompatible("m", base_url=server.url) as plain:
        assert plain.complete("?", timeouts=10).text == "HiHi"


ASKED = RecordedRequest("POST", "http://llm.test/v1/chat/completions", {"n": 1})


def test_steps_of_a_recording() -> None:
    """The pauses add up to the recorded times; a broken end is a step of its own."""
    pieces = [(1.0, b"a"), (3.0, b"b")]
    exchange = Exchange(ASKED, status=200, how="error", pieces=pieces, seconds=4.0)
    paced = recorded_answer(exchange, paced=True)
    names = ["pause(1.0)", "pause(2.0)", "pause(1.0)", "cut()"]
    assert [each.name for each in paced.steps if isinstance(each, ConnectionStep)] == names
    silent = recorded_answer(Exchange(ASKED, how="error", seconds=4.0), paced=True)
    assert [getattr(each, "name", "") for each in silent.before] == ["pause(4.0)", "cut()"]
    assert recorded_answer(Exchange(ASKED, status=204, how="clean")).framing == "length"


def test_equal_request_gets_its_recordings() -> None:
    """The last one repeats; another request gets the next of its method, or 404."""
    first, second = (Exchange(ASKED, status=200 + number, how="clean") for number in (1, 2))
    other = RecordedRequest("PUT", "http://llm.test/v1/chat/completions", {"n": 2})
    answers = RecordedAnswers([Exchange(other, status=200, how="clean"), first, second])

    def status_of(method: str, path: str, body: bytes) -> int:
        return answers(Request(1, 1, method, path, Headers([]), body)).status

    path = "/chat/completions"
    assert [status_of("POST", path, b'{"n": 1}') for _ in "abc"] == [201, 202, 202]
    assert [status_of("POST", "/other", b"[") for _ in "abc"] == [201, 202, 202]
    assert status_of("GET", path, b"") == 404
    slow = RecordedAnswers([Exchange(ASKED, how="error", seconds=4.0)], paced=True)
    assert len(slow(Request(1, 1, "POST", path, Headers([]), b"")).before) == 2
