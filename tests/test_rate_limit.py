"""``RateLimit``: how many requests are sent in a minute, how many answers are open, who waits."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest
from faults.phases import wait_until
from test_processes import FORK_WARNING, FORKS, in_child

from providers_sync import (
    Anthropic,
    APITimeoutError,
    CancelToken,
    Chat,
    Failover,
    InvalidRequestError,
    OpenAICompatible,
    Provider,
    ProviderError,
    RateLimit,
    RateLimitError,
    StreamCancelled,
    aio,
    batch,
    rate_limit,
)
from providers_sync.recording import Recorded
from providers_sync.server_limits import limits_in
from providers_sync.testing import (
    Request,
    ScriptedProvider,
    answer,
    cut,
    json_body,
    pause,
    serve,
    signal,
    stall,
    status,
    text,
    usage,
    wait,
)
from providers_sync.types import Usage as UsageDelta

MINUTE = 0.3


@pytest.fixture
def short_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a minute take less."""
    monkeypatch.setattr(rate_limit, "WINDOW_S", MINUTE)


def make(url: str, limit: RateLimit | None, **settings: Any) -> OpenAICompatible:
    return OpenAICompatible("m", base_url=url, rate_limit=limit, **settings)


def ask_all(provider: Provider, number: int, **options: Any) -> list[str]:
    """Ask from as many threads at once."""
    with ThreadPoolExecutor(number) as threads:
        asked = [threads.submit(provider.complete, str(n), **options) for n in range(number)]
        return [str(each.result(30)) for each in asked]


@pytest.mark.usefixtures("short_minute")
def test_no_minute_has_more_requests_than_allowed() -> None:
    """Of all threads and both providers together; the first ones wait for nothing."""
    limit = RateLimit(requests_per_minute=3)
    with serve("Hi") as server, make(server.url, limit) as one, make(server.url, limit) as other:
        with ThreadPoolExecutor(2) as threads:
            done = [threads.submit(ask_all, provider, 4) for provider in (one, other)]
            assert [each.result(30) for each in done] == [["Hi"] * 4] * 2
        times = sorted(request.at for request in server.requests)
    assert all(
        later - sooner >= MINUTE - 0.05 for sooner, later in zip(times, times[3:], strict=False)
    )
    assert times[2] - times[0] < MINUTE
    assert times[7] - times[0] < 4 * MINUTE


@pytest.mark.usefixtures("short_minute")
def test_retries_and_amended_requests_take_turns() -> None:
    """A server that refuses an option is asked again; a limit of one open answer does not block."""
    limit = RateLimit(requests_per_minute=2, concurrent=1)
    refusal = status(400, "Unrecognized request argument supplied: stream_options")
    with serve([refusal, status(500), answer("Hi")]) as server:
        with make(server.url, limit, retry=2) as provider:
            assert str(provider.complete("Hello")) == "Hi"
        times = [request.at for request in server.requests]
    assert len(times) == 3
    assert times[2] - times[0] >= MINUTE - 0.05


@pytest.mark.usefixtures("short_minute")
def test_tokens_are_those_that_the_server_counts() -> None:
    """The second request waits, because the first answer was long; the third does not."""
    limit = RateLimit(tokens_per_minute=1000)
    scripts = [answer("Hi", usage(600, 390)), answer("Hi", usage(10, 10)), answer("Hi")]
    with serve(scripts) as server, make(server.url, limit) as provider:
        for _ in range(3):
            provider.complete("Hello")
        first, second, third = (request.at for request in server.requests)
    assert second - first >= MINUTE - 0.05
    assert third - second < MINUTE


