"""``Recorded``: what is asked again, what is played, and everything that goes through it."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import pickle
import threading
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from test_processes import FORK_WARNING, FORKS, in_child, in_threads

from providers_sync import (
    AI365VIP,
    Anthropic,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    CancelToken,
    Chat,
    Failover,
    InvalidRequestError,
    OpenAICompatible,
    Provider,
    ProviderError,
    RateLimitError,
    StreamCancelled,
    Timeouts,
    aio,
    batch,
)
from providers_sync.recording import Recorded, RecordingError, read_recordings
from providers_sync.testing import (
    Request,
    ScriptedProvider,
    answer,
    cut,
    error,
    finish,
    html,
    json_body,
    pause,
    raw,
    reset,
    serve,
    stall,
    status,
    text,
    tool_call,
    wait,
)

RETRY_SOON = {"Retry-After": "0"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "answers.jsonl"


class Counting:
    """A script whose answers are numbered, so that two of them differ."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0

    def __call__(self, request: Request) -> Any:
        with self._lock:
            self._count += 1
            return [text("answer "), text(str(self._count))]


def counting() -> ScriptedProvider:
    return ScriptedProvider(Counting())


def ask(provider: Provider, prompt: Any = "Hi", **options: Any) -> str:
    return provider.complete(prompt, **options).text


def failure(provider: Provider, prompt: Any = "Hi", **options: Any) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        provider.complete(prompt, **options)
    return caught.value


# --- the three modes


def test_auto_asks_once(path: Path) -> None:
    """Another object plays the answer; another request is sent."""
    provider = counting()
    assert ask(Recorded(provider, path)) == "answer 1"
    again = Recorded(provider, path)
    assert ask(again) == "answer 1"
    assert ask(again, "Hello") == "answer 2"
    assert ask(again, temperature=0) == "answer 3"
    assert ask(again, model="other") == "answer 4"
    assert len(provider.requests) == 4


def test_key_and_headers_are_no_part_of_a_request(path: Path) -> None:
    with serve(Counting()) as server:
        for key in ("sk-first-0123456789", "sk-second-0123456789"):
            provider = Recorded(OpenAICompatible("m", base_url=server.url, api_key=key), path)
            assert ask(provider, headers={"X-Title": key}) == "answer 1"
        assert len(server.requests) == 1


def test_key_in_the_address_or_the_body_is_no_part_of_a_request(path: Path) -> None:
    with serve(Counting()) as server:
        for key in ("sk-first-0123456789", "sk-second-0123456789"):
            provider = OpenAICompatible(
                "m",
                base_url=server.url,
                query={"api_key": key, "version": "1"},
                extra_body={"access_token": key, "nested": [{"password": key}]},
            )
            assert ask(Recorded(provider, path)) == "answer 1"
        provider = OpenAICompatible("m", base_url=server.url, query={"version": "2"})
        assert ask(Recorded(provider, path)) == "answer 2"


def test_auto_needs_no_key_for_what_it_plays(path: Path) -> None:
    """A key that is made by a function is not asked for."""

    def no_key() -> str:
        raise AssertionError("nothing is sent")

    with serve(["Hello"]) as server:
        ask(Recorded(OpenAICompatible("m", base_url=server.url), path))
        keyless = OpenAICompatible("m", base_url=server.url, api_key=no_key)
        assert ask(Recorded(keyless, path)) == "Hello"


@pytest.mark.parametrize("mode", ["auto", "replay"])
def test_nth_equal_request_gets_the_nth_recording(mode: Any, path: Path) -> None:
    """So samples stay samples; each object counts for itself."""
    provider = counting()
    recorded = Recorded(provider, path)
    samples = [ask(recorded) for _ in range(3)]
    assert samples == ["answer 1", "answer 2", "answer 3"]
    for _ in range(2):
        again = Recorded(provider, path, mode)
        assert [ask(again) for _ in range(3)] == samples
    assert len(provider.requests) == 3


