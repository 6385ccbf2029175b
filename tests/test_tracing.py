"""OpenTelemetry and Sentry: one span for each request, under its caller's, and its headers sent."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
import responses
import urllib3
from mock_kit import ENDPOINT, HELLO, WAYS, ask, mocked
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.instrumentation.threading import ThreadingInstrumentor
from opentelemetry.instrumentation.urllib3 import URLLib3Instrumentor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from providers_sync import OpenAICompatible, batch
from providers_sync.testing import Server, serve, status

INSTRUMENTORS: dict[str, list[Any]] = {
    "requests": [RequestsInstrumentor],
    "urllib3": [URLLib3Instrumentor],
    "both": [RequestsInstrumentor, URLLib3Instrumentor],
    "requests, threading": [RequestsInstrumentor, ThreadingInstrumentor],
}
PATCHED: dict[str, Callable[[], Any]] = {
    "Session.send": lambda: requests.Session.send,
    "urlopen": lambda: urllib3.HTTPConnectionPool.urlopen,
    "Thread.start": lambda: threading.Thread.start,
    "Thread.run": lambda: threading.Thread.run,
}


class Traced:
    """The finished spans of an instrumented process."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.provider.get_tracer("tests")

    def clients(self) -> list[ReadableSpan]:
        """Return the spans of requests."""
        spans = self.exporter.get_finished_spans()
        return [span for span in spans if span.kind is SpanKind.CLIENT]


@pytest.fixture(params=INSTRUMENTORS)
def traced(request: pytest.FixtureRequest) -> Iterator[Traced]:
    """Instrument, and leave nothing patched."""
    before = {name: current() for name, current in PATCHED.items()}
    found = Traced(request.param)
    instrumentors = [kind() for kind in INSTRUMENTORS[request.param]]
    for each in instrumentors:
        each.instrument(tracer_provider=found.provider)
    yield found
    for each in instrumentors:
        each.uninstrument()
    found.provider.shutdown()
    assert {name: current() for name, current in PATCHED.items()} == before


def openai(server: Server, **settings: Any) -> OpenAICompatible:
    return OpenAICompatible("m", base_url=f"{server.url}/v1", **settings)


def sent_parents(server: Server) -> list[str]:
    """Return the span IDs that the requests carry in ``traceparent``."""
    return [request.headers["traceparent"].split("-")[2] for request in server.requests]


def span_ids(spans: list[ReadableSpan]) -> list[str]:
    return [f"{span.get_span_context().span_id:016x}" for span in spans]


@pytest.mark.parametrize("way", WAYS)
def test_request_has_one_span_and_carries_its_id(way: str, traced: Traced) -> None:
    """With both instrumentations too."""
    with serve(["Hello"]) as server:
        assert ask(openai(server), way) == ("Hello", "complete", None)
        (span,) = traced.clients()
        assert sent_parents(server) == span_ids([span])
    assert span.attributes is not None
    assert span.attributes["http.status_code"] == 200
    assert str(span.attributes["http.url"]).endswith("/v1/chat/completions")


def test_each_attempt_has_a_span(traced: Traced) -> None:
    """Failed ones have the status of an error."""
    busy = status(503, "busy", headers={"Retry-After": "0"})
    with serve([busy, busy, ["Hello"]]) as server:
        assert ask(openai(server)).text == "Hello"
        spans = traced.clients()
        assert sent_parents(server) == span_ids(spans)
    assert [span.status.status_code for span in spans] == [
        StatusCode.ERROR,
        StatusCode.ERROR,
        StatusCode.UNSET,
    ]


def test_refused_connection_is_a_span_with_an_error(
    traced: Traced, refused: tuple[str, int]
) -> None:
    """The exception is recorded."""
    url = "http://{}:{}/v1".format(*refused)
    assert ask(OpenAICompatible("m", base_url=url, retry=None)).error is not None
    (span,) = traced.clients()
    assert span.status.status_code is StatusCode.ERROR
    assert [event.name for event in span.events] == ["exception"]