@pytest.mark.usefixtures("short_minute")
@pytest.mark.parametrize(
    "options",
    [{"max_tokens": 900}, {"extra_body": {"max_completion_tokens": 900}}, {"system": "x" * 3600}],
    ids=["max_tokens", "max_completion_tokens", "long"],
)
def test_tokens_are_estimated_while_the_answer_comes(options: dict[str, Any]) -> None:
    """By the characters of the request and its limit for the answer."""
    limit, begun, go_on = RateLimit(tokens_per_minute=1000), threading.Event(), threading.Event()
    script = [signal(begun), text("Hi"), wait(go_on)]
    with serve([answer(*script), answer("Hi")]) as server, make(server.url, limit) as provider:
        stream = provider.stream("Hello", **options)
        assert begun.wait(10)
        assert str(provider.complete("Hello", **options)) == "Hi"
        go_on.set()
        stream.read()
        first, second = (request.at for request in server.requests)
    assert second - first >= MINUTE - 0.05


def test_request_larger_than_the_limit_is_sent() -> None:
    """The server decides; it would never be sent otherwise."""
    limit = RateLimit(tokens_per_minute=10)
    with serve("Hi") as server, make(server.url, limit) as provider:
        assert str(provider.complete("x" * 1000)) == "Hi"


def test_no_more_answers_are_open_than_allowed() -> None:
    limit, lock = RateLimit(concurrent=2), threading.Lock()
    counts: list[int] = []

    def script(request: Request) -> Any:
        with lock:
            counts.append(len(limit._line._open))
        return "Hi"

    with serve(script) as server, make(server.url, limit) as provider:
        assert ask_all(provider, 12) == ["Hi"] * 12
    assert max(counts) <= 2


def test_slot_is_free_when_an_answer_ends_in_any_way() -> None:
    """Broken, refused, closed, dropped, or read to its end."""
    limit = RateLimit(concurrent=1)
    scripts = [
        answer("Hi", cut()),
        status(400, "No"),
        answer("Hi", *[text("more " * 1000)] * 50),
        answer("Hi", *[text("more " * 1000)] * 50),
        answer("Hi"),
        answer("Hi"),
    ]
    with serve(scripts) as server, make(server.url, limit, retry=None) as provider:
        for _ in range(2):
            with pytest.raises(Exception, match=r"the connection|No"):
                provider.complete("Hello")
        provider.stream("Hello").close()
        stream = provider.stream("Hello")
        del stream
        assert [str(provider.complete("Hello")) for _ in range(2)] == ["Hi", "Hi"]


def test_turns_come_in_order() -> None:
    limit, go_on = RateLimit(concurrent=1), threading.Event()
    script = [answer("Hi", wait(go_on)), *[answer("Hi")] * 5]
    with serve(script) as server, make(server.url, limit) as provider:
        first = provider.stream("first")
        with ThreadPoolExecutor(5) as threads:
            done = []
            for number in range(5):
                done.append(threads.submit(provider.complete, f"question {number}"))
                wait_until(lambda n=number: len(limit._line._waiting) == n + 1)
            go_on.set()
            first.read()
            assert [str(each.result(10)) for each in done] == ["Hi"] * 5
        asked = [request.json()["messages"][-1]["content"] for request in server.requests]
    assert asked == ["first", *(f"question {number}" for number in range(5))]


def test_wait_ends_by_cancel_and_by_total() -> None:
    """And those behind take their turns."""
    limit, go_on, token = RateLimit(concurrent=1), threading.Event(), CancelToken()
    with serve([answer("Hi", wait(go_on)), answer("Hi")]) as server:
        with make(server.url, limit) as provider, ThreadPoolExecutor(3) as threads:
            first = provider.stream("Hello")
            cancelled = threads.submit(provider.complete, "Hello", cancel=token)
            wait_until(lambda: len(limit._line._waiting) == 1)
            late = threads.submit(provider.complete, "Hello", timeouts=0.3)
            wait_until(lambda: len(limit._line._waiting) == 2)
            last = threads.submit(provider.complete, "Hello")
            token.cancel()
            assert isinstance(cancelled.exception(10), StreamCancelled)
            error = late.exception(10)
            assert isinstance(error, APITimeoutError)
            assert error.clock == "total"
            assert "not sent: it waited for its turn in RateLimit(concurrent=1)" in str(error)
            go_on.set()
            first.read()
            assert str(last.result(10)) == "Hi"
        assert len(server.requests) == 2


