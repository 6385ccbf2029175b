"""Answers that go on after a break (``continue_after_break=``)."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import threading
from typing import Any

import pytest
import tenacity
from test_every_protocol import CLASSES, RICH, make

from providers_sync import (
    Anthropic,
    APIStatusError,
    APITimeoutError,
    CancelToken,
    Chat,
    Failover,
    FailoverError,
    Finish,
    InvalidRequestError,
    Join,
    MalformedStream,
    OpenAICompatible,
    OpenAIResponses,
    Outcome,
    ProviderError,
    ReasoningDelta,
    ServerError,
    Stream,
    StreamCancelled,
    StreamCut,
    StreamTruncated,
    TextDelta,
    Timeouts,
    aio,
    batch,
)
from providers_sync.stream import Channel
from providers_sync.stream.stream import channel_of
from providers_sync.testing import (
    Request,
    ScriptedProvider,
    answer,
    cut,
    error,
    event,
    finish,
    pause,
    reasoning,
    refusal,
    serve,
    stall,
    status,
    text,
    tool_call,
    usage,
)

SHORT = Timeouts(connect=5, first_token=5, idle=0.3, total=10)
AT_ONCE = tenacity.Retrying(stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_none())
OVERLOADED = error("Overloaded", "overloaded_error")
BROKEN_LINE = event("{not json")
BREAKS: dict[str, tuple[Any, type[ProviderError], str]] = {
    "cut": (answer("One two", " three", cut()), StreamCut, "cut"),
    "truncated": (answer("One two", " three", end=False), StreamTruncated, "truncated"),
    "stalled": (answer("One two", " three", stall()), APITimeoutError, "stalled"),
    "malformed": (answer("One two", " three", BROKEN_LINE), MalformedStream, "failed"),
    "overloaded": (answer("One two", " three", OVERLOADED), ServerError, "failed"),
}
REST = answer(" four", " five")


def ask(*script: Any, breaks: int = 1, **more: Any) -> tuple[Stream, ScriptedProvider]:
    provider = ScriptedProvider(list(script))
    stream = provider.stream("Count", continue_after_break=breaks, retry=None, **more)
    return stream, provider


# --- every break, over every protocol


@pytest.mark.parametrize(
    ("name", "how"),
    [
        (name, how)
        for name in RICH
        for how in ("cut", "stalled", "malformed", "truncated")
        if (name, how) != ("ollama", "malformed")  # its lines are no events
    ],
)
def test_same_iterator_goes_on(name: str, how: str) -> None:
    script, kind, outcome = BREAKS[how]
    with serve([script, REST]) as server:
        provider = make(name, server.url, retry=None, timeouts=SHORT)
        stream = provider.stream("Count", continue_after_break=1)
        events = list(stream.events())
        assert (stream.text, stream.outcome) == ("One two three four five", "complete")
        assert stream.is_whole
        assert (stream.stats.joins, stream.stats.attempts) == (1, 2)
        joins = [each for each in events if isinstance(each, Join)]
        assert [(each.outcome, each.position) for each in joins] == [(outcome, 13)]
        assert isinstance(events[-1], Finish)
        place = events.index(joins[0])
        assert (
            "".join(e.text for e in events[:place] if isinstance(e, TextDelta)) == stream.text[:13]
        )
        assert stream.message["content"] == stream.text
    with serve([script]) as server:
        provider = make(name, server.url, retry=None, timeouts=SHORT)
        with pytest.raises(kind) as caught:
            provider.complete("Count")
        assert caught.value.partial == "One two three"


@pytest.mark.parametrize("name", CLASSES)
def test_same_words_from_the_start_are_taken_off(name: str) -> None:
    again = answer("One ", "two thr", "ee four", " five")
    with serve([BREAKS["cut"][0], again]) as server:
        stream = make(name, server.url, retry=None).stream("Count", continue_after_break=1)
        assert stream.read() == "One two three four five"
        assert stream.outcome in ("complete", "unverified")


@pytest.mark.parametrize("name", CLASSES)
def test_what_is_asked(name: str) -> None:
    """The model gets its own words as the beginning of its turn, or is asked to go on."""
    with serve([BREAKS["cut"][0], REST]) as server:
        provider = make(name, server.url, retry=None)
        provider.stream("Count", system="Be brief", continue_after_break=1).read()
        first, second = server.requests
    assert first.path == second.path
    one, two = str(first.json()), str(second.json())
    assert "One two three" not in one
    assert "Count" in two
    assert "Be brief" in two
    assert "One two three" in two
    assert ("interrupted" in two) is not provider.takes_prefix


def test_overloaded_in_the_middle_goes_on() -> None:
    stream, _ = ask(BREAKS["overloaded"][0], REST)
    assert (stream.read(), stream.outcome) == ("One two three four five", "complete")


@pytest.mark.parametrize("kind", ["invalid_request_error", "insufficient_quota"])
def test_other_error_in_the_middle_stays_one(kind: str) -> None:
    stream, provider = ask(answer("One two", error("No", kind)), REST)
    with pytest.raises(ServerError):
        stream.read()
    assert (stream.text, stream.outcome, len(provider.requests)) == ("One two", "failed", 1)


# --- text that is held back, because it may be a repetition


def test_text_that_is_held_at_a_break_is_asked_for_again() -> None:
    """It may be a repetition, or not."""
    first, second = BREAKS["cut"][0], answer(reasoning("Hm."), " two", cut())
    stream, provider = ask(first, second, answer(" two", " end"), breaks=2)
    events = list(stream.events())
    assert (stream.text, stream.stats.joins) == ("One two three two end", 2)
    assert "two three two" not in str(provider.requests[2].json())
    assert [e.position for e in events if isinstance(e, Join)] == [13, 13]


@pytest.mark.parametrize("last", [status(503), answer(cut())])
@pytest.mark.parametrize("reason", [[], [reasoning("Hm.")]])
def test_text_that_was_held_is_handed_over_if_no_more_comes(last: Any, reason: list[Any]) -> None:
    second = answer(*reason, " two", cut())
    stream, _ = ask(BREAKS["cut"][0], second, last, breaks=2)
    with pytest.raises(StreamCut) as caught:
        stream.read()
    assert caught.value.partial == stream.text == "One two three two"
    assert stream.stats.joins == 1


def test_beginning_that_breaks_at_once_is_not_glued_on() -> None:
    long = "Once upon a time there was a king, and he had a daughter who had a golden ball."
    stream, _ = ask(
        answer(long[:-6], cut()), answer("Once", " upon", cut()), answer(long), breaks=2
    )
    assert stream.read() == long


@pytest.mark.parametrize("how", ["cut", "stalled", "malformed", "overloaded"])
def test_break_in_the_repetition_is_a_break(how: str) -> None:
    """Words have come, although none of them is new."""
    again = answer("One", " two", *BREAKS[how][0].steps[2:])
    stream, provider = ask(BREAKS["cut"][0], again, REST, breaks=2, timeouts=SHORT)
    assert (stream.read(), stream.outcome) == ("One two three four five", "complete")
    assert (stream.stats.joins, len(provider.requests)) == (1, 3)


def test_repetition_takes_longer_than_the_first_token() -> None:
    """The server speaks, so ``first_token`` has been kept; ``idle`` applies."""
    again = answer("One", *[pause(0.25), " two", pause(0.25), " three", pause(0.25)], " four")
    timeouts = Timeouts(first_token=0.5, idle=0.6, total=5)
    stream, _ = ask(BREAKS["cut"][0], again, timeouts=timeouts)
    assert (stream.read(), stream.outcome) == ("One two three four", "complete")


def test_failover_moves_on_from_a_repetition_that_stalls() -> None:
    slow = answer("One two", stall())
    providers = [ScriptedProvider(script) for script in (BREAKS["cut"][0], slow, REST)]
    stream = Failover(providers).stream("Count", continue_after_break=1, timeouts=SHORT)
    assert (stream.read(), stream.outcome) == ("One two three four five", "complete")
    assert [failure.provider for failure in stream.attempts] == providers[:2]
    assert [len(provider.requests) for provider in providers] == [1, 1, 1]


@pytest.mark.parametrize("stop", ["cancel", "close"])
def test_stop_hands_over_what_is_held(stop: str) -> None:
    with serve([BREAKS["cut"][0], answer(reasoning("Hm."), " two", stall())]) as server:
        stream = make("openai", server.url).stream("Count", continue_after_break=1)
        for each in stream.events():
            if isinstance(each, ReasoningDelta):
                break
        deadline = threading.Event()
        while stream.stats.bytes < len("Hm.") and not deadline.wait(0.01):
            pass
        channel = channel_of(stream)
        while not channel.take_held.__self__._current.has_text:  # type: ignore[attr-defined]
            deadline.wait(0.01)
        getattr(stream, stop)()
        assert (stream.text, stream.outcome, stream.stats.joins) == (
            "One two three two",
            "cancelled",
            1,
        )
        server.wait_closed(2)


# --- how often, and for how long


def test_number_of_breaks_is_a_limit() -> None:
    parts = [answer(f"{word}", cut()) for word in ("One", " two", " three")]
    stream, provider = ask(*parts, breaks=2)
    with pytest.raises(StreamCut) as caught:
        stream.read()
    assert caught.value.partial == stream.text == "One two three"
    assert (stream.stats.joins, len(provider.requests), stream.outcome) == (2, 3, "cut")


def test_nothing_goes_on_by_default() -> None:
    provider = ScriptedProvider([BREAKS["cut"][0], REST])
    with pytest.raises(StreamCut):
        provider.complete("Count", retry=None)
    assert len(provider.requests) == 1


@pytest.mark.parametrize("script", [cut(), stall(), answer(end=False)])
def test_nothing_goes_on_before_the_first_word(script: Any) -> None:
    provider = ScriptedProvider([answer(script) if not hasattr(script, "steps") else script, REST])
    timeouts = Timeouts(first_token=0.3, idle=0.3, total=5)
    with pytest.raises(ProviderError):
        provider.complete("Count", retry=None, continue_after_break=3, timeouts=timeouts)
    assert len(provider.requests) == 1


def test_total_spans_all_parts() -> None:
    slow = answer("One", pause(0.4), " two", cut())
    stream, _ = ask(slow, answer(pause(0.1), " three", stall()), timeouts=Timeouts(total=1))
    with pytest.raises(APITimeoutError) as caught:
        stream.read()
    assert caught.value.clock == "total"
    assert (stream.text, stream.outcome) == ("One two three", "deadline")
    assert 0.9 < stream.stats.duration_s < 1.5


def test_first_token_of_the_rest_ends_the_answer() -> None:
    timeouts = Timeouts(first_token=0.3, total=5)
    stream, provider = ask(BREAKS["cut"][0], answer(stall()), REST, breaks=3, timeouts=timeouts)
    with pytest.raises(APITimeoutError) as caught:
        stream.read()
    assert (caught.value.clock, stream.outcome, len(provider.requests)) == (
        "first_token",
        "stalled",
        2,
    )
    assert stream.text == "One two three"


def test_retries_apply_to_the_rest() -> None:
    provider = ScriptedProvider([BREAKS["cut"][0], status(503), status(429), REST])
    stream = provider.stream("Count", continue_after_break=1, retry=AT_ONCE)
    assert (stream.read(), stream.stats.attempts, stream.stats.joins) == (
        "One two three four five",
        4,
        1,
    )


def test_break_is_raised_where_the_rest_cannot_be_had() -> None:
    stream, _ = ask(BREAKS["cut"][0], status(503, "Busy"))
    with pytest.raises(StreamCut, match=r"asking for the rest failed: 503.*Busy") as caught:
        stream.read()
    assert isinstance(caught.value.__cause__, APIStatusError)
    assert (caught.value.partial, stream.outcome) == ("One two three", Outcome.CUT)
    assert stream.stats.joins == 0


@pytest.mark.parametrize("stop", ["cancel", "close", "token"])
def test_stop_between_two_parts(stop: str) -> None:
    asked = threading.Event()

    def script(request: Request) -> Any:
        if len(server.requests) == 1:
            return BREAKS["cut"][0]
        asked.set()
        return answer(stall())

    with serve(script) as server:
        token = CancelToken()
        stream = make("openai", server.url).stream("Count", continue_after_break=1, cancel=token)
        raised: list[BaseException] = []
        reader = threading.Thread(target=_read, args=(stream, raised))
        reader.start()
        assert asked.wait(5)
        {"cancel": stream.cancel, "close": stream.close, "token": token.cancel}[stop]()
        reader.join(5)
        assert not reader.is_alive()
        assert (stream.text, stream.outcome) == ("One two three", "cancelled")
        assert [type(each) for each in raised] == [StreamCancelled] * (stop != "close")
        server.wait_closed(2)


def _read(stream: Stream, raised: list[BaseException]) -> None:
    try:
        stream.read()
    except ProviderError as failure:
        raised.append(failure)


def test_dropped_stream_closes_the_connection_of_the_rest() -> None:
    with serve([BREAKS["cut"][0], answer(" four", stall())]) as server:
        stream = make("openai", server.url).stream("Count", continue_after_break=1)
        assert [next(stream) for _ in range(3)] == ["One two", " three", " four"]
        del stream
        gc.collect()
        server.wait_closed(2)


def test_slow_caller_does_not_delay_the_rest() -> None:
    """The rest is asked for when the answer breaks, not when the caller comes to it."""
    with serve([BREAKS["cut"][0], REST]) as server:
        stream = make("openai", server.url).stream("Count", continue_after_break=1)
        server.wait_request(2)
        assert stream.read() == "One two three four five"


def test_idle_applies_to_a_full_buffer_as_ever() -> None:
    """A caller that pauses is no break, however long."""
    with serve([answer(*[text("x" * 1000)] * 3000, " end"), REST]) as server:
        timeouts = Timeouts(idle=0.2)
        provider = make("openai", server.url, timeouts=timeouts)
        stream = provider.stream("Count", continue_after_break=1)
        next(stream)
        threading.Event().wait(0.6)
        assert stream.read().endswith(" end")
        assert (stream.stats.joins, len(server.requests)) == (0, 1)


# --- what is not continued


@pytest.mark.parametrize(
    ("first", "why"),
    [
        (answer("See", tool_call("f", '{"a": 1}'), cut()), "a tool call had begun"),
        (answer("See", tool_call("f", '{"a": '), stall()), "a tool call had begun"),
        (answer("I ", refusal("cannot"), cut()), "the model had refused"),
    ],
)
def test_answer_with_more_than_text_is_not_continued(first: Any, why: str) -> None:
    stream, provider = ask(first, REST, timeouts=SHORT)
    with pytest.raises(ProviderError, match=f"it is not continued: {why}") as caught:
        stream.read()
    assert caught.value.__cause__ is not caught.value  # who follows the causes would never end
    assert len(provider.requests) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"into": int}, "with into=, repairs="),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "an answer with tools="),
        ({"continue_after_break": -1}, "0 or more, not -1"),
        ({"continue_after_break": True}, "not True"),
        ({"continue_after_break": "1"}, "not '1'"),
    ],
)
def test_refused_before_anything_is_sent(arguments: dict[str, Any], words: str) -> None:
    provider = ScriptedProvider(REST)
    with pytest.raises(InvalidRequestError, match=words):
        provider.stream("Count", **{"continue_after_break": 1, **arguments})
    assert provider.requests == []


def test_request_for_the_rest_ends_with_the_last_words() -> None:
    """Small models copy what follows them into the answer."""
    stream, provider = ask(BREAKS["cut"][0], REST)
    stream.read()
    assert provider.requests[1].json()["messages"][-1]["content"].endswith("\n\nOne two three")


def test_other_words_are_an_error() -> None:
    stream, provider = ask(BREAKS["cut"][0], answer("One two", " and a half"), REST, breaks=3)
    with pytest.raises(StreamCut, match="started over with different words") as caught:
        stream.read()
    assert isinstance(caught.value.__cause__, MalformedStream)
    assert "One two and a half" in str(caught.value)
    assert (stream.text, stream.outcome, len(provider.requests)) == ("One two three", "cut", 2)


# --- what it says


@pytest.mark.parametrize("counted", [[usage(10, 3)], []])
def test_usage_is_that_of_all_parts(counted: list[Any]) -> None:
    """Also where the first part's counts were not final: without ``counted``, there is no total."""
    first = answer(*counted, "One two", cut(), protocol="anthropic")
    with serve([first, answer(" three", usage(5, 2))]) as s:
        stream = make("anthropic", s.url, retry=None).stream("Count", continue_after_break=1)
        assert stream.read() == "One two three"
    found = stream.usage
    assert found is not None
    assert (found.input_tokens, found.output_tokens) == ((15, 5) if counted else (6, 3))
    assert found.total_tokens == (20 if counted else 9)