def test_auto_asks_for_more_samples_than_there_are(path: Path) -> None:
    provider = counting()
    ask(Recorded(provider, path))
    again = Recorded(provider, path)
    assert [ask(again), ask(again)] == ["answer 1", "answer 2"]
    assert [each.replaces for each in read_recordings(path)] == [[], []]


def test_auto_replaces_a_sample_that_is_not_whole(path: Path) -> None:
    """A replay gives what the last run has got, whatever was tried before."""
    provider = ScriptedProvider([["one"], answer("tw", cut()), ["two"]], retry=1)
    recorded = Recorded(provider, path)
    assert ask(recorded) == "one"
    failure(recorded)
    for mode in ("auto", "auto", "replay"):
        again = Recorded(provider, path, mode)
        assert [ask(again), ask(again)] == ["one", "two"]
    assert len(provider.requests) == 3
    _, broken, last = read_recordings(path)
    assert last.replaces == [broken.id]


def test_two_that_record_at_the_same_time_keep_both_answers(path: Path) -> None:
    """Each replaces what was there before, not what the other has recorded meanwhile."""
    provider, go_on = ScriptedProvider(["old"]), threading.Event()
    ask(Recorded(provider, path))
    provider.play([["one", wait(go_on), "!"], ["two", wait(go_on), "!"]])
    streams = [Recorded(provider, path, "record").stream("Hi") for _ in range(2)]
    provider.wait_request(3)
    go_on.set()
    assert [stream.read() for stream in streams] == ["one!", "two!"]
    replay = Recorded(provider, path, "replay")
    assert sorted(ask(replay) for _ in range(2)) == ["one!", "two!"]


def test_two_objects_on_one_file_at_the_same_time(path: Path) -> None:
    """One sees what the other has recorded."""
    provider = counting()
    one, other = Recorded(provider, path), Recorded(provider, path)
    assert [ask(one), ask(other), ask(one), ask(other)] == ["answer 1"] * 2 + ["answer 2"] * 2


@pytest.mark.parametrize(
    "script",
    [
        answer("Hel", cut()),
        answer("Hel", end=False),
        answer("Hel", finish("length")),
        status(401, "No"),
        html(),
    ],
    ids=["cut", "truncated", "length", "status", "page"],
)  # fmt: skip
def test_auto_asks_again_for_what_is_not_whole(script: Any, path: Path) -> None:
    """The new answer takes its place, also in a replay."""
    provider = ScriptedProvider([script, ["Hello"]], retry=1)
    with contextlib.suppress(ProviderError):
        assert not Recorded(provider, path).complete("Hi").is_whole
    assert ask(Recorded(provider, path)) == "Hello"
    assert ask(Recorded(provider, path, "replay")) == "Hello"
    assert [each.is_whole for each in read_recordings(path)] == [False, True]


def test_record_replaces_what_is_there(path: Path) -> None:
    provider = counting()
    first = Recorded(provider, path)
    assert [ask(first), ask(first), ask(first, "Hello")] == ["answer 1", "answer 2", "answer 3"]
    second = Recorded(provider, path, "record")
    assert [ask(second), ask(second)] == ["answer 4", "answer 5"]
    replay = Recorded(provider, path, "replay")
    assert [ask(replay), ask(replay), ask(replay, "Hello")] == ["answer 4", "answer 5", "answer 3"]


def test_replay_sends_nothing(path: Path, refused: tuple[str, int]) -> None:
    """Not even if the request is unknown: the error shows the nearest one, and the remedy."""
    provider = OpenAICompatible("m", base_url="http://{}:{}".format(*refused), retry=1)
    failure(Recorded(provider, path, "record"), "Why do cats purr?", temperature=0)
    replay = Recorded(provider, path, "replay")
    error = failure(replay, "Why do dogs purr?", temperature=0, seed=1)
    assert type(error) is RecordingError
    assert str(path) in str(error)
    assert "messages[0].content was 'Why do cats purr?', and is 'Why do dogs purr?'" in str(error)
    assert "seed is 1 now" in str(error)
    assert "temperature" not in str(error)
    assert 'use mode="auto"' in str(error)
    assert [str(each) for each in replay.errors] == [str(error)]