def test_no_turn_is_lost_whenever_calls_are_stopped() -> None:
    """Waiting, just sent, or being read."""
    limit, random = RateLimit(concurrent=3), Random(20)

    def ask(provider: Provider, delay: float) -> None:
        token = CancelToken()
        timer = threading.Timer(delay, token.cancel)
        timer.start()
        with contextlib.suppress(StreamCancelled):
            provider.complete("Hello", cancel=token)
        timer.cancel()
        timer.join()

    script = answer("Hi", pause(0.005), " there")
    with (
        serve(lambda request: script) as server,
        make(server.url, limit) as provider,
        ThreadPoolExecutor(24) as threads,
    ):
        done = [threads.submit(ask, provider, random.uniform(0, 0.1)) for _ in range(200)]
        for each in done:
            each.result(30)
        wait_until(lambda: not limit._line._open)
        assert not limit._line._waiting
        assert ask_all(provider, 6) == ["Hi there"] * 6


def test_retry_after_holds_back_all_requests() -> None:
    """Of a request that is not retried, too."""
    limit = RateLimit()
    busy = status(429, "Slow down", headers={"Retry-After": "1"})
    with serve([busy, answer("Hi")]) as server, make(server.url, limit, retry=None) as provider:
        with pytest.raises(RateLimitError):
            provider.complete("Hello")
        assert str(provider.complete("Hello")) == "Hi"
        first, second = (request.at for request in server.requests)
    assert second - first >= 0.95


@pytest.mark.parametrize("seconds", [3600, None])
def test_server_that_asks_for_a_long_wait_tells_it_again(seconds: int | None) -> None:
    """Nobody waits for an hour, and an exhausted quota does not come back by waiting."""
    headers = {"Retry-After": str(seconds or 30)}
    code = None if seconds else "insufficient_quota"
    busy = status(429, "Slow down", headers=headers, error_code=code)
    with serve([busy, answer("Hi")]) as server, make(server.url, RateLimit()) as provider:
        with pytest.raises(RateLimitError):
            provider.complete("Hello", retry=None)
        assert str(provider.complete("Hello", timeouts=5)) == "Hi"


def in_seconds(seconds: float) -> str:
    at = datetime.now(timezone.utc) + timedelta(seconds=seconds)
    return at.isoformat().replace("+00:00", "Z")


@pytest.mark.parametrize(
    ("kind", "headers"),
    [
        (
            OpenAICompatible,
            {
                "x-ratelimit-limit-requests": "1",
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "400ms",
            },
        ),
        (
            OpenAICompatible,
            {
                "x-ratelimit-limit-requests": "100",
                "x-ratelimit-remaining-requests": "99",
                "x-ratelimit-limit-tokens": "100",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "0.4",
            },
        ),
        (
            Anthropic,
            {
                "anthropic-ratelimit-requests-limit": "1",
                "anthropic-ratelimit-requests-remaining": "0",
            },
        ),
    ],
    ids=["requests", "tokens", "anthropic"],
)
def test_servers_headers_hold_back_requests(kind: type[Provider], headers: dict[str, str]) -> None:
    """Until as much as is needed is there again."""
    if kind is Anthropic:
        now = format_datetime(datetime.now(timezone.utc))
        headers = {**headers, "anthropic-ratelimit-requests-reset": in_seconds(0.4), "Date": now}
    with serve([answer("Hi", headers=headers), answer("Hi")]) as server:
        with kind("m", base_url=server.url, api_key="k", rate_limit=RateLimit()) as provider:
            for _ in range(2):
                provider.complete("x" * 500)
        first, second = (request.at for request in server.requests)
    assert 0.3 <= second - first < 5