def test_reasoning_of_all_parts() -> None:
    parts = answer(reasoning("Hm. "), "One", cut()), answer(reasoning("So. "), " two")
    stream, _ = ask(*parts)
    assert (stream.read(), stream.reasoning) == ("One two", "Hm. So. ")


def test_break_in_the_reasoning_asks_anew() -> None:
    """Nothing has been said yet that could be continued."""
    stream, provider = ask(answer(reasoning("Hm. "), cut()), answer(reasoning("So. "), "One"))
    assert (stream.read(), stream.outcome) == ("One", "complete")
    one, two = provider.requests
    assert one.json() == two.json()


def test_rest_that_is_empty_is_complete() -> None:
    """The model has nothing to add."""
    stream, _ = ask(BREAKS["truncated"][0], answer(finish("stop")))
    assert (stream.read(), stream.outcome, stream.stats.joins) == ("One two three", "complete", 1)
    stream, _ = ask(BREAKS["truncated"][0], answer("One two three"))
    assert (stream.read(), stream.outcome, stream.stats.joins) == ("One two three", "complete", 1)


def test_limit_is_that_of_the_last_part() -> None:
    stream, _ = ask(BREAKS["cut"][0], answer(" four", finish("length")))
    assert stream.read() == "One two three four"
    assert (stream.outcome, stream.finish_reason, stream.is_whole) == ("complete", "length", False)


