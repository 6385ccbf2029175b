"""``providers_sync.otel``: the spans of a call, whose children they are, and what they say."""

from __future__ import annotations

import contextlib
import gc
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import tenacity
from faults.phases import wait_until
from mock_kit import WAYS, ask
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.instrumentation.threading import ThreadingInstrumentor
from opentelemetry.instrumentation.urllib3 import URLLib3Instrumentor
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode, get_current_span
from otel_kit import Memory, events, openai, parent_id, said, span_id

from providers_sync import (
    AI365VIP,
    Anthropic,
    AuthenticationError,
    CancelToken,
    Chat,
    Failover,
    InvalidRequestError,
    Ollama,
    OpenAICompatible,
    Provider,
    ProviderError,
    StreamCancelled,
    Timeouts,
    batch,
)
from providers_sync.recording import Recorded
from providers_sync.stream import channel_of
from providers_sync.testing import (
    Server,
    Step,
    answer,
    cut,
    error,
    finish,
    pause,
    raw,
    serve,
    stall,
    status,
    text,
    tool_call,
    usage,
    wait,
)

AT_ONCE = {"Retry-After": "0"}
KEY = "sk-0123456789abcdef"


@pytest.fixture
def memory() -> Iterator[Memory]:
    found = Memory()
    found.instrument()
    yield found
    found.shutdown()


# --- the spans of a call


@pytest.mark.parametrize("way", WAYS)
def test_call_is_one_span_under_its_callers_with_one_child(way: str, memory: Memory) -> None:
    """Also of a thread that is used again, of another thread, and of an event loop."""
    with serve(["Hel", "lo"]) as server:
        provider = openai(server.url)
        for _ in range(2):
            with memory.tracer.start_as_current_span("caller") as caller:
                assert ask(provider, way) == ("Hello", "complete", None)
            call, (attempt,) = memory.call(), memory.spans("chat attempt")
            assert parent_id(call) == caller.get_span_context().span_id
            assert parent_id(attempt) == span_id(call)
            assert (call.kind, attempt.kind) == (SpanKind.CLIENT, SpanKind.INTERNAL)
            memory.exporter.clear()
        ask(provider, way)
        assert memory.call().parent is None
        host, port = server.url.removeprefix("http://").split(":")
        assert said(memory.call())["server.address"] == host
        assert said(memory.call())["server.port"] == int(port)


def test_span_says_what_was_asked_and_how_the_answer_ended(memory: Memory) -> None:
    """By the names of the conventions."""
    reply = [text("Hel"), text("lo"), finish("length"), usage(7, 2)]
    with serve([reply]) as server:
        provider = openai(server.url, temperature=0.2)
        stream = provider.stream("Hi", max_tokens=5, stop="x", top_p=None)
        assert stream.read() == "Hello"
    found = said(memory.call())
    assert {**found, "server.port": 0} == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "m",
        "server.address": "127.0.0.1",
        "server.port": 0,
        "gen_ai.request.stream": True,
        "gen_ai.request.temperature": 0.2,
        "gen_ai.request.max_tokens": 5,
        "gen_ai.request.stop_sequences": ("x",),
        "gen_ai.response.model": "test-model",
        "gen_ai.response.finish_reasons": ("length",),
        "gen_ai.response.time_to_first_chunk": found["gen_ai.response.time_to_first_chunk"],
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 2,
        "providers_sync.outcome": "complete",
        "providers_sync.is_whole": False,
        "providers_sync.attempts": 1,
        "providers_sync.chunks": 2,
        "providers_sync.bytes": stream.stats.bytes,
    }
    assert 0 < found["gen_ai.response.time_to_first_chunk"] <= stream.stats.duration_s
    (attempt,) = memory.spans("chat attempt")
    assert said(attempt)["http.response.status_code"] == 200


def test_each_attempt_is_a_child_and_each_retry_an_event(memory: Memory) -> None:
    """The reason is the class of the error."""
    policy = tenacity.Retrying(stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_none())
    with serve([status(503, headers=AT_ONCE), answer(error("No", "api_error")), ["Hi"]]) as server:
        assert openai(server.url, retry=policy).complete("Hi").stats.attempts == 3
    attempts, call = memory.spans("chat attempt"), memory.call()
    assert [parent_id(each) for each in attempts] == [span_id(call)] * 3
    assert [said(each)["providers_sync.attempt"] for each in attempts] == [1, 2, 3]
    assert [said(each).get("error.type") for each in attempts] == [
        "APIStatusError",
        "ServerError",
        None,
    ]
    assert [said(each)["http.response.status_code"] for each in attempts] == [503, 200, 200]
    first, second = events(call)
    assert first == (
        "providers_sync.retry",
        {
            "providers_sync.attempt": 1,
            "providers_sync.delay_s": 0.0,
            "error.type": "APIStatusError",
        },
    )
    assert second[1]["error.type"] == "ServerError"
    assert call.status.status_code is StatusCode.UNSET
    assert said(call)["providers_sync.attempts"] == 3