def test_replay_of_more_equal_requests_than_there_are(path: Path) -> None:
    ask(Recorded(counting(), path))
    replay = Recorded(counting(), path, "replay")
    ask(replay)
    assert "has no recording number 2 of this request" in str(failure(replay))


def test_replay_without_a_file(path: Path) -> None:
    error = failure(Recorded(counting(), path, "replay"))
    assert "has no recording of this request; to record it" in str(error)
    assert not path.exists()


def test_max_age(path: Path) -> None:
    provider = counting()
    ask(Recorded(provider, path))
    assert ask(Recorded(provider, path, max_age=60)) == "answer 1"
    assert ask(Recorded(provider, path, max_age=1e-6)) == "answer 2"
    assert ask(Recorded(provider, path, max_age=1e300)) == "answer 2"
    assert ask(Recorded(provider, path, "replay")) == "answer 2"


def test_max_age_of_a_recording_from_the_future(path: Path) -> None:
    """A clock was wrong; a difference of seconds between two machines does not matter."""
    provider = counting()
    ask(Recorded(provider, path))

    def date(**later: int) -> None:
        (exchange,) = read_recordings(path)
        exchange.recorded_at = datetime.now(timezone.utc) + timedelta(**later)
        path.write_bytes(exchange.to_line())

    date(seconds=20)
    assert ask(Recorded(provider, path, max_age=60)) == "answer 1"
    date(days=20_000)
    assert ask(Recorded(provider, path)) == "answer 1"
    assert ask(Recorded(provider, path, max_age=60)) == "answer 2"


def test_equal_requests_are_recognized_by_what_is_sent(path: Path) -> None:
    """Names that JSON makes strings, tuples, and characters that are no text."""
    provider = counting()
    bias = {9: -100, 10: 5, 100: 1}
    for _ in range(2):
        recorded = Recorded(provider, path)
        assert ask(recorded, logit_bias=bias) == "answer 1"
        assert ask(recorded, stop=("a", "b")) == "answer 2"
        assert ask(recorded, "caf\u00e9 \u2028 \U0001f408") == "answer 3"
    assert ask(Recorded(provider, path), logit_bias={"9": -100, "10": 5, "100": 1}) == "answer 1"


# --- what is played is as it was


@pytest.mark.parametrize(
    "script",
    [
        status(401, "No such key", headers={"X-Request-Id": "req_1"}),
        status(429, "Slow down", headers={"Retry-After": "90", "X-Request-Id": "req_2"}),
        status(400, "Wrong", headers={"X-RateLimit-Remaining-Requests": "7"}),
        status(503, "Busy"),
        answer("Hel", error("Overloaded", "overloaded_error", "529")),
        answer("Hel", cut()),
        answer("Hel", reset()),
        answer("Hel", raw(b"data: {not json\n\n")),
        html(),
    ],
    ids=["401", "429", "400", "503", "error event", "cut", "reset", "malformed", "page"],
)  # fmt: skip
@pytest.mark.parametrize("kind", [OpenAICompatible, Anthropic])
def test_error_is_played(kind: type[Provider], script: Any, path: Path) -> None:
    """Its class, text and attributes."""
    with serve(script) as server:
        provider = kind("m", base_url=server.url, retry=1)
        first = failure(Recorded(provider, path))
        again = failure(Recorded(provider, path, "replay"))
        assert len(server.requests) == 1
    assert (type(again), str(again)) == (type(first), str(first))
    names = ("partial", "outcome", "reason", "status_code", "body", "request_id", "retry_after")
    for name in (*names, "type", "code"):
        assert getattr(again, name, None) == getattr(first, name, None), name
    if isinstance(first, APIStatusError):
        safe = ("retry-after", "x-request-id", "x-ratelimit-remaining-requests", "content-type")
        assert [again.headers.get(name) for name in safe] == [
            first.headers.get(name) for name in safe
        ]