def test_log_has_no_word_of_the_answer(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "providers_sync"):
        ask(BREAKS["cut"][0], REST)[0].read()
    assert "for the rest of an answer that broke after 13 characters" in caplog.text
    assert "three" not in caplog.text


# --- a prefix


def test_white_space_at_the_end_of_a_prefix() -> None:
    """Anthropic refuses it, so the model brings it again."""
    with serve([answer("One\n\n", cut()), answer("\n\nTwo")]) as server:
        stream = Anthropic("m", base_url=server.url).stream("Count", continue_after_break=1)
        assert stream.read() == "One\n\nTwo"
        assert server.requests[1].json()["messages"][-1] == {"role": "assistant", "content": "One"}


def test_nothing_but_white_space_is_no_prefix() -> None:
    with serve([answer("\n\n", cut()), answer("\n\nOne")]) as server:
        stream = Anthropic("m", base_url=server.url).stream("Count", continue_after_break=1)
        assert (stream.read(), stream.outcome) == ("\n\nOne", "complete")
        assert server.requests[1].json() == server.requests[0].json()


ROW = "| alpha | beta | gamma |\n"


@pytest.mark.parametrize("name", ["openai", "anthropic"])
def test_equal_rows_of_a_table_are_kept(name: str) -> None:
    """A model with a prefix goes on with the next row; another one repeats what was asked for."""

    def script(request: Request) -> Any:
        if len(server.requests) == 1:
            return answer("| a | b | c |\n", ROW * 5, cut())
        last = request.json()["messages"][-1]
        asked = "" if last["role"] == "assistant" else last["content"].partition(":\n\n")[2]
        if last["role"] == "assistant":
            return answer("\n", ROW, "Sum")
        return answer(asked, ROW, "Sum")

    with serve(script) as server:
        stream = make(name, server.url).stream("Count", continue_after_break=1)
        assert stream.read() == "| a | b | c |\n" + ROW * 6 + "Sum"


