"""Tests of the scripted provider: it must behave like a provider on a server with that script."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
import time
from typing import Any

import pytest
import tenacity

from providers_sync import (
    AI365VIP,
    Anthropic,
    APIConnectionError,
    APITimeoutError,
    AuthenticationError,
    CancelToken,
    Failover,
    InvalidRequestError,
    OpenAICompatible,
    Provider,
    ProviderError,
    RateLimitError,
    Stream,
    StreamCancelled,
    StreamCut,
    Timeouts,
    Usage,
    Vitalentum,
    aio,
)
from providers_sync.testing import (
    FAULTS,
    ScriptedProvider,
    ScriptError,
    answer,
    cut,
    done,
    error,
    json_body,
    pause,
    raw,
    reasoning,
    refusal,
    repeat,
    reset,
    serve,
    signal,
    stall,
    status,
    text,
    tool_call,
    usage,
    wait,
    wire,
)

SHORT = Timeouts(connect=5, first_token=0.4, idle=0.4, total=1)
LONG = Timeouts(first_token=30, idle=30, total=30)
LARGE = {"deep-json", "long-line", "many-lines", "endless-line", "gzip-bomb"}
SLOW = re.compile("never$|silent|stall|drip|trickle|keep-alive|slow|fast-forever")
"""Faults that end by a timeout. In the others none may expire, even on a busy machine."""
VARYING = {"drip", "fast-forever"}
"""Faults in which the amount of text before the timeout varies."""
AT_ONCE = tenacity.Retrying(stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_none())


def result(provider: Provider, timeouts: Timeouts) -> tuple[Any, ...]:
    """Return everything that a program can see of one answer."""
    try:
        answer = provider.complete("Hi", timeouts=timeouts, retry=1)
    except ProviderError as failure:
        clock = getattr(failure, "clock", None)
        return type(failure), failure.outcome, clock, failure.partial
    return answer.outcome, answer.text, answer.finish_reason, answer.usage, answer.model


def both(kind: type[Provider], script: Any, timeouts: Timeouts) -> list[tuple[Any, ...]]:
    """Return the results of a scripted provider and of a real one, which run at the same time."""
    results = []

    def over_network() -> None:
        with serve(script) as server:
            results.append(result(kind("gpt-4o", base_url=server.url), timeouts))

    thread = threading.Thread(target=over_network)
    thread.start()
    like = kind("gpt-4o", base_url="http://127.0.0.1:9")
    results.append(result(ScriptedProvider(script, like=like), timeouts))
    thread.join()
    return results


KINDS = [
    *((OpenAICompatible, name) for name in FAULTS),
    *(
        (AI365VIP, name)
        for name in FAULTS
        if name not in LARGE and "event streams" not in FAULTS[name].about
    ),
]


@pytest.mark.parametrize(
    ("kind", "name"), KINDS, ids=[f"{kind.__name__}-{name}" for kind, name in KINDS]
)
def test_fault_ends_as_it_does_over_a_network(kind, name):
    """Class, outcome, timeout and partial text are the same, for every canned fault."""
    first, second = both(kind, FAULTS[name], SHORT if SLOW.search(name) else LONG)
    if name in VARYING:
        first, second = first[:3], second[:3]
    assert first == second


@pytest.mark.parametrize(
    "script",
    [
        answer("Hel", cut(), framing="close"),
        answer("Hel", reset(), framing="close"),
        answer("Hel", cut(), framing="one-chunk"),
        answer("Hel", framing="length", length=5000),
        answer("Hello", framing="length", length=20),
        answer("Hello", framing="length", gzip=True),
        answer("Hel", cut(), framing="close", gzip=True),
        answer("Hel", wire(b"junk"), "lo"),
        answer("Hel", wire(b"junk"), end=False),
        answer(raw(b"data: "), wire(b"x\n\n"), framing="close"),
        answer("Hello", head_every=0.001),
        answer(before=[raw(b"SSH-2.0\r\n"), cut()]),
        answer("Hello", before=[wire(b"HTTP/1.1 100 Continue\r\n\r\n")]),
        answer(inside=[repeat(b"x" * 1000)]),
        answer(stall(), status=500, content_type="text/plain"),
        answer("{}", content_type="image/png"),
        [reasoning("Hm."), "Hello", tool_call("weather", {"city": "Oslo"}), usage(3, 4)],
        [usage(3, 4), refusal("No.")],
    ],
)
def test_script_ends_as_it_does_over_a_network(script):
    """Framing, header lines and the rarer steps have the same effect."""
    first, second = both(OpenAICompatible, script, LONG)
    assert first == second


def test_scripted_provider_needs_no_socket(monkeypatch):
    """It works where no socket can be created."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was created")

    monkeypatch.setattr(socket, "socket", refuse)
    assert str(ScriptedProvider("Hello").complete("Hi")) == "Hello"
    with pytest.raises(StreamCut) as caught:
        ScriptedProvider(["Hel", reset()]).complete("Hi")
    assert caught.value.partial == "Hel"
    assert str(caught.value).endswith("connection reset by peer")