def test_stream_is_played_piece_by_piece(path: Path) -> None:
    """Chunks, metadata and the time of each piece."""
    script = ["Hel", pause(0.05), "lo", pause(0.05), "!"]
    headers = {"X-Request-Id": "req_1"}
    with serve(answer(*script, headers=headers)) as server:
        provider = OpenAICompatible("m", base_url=server.url)
        first = Recorded(provider, path).stream("Hi")
        chunks = list(first)
        second = Recorded(provider, path).stream("Hi")
        assert list(second) == chunks == ["Hel", "lo", "!"]
    assert second.request_id == first.request_id == "req_1"
    assert second.message == first.message
    assert (second.model, second.usage, second.finish_reason) == (
        first.model, first.usage, first.finish_reason,
    )  # fmt: skip
    (exchange,) = read_recordings(path)
    times = [seconds for seconds, _ in exchange.pieces]
    assert times == sorted(times)
    assert times[-1] - times[0] > 0.08
    assert (exchange.how, exchange.status, exchange.is_whole) == ("clean", 200, True)


@pytest.mark.parametrize(
    ("script", "how"),
    [
        (["Hello"], "clean"),
        (answer("Hel", cut()), "cut"),
        (answer("Hel", reset()), "reset"),
        (answer("Hel", stall()), "timeout"),
        (status(500, "Oops"), "clean"),
    ],
)
def test_how_a_body_has_ended(script: Any, how: str, path: Path) -> None:
    with serve(script) as server:
        provider = OpenAICompatible("m", base_url=server.url, retry=1, timeouts=Timeouts(idle=0.1))
        with contextlib.suppress(ProviderError):
            ask(Recorded(provider, path))
    assert [each.how for each in read_recordings(path)] == [how]


def test_paced_replay_takes_its_time(path: Path) -> None:
    script = ["Hel", pause(0.3), "lo"]
    provider = ScriptedProvider(script)
    ask(Recorded(provider, path))
    started = time.monotonic()
    stream = Recorded(provider, path, paced=True).stream("Hi")
    assert next(stream) == "Hel"
    first = time.monotonic() - started
    assert stream.read() == "lo"
    whole = time.monotonic() - started
    assert whole - first > 0.2
    started = time.monotonic()
    assert ask(Recorded(provider, path)) == "Hello"
    assert time.monotonic() - started < 0.2
    assert len(provider.requests) == 1


@pytest.fixture
def slow(path: Path) -> Recorded:
    """An answer that takes half a minute after its first piece."""
    provider = ScriptedProvider(["Hel", "lo"], timeouts=Timeouts(idle=60))
    ask(Recorded(provider, path))
    line = path.read_text(encoding="utf-8")
    (exchange,) = read_recordings(path)
    exchange.pieces[1:] = [(30.0, data) for _, data in exchange.pieces[1:]]
    exchange.seconds = 30.0
    path.write_bytes(exchange.to_line())
    assert path.read_text(encoding="utf-8") != line
    return Recorded(provider, path, "replay", paced=True)


def test_paced_replay_can_be_cancelled(slow: Recorded) -> None:
    token = CancelToken()
    stream = slow.stream("Hi", cancel=token)
    assert next(stream) == "Hel"
    started = time.monotonic()
    token.cancel()
    with pytest.raises(StreamCancelled) as caught:
        stream.read()
    assert caught.value.partial == "Hel"
    assert time.monotonic() - started < 5


def test_paced_replay_can_be_closed(slow: Recorded) -> None:
    with slow.stream("Hi") as stream:
        assert next(stream) == "Hel"
    assert stream.outcome == "cancelled"


@pytest.mark.parametrize("clock", ["idle", "total"])
def test_timeouts_apply_to_a_paced_replay(clock: str, slow: Recorded) -> None:
    error = failure(slow, timeouts=Timeouts(**{clock: 0.2}))
    assert isinstance(error, APITimeoutError)
    assert (error.clock, error.partial) == (clock, "Hel")


