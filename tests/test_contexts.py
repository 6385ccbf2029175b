"""Context variables: every hook and request runs in a copy of its caller's context."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from typing import Any, TypeVar

import pytest
import tenacity
from opentelemetry.instrumentation.threading import ThreadingInstrumentor
from opentelemetry.instrumentation.urllib3 import URLLib3Instrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from providers_sync import APIStatusError, Failover, OpenAICompatible, aio, batch
from providers_sync.decoding import OpenAIDecoder
from providers_sync.errors import FailoverError
from providers_sync.stream import workers
from providers_sync.testing import cut, pause, serve, status, text
from providers_sync.types import Decoder, Delta
from providers_sync.web import plain

T = TypeVar("T")
caller: ContextVar[str] = ContextVar("caller", default="nobody")
leak: ContextVar[str] = ContextVar("leak", default="clean")


class Hooks(OpenAICompatible):
    """Records what each hook sees of the caller's context, and leaves a mark in its own."""

    def __init__(self, url: str, **settings: Any) -> None:
        self.seen: list[tuple[str, str, str]] = []
        super().__init__("m", base_url=url, **settings)

    def note(self, hook: str) -> None:
        """Record what the hook sees, and set what no other attempt may see."""
        self.seen.append((hook, caller.get(), leak.get()))
        leak.set(hook)

    def body(self, messages: Any, model: str, options: dict[str, Any]) -> dict[str, Any]:
        """Record, then build the usual body."""
        self.note("body")
        return super().body(messages, model, options)

    def authorization(self, api_key: str) -> dict[str, str]:
        """Record, then return the usual header."""
        self.note("authorization")
        return super().authorization(api_key)

    def amended(self, body: dict[str, Any], error: APIStatusError) -> dict[str, Any] | None:
        """Record; never send another body."""
        self.note("amended")
        return None

    def decoder(self, content_type: str = "") -> Decoder:
        """Record, then decode as usual."""
        self.note("decoder")
        return super().decoder(content_type)


def as_caller(name: str, work: Callable[[], T]) -> T:
    """Run ``work`` in a context of its own, in which ``caller`` is ``name``."""

    def run() -> T:
        caller.set(name)
        result = work()
        assert leak.get() == "clean"
        return result

    return contextvars.Context().run(run)


def test_hooks_of_each_attempt_see_the_callers_context_and_nothing_of_each_other() -> None:
    """The same holds for a borrowed retry policy, whatever an attempt has set."""
    with serve([status(503), [cut()], [cut()], [text("Hello")]]) as server:
        provider = Hooks(server.url, api_key="key")

        def wait(state: Any) -> float:
            provider.seen.append(("wait", caller.get(), leak.get()))
            return 0.0

        policy = tenacity.Retrying(stop=tenacity.stop_after_attempt(4), wait=wait)
        answer = as_caller("A", lambda: provider.complete("x", retry=policy))
    assert answer.text == "Hello"
    hooks = ["body"]
    for last in ("amended", "decoder", "decoder"):
        hooks += ["authorization", last, "wait"]
    left = {"amended": "authorization", "decoder": "authorization"}  # by its own attempt
    assert provider.seen == [
        (hook, "A", left.get(hook, "clean")) for hook in [*hooks, "authorization", "decoder"]
    ]


def test_each_provider_of_a_failover_gets_a_fresh_copy() -> None:
    """What a hook of the first provider has set, the second does not see."""
    with serve([cut()]) as broken, serve(["Hello"]) as good:
        providers = [Hooks(broken.url), Hooks(broken.url), Hooks(good.url)]
        answer = as_caller("A", lambda: Failover(providers).complete("x"))
        assert answer.text == "Hello"
        with pytest.raises(FailoverError):
            as_caller("B", lambda: Failover(providers[:2]).complete("x"))
    for provider in providers[:2]:
        assert provider.seen == [
            (hook, name, "clean") for name in ("A", "B") for hook in ("body", "decoder")
        ]
    assert providers[2].seen == [("body", "A", "clean"), ("decoder", "A", "clean")]


def test_prepared_call_runs_in_the_context_that_prepared_it() -> None:
    """Also when a web body starts it later, in another thread, and each start in a fresh copy."""
    with serve(["Hello"]) as server:
        provider = Hooks(server.url)
        call = as_caller("view", lambda: provider.prepare("x"))
        for _ in range(2):
            as_caller("server", call.open).read()
        body = plain(call)
        thread = threading.Thread(target=as_caller, args=("server", lambda: list(body)))
        thread.start()
        thread.join(10)
    assert provider.seen == [
        (hook, "view", "clean") for hook in ("body", "decoder", "decoder", "decoder")
    ]