def test_model_that_refuses_a_prefix_is_asked_by_a_turn() -> None:
    refused = status(400, "This model does not support assistant message prefill.")
    with serve([BREAKS["cut"][0], refused, REST]) as server:
        provider = Anthropic("m", base_url=server.url, retry=None)
        stream = provider.stream("Count", continue_after_break=1)
        assert (stream.read(), stream.outcome) == ("One two three four five", "complete")
        roles = [[m["role"] for m in each.json()["messages"]] for each in server.requests]
        assert roles == [["user"], ["user", "assistant"], ["user", "assistant", "user"]]


def test_prefix_that_a_filter_rejects_is_not_asked_otherwise() -> None:
    rejected = status(400, "Output blocked by content filtering policy")
    with serve([BREAKS["cut"][0], rejected, REST]) as server:
        provider = Anthropic("m", base_url=server.url, retry=None)
        with pytest.raises(StreamCut, match="content filtering"):
            provider.complete("Count", continue_after_break=1)
        assert len(server.requests) == 2


def test_answer_that_the_caller_has_begun() -> None:
    begun = [{"role": "user", "content": "Count"}, {"role": "assistant", "content": "Zero,"}]
    with serve([answer(" one,", cut()), answer(" two")]) as server:
        provider = Anthropic("m", base_url=server.url)
        assert provider.stream(begun, continue_after_break=1).read() == " one, two"
        assert server.requests[1].json()["messages"][1:] == [
            {"role": "assistant", "content": "Zero, one,"}
        ]