def test_retries_are_recorded_and_played_without_waiting(path: Path) -> None:
    """The default policy waits half a second and more, and obeys Retry-After."""
    busy = status(429, "Slow down", headers={"Retry-After": "1"})
    provider = ScriptedProvider([busy, ["Hello"]])
    assert ask(Recorded(provider, path)) == "Hello"
    assert [each.status for each in read_recordings(path)] == [429, 200]
    replay = Recorded(provider, path, "replay")
    started = time.monotonic()
    stream = replay.stream("Hi")
    assert (stream.read(), stream.stats.attempts) == ("Hello", 2)
    assert time.monotonic() - started < 0.5
    auto = Recorded(provider, path).stream("Hi")
    assert (auto.read(), auto.stats.attempts) == ("Hello", 1)
    assert len(provider.requests) == 2


def test_paced_replay_waits_between_the_attempts(path: Path) -> None:
    busy = status(429, "Slow down", headers={"Retry-After-Ms": "300"})
    provider = ScriptedProvider([busy, ["Hello"]])
    ask(Recorded(provider, path))
    started = time.monotonic()
    assert ask(Recorded(provider, path, "replay", paced=True)) == "Hello"
    assert time.monotonic() - started > 0.25


def test_all_attempts_have_failed(path: Path) -> None:
    busy = status(429, "Slow down", headers=RETRY_SOON)
    provider = ScriptedProvider(busy)
    first = failure(Recorded(provider, path))
    again = failure(Recorded(provider, path, "replay"))
    assert type(again) is type(first) is RateLimitError
    assert [each.status for each in read_recordings(path)] == [429] * 3


# --- who stops an answer


def test_stopped_answer_is_recorded_and_not_whole(path: Path) -> None:
    """It keeps what had come; in ``auto`` it is asked again."""
    provider = ScriptedProvider(["Hel", stall()])
    with Recorded(provider, path).stream("Hi") as stream:
        assert next(stream) == "Hel"
    provider.wait_closed()
    (exchange,) = read_recordings(path)
    assert (exchange.how, exchange.is_whole) == ("stopped", False)
    assert b"Hel" in exchange.body
    provider.play(["Hello"])
    assert ask(Recorded(provider, path)) == "Hello"


def test_ctrl_c_during_an_answer(path: Path) -> None:
    """The answer that was interrupted is not taken as whole."""
    provider = ScriptedProvider(["Hel", stall()])

    def interrupt() -> None:
        stream = Recorded(provider, path).stream("Hi")
        with stream:
            for _ in stream:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    provider.play(["Hello"])
    assert ask(Recorded(provider, path)) == "Hello"
    assert [each.how for each in read_recordings(path)] == ["stopped", "clean"]


# --- threads and processes


def test_threads_with_equal_requests_get_different_answers(path: Path) -> None:
    """None is lost: each was asked, and the next object plays each once."""
    provider = counting()
    for _ in range(2):
        recorded, given = Recorded(provider, path), []
        in_threads(16, lambda _, give=given.append, to=recorded: give(ask(to)))
        assert sorted(given) == sorted(f"answer {n}" for n in range(1, 17))
    assert len(provider.requests) == 16


def test_threads_with_different_requests(path: Path) -> None:
    provider = ScriptedProvider(lambda request: [request.json()["messages"][-1]["content"]])
    for _ in range(2):
        recorded = Recorded(provider, path)

        def call(number: int, to: Provider = recorded) -> None:
            assert ask(to, f"prompt {number}") == f"prompt {number}"

        in_threads(16, call)
    assert len(provider.requests) == 16


def test_pickle_and_copy(path: Path) -> None:
    """A copy counts for itself."""
    with serve(Counting()) as server:
        recorded = Recorded(OpenAICompatible("m", base_url=server.url), path, max_age=60)
        assert ask(recorded) == "answer 1"
        for each in (pickle.loads(pickle.dumps(recorded)), copy.deepcopy(recorded)):
            assert (each.path, each.mode) == (recorded.path, recorded.mode)
            assert ask(each) == "answer 1"


@FORKS
@FORK_WARNING
def test_fork(path: Path) -> None:
    """The child counts for itself, and its recordings are seen here."""
    with serve(Counting()) as server:
        recorded = Recorded(OpenAICompatible("m", base_url=server.url), path)
        assert ask(recorded) == "answer 1"
        assert in_child(lambda: [ask(recorded), ask(recorded)]) == ["answer 1", "answer 2"]
        assert ask(recorded) == "answer 2"
        assert len(server.requests) == 2


