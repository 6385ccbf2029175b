"""The last bytes of an answer decide: what they say, and which attempt they belong to."""

from __future__ import annotations

import json
import threading

import pytest

from providers_sync import (
    Anthropic,
    APITimeoutError,
    OpenAICompatible,
    ServerError,
    StreamCut,
    Timeouts,
    Usage,
)
from providers_sync.config import BUFFER_BYTES
from providers_sync.decoding import OpenAIDecoder
from providers_sync.decoding.anthropic import AnthropicDecoder
from providers_sync.testing import (
    answer,
    error,
    event,
    finish,
    pause,
    raw,
    reset,
    serve,
    stall,
    text,
    usage,
    wait,
)
from providers_sync.types import Extra

SHORT = Timeouts(idle=0.3, total=5)
UNTERMINATED = raw(b'data: {"choices": [{"delta": {"content": " more"}}]}\n')


def openai(url: str, timeouts: Timeouts = SHORT) -> OpenAICompatible:
    return OpenAICompatible("m", base_url=url, api_key="sk-secret", retry=None, timeouts=timeouts)


def test_text_in_the_last_bytes_takes_the_proof_away() -> None:
    """A line that lacks its empty line is read at a reset, and after a silence."""
    script = ["Hello", finish("stop"), UNTERMINATED]
    with serve([*script, pause(0.05), reset()]) as server, pytest.raises(StreamCut) as cut:
        openai(server.url).complete("Hi")
    with serve([*script, stall()]) as server, pytest.raises(APITimeoutError) as silent:
        openai(server.url).complete("Hi")
    assert cut.value.partial == silent.value.partial == "Hello more"
    assert "0.3 s" in str(silent.value)


def test_key_in_an_error_of_the_last_bytes_is_not_shown() -> None:
    """Such an error is found when the time has run out; it is explained like any other."""
    line = json.dumps({"error": {"message": "Wrong key sk-secret"}})
    script = ["Hello", finish("stop"), raw(f"data: {line}\n".encode()), stall()]
    with serve(script) as server, pytest.raises(ServerError) as caught:
        openai(server.url).complete("Hi")
    assert "Wrong key ***" in str(caught.value)
    assert "sk-secret" not in str(vars(caught.value))
    assert caught.value.partial == "Hello"


def test_reason_of_a_failed_attempt_proves_nothing() -> None:
    """``total`` expires while a hook prepares the next attempt."""
    go = threading.Event()

    class Slow(OpenAICompatible):
        def authorization(self, api_key: str) -> dict[str, str]:
            if server.requests:
                go.wait(10)
            return super().authorization(api_key)

    script = answer(finish("stop"), error("Overloaded", code="503"), end=False)
    with serve([script, ["Hello"]]) as server:
        provider = Slow("m", base_url=server.url, api_key="k", retry=2, timeouts=2)
        try:
            with pytest.raises(APITimeoutError) as caught:
                provider.complete("Hi")
        finally:
            go.set()
    assert caught.value.clock == "total"


def test_unread_rest_of_a_slow_callers_answer_is_not_lost() -> None:
    """The buffer is full at a finish reason, and more waits in the socket when time runs out."""
    part = "x" * BUFFER_BYTES
    choice = {"index": 0, "delta": {"content": part}, "finish_reason": "stop"}
    first = f"data: {json.dumps({'choices': [choice]})}\n\n".encode()
    go = threading.Event()
    with serve([raw(first), wait(go), text(" tail"), finish("length")]) as server:
        stream = openai(server.url, Timeouts(total=2)).stream("Hi")
        while stream.stats.bytes < len(first):  # the rest is sent when the buffer is full
            stream.wait(0.1)
        go.set()
        threading.Event().wait(2.2)
        assert stream.read() == part + " tail"
        assert (stream.finish_reason, str(stream.outcome)) == ("length", "complete")


@pytest.mark.parametrize("stops", [False, True])
def test_counts_before_the_first_event_survive(stops: bool) -> None:
    """Anthropic's input tokens, at a cut and at a cancel."""
    message = {"model": "c", "usage": {"input_tokens": 1234, "output_tokens": 1}}
    start = event({"type": "message_start", "message": message})
    with serve([start, pause(0.1), stall() if stops else reset()], protocol="anthropic") as server:
        provider = Anthropic("m", base_url=server.url, api_key="k", retry=None)
        stream = provider.stream("Hi")
        if stops:
            while not stream.stats.bytes:
                stream.wait(0.05)
            stream.cancel()
        else:
            with pytest.raises(StreamCut):
                stream.read()
    assert stream.usage == Usage(1234, 1)


def test_extras_before_the_first_event_are_handed_over_when_they_are_many() -> None:
    """They are held back for a retry, but only as many as a slow caller's buffer takes."""
    many = [event({"choices": [], f"note{n}": "x" * 1000}) for n in range(600)]
    with serve([*many, "Hello"]) as server:
        stream = openai(server.url, Timeouts(total=20)).stream("Hi")
        assert stream.read() == "Hello"
        assert len(stream.extras) == 600


def test_equal_token_probabilities_are_all_kept() -> None:
    """They belong to their text; other values that repeat in every event come once."""
    chunk = {"choices": [{"delta": {"content": "!"}, "logprobs": {"content": [1]}}], "vendor": "x"}
    decoder = OpenAIDecoder("text/event-stream")
    deltas = decoder.feed(b"data: %b\n\n" % json.dumps(chunk).encode() * 3)
    paths = [each.path for each in deltas if isinstance(each, Extra)]
    assert sorted(paths) == ["choices[0].logprobs"] * 3 + ["vendor"]


def test_many_counts_and_stops_take_little_memory() -> None:
    """Neither the raw counts nor a block are copied for every small event."""
    counts = {f"count{n}": n for n in range(20_000)}
    decoder = OpenAIDecoder("text/event-stream")
    first = {"choices": [], "usage": {"prompt_tokens": 1, **counts}}
    deltas = decoder.feed(b"data: %b\n\n" % json.dumps(first).encode())
    small = {"choices": [], "usage": {"prompt_tokens": 2}}
    deltas += decoder.feed(b"data: %b\n\n" % json.dumps(small).encode() * 100)
    sizes = [len(each.raw or ()) for each in deltas if isinstance(each, Usage)]
    assert sum(sizes) < 30_000

    block = {"type": "server_tool_use", "id": "s", "input": {"x": "y" * 1000}}
    events = [{"type": "content_block_start", "index": 0, "content_block": block}]
    more = {"type": "input_json_delta", "partial_json": " "}
    for _ in range(100):
        events += [
            {"type": "content_block_delta", "index": 0, "delta": more},
            {"type": "content_block_stop", "index": 0},
        ]
    anthropic = AnthropicDecoder("text/event-stream")
    reported = [
        each
        for value in events
        for each in anthropic.feed(b"data: %b\n\n" % json.dumps(value).encode())
        if isinstance(each, Extra)
    ]
    assert len(reported) == 1


def test_usage_after_the_reason_is_kept_at_a_reset() -> None:
    """It comes with the reason, which is the answer's proof."""
    with serve([text("Hi"), finish("stop"), usage(1, 2), pause(0.05), reset()]) as server:
        completion = openai(server.url).complete("Hello")
    assert (completion.usage, completion.finish_reason) == (Usage(1, 2, 3), "stop")