def test_request_that_is_amended_is_another_attempt(memory: Memory) -> None:
    """The rejected one has its status as an error."""
    with serve([status(400, "no stream_options"), ["Hi"]]) as server:
        assert openai(server.url).complete("Hi").text == "Hi"
    first, second = memory.spans("chat attempt")
    assert (first.status.status_code, said(first)["error.type"]) == (StatusCode.ERROR, "400")
    assert second.status.status_code is StatusCode.UNSET


def test_span_is_never_current_in_the_callers_code(memory: Memory) -> None:
    """Neither between two chunks nor while the call opens or ends."""
    go = threading.Event()
    with serve([[text("Hel"), wait(go), text("lo")]]) as server:
        with memory.tracer.start_as_current_span("caller") as caller:
            stream = openai(server.url).stream("Hi")
            current = [get_current_span()]
            for _ in stream:
                current.append(get_current_span())
                go.set()
            current.append(get_current_span())
        assert current == [caller] * 4
        assert not get_current_span().is_recording()


def test_span_is_current_where_the_key_is_asked_for(memory: Memory) -> None:
    """A request of the program's own for a token is a child of the call."""
    seen: list[int] = []

    def key() -> str:
        seen.append(get_current_span().get_span_context().span_id)
        return KEY

    with serve(["Hi"]) as server:
        openai(server.url, api_key=key).complete("Hi")
    assert seen == [span_id(memory.call())]


# --- how a call ends


def completed(provider: Provider) -> None:
    provider.complete("Hi")


def opened(provider: Provider) -> Any:
    stream = provider.stream("Hi")
    assert next(stream) == "Hel"
    return stream


def cancelled(provider: Provider) -> None:
    opened(provider).cancel()


def cancelled_by_token(provider: Provider) -> None:
    token = CancelToken()
    stream = provider.stream("Hi", cancel=token)
    assert next(stream) == "Hel"
    token.cancel()


def closed(provider: Provider) -> None:
    opened(provider).close()


def left(provider: Provider) -> None:
    with provider.stream("Hi") as stream:
        for _ in stream:
            break


def dropped(provider: Provider) -> None:
    opened(provider)
    gc.collect()


ENDS: dict[str, tuple[Any, Callable[[Provider], None], str, str | None]] = {
    "bad status": (status(404), completed, "failed", "APIStatusError"),
    "no key": (status(401), completed, "failed", "AuthenticationError"),
    "truncated": (answer("Hel", end=False), completed, "truncated", "StreamTruncated"),
    "cut": (["Hel", cut()], completed, "cut", "StreamCut"),
    "total": (answer("Hel", stall()), completed, "deadline", "APITimeoutError"),
    "total before headers": (answer(before=[pause(5)]), completed, "deadline", "APITimeoutError"),
    "cancelled": (answer("Hel", stall()), cancelled, "cancelled", None),
    "cancelled by a token": (answer("Hel", stall()), cancelled_by_token, "cancelled", None),
    "closed": (answer("Hel", stall()), closed, "cancelled", None),
    "left": (answer("Hel", stall()), left, "cancelled", None),
    "dropped": (answer("Hel", stall()), dropped, "cancelled", None),
}


@pytest.mark.parametrize("end", ENDS)
def test_span_ends_with_the_answer(end: str, memory: Memory) -> None:
    """However it ends; the span of the attempt has the same status."""
    script, call, outcome, kind = ENDS[end]
    with serve(script) as server:
        provider = openai(server.url, timeouts=Timeouts(total=0.3), retry=None)
        with contextlib.suppress(ProviderError):
            call(provider)
        wait_until(lambda: len(memory.spans()) == 2)
        found = memory.call()
        assert said(found)["providers_sync.outcome"] == outcome
        reason = None if outcome == "complete" else ("error",)
        assert said(found).get("gen_ai.response.finish_reasons") == reason
        for span in memory.spans():
            assert said(span).get("error.type") == kind
            expected = StatusCode.UNSET if kind is None else StatusCode.ERROR
            assert span.status.status_code is expected
    (point,) = memory.metrics()["providers_sync.client.outcomes"]
    assert (point[0]["providers_sync.outcome"], point[1]) == (outcome, 1)