# --- everything that takes a provider


class Fruit(BaseModel):
    name: str


def weather(city: str) -> str:
    """The weather in a city now."""
    return f"rain in {city}"


def use_chat(provider: Provider) -> Any:
    chat = Chat(provider)
    return [str(chat.send("Hi")), str(chat.send("And then?"))]


def use_aio(provider: Provider) -> Any:
    async def collect() -> list[str]:
        return [chunk async for chunk in aio.stream(provider, "Hi")]

    return asyncio.run(collect())


def use_batch(provider: Provider) -> Any:
    results = list(batch.map(provider, ["one", "two", "one"]))
    return sorted(each.text for each in results)


CALL = [tool_call("weather", {"city": "Oslo"}, id="call_1")]
USES: dict[str, tuple[Any, Any, int]] = {
    "complete": (["Hello"], lambda p: str(p.complete("Hi")), 1),
    "chat": ([["Hello"], ["More"]], use_chat, 2),
    "aio": (["Hel", "lo"], use_aio, 1),
    "batch": (["Hello"], use_batch, 3),
    "into": (['{"name": "fig"}'], lambda p: p.complete("Hi", into=Fruit).value, 1),
    "repairs": (
        [["{}"], ['{"name": "fig"}']],
        lambda p: p.complete("Hi", into=Fruit).value,
        2,
    ),
    "run": (
        [CALL, ["It rains"]],
        lambda p: [p.run("Weather?", tools=[weather]).read()],
        2,
    ),
    "continued": (
        [answer("One two", cut()), answer(" three")],
        lambda p: p.stream("Count", continue_after_break=1, retry=None).read(),
        2,
    ),
    "many": (["Hello"], lambda p: [str(p.complete("Hi", seed=n)) for n in range(20)], 20),
}


@pytest.mark.parametrize("how", USES)
def test_use_of_a_provider(how: str, path: Path) -> None:
    """A replay gives the same, and so does ``auto``; nothing more is sent if it was whole."""
    script, use, count = USES[how]
    provider = ScriptedProvider(script)
    first = use(Recorded(provider, path))
    assert len(provider.requests) == count
    assert use(Recorded(provider, path, "replay")) == first
    if how != "continued":  # what was cut is asked again
        assert use(Recorded(provider, path)) == first
    assert len(provider.requests) == count


def test_continued_answer_is_asked_again_in_auto(path: Path) -> None:
    """The cut part is not whole; a good second try needs no continuation."""
    script = [answer("One two", cut()), answer(" three"), answer("One two three")]
    provider = ScriptedProvider(script)

    def count(to: Provider) -> str:
        return to.stream("Count", continue_after_break=1, retry=None).read()

    assert count(Recorded(provider, path)) == "One two three"
    assert count(Recorded(provider, path)) == "One two three"
    assert len(provider.requests) == 3


@pytest.mark.parametrize("outer", ["Recorded(Failover)", "Failover(Recorded)"])
def test_failover(outer: str, path: Path) -> None:
    """A replay fails over as the recorded call did."""
    bad = ScriptedProvider(status(401, "No"), model="bad")
    good = ScriptedProvider(["Hello"], model="good")

    def make(mode: Any) -> Provider:
        if outer == "Recorded(Failover)":
            return Recorded(Failover([bad, good]), path, mode)
        return Failover([Recorded(bad, path, mode), Recorded(good, path, mode)])

    def call(provider: Provider) -> Any:
        stream = provider.stream("Hi")
        (failed,) = stream.attempts
        return stream.read(), type(failed.error), stream.model

    first = call(make("auto"))
    assert first[:2] == ("Hello", AuthenticationError)
    assert call(make("replay")) == first
    assert (len(bad.requests), len(good.requests)) == (1, 1)
    assert call(make("auto")) == first
    assert (len(bad.requests), len(good.requests)) == (2, 1)