# --- the cursor of the Responses API


def stored(number: int, kind: str, **more: Any) -> Any:
    return event(
        {"type": f"response.{kind}", "sequence_number": number, **more}, name=f"response.{kind}"
    )


def words(number: int, delta: str) -> Any:
    where = {"item_id": "m1", "output_index": 0, "content_index": 0}
    return stored(number, "output_text.delta", delta=delta, **where)


def whole(number: int, said: str) -> Any:
    part = {"type": "output_text", "text": said, "annotations": []}
    item = {"type": "message", "id": "m1", "role": "assistant", "content": [part]}
    response = {
        "id": "resp_1",
        "status": "completed",
        "output": [item],
        "usage": {"input_tokens": 3},
    }
    return stored(number, "completed", response=response)


CREATED = stored(0, "created", response={"id": "resp_1", "status": "queued", "background": True})


def test_server_that_keeps_the_answer_is_asked_for_its_rest() -> None:
    first = answer(CREATED, words(1, "One two"), words(2, " three"), cut())
    second = answer(words(3, " four"), whole(4, "One two three four"), end=False)
    with serve([first, second]) as server:
        provider = OpenAIResponses("m", base_url=server.url, api_key="k", retry=None)
        stream = provider.stream("Count", background=True, continue_after_break=1)
        assert (stream.read(), stream.outcome) == ("One two three four", "complete")
        assert stream.stats.joins == 1
        rest = server.requests[1]
        assert (rest.method, rest.body) == ("GET", b"")
        assert rest.path.endswith("/responses/resp_1?stream=true&starting_after=2")
        assert rest.headers["authorization"] == "Bearer k"