@pytest.mark.parametrize("way", WAYS)
def test_span_stands_under_its_callers(way: str, traced: Traced) -> None:
    """Threads are used again for the next call: its span must not stand under the first caller."""
    with serve(["Hello"]) as server:
        provider = openai(server)
        for _ in range(3):
            with traced.tracer.start_as_current_span("caller") as caller:
                assert ask(provider, way).text == "Hello"
            span = traced.clients()[-1]
            assert span.parent is not None
            assert span.parent.span_id == caller.get_span_context().span_id
        assert ask(provider, way).text == "Hello"
    assert traced.clients()[-1].parent is None


def test_rows_of_a_batch_stand_under_their_caller(traced: Traced) -> None:
    """In whichever thread they run."""
    with serve(["Hello"]) as server, traced.tracer.start_as_current_span("caller") as caller:
        results = list(batch.map(openai(server), ["a", "b", "c", "d"], concurrency=2))
    assert [result.text for result in results] == ["Hello"] * 4
    parents = [span.parent and span.parent.span_id for span in traced.clients()]
    assert parents == [caller.get_span_context().span_id] * 4


SENTRY = """
import sys, sentry_sdk
from sentry_sdk.transport import Transport
from providers_sync import OpenAICompatible, ProviderError

class Memory(Transport):
    items = []
    def capture_envelope(self, envelope):
        self.items += envelope.items
    def flush(self, *_, **__): pass
    def kill(self): pass

sentry_sdk.init("http://key@127.0.0.1:9/1", transport=Memory(), traces_sample_rate=1.0,
                auto_enabling_integrations=False)
url, refused, key = sys.argv[1:]
provider = OpenAICompatible("m", base_url=url, api_key=key)
assert provider.complete("Warm").text == "Hello"
with sentry_sdk.start_transaction(name="question"):
    assert provider.complete("Hi").text == "Hello"
    try:
        OpenAICompatible("m", base_url=refused, api_key=key, retry=None).complete("Hi")
    except ProviderError as error:
        sentry_sdk.capture_exception(error)
event, transaction = [item.payload.json for item in Memory.items]
spans = [span for span in transaction["spans"] if span["op"] == "http.client"]
assert [span["description"] for span in spans] == [f"POST {url}/chat/completions"], spans
*_, http = [each for each in event["breadcrumbs"]["values"] if each["type"] == "http"]
assert (http["data"]["url"], http["data"]["http.response.status_code"]) == (
    f"{url}/chat/completions", 200)
assert event["exception"]["values"][-1]["type"] == "APIConnectionError"
for value in event["exception"]["values"]:
    for frame in value.get("stacktrace", {}).get("frames", ()):
        if frame["module"] != "__main__":
            assert key not in repr(frame.get("vars")), frame
    assert key not in value["value"]
"""


def test_sentry_has_a_span_and_a_breadcrumb(refused: tuple[str, int]) -> None:
    """In a process of its own: Sentry cannot be taken out again. Nothing quotes the key."""
    with serve(["Hello"]) as server:
        arguments = [f"{server.url}/v1", "http://{}:{}/v1".format(*refused), "sk-very-secret"]
        command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", SENTRY, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=50)
        assert done.returncode == 0, done.stderr
        traces = [request.headers.get("sentry-trace") for request in server.requests]
    assert traces[0] is None  # outside of the transaction
    assert traces[1]


def test_mocked_answer_has_a_span(traced: Traced) -> None:
    """A tool that answers below ``Session.send`` is traced by the instrumentation of requests."""
    with responses.RequestsMock() as mock:
        mock.post(ENDPOINT, body=HELLO, content_type="text/event-stream")
        assert ask(mocked()).text == "Hello"
        sent = [call.request.headers.get("traceparent", "").split("-") for call in mock.calls]
    ids = span_ids(traced.clients())
    assert [parts[2] for parts in sent if len(parts) > 2] == ids
    assert len(ids) == (traced.name != "urllib3")