def test_batch_retries_as_the_provider_does(path: Path) -> None:
    """The rows of a batch are sent again by the batch itself."""
    with serve([status(503, headers=RETRY_SOON), ["Hello"]]) as server:
        provider = Recorded(OpenAICompatible("m", base_url=server.url), path)
        (result,) = batch.map(provider, ["Hi"])
        assert (result.text, result.attempts) == ("Hello", 2)
        provider = Recorded(OpenAICompatible("m", base_url=server.url, retry=1), path)
        server.play(status(503, headers=RETRY_SOON))
        (result,) = batch.map(provider, ["Hello"])
        assert (result.text, result.attempts) == ("", 1)


def test_class_cannot_make_an_asynchronous_generator() -> None:
    """The published method takes no provider."""

    async def read() -> None:
        async for _ in Recorded.create_async_generator("m", "Hi"):
            raise AssertionError

    with pytest.raises(InvalidRequestError, match="create an instance"):
        asyncio.run(read())


def test_unknown_request_does_not_move_on(path: Path) -> None:
    good = ScriptedProvider(["Hello"])
    provider = Failover([Recorded(counting(), path, "replay"), good])
    assert type(failure(provider)) is RecordingError
    assert not good.requests


def test_plain_text_protocol_is_whole(path: Path) -> None:
    """Its outcome is ``unverified``, which is as good as it gets."""
    with serve(["Hello"]) as server:
        for _ in range(2):
            completion = Recorded(AI365VIP(base_url=server.url), path).complete("Hi")
            assert (completion.text, completion.outcome) == ("Hello", "unverified")
        assert len(server.requests) == 1


def test_recorded_shows_what_the_provider_shows(path: Path) -> None:
    provider = OpenAICompatible("m", base_url="http://127.0.0.1:9", api_key="sk-0123456789abc")
    recorded = Recorded(provider, path)
    assert (recorded.model, recorded.base_url) == ("m", provider.base_url)
    assert recorded.supports_tools
    assert "Recorded(OpenAICompatible" in repr(recorded)
    assert "sk-0" not in repr(recorded) + repr(vars(recorded))
    with pytest.raises(AttributeError):
        recorded.nonsense  # noqa: B018
    with pytest.raises(InvalidRequestError, match="temperature"):
        recorded.complete("Hi", temperature=float("nan"))
    assert not path.exists()


# --- settings


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"mode": "play"}, "mode must be one of"),
        ({"mode": None}, "mode must be one of"),
        ({"max_age": 0}, "max_age must be a finite number"),
        ({"max_age": -1}, "max_age must be a finite number"),
        ({"max_age": float("nan")}, "max_age"),
        ({"max_age": True}, "max_age"),
        ({"max_age": "60"}, "max_age"),
        ({"paced": 1}, "paced must be True or False"),
        ({"path": ""}, "path must be the path of a file"),
        ({"path": None}, "path must be the path of a file"),
        ({"path": b"answers.jsonl"}, "path must be the path of a file"),
        ({"path": 3}, "path must be the path of a file"),
        ({"path": "a\0b"}, "path must be the path of a file"),
        ({"provider": "OpenAICompatible"}, "needs a provider"),
        ({"provider": OpenAICompatible}, "needs a provider"),
    ],
    ids=str,
)
def test_wrong_setting(settings: dict[str, Any], named: str, path: Path) -> None:
    arguments = {"provider": counting(), "path": path, **settings}
    with pytest.raises(InvalidRequestError, match=named):
        Recorded(arguments.pop("provider"), arguments.pop("path"), **arguments)
    assert not path.exists()


def test_recorded_twice_is_refused(path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="needs a provider"):
        Recorded(Recorded(counting(), path), path)


def test_list_of_models_is_not_recorded(tmp_path: Path) -> None:
    """It is asked for, except in replay, where nothing is sent."""
    path = tmp_path / "answers.jsonl"
    with serve(json_body({"data": [{"id": "m"}]})) as server:
        provider = OpenAICompatible("m", base_url=server.url)
        assert Recorded(provider, path).list_models() == ["m"]
        with pytest.raises(InvalidRequestError, match=r"call \.provider\.list_models\(\)"):
            Recorded(provider, path, "replay").list_models()
        assert len(server.requests) == 1
        provider.close()