def test_scripted_provider_returns_a_real_stream():
    """It has the usual events, usage, finish reason, model, headers and statistics."""
    script = answer(reasoning("Hm."), text("Hello"), usage(3, 4), headers={"X-Request-Id": "abc"})
    with ScriptedProvider(script).stream("Hi") as stream:
        assert type(stream) is Stream
        assert [type(event).__name__ for event in stream.events()] == [
            *("ReasoningDelta", "TextDelta", "Usage", "Finish")
        ]
    assert (stream.outcome, stream.text, stream.finish_reason) == ("complete", "Hello", "stop")
    assert (stream.usage, stream.model) == (Usage(3, 4, 7), "test-model")
    assert (stream.request_id, stream.stats.attempts, stream.stats.chunks) == ("abc", 1, 1)


def test_scripted_provider_records_calls():
    """Messages are a list; options and headers exclude the defaults, which are in the body."""
    like = OpenAICompatible("m", base_url="http://127.0.0.1:9", api_key="sk-secret", top_p=0.5)
    provider = ScriptedProvider(like=like)
    provider.complete("Hi", temperature=0, headers={"X-Trace": "1"}, timeouts=7)
    (call,) = provider.asked
    assert call.messages == [{"role": "user", "content": "Hi"}]
    assert (call.model, call.options, call.headers) == (
        "m",
        {"temperature": 0},
        {"X-Trace": "1"},
    )
    assert call.timeouts.total == 7
    (request,) = provider.requests
    assert (request.method, request.path) == ("POST", "/chat/completions")
    assert request.headers["authorization"] == "Bearer sk-secret"
    assert (request.json()["temperature"], request.json()["top_p"]) == (0, 0.5)
    assert "sk-secret" not in repr(provider)


def test_scripted_provider_records_one_call_and_every_attempt():
    """A retried call is one call and several requests."""
    provider = ScriptedProvider([status(503), answer(cut()), answer("Hello")], retry=AT_ONCE)
    stream = provider.stream("Hi")
    assert (stream.read(), stream.stats.attempts) == ("Hello", 3)
    assert (len(provider.asked), len(provider.requests)) == (1, 3)


def test_scripted_provider_obeys_retry_after():
    """``Retry-After: 0`` makes tests of retries fast; above the maximum the call just fails."""
    busy = [status(429, headers={"Retry-After": "0"}), answer("Hello")]
    assert str(ScriptedProvider(busy).complete("Hi")) == "Hello"
    with pytest.raises(RateLimitError) as caught:
        ScriptedProvider(FAULTS["429-for-an-hour"]).complete("Hi")
    assert caught.value.retry_after == 3600