def test_each_request_takes_from_what_the_server_has_left() -> None:
    """It tells once that one is left: the next is sent at once, the one after it waits."""
    headers = {"x-ratelimit-remaining-requests": "1", "x-ratelimit-limit-requests": "2"}
    told = answer("Hi", headers={**headers, "x-ratelimit-reset-requests": "400ms"})
    with serve([told, answer("Hi"), answer("Hi")]) as server:
        with make(server.url, RateLimit()) as provider:
            for _ in range(3):
                provider.complete("Hello")
        first, second, third = (request.at for request in server.requests)
    assert second - first < 0.35 <= third - first


def limit_of(**headers: str) -> Any:
    return limits_in({name.replace("_", "-"): value for name, value in headers.items()})


@pytest.mark.parametrize(
    ("reset", "seconds"),
    [
        ("1s", 1),
        ("6m0s", 360),
        ("20ms", 0.02),
        ("1m12.5s", 72.5),
        ("2h", 7200),
        ("12", 12),
        ("0.5", 0.5),
        ("", 60),
        ("soon", 60),
        ("-3", 60),
        ("nan", 60),
        ("9" * 400, 60),
    ],
)
def test_reset_is_read_in_every_form(reset: str, seconds: float) -> None:
    limits = limit_of(
        x_ratelimit_remaining_requests="0",
        x_ratelimit_limit_requests="1",
        x_ratelimit_reset_requests=reset,
    )
    assert 1 / limits["requests"]._per_second == pytest.approx(seconds)


def test_reset_may_be_a_time() -> None:
    """As in RFC 3339, or in seconds or milliseconds since 1970."""
    for value in (in_seconds(30), f"{time.time() + 30:.0f}", f"{(time.time() + 30) * 1000:.0f}"):
        limits = limit_of(
            date=format_datetime(datetime.now(timezone.utc)),
            anthropic_ratelimit_tokens_remaining="0",
            anthropic_ratelimit_tokens_limit="10",
            anthropic_ratelimit_tokens_reset=value,
        )
        assert 10 / limits["tokens"]._per_second == pytest.approx(30, abs=2)


def test_limit_fills_evenly() -> None:
    """A tenth of the time brings a tenth of the limit; what is missing is waited for."""
    [limit] = limit_of(
        x_ratelimit_remaining_req_minute="0", x_ratelimit_limit_req_minute="60"
    ).values()
    now = limit._since
    assert limit.ready_at(1, now) == pytest.approx(now + 1)
    limit.take(4, now)
    assert limit.ready_at(1, now) == pytest.approx(now + 5)
    assert limit.ready_at(1000, now) == 0.0, "longer than anybody waits"
    [limit] = limit_of(x_ratelimit_remaining_requests="2").values()
    assert limit.ready_at(2, now) == 0.0
    limit.take(2, limit._since)
    assert limit.ready_at(1, limit._since) > now


def test_limit_of_zero_is_none() -> None:
    """The server has answered all the same."""
    zero = {"x_ratelimit_remaining_tokens": "0", "x_ratelimit_limit_tokens": "0"}
    assert limit_of(**zero) == {}


@pytest.mark.parametrize("left", ["", "many", "-1", "1e400", "9" * 30, "٣٣"])
def test_headers_that_are_no_numbers_say_nothing(left: str) -> None:
    assert left == "٣٣" or limit_of(x_ratelimit_remaining_requests=left) == {}


def test_requests_that_the_server_may_not_have_counted_are_taken_off() -> None:
    """Three at once: the first answer says that two are left, which the others have taken."""
    limit, go_on = RateLimit(), threading.Event()
    headers = {"x-ratelimit-remaining-requests": "2", "x-ratelimit-limit-requests": "3"}
    first = answer("Hi", headers={**headers, "x-ratelimit-reset-requests": "600s"})

    def script(request: Request) -> Any:
        return first if request.number == 3 else answer("Hi", before=[wait(go_on)])

    with (
        serve(script) as server,
        make(server.url, limit) as provider,
        ThreadPoolExecutor(3) as threads,
    ):
        done = [threads.submit(provider.complete, "Hello") for _ in range(3)]
        wait_until(lambda: any(each._left for each in limit._line._servers.values()))
        [told] = limit._line._servers.values()
        left = told._left["requests"]._left
        go_on.set()
        assert [str(each.result(10)) for each in done] == ["Hi"] * 3
    assert left == pytest.approx(0, abs=0.1)


