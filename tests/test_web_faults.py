"""What an app's own types, its threads and hostile addresses do to the body of a response."""

from __future__ import annotations

import datetime
import json
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from providers_sync import Completion, OpenAICompatible, ProviderError
from providers_sync.stream import PreparedCall, Stream
from providers_sync.testing import event, serve, stall, text
from providers_sync.web import WSGIBody, plain, sse

BOTH = pytest.mark.parametrize("make", [sse, plain])
WAIT_S = 10.0


def openai(url: str) -> OpenAICompatible:
    return OpenAICompatible("m", base_url=url, retry=1)


def events(body: Any) -> list[tuple[str, dict[str, Any]]]:
    """Return the events of a body."""
    blocks = b"".join(body).decode("ascii").split("\n\n")
    parts = [block.split("\ndata: ") for block in blocks if block.startswith("event: ")]
    return [(name.removeprefix("event: "), json.loads(data)) for name, data in parts]


def model(method: str) -> Any:
    """Return a type whose validator, or serializer, raises no ``ValueError``."""
    pydantic = pytest.importorskip("pydantic")

    class Day(pydantic.BaseModel):  # type: ignore[misc, name-defined]
        day: Any

        @getattr(pydantic, f"field_{method}")("day")  # type: ignore[untyped-decorator]
        @classmethod
        def convert(cls, value: Any) -> datetime.date:
            return datetime.date.fromisoformat(value)  # a TypeError for a number

    return Day


@BOTH
@pytest.mark.parametrize("method", ["validator", "serializer"])
def test_type_that_raises_anything(
    make: Callable[..., WSGIBody], method: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The answer is stored, nothing is raised into the server, and the traceback is in the log."""
    ended: list[Completion] = []
    with serve([text('{"day": 5}')]) as server:
        call = openai(server.url).prepare("Hi", into=model(method))
        chunks = list(make(call, on_end=ended.append))
    assert [(each.outcome, each.text) for each in ended] == [("complete", '{"day": 5}')]
    if make is plain:
        return
    (_, _), (name, failure), (last, done) = events(chunks)
    assert (name, failure["kind"], failure["outcome"]) == ("error", "InvalidAnswer", "failed")
    assert (last, done["outcome"], "value" in done) == ("done", "complete", False)
    (record,) = caplog.records
    assert failure["reference"] in record.getMessage()
    assert record.exc_info is not None
    assert record.levelno == logging.ERROR
    caplog.clear()  # its traceback holds the answer


@BOTH
def test_no_thread_can_be_started(
    make: Callable[..., WSGIBody], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fails like a call that the model's server refuses."""
    ended: list[Completion] = []

    def begin(call: PreparedCall) -> Stream:
        raise ProviderError("no thread can be started")

    monkeypatch.setattr(PreparedCall, "begin", begin)
    with serve() as server:
        body = make(openai(server.url).prepare("Hi"), on_end=ended.append)
        if make is plain:
            with pytest.raises(ProviderError, match="no thread"):
                list(body)
        else:
            (name, failure), (last, done) = events(body)
            assert (name, failure["kind"], last) == ("error", "ProviderError", "done")
            assert done["outcome"] == "failed"
    assert [each.outcome for each in ended] == ["failed"]


def test_closing_while_the_call_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """``on_end`` is told of the stream that the body has."""
    ended: list[Completion] = []
    sending, go_on = threading.Event(), threading.Event()
    begin = PreparedCall.begin

    def slow(call: PreparedCall) -> Stream:
        stream = begin(call)
        assert stream.wait(WAIT_S)
        sending.set()
        assert go_on.wait(WAIT_S)
        return stream

    monkeypatch.setattr(PreparedCall, "begin", slow)
    with serve([text("Hello"), stall()]) as server:
        body = sse(openai(server.url).prepare("Hi"), on_end=ended.append)
        reader = threading.Thread(target=lambda: list(body))
        closer = threading.Thread(target=body.close)
        reader.start()
        assert sending.wait(WAIT_S)
        closer.start()
        closer.join(0.1)
        go_on.set()
        reader.join(WAIT_S)
        closer.join(WAIT_S)
    assert body.stream is not None
    assert [each.text for each in ended] == [body.stream.text] == ["Hello"]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://a.example/?q=caf\u00e9&b=(c)#d", "https://a.example/?q=caf\u00e9&b=(c)#d"),
        ("https://a.example/\"onerror='<b>`\\", "https://a.example/%22onerror=%27%3Cb%3E%60%5C"),
        ("https://a.example/\u202egnp.exe\u2066", "https://a.example/%E2%80%AEgnp.exe%E2%81%A6"),
        ("https://a.example/\u200b", "https://a.example/%E2%80%8B"),
        ("https://a.example/ b", None),
        ("javascript:alert(1)", None),
    ],
)
def test_url_ends_no_attribute_and_hides_nothing(url: str, expected: str | None) -> None:
    """Characters that HTML reads, or that reorder what is shown, are percent-encoded."""
    citation = {"type": "url_citation", "url_citation": {"url": url, "title": "A"}}
    chunk = {"choices": [{"index": 0, "delta": {"annotations": [citation]}}]}
    with serve([text("Hello"), event(chunk)]) as server:
        sent = dict(events(sse(openai(server.url).prepare("Hi"))))
    assert sent["citation"]["url"] == expected