def test_play_replaces_the_script():
    """It takes effect with the next request and can be called repeatedly."""
    provider = ScriptedProvider()
    assert str(provider.complete("Hi")) == "Hello!"
    provider.play(status(401))
    with pytest.raises(AuthenticationError):
        provider.complete("Hi")
    provider.play(lambda request: [request.json()["messages"][0]["content"], "!"])
    assert str(provider.complete("Ho")) == "Ho!"


def test_play_replaces_the_script_of_a_server():
    """The server has the same method."""
    with serve("one") as server:
        provider = OpenAICompatible("m", base_url=server.url)
        assert str(provider.complete("Hi")) == "one"
        server.play("two")
        assert str(provider.complete("Hi")) == "two"


def test_scripted_provider_plays_the_protocol_of_the_provider_it_is_like():
    """Bodies, aliases, outcomes and additional methods are that provider's."""
    provider = ScriptedProvider("Hello", like=AI365VIP(base_url="http://127.0.0.1:9"))
    assert provider.complete("Hi").outcome == "unverified"
    assert "prompt" in provider.requests[0].json()
    assert (provider.url, provider.get_models()) == (AI365VIP.url, AI365VIP.models)
    models = ScriptedProvider(json_body({"data": [{"id": "a"}, {"id": "b"}]}))
    assert models.list_models() == ["a", "b"]
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = models.no_such_thing


def test_scripted_provider_does_not_change_the_provider_it_is_like(refused):
    """The original still sends to its own address."""
    like = Vitalentum(base_url=f"http://127.0.0.1:{refused[1]}", retry=1)
    assert str(ScriptedProvider("Hello", like=like).complete("Hi")) == "Hello"
    with pytest.raises(APIConnectionError):
        like.complete("Hi")


@pytest.mark.parametrize(
    "settings",
    [
        {"like": Failover([OpenAICompatible("m")])},
        {"like": ScriptedProvider()},
        {"like": OpenAICompatible},
        {"like": OpenAICompatible("m"), "retry": 1},
    ],
    ids=str,
)
def test_scripted_provider_refuses_what_could_reach_a_network(settings):
    """The constructor raises and the error names ``like=``."""
    with pytest.raises(InvalidRequestError, match="like="):
        ScriptedProvider(**settings)


def test_scripted_provider_works_in_a_failover():
    """A provider that was not needed has no recorded call."""
    first, second, third = (
        ScriptedProvider(script) for script in (status(500), "Hello", "not needed")
    )
    stream = Failover([first, second, third]).stream("Hi")
    assert (stream.read(), len(stream.attempts)) == ("Hello", 1)
    assert [len(each.asked) for each in (first, second, third)] == [1, 1, 0]


def test_scripted_provider_works_with_asyncio():
    """``aio`` accepts it like any provider."""
    provider = ScriptedProvider(["Hel", "lo"])

    async def read() -> list[str]:
        return [chunk async for chunk in aio.stream(provider, "Hi")]

    assert "".join(asyncio.run(read())) == "Hello"


@pytest.mark.parametrize("name", ["first_token", "idle", "total"])
def test_stall_ends_by_the_timeout_that_is_set(name):
    """A script that stalls ends when the call's timeout expires."""
    script = [stall()] if name == "first_token" else ["Hel", stall()]
    start = time.monotonic()
    with pytest.raises(APITimeoutError) as caught:
        ScriptedProvider(script).complete("Hi", timeouts=Timeouts(**{name: 0.1}))
    assert caught.value.clock == name
    assert time.monotonic() - start < 2


def test_connect_steps_are_part_of_the_handshake_of_an_https_address():
    """The connect timeout covers them, as it covers a real TLS handshake."""
    like = OpenAICompatible("m", base_url="https://scripted.invalid", retry=1)
    provider = ScriptedProvider(answer(connect=[stall()]), like=like)
    with pytest.raises(APITimeoutError) as caught:
        provider.complete("Hi", timeouts=Timeouts(connect=0.1))
    assert caught.value.clock == "connect"