def test_kept_answer_may_repeat_itself() -> None:
    """What the server says is exactly what comes next."""
    first = answer(CREATED, words(1, "la la la"), cut())
    second = answer(words(2, "la la la"), whole(3, "la la lala la la"), end=False)
    with serve([first, second]) as server:
        provider = OpenAIResponses("m", base_url=server.url, retry=None)
        stream = provider.stream("Sing", background=True, continue_after_break=1)
        assert stream.read() == "la la lala la la"


@pytest.mark.parametrize(
    "rest",
    [
        [CREATED, words(1, "One two"), words(2, " three"), whole(3, "One two three")],
        [whole(3, "One two three")],
    ],
)
def test_server_that_does_not_know_the_cursor(rest: list[Any]) -> None:
    """It sends all events again, or the whole answer."""
    with serve([answer(CREATED, words(1, "One two"), cut()), answer(*rest, end=False)]) as server:
        provider = OpenAIResponses("m", base_url=server.url, retry=None)
        stream = provider.stream("Count", background=True, continue_after_break=1)
        assert (stream.read(), stream.outcome) == ("One two three", "complete")


def test_kept_answer_that_is_gone_is_asked_for_anew() -> None:
    first = answer(CREATED, words(1, "One two"), words(2, " three"), cut())
    with serve([first, status(404, "Response not found"), REST]) as server:
        provider = OpenAIResponses("m", base_url=server.url, retry=None)
        stream = provider.stream("Count", background=True, continue_after_break=1)
        assert (stream.read(), stream.outcome) == ("One two three four five", "complete")
        assert [each.method for each in server.requests] == ["POST", "GET", "POST"]