def test_close_and_exit_of_a_block_end_the_span_at_once(memory: Memory) -> None:
    """A script may end after that."""
    with serve([answer("Hel", stall())] * 2) as server:
        closed(openai(server.url))
        assert len(memory.spans("chat m")) == 1
        left(openai(server.url))
        assert len(memory.spans("chat m")) == 2


def test_call_that_is_cancelled_before_it_starts_has_a_span(memory: Memory) -> None:
    """At once, although no thread has run; nothing is sent."""
    token = CancelToken()
    token.cancel()
    with pytest.raises(StreamCancelled):
        openai("http://127.0.0.1:9").stream("Hi", cancel=token)
    assert [said(span)["providers_sync.outcome"] for span in memory.spans()] == ["cancelled"]


def test_refused_connection_is_an_error(memory: Memory, refused: tuple[str, int]) -> None:
    """In the phase in which the call opens."""
    with pytest.raises(ProviderError):
        openai("http://{}:{}".format(*refused), retry=None).stream("Hi")
    assert memory.call().status.description == "APIConnectionError"


def test_bad_input_is_no_call(memory: Memory) -> None:
    """Nothing is sent, and there is no span."""
    with pytest.raises(InvalidRequestError):
        openai("http://127.0.0.1:9").complete([])
    assert memory.spans() == []


def test_span_ends_when_the_answer_had_arrived(memory: Memory) -> None:
    """Not when a slow caller has read it: the length of the span is ``stats.duration_s``."""
    with serve(["Hel", "lo"]) as server:
        stream = openai(server.url).stream("Hi")
        wait_until(lambda: channel_of(stream).ended)
        threading.Event().wait(0.2)  # a slow caller
        assert stream.read() == "Hello"
    call = memory.call()
    assert call.end_time is not None
    assert call.start_time is not None
    assert abs((call.end_time - call.start_time) / 1e9 - stream.stats.duration_s) < 0.05


# --- next to other instrumentations


@pytest.mark.parametrize("name", ["requests", "urllib3", "both", "threading"])
def test_http_span_is_a_child_of_the_attempt(name: str, memory: Memory) -> None:
    """It alone is an HTTP client's span, and its id is that in ``traceparent``."""
    kinds = {
        "requests": [RequestsInstrumentor],
        "urllib3": [URLLib3Instrumentor],
        "both": [RequestsInstrumentor, URLLib3Instrumentor],
        "threading": [RequestsInstrumentor, ThreadingInstrumentor],
    }[name]
    instrumentors: list[Any] = [kind() for kind in kinds]
    before = requests.Session.send
    for each in instrumentors:
        each.instrument(tracer_provider=memory.tracers)
    try:
        with serve([status(503, headers=AT_ONCE), ["Hi"]]) as server:
            openai(server.url).complete("Hi")
            sent = [each.headers["traceparent"].split("-")[2] for each in server.requests]
    finally:
        for each in instrumentors:
            each.uninstrument()
    assert requests.Session.send is before
    http, attempts = memory.spans("POST"), memory.spans("chat attempt")
    assert [f"{span_id(span):016x}" for span in http] == sent
    assert [parent_id(span) for span in http] == [span_id(span) for span in attempts]
    clients = [span for span in memory.spans() if span.kind is SpanKind.CLIENT]
    assert len(clients) == 3  # the call, and one for each request
    ours = [*attempts, memory.call()]
    assert not [span for span in ours if {"http.url", "url.full"} & set(said(span))]


def test_nothing_is_sent_without_another_instrumentation(memory: Memory) -> None:
    """A vendor learns no id of the program's traces from this one."""
    with serve(["Hi"]) as server:
        openai(server.url).complete("Hi")
        assert "traceparent" not in server.requests[0].headers


# --- every kind of call


def weather(city: str) -> str:
    """The weather in a city now."""
    if city == "Nowhere":
        raise KeyError(city)
    return f"rain; current span {get_current_span().get_span_context().span_id}"