def test_cut_over_https_is_not_a_clean_end():
    """A body delimited by the end of the connection needs ``close_notify``."""
    like = OpenAICompatible("m", base_url="https://scripted.invalid")
    with pytest.raises(StreamCut):
        ScriptedProvider(answer("Hel", cut(), framing="close"), like=like).complete("Hi")


@pytest.mark.parametrize("script", [["Hel", stall()], ["Hel", pause(30)]], ids=str)
def test_cancel_ends_a_script_that_waits(script):
    """It is called in another thread, takes effect immediately, and the text is kept."""
    provider = ScriptedProvider(script)
    stream = provider.stream("Hi")
    assert next(stream) == "Hel"
    threading.Timer(0.05, stream.cancel).start()
    with pytest.raises(StreamCancelled) as caught:
        next(stream)
    assert caught.value.partial == "Hel"
    assert provider.wait_closed() < 2


def test_cancel_token_ends_a_call_that_waits_for_headers():
    """The script signals when it has reached that step."""
    reached, token = threading.Event(), CancelToken()
    provider = ScriptedProvider(answer(before=[signal(reached), stall()]))

    def cancel() -> None:
        assert reached.wait(5)
        token.cancel()

    thread = threading.Thread(target=cancel)
    thread.start()
    with pytest.raises(StreamCancelled):
        provider.stream("Hi", cancel=token)
    thread.join()


def test_script_waits_for_the_events_of_a_test():
    """The test decides when the answer continues."""
    proceed = threading.Event()
    provider = ScriptedProvider(["Hel", wait(proceed), "lo"])
    with provider.stream("Hi") as stream:
        assert next(stream) == "Hel"
        proceed.set()
        assert stream.read() == "lo"


def test_dropping_the_stream_ends_an_endless_script():
    """The script plays no faster than it is read, and stops when it is no longer read."""
    provider = ScriptedProvider(repeat("All work and no play. "))
    stream = provider.stream("Hi")
    next(stream)
    del stream
    assert provider.wait_closed() < 2
    assert provider.wait_request().connection == 1


def failing(request: Any) -> Any:
    raise ValueError("an unexpected request")


@pytest.mark.parametrize(
    ("script", "mistake"),
    [(failing, ValueError), (lambda request: 7, ScriptError), ([refusal("No.")], ScriptError)],
    ids=["function", "answer", "step"],
)
def test_mistake_in_a_script_is_raised_and_recorded(script, mistake):
    """It is not a network error: it is not retried, is named, and is kept in ``errors``."""
    like = Anthropic("m", base_url="http://127.0.0.1:9")
    provider = ScriptedProvider(script, like=like)
    with pytest.raises(ProviderError, match="the script is invalid: ") as caught:
        provider.complete("Hi")
    assert type(caught.value) is ProviderError
    assert [type(each) for each in provider.errors] == [mistake]
    assert len(provider.requests) == 1


def test_protocol_of_a_script_can_be_set():
    """A custom provider's paths may not identify it; an unknown name raises immediately."""
    like = Anthropic("m", base_url="http://127.0.0.1:9")
    provider = ScriptedProvider([error(), done()], like=like, protocol="openai")
    with pytest.raises(ProviderError):
        provider.complete("Hi")
    with pytest.raises(ScriptError, match="unknown protocol 'klingon'"):
        ScriptedProvider(protocol="klingon")


class Custom(Provider):
    """A provider with the required members only."""

    api_endpoint = "/custom"
    base_url_variable = "CUSTOM_BASE_URL"

    def body(self, messages: Any, model: str, options: dict[str, Any]) -> dict[str, Any]:
        return {"prompt": messages[-1]["content"], **options}


def test_custom_provider_can_be_scripted():
    """It needs only the required members."""
    provider = ScriptedProvider("Hello", like=Custom("m", base_url="http://127.0.0.1:9"))
    assert str(provider.complete("Hi", loud=True)) == "Hello"
    assert provider.requests[0].path == "/custom"
    assert provider.requests[0].json() == {"prompt": "Hi", "loud": True}