# --- with everything around it


@pytest.mark.parametrize("how", ["cut", "stalled", "malformed", "overloaded"])
def test_failover_goes_on_with_the_next_provider(how: str) -> None:
    with serve(BREAKS[how][0]) as bad, serve(REST) as good:
        providers = [make("openai", bad.url, timeouts=SHORT), make("anthropic", good.url)]
        stream = Failover(providers, continue_after_break=1).stream("Count")
        assert (stream.read(), stream.outcome) == ("One two three four five", "complete")
        assert (len(bad.requests), len(good.requests)) == (1, 1)
        assert [failure.provider for failure in stream.attempts] == providers[:1]
        assert stream.stats.joins == 1


def test_failover_comes_back_to_the_first() -> None:
    with serve([BREAKS["cut"][0], REST]) as first, serve(status(503)) as second:
        providers = [make("openai", first.url), make("openai", second.url)]
        stream = Failover(providers).stream("Count", continue_after_break=1)
        assert (stream.read(), stream.outcome) == ("One two three four five", "complete")
        assert (len(first.requests), len(second.requests)) == (2, 1)


def test_failover_of_which_none_goes_on() -> None:
    with serve([BREAKS["cut"][0], status(500)]) as first, serve(status(503)) as second:
        providers = [make("openai", first.url), make("openai", second.url)]
        with pytest.raises(StreamCut) as caught:
            Failover(providers).stream("Count", continue_after_break=1).read()
        assert isinstance(caught.value.__cause__, FailoverError)
        assert caught.value.partial == "One two three"


def test_failover_with_a_default_and_tools() -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    provider = Failover([ScriptedProvider([BREAKS["cut"][0], REST])], continue_after_break=1)
    with pytest.raises(StreamCut, match="it is not continued: it has tools="):
        provider.complete("Count", tools=tools)


def test_aio_goes_on() -> None:
    async def main(url: str) -> tuple[str, Any]:
        stream = aio.stream(make("openai", url), "Count", continue_after_break=1)
        return "".join([chunk async for chunk in stream]), stream.outcome

    with serve([BREAKS["cut"][0], REST]) as server:
        assert asyncio.run(main(server.url)) == ("One two three four five", "complete")