def test_recorded_answers_take_no_turn(tmp_path: Path) -> None:
    limit = RateLimit(requests_per_minute=1)
    with serve("Hi") as server:
        for mode in ("record", "replay", "replay"):
            provider = Recorded(make(server.url, limit), tmp_path / "a.jsonl", mode)  # type: ignore[arg-type]
            assert str(provider.complete("Hello", timeouts=5)) == "Hi"
            provider.close()
        assert len(server.requests) == 1


def test_batch_and_failover_and_chat_wait_for_turns() -> None:
    """Whatever is built on the provider."""
    limit = RateLimit(concurrent=1)
    with serve("Hi") as server, make(server.url, limit) as provider:
        results = batch.map(provider, map(str, range(6)), concurrency=3)
        assert [str(result.message["content"]) for result in results if result.message] == [
            "Hi"
        ] * 6
        assert str(Failover([provider]).complete("Hello")) == "Hi"
        assert Chat(provider).send("Hello").read() == "Hi"
        assert len(limit._line._sent) == 8


def test_event_loop_is_not_blocked() -> None:
    limit, go_on = RateLimit(concurrent=1), threading.Event()

    async def ask(provider: Provider) -> list[str]:
        async def complete() -> str:
            return str(await aio.complete(provider, "Hello"))

        tasks = [asyncio.ensure_future(complete()) for _ in range(3)]
        while len(limit._line._waiting) < 2:
            await asyncio.sleep(0.001)
        go_on.set()
        return await asyncio.gather(*tasks)

    scripts = [answer("Hi", wait(go_on)), answer("Hi"), answer("Hi")]
    with serve(scripts) as server, make(server.url, limit) as provider:
        assert asyncio.run(ask(provider)) == ["Hi"] * 3


def test_list_of_models_takes_no_turn() -> None:
    limit = RateLimit(requests_per_minute=1)
    scripts = [answer("Hi"), json_body({"data": [{"id": "m"}]})]
    with serve(scripts) as server, make(server.url, limit) as provider:
        provider.complete("Hello")
        assert provider.list_models(timeouts=5) == ["m"]


def test_copies_share_a_limit_and_pickles_begin_anew() -> None:
    limit = RateLimit(requests_per_minute=5, concurrent=2)
    provider = make("http://127.0.0.1:1", limit)
    for again in (copy.copy(provider), copy.deepcopy(provider)):
        assert vars(again)["_rate_limit"] is limit
    other = vars(pickle.loads(pickle.dumps(provider)))["_rate_limit"]
    assert other is not limit
    assert repr(other) == repr(limit) == "RateLimit(requests_per_minute=5, concurrent=2)"
    assert repr(RateLimit()) == "RateLimit()"


@FORKS
@FORK_WARNING
def test_forked_process_begins_anew() -> None:
    """Its parent's lock may have been held, and its parent's answers are not its own."""
    limit = RateLimit(concurrent=1)
    provider = ScriptedProvider("Hi", rate_limit=limit)
    assert str(provider.complete("Hello")) == "Hi"
    with limit._line._lock:
        taken = limit._line
        taken._open.add(taken._sent[-1])
        assert in_child(lambda: str(provider.complete("Hello", timeouts=5))) == "Hi"


@pytest.mark.parametrize("name", ["requests_per_minute", "tokens_per_minute", "concurrent"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "3", float("inf")])
def test_limit_that_is_no_whole_number_is_refused(name: str, value: Any) -> None:
    with pytest.raises(InvalidRequestError, match=f"{name} must be a whole number"):
        RateLimit(**{name: value})