def test_async_call_runs_in_the_context_of_its_task() -> None:
    """The hooks that build the request too."""
    import asyncio

    with serve(["Hello"]) as server:
        provider = Hooks(server.url, api_key="key")
        as_caller("task", lambda: asyncio.run(aio.complete(provider, "x")))
    assert provider.seen == [
        ("body", "task", "clean"),
        ("authorization", "task", "clean"),
        ("decoder", "task", "authorization"),
    ]


class SpanningDecoder(OpenAIDecoder):
    """Sets a variable while it decodes, as a tracing hook does, and puts it back at the end."""

    seen: list[tuple[str, str, bool]] = []

    def __init__(self, content_type: str = "") -> None:
        super().__init__(content_type)
        self.token = leak.set("decoding")
        self.reader = threading.get_ident()

    def feed(self, data: bytes) -> list[Delta]:
        """Decode, in one context from the first event to the end."""
        self.seen.append((caller.get(), leak.get(), threading.get_ident() != self.reader))
        return super().feed(data)

    def end(self) -> list[Delta]:
        """Put the variable back."""
        leak.reset(self.token)  # raises in another context
        return super().end()


class Spanning(OpenAICompatible):
    def decoder(self, content_type: str = "") -> Decoder:
        """Return a decoder with a variable of its own."""
        return SpanningDecoder(content_type)


def test_decoding_stays_in_the_callers_context() -> None:
    """One context for both threads: that of another reader is neither seen nor changed."""
    SpanningDecoder.seen.clear()
    with serve([step for word in "abcdef" for step in (text(word), pause(0.01))]) as server:
        stream = as_caller("opener", lambda: Spanning("m", base_url=server.url).stream("x"))
        results: list[str] = []
        thread = threading.Thread(target=lambda: results.append(as_caller("reader", stream.read)))
        thread.start()
        thread.join(10)
    assert results == ["abcdef"]
    assert {(name, mark) for name, mark, _ in SpanningDecoder.seen} == {("opener", "decoding")}
    assert any(changed for *_, changed in SpanningDecoder.seen), "no event came later"


@pytest.mark.parametrize("make_executor", [lambda: None, lambda: ThreadPoolExecutor(2)])
def test_batch_rows_run_in_the_context_of_the_call_to_map(
    make_executor: Callable[[], Executor | None],
) -> None:
    """Each attempt in a fresh copy, in whichever context the results are taken; retries too."""
    with serve([status(503), ["Hello"], ["Hello"], ["Hello"]]) as server:
        policy = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(3),
            wait=lambda state: provider.seen.append(("wait", caller.get(), leak.get())) or 0,
        )
        provider = Hooks(server.url, retry=policy)
        executor = make_executor()
        results = as_caller(
            "A", lambda: batch.map(provider, ["x"] * 3, concurrency=1, executor=executor)
        )
        assert [result.text for result in as_caller("B", lambda: list(results))] == ["Hello"] * 3
        if executor is not None:
            executor.shutdown()
    assert {(name, mark) for _, name, mark in provider.seen} == {("A", "clean")}
    hooks = [hook for hook, _, _ in provider.seen]
    assert (hooks.count("wait"), hooks.count("decoder"), hooks.count("body")) == (1, 3, 4)


@pytest.fixture
def spans() -> Iterator[tuple[Any, Callable[[], list[Any]]]]:
    """A tracer, and a function that returns the finished spans of requests."""
    exporter = InMemorySpanExporter()
    tracing = TracerProvider()
    tracing.add_span_processor(SimpleSpanProcessor(exporter))
    instruments = [URLLib3Instrumentor(), ThreadingInstrumentor()]
    for instrument in instruments:
        instrument.instrument(tracer_provider=tracing)
    yield (
        tracing.get_tracer("test"),
        lambda: [span for span in exporter.get_finished_spans() if span.name != "view"],
    )
    for instrument in instruments:
        instrument.uninstrument()
    tracing.shutdown()


def test_request_is_a_child_of_its_own_callers_span_in_a_reused_thread(
    spans: tuple[Any, Callable[[], list[Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenTelemetry instruments urllib3 and threads; the idle worker was started by user A."""
    monkeypatch.setattr(workers, "IDLE_THREAD_S", 0.5)
    tracer, requests = spans
    callers, names = [], set()
    with serve(["Hello"]) as server:
        provider = Hooks(server.url)
        for user in "ABC":
            with tracer.start_as_current_span("view") as view:
                as_caller_in = copy_context()
                assert as_caller_in.run(provider.complete, "x").text == "Hello", user
                callers.append(view.get_span_context().span_id)
                names |= {t.ident for t in threading.enumerate() if "request" in t.name}
    assert len(names) == 1, "the worker thread was not reused"
    assert [span.parent and span.parent.span_id for span in requests()] == callers
