"""A finish reason is provisional: what comes after it counts, and takes its proof away."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from providers_sync import (
    Anthropic,
    Finish,
    OpenAICompatible,
    Provider,
    StreamCut,
    StreamTruncated,
    TextDelta,
    Timeouts,
    Usage,
)
from providers_sync.testing import (
    answer,
    event,
    finish,
    pause,
    reset,
    serve,
    stall,
    text,
    usage,
    wait,
)

SHORT = Timeouts(idle=0.3, total=5)


def chunk(content: str, reason: str | None = None) -> Any:
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": reason}
    return event({"choices": [choice]})


def openai(url: str, timeouts: Timeouts = SHORT) -> Provider:
    return OpenAICompatible("m", base_url=url, retry=None, timeouts=timeouts)


def test_finish_is_handed_out_once_and_last() -> None:
    """Also where every event has a reason, and usage comes after it."""
    script = answer(chunk("Hel", "stop"), chunk("lo", "length"), usage(1, 2), end=False)
    with serve(script) as server:
        stream = openai(server.url).stream("Hi")
        assert list(stream.events()) == [
            TextDelta("Hel"), TextDelta("lo"), Usage(1, 2, 3), Finish("length"),
        ]  # fmt: skip
    assert (stream.text, stream.finish_reason) == ("Hello", "length")


def test_reset_after_the_reason_leaves_the_answer_complete() -> None:
    """Many servers close the connection in this way; also in the middle of the usage."""
    part = event({"choices": [], "usage": {"prompt_tokens": 1}})
    for more in ([], [usage(1, 2)], [part]):
        with serve([text("Hello"), finish("stop"), *more, pause(0.05), reset()]) as server:
            stream = openai(server.url).stream("Hi")
            assert (stream.read(), stream.finish_reason) == ("Hello", "stop")
            assert (str(stream.outcome), stream.usage is not None) == ("complete", bool(more))


@pytest.mark.parametrize("ends_with_a_reason", [False, True])
def test_reset_is_a_cut_where_text_has_followed_a_reason(ends_with_a_reason: bool) -> None:
    """A later reason may be followed by more, too."""
    last = "stop" if ends_with_a_reason else None
    script = [chunk("One. ", "stop"), chunk("Two. ", last), pause(0.05), reset()]
    with serve(script) as server, pytest.raises(StreamCut) as caught:
        openai(server.url).complete("Hi")
    assert caught.value.partial == "One. Two. "


def test_clean_end_after_text_wants_another_reason() -> None:
    """With one, the answer is complete."""
    script = answer(chunk("One. ", "stop"), chunk("Two. "), end=False)
    with serve(script) as server, pytest.raises(StreamTruncated):
        openai(server.url).complete("Hi")
    script = answer(chunk("One. ", "stop"), chunk("Two. ", "stop"), end=False)
    with serve(script) as server:
        assert openai(server.url).complete("Hi").is_whole


@pytest.mark.parametrize("protocol", ["openai", "anthropic"])
def test_silence_after_the_reason_ends_the_answer(protocol: str) -> None:
    """After five seconds, or ``idle`` if that is shorter; with reason and usage."""
    script = [text("Hello"), finish("stop"), usage(1, 2), stall()]
    with serve(script, protocol=protocol) as server:
        kind = OpenAICompatible if protocol == "openai" else Anthropic
        stream = kind("m", base_url=server.url, api_key="k", timeouts=SHORT).stream("Hi")
        assert (stream.read(), str(stream.outcome)) == ("Hello", "complete")
        assert (stream.finish_reason is not None, stream.usage is not None) == (True, True)
        assert stream.stats.duration_s < 3


def test_silence_after_more_text_has_the_ordinary_timeout() -> None:
    """The reason before it proves nothing any more: the wait is ``idle``, not five seconds."""
    go = threading.Event()
    script = [chunk("One. ", "stop"), chunk("Two. "), wait(go), chunk("Three.", "stop")]
    with serve(script) as server:
        stream = openai(server.url, Timeouts(idle=60, total=60)).stream("Hi")
        assert [next(stream), next(stream)] == ["One. ", "Two. "]
        assert not stream.wait(5.3)
        go.set()
        assert stream.read() == "Three."


def test_pings_do_not_postpone_the_end() -> None:
    """Comments and events that say nothing do not count."""
    ping = [event({"type": "ping"}), pause(0.1)] * 40
    with serve([text("Hello"), finish("stop"), *ping]) as server:
        started = time.monotonic()
        assert openai(server.url).complete("Hi").text == "Hello"
        assert time.monotonic() - started < 2