def test_limit_is_a_setting_of_the_provider() -> None:
    with pytest.raises(InvalidRequestError, match="rate_limit must be a RateLimit, not 5"):
        OpenAICompatible("m", rate_limit=5)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequestError, match="rate_limit= belongs to the provider"):
        ScriptedProvider("Hi").stream("Hello", rate_limit=RateLimit())


def new_turn(body: dict[str, Any]) -> rate_limit.Turn:
    return RateLimit().new_turn("http://127.0.0.1/", body, lambda: None)


def test_usage_without_a_total_counts() -> None:
    """The parts are added; what the server has not counted is estimated."""
    turn = new_turn({"max_tokens": 50, "system": "x" * 382})
    assert turn.tokens == 150
    turn.note("four characters and more")
    turn.note(UsageDelta(input_tokens=7))
    turn.end()
    assert turn.tokens == 7 + 24 // 4


@pytest.mark.parametrize(
    ("content", "tokens"),
    [
        ("four" * 1000, 1000),
        ("слово " * 100, 275),
        ("汉字" * 100, 150),
        ("\N{ROCKET}" * 100, 100),
        ("\ud800", 0),
        ("data:image/png;base64," + "A" * 5_000_000, 1000),
        ("word " * 8000, 10_000),
        ([{"type": "image", "source": {"data": "A" * 100_000}}, {"text": "x" * 400}], 1106),
        ([None, 1, True, {"a": []}], 0),
    ],
    ids=["letters", "Cyrillic", "Chinese", "emoji", "surrogate", "picture", "text", "both", "none"],
)
def test_request_counts_with_its_text(content: Any, tokens: int) -> None:
    """Neither with the JSON escapes of it, nor with the bytes of a picture."""
    turn = new_turn({"messages": [{"role": "user", "content": content}]})
    assert turn.tokens == pytest.approx(tokens, abs=10)


@pytest.mark.usefixtures("short_minute")
def test_minute_begins_when_the_request_is_sent() -> None:
    """And not while it waits for its key; the other one waits until it is known when that is."""
    limit, keys = RateLimit(requests_per_minute=1), iter(["a", "b"])
    asked, go_on = threading.Event(), threading.Event()

    def key() -> str:
        asked.set()
        assert go_on.wait(10)
        return next(keys)

    with (
        serve("Hi") as server,
        make(server.url, limit, api_key=key) as provider,
        ThreadPoolExecutor(2) as threads,
    ):
        done = [threads.submit(provider.complete, "Hello")]
        assert asked.wait(10)
        done.append(threads.submit(provider.complete, "Hello"))
        wait_until(lambda: len(limit._line._waiting) == 1)
        threading.Event().wait(MINUTE)
        go_on.set()
        assert [str(each.result(10)) for each in done] == ["Hi"] * 2
        first, second = (request.at for request in server.requests)
    assert second - first >= MINUTE - 0.05


def test_request_that_is_not_sent_does_not_count() -> None:
    """Neither without a key, nor without a connection."""
    limit = RateLimit(requests_per_minute=1, concurrent=1)

    def no_key() -> str:
        raise RuntimeError("no key")

    with serve("Hi") as server, make(server.url, limit) as provider:
        for url, key in ((server.url, no_key), ("http://127.0.0.1:1", "key")):
            other = make(url, limit, api_key=key, retry=None)
            with other, pytest.raises(ProviderError):
                other.complete("Hello", timeouts=5)
        assert str(provider.complete("Hello", timeouts=5)) == "Hi"