def test_batch_goes_on() -> None:
    provider = Failover([ScriptedProvider([BREAKS["cut"][0], REST])], continue_after_break=1)
    rows = list(batch.map(provider, ["Count"]))
    assert rows[0].text == "One two three four five"


def test_chat_goes_on() -> None:
    chat = Chat(ScriptedProvider([BREAKS["cut"][0], REST]))
    assert chat.send("Count", continue_after_break=1).read() == "One two three four five"
    assert chat.history[-1]["content"] == "One two three four five"


def test_complete_goes_on() -> None:
    provider = ScriptedProvider([BREAKS["cut"][0], REST])
    completion = provider.complete("Count", continue_after_break=1)
    assert (completion.text, completion.stats.joins) == ("One two three four five", 1)


@pytest.mark.parametrize("pieces", [1, 7])
def test_however_the_answer_is_split(pieces: int) -> None:
    said = " ".join(f"The fox number {n} jumps over {n * n} dogs." for n in range(5))
    for place in range(5, len(said), 11):
        first = [said[i : min(i + pieces, place)] for i in range(0, place, pieces)]
        for start in {0, max(0, place - 20), place}:
            rest = [said[i : i + pieces] for i in range(start, len(said), pieces)]
            stream, _ = ask(answer(*first, cut()), answer(*rest))
            assert stream.read() == said


@pytest.mark.parametrize(
    "make_it",
    [
        lambda: OpenAICompatible("m", base_url="http://gone.invalid", continue_after_break=1),
        lambda: ScriptedProvider("x").run("Hi", tools=[len], continue_after_break=1),
        lambda: Chat(ScriptedProvider("x"), tools=[len]).send("Hi", continue_after_break=1),
    ],
)
def test_never_an_option_of_the_body(make_it: Any) -> None:
    with pytest.raises(InvalidRequestError, match="continue_after_break= belongs to stream"):
        make_it()


def test_whole_answer_that_says_nothing_is_no_timeout() -> None:
    """Nothing but a finish reason has come, and the server leaves the connection open."""
    channel = Channel(SHORT)
    channel.waits_for_first_event = True
    channel.deliver([Finish("stop")], 1)
    channel.expire("idle", is_whole=True)
    assert (channel.ended, channel.error, channel.expired) == (True, None, None)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("is_stopped", [False, True])
def test_many_breaks_anywhere(seed: int, is_stopped: bool) -> None:
    """The model goes on, repeats what it is asked to, or tells all again, and breaks again."""
    chance = random.Random(seed)
    whole = " ".join(f"{chance.choice('abc')}{n}" for n in range(60))
    ends = [[cut()], [BROKEN_LINE], [stall()], []]

    def script(request: Request) -> Any:
        _, *more = request.json()["messages"]
        said = more[0]["content"] if more else ""
        asked = more[1]["content"].partition(":\n\n")[2] if more else ""
        assert whole.startswith(said)
        rest = chance.choice([whole, asked + whole[len(said) :], whole[len(said) :]])
        pieces = [rest[at : at + 7] for at in range(0, len(rest), 7)]
        if len(server.requests) > 6 or len(pieces) < 2:
            return answer(*pieces)
        some = chance.randint(1, len(pieces) - 1)
        return answer(*pieces[:some], *chance.choice(ends), end=False)

    with serve(script) as server:
        timeouts = Timeouts(first_token=5, idle=0.05, total=10)
        provider = make("openai", server.url, timeouts=timeouts)
        stream = provider.stream("Count", continue_after_break=6)
        if is_stopped:
            server.wait_request(2)
            stream.cancel()
            assert whole.startswith(stream.text)
        else:
            assert (stream.read(), stream.outcome) == (whole, "complete")
        provider.close()