def test_functions_of_a_run_are_spans_under_the_call(memory: Memory) -> None:
    """Each is current in its function; two rounds are one span, with the tokens of both."""
    calls = [
        tool_call("weather", {"city": "Oslo"}, id="a"),
        tool_call("weather", {"city": "Nowhere"}, id="b"),
    ]
    with serve([[*calls, usage(1, 2)], ["Rain.", usage(10, 20)]]) as server:
        run = openai(server.url).run("Weather?", tools=[weather])
        assert run.read() == "Rain."
    call, tools = memory.call(), memory.spans("execute_tool")
    assert {parent_id(span) for span in tools} == {span_id(call)}
    good, bad = sorted(tools, key=lambda span: said(span)["gen_ai.tool.call.id"])
    assert said(good) == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "weather",
        "gen_ai.tool.type": "function",
        "gen_ai.tool.call.id": "a",
    }
    assert str(span_id(good)) in json.dumps(run.messages)
    assert (good.kind, good.name) == (SpanKind.INTERNAL, "execute_tool weather")
    assert (bad.status.status_code, said(bad)["error.type"]) == (StatusCode.ERROR, "KeyError")
    assert len(memory.spans("chat attempt")) == 2
    assert said(call)["gen_ai.usage.input_tokens"] == 11
    assert said(call)["providers_sync.tool_calls"] == 2
    assert events(call) == [("providers_sync.round", {"providers_sync.round": 2})]
    durations = memory.metrics()["gen_ai.execute_tool.duration"]
    assert sorted(each[0].get("error.type", "") for each in durations) == ["", "KeyError"]


def test_typed_answer_that_is_asked_for_again_is_one_span(memory: Memory) -> None:
    """With two attempts, and an event between them."""
    with serve([["no"], ["1"]]) as server:
        assert openai(server.url).complete("Hi", into=int).value == 1
    call = memory.call()
    assert [parent_id(span) for span in memory.spans("chat attempt")] == [span_id(call)] * 2
    assert [name for name, _ in events(call)] == ["providers_sync.round"]
    assert said(call)["gen_ai.output.type"] == "json"


def test_failover_is_an_event_and_the_span_names_who_answered(memory: Memory) -> None:
    """The attempts are children of the one span."""
    with serve(status(429)) as bad, serve(["Hi"]) as good:
        second = Anthropic("claude", base_url=good.url, api_key=KEY)
        provider = Failover([openai(bad.url), second])
        assert provider.complete("Hi").text == "Hi"
        hosts = [server.url.partition("//")[2] for server in (bad, good)]
    (call,) = memory.spans("chat claude")
    (name, details), *rest = events(call)
    assert (name, rest) == ("providers_sync.failover", [])
    assert details == {
        "providers_sync.failed": f"OpenAICompatible m at {hosts[0]}",
        "providers_sync.next": f"Anthropic claude at {hosts[1]}",
        "error.type": "RateLimitError",
    }
    assert said(call)["gen_ai.provider.name"] == "anthropic"
    assert said(call)["gen_ai.request.model"] == "claude"
    assert len(memory.spans("chat attempt")) == 2
    (point,) = memory.metrics()["gen_ai.client.operation.duration"]
    assert point[0]["gen_ai.request.model"] == "claude"


def test_join_is_an_event(memory: Memory) -> None:
    """An answer in two parts is one span; its first chunk is that of the first part."""
    with serve([["One two ", cut()], [pause(0.2), "two three"]]) as server:
        reply = openai(server.url).complete("Hi", continue_after_break=1)
    assert (reply.text, reply.stats.joins) == ("One two three", 1)
    assert events(memory.call()) == [
        ("providers_sync.join", {"providers_sync.characters": 8, "error.type": "StreamCut"})
    ]
    assert said(memory.call())["providers_sync.joins"] == 1
    assert said(memory.call())["gen_ai.response.time_to_first_chunk"] < 0.2


def test_each_row_of_a_batch_is_a_span_under_the_callers(memory: Memory) -> None:
    """In whichever thread it runs."""
    with serve(["Hi"]) as server, memory.tracer.start_as_current_span("caller") as caller:
        assert len(list(batch.map(openai(server.url), ["a", "b", "c"], concurrency=2))) == 3
    parents = [parent_id(span) for span in memory.spans("chat m")]
    assert parents == [caller.get_span_context().span_id] * 3


def test_chat_makes_a_span_for_each_answer(memory: Memory) -> None:
    with serve([["Hi"], ["Ho"]]) as server:
        chat = Chat(openai(server.url))
        assert [chat.send("a").read(), chat.send("b").read()] == ["Hi", "Ho"]
    assert len(memory.spans("chat m")) == 2