@pytest.mark.parametrize(
    "headers",
    [
        {"Retry-After": "30"},
        {
            "x-ratelimit-limit-requests": "1",
            "x-ratelimit-remaining-requests": "0",
            "x-ratelimit-reset-requests": "30s",
        },
    ],
    ids=["pause", "left"],
)
def test_server_holds_back_only_its_own_requests(headers: dict[str, str]) -> None:
    """Those to other servers pass the ones that wait for it: a ``Failover`` moves on at once."""
    limit, token = RateLimit(requests_per_minute=100), CancelToken()
    busy = status(429, "Slow down", headers=headers)
    with (
        serve([busy]) as one,
        serve("Hi") as other,
        make(one.url, limit) as busy_provider,
        make(other.url, limit) as provider,
        ThreadPoolExecutor(1) as threads,
    ):
        failover = Failover([busy_provider, provider])
        assert str(failover.complete("Hello", timeouts=5)) == "Hi"
        waiting = threads.submit(busy_provider.complete, "Hello", cancel=token)
        wait_until(lambda: len(limit._line._waiting) == 1)
        assert str(provider.complete("Hello", timeouts=5)) == "Hi"
        token.cancel()
        assert isinstance(waiting.exception(10), StreamCancelled)
        assert len(one.requests) == 1


def test_older_answer_that_comes_later_tells_nothing_new() -> None:
    limit = RateLimit()
    turns = [limit.new_turn("http://127.0.0.1/", {}, lambda: None) for _ in range(2)]
    for turn in turns:
        turn.take(pytest.fail)
        turn.note_sent()
    for turn, left in ((turns[1], "0"), (turns[0], "5")):
        turn.note_headers(
            {"x-ratelimit-remaining-requests": left, "x-ratelimit-limit-requests": "6"}
        )
    now = rate_limit.monotonic()
    assert turns[0].server.ready_at(turns[0], now) > now


@FORKS
@FORK_WARNING
def test_forked_process_drops_its_parents_turn() -> None:
    """Without the lock, which a thread of the parent may hold."""
    turn = RateLimit().new_turn("http://127.0.0.1/", {}, lambda: None)
    turn.take(pytest.fail)
    locked, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with turn._line._lock:
            locked.set()
            go_on.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    assert locked.wait(10)
    in_child(turn.end)
    go_on.set()
    thread.join()


def test_failover_does_not_blame_a_provider_whose_turn_has_not_come() -> None:
    limit, go_on = RateLimit(concurrent=1), threading.Event()
    with (
        serve([answer("Hi", wait(go_on)), answer("Hi")]) as one,
        serve("other") as other,
        make(one.url, limit) as first,
        make(other.url, None) as second,
    ):
        stream = first.stream("Hello")
        failover = Failover([first, second], failures=1)
        with pytest.raises(APITimeoutError, match="waited for its turn"):
            failover.complete("Hello", timeouts=0.1)
        go_on.set()
        stream.read()
        assert str(failover.complete("Hello")) == "Hi"


def taken(limit: RateLimit, url: str) -> rate_limit.Turn:
    """Return a turn whose request has been sent."""
    turn = limit.new_turn(url, {}, lambda: None)
    turn.take(pytest.fail)
    turn.note_sent()
    return turn


def test_pause_calls_those_that_wait_for_other_servers() -> None:
    """They are no longer behind the one that it holds back."""
    limit, called = RateLimit(concurrent=2), threading.Event()
    open_turn, _ = taken(limit, "a"), taken(limit, "a")
    held, other = limit.new_turn("a", {}, lambda: None), limit.new_turn("b", {}, called.set)
    for turn in (held, other):
        limit._line.join(turn)
        assert limit._line.start(turn) == float("inf")
    open_turn.note_error(RateLimitError("Slow down", status_code=429, retry_after=30))
    assert called.is_set()
    open_turn.end()
    assert limit._line.start(other) is None


def test_open_requests_to_other_servers_take_nothing_off() -> None:
    limit = RateLimit()
    taken(limit, "b")
    turn = taken(limit, "a")
    turn.note_headers({"x-ratelimit-remaining-requests": "1", "x-ratelimit-limit-requests": "9"})
    assert turn.server.ready_at(turn, rate_limit.monotonic()) == 0


def test_total_that_expires_after_the_request_was_sent_says_nothing_of_turns() -> None:
    with (
        serve(answer("Hi", stall())) as server,
        make(server.url, RateLimit()) as provider,
        pytest.raises(APITimeoutError, match=r"total timeout\)$"),
    ):
        provider.complete("Hello", timeouts=0.2)