def test_played_answer_says_so(memory: Memory, tmp_path: Path) -> None:
    """The attempt that plays a recording has sent nothing."""
    with serve(["Hi"]) as server:
        provider = Recorded(openai(server.url), tmp_path / "answers.jsonl")
        assert [provider.complete("a").text for _ in range(2)] == ["Hi", "Hi"]
        again = Recorded(openai(server.url), tmp_path / "answers.jsonl", "replay")
        assert again.complete("a").text == "Hi"
    attempts = memory.spans("chat attempt")
    assert [said(each).get("providers_sync.recorded") for each in attempts] == [None, None, True]
    assert {said(each)["gen_ai.provider.name"] for each in memory.spans("chat m")} == {"openai"}


@pytest.mark.parametrize(
    ("provider", "name"),
    [
        (OpenAICompatible("m", base_url="https://api.groq.com/openai/v1"), "groq"),
        (OpenAICompatible("m", base_url="https://x.openai.azure.com/v1"), "azure.ai.openai"),
        (OpenAICompatible("m", base_url="https://api.groq.com.evil.test/v1"), "openai"),
        (
            OpenAICompatible("m", base_url="https://us-central1-aiplatform.googleapis.com/v1"),
            "gcp.vertex_ai",
        ),
        (OpenAICompatible("m"), "openai"),
        (Anthropic("m", base_url="https://proxy.test"), "anthropic"),
        (Ollama("m", base_url="http://127.0.0.1:9"), "ollama"),
        (AI365VIP(base_url="http://127.0.0.1:9"), "ai365vip"),
    ],
)
def test_provider_has_the_name_of_the_conventions(provider: Provider, name: str) -> None:
    """That of a known host; of others, that of the protocol."""
    from providers_sync.otel.attributes import of_provider

    assert of_provider(provider, "m")["gen_ai.provider.name"] == name


# --- secrets


def every_word(spans: list[ReadableSpan]) -> str:
    return "".join(span.to_json() for span in spans)


def test_spans_hold_no_key_no_prompt_and_no_words_of_the_server(memory: Memory) -> None:
    """Also of an error that quotes all of them; a query may hold a key, too."""
    quoted = status(401, json.dumps({"error": {"message": f"bad {KEY} in my prompt"}}))

    def ask_all(server: Server) -> None:
        provider = openai(server.url, api_key=KEY, query={"key": KEY}, retry=None)
        with pytest.raises(AuthenticationError):
            provider.complete("my prompt", system="my prompt")
        assert provider.complete("my prompt", user="my prompt").text == "my answer"

    with serve([quoted, ["my answer"]]) as server:
        ask_all(server)
    spans = memory.spans()
    assert len(spans) == 4
    for secret in (KEY, "my prompt", "my answer"):
        assert secret not in every_word(spans)
        assert secret not in str(memory.metrics())


@pytest.mark.parametrize("sent", [KEY, "my prompt", "x" * 1000])
def test_request_id_that_is_none_is_in_no_span(sent: str, memory: Memory) -> None:
    """A server may send anything in its place."""
    with serve(answer("Hi", headers={"x-request-id": sent})) as server:
        openai(server.url, api_key=KEY).complete("my prompt")
    assert "providers_sync.request_id" not in said(memory.call())
    assert sent not in every_word(memory.spans())


@pytest.mark.parametrize("settings", [{"api_key": KEY}, {"query": {"key": KEY}}])
def test_key_in_the_words_of_a_server_is_in_no_span(
    settings: dict[str, Any], memory: Memory
) -> None:
    """The names of the model, of the finish reason and of a call are the server's."""
    call = {"index": 0, "id": f"call-{KEY}", "function": {"name": "weather", "arguments": OSLO}}
    rounds = [
        [chat_chunk({"tool_calls": [call]}), chat_chunk({}, "tool_calls"), done()],
        [chat_chunk({"content": "Rain"}), chat_chunk({}, f"because-{KEY}"), done()],
    ]
    with serve([answer(*each, end=False) for each in rounds]) as server:
        run = openai(server.url, **settings).run("Weather?", tools=[weather])
        assert run.read() == "Rain"
    assert said(memory.call())["gen_ai.response.model"] == "m-***"
    assert len(memory.spans()) == 4
    assert KEY not in every_word(memory.spans())


OSLO = '{"city": "Oslo"}'


def chat_chunk(delta: dict[str, Any], reason: str | None = None) -> Step:
    """Return a chunk of a model whose name has the key in it."""
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return raw(f"data: {json.dumps({'model': f'm-{KEY}', 'choices': [choice]})}\n\n".encode())


def done() -> Step:
    """Return the end marker."""
    return raw(b"data: [DONE]\n\n")
