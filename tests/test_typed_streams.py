"""Typed answers while they stream: items, partial objects, and how they end or are stopped."""

from __future__ import annotations

import json
import pickle
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from faults.phases import wait_until
from pydantic import BaseModel

from providers_sync import (
    APITimeoutError,
    CancelToken,
    InvalidAnswer,
    OpenAICompatible,
    StreamCancelled,
    StreamCut,
    Timeouts,
    TypedStream,
)
from providers_sync.stream import Channel, channel_of
from providers_sync.testing import (
    ScriptedProvider,
    answer,
    cut,
    finish,
    reasoning,
    serve,
    signal,
    stall,
    text,
    usage,
    wait,
)


class Item(BaseModel):
    n: int


def items_of(count: int, wrapped: bool = True) -> str:
    said = json.dumps([{"n": number} for number in range(count)])
    return f'{{"items": {said}}}' if wrapped else said


def pieces(said: str, size: int) -> list[Any]:
    return [text(said[at : at + size]) for at in range(0, len(said), size)]


def collect(iterator: Iterator[Any]) -> tuple[list[Any], Exception | None]:
    """Return what an iterator yields, and what it raises."""
    found = []
    try:
        for each in iterator:
            found.append(each)
    except Exception as error:  # noqa: BLE001
        return found, error
    return found, None


def is_prefix(part: Any, whole: Any) -> bool:
    """Return whether a partial object is a beginning of the whole one."""
    if isinstance(part, dict) and isinstance(whole, dict):
        names = list(whole)[: len(part)]
        return list(part) == names and all(is_prefix(part[name], whole[name]) for name in names)
    if isinstance(part, list) and isinstance(whole, list):
        pairs = zip(part, whole, strict=False)
        return len(part) <= len(whole) and all(is_prefix(*pair) for pair in pairs)
    if isinstance(part, str) and isinstance(whole, str):
        return whole.startswith(part)
    return bool(part == whole)


# --- items


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("wrapped", [True, False])
def test_items_come_validated_and_in_order(size: int, wrapped: bool) -> None:
    provider = ScriptedProvider(
        [reasoning("Hm."), *pieces(items_of(5, wrapped), size), usage(1, 2)]
    )
    with provider.stream("Q", into=list[Item]) as stream:
        assert list(stream.items()) == [Item(n=number) for number in range(5)]
    assert stream.outcome == "complete"
    assert (stream.text, stream.reasoning) == (items_of(5, wrapped), "Hm.")
    assert stream.usage.output_tokens == 2


def test_item_comes_as_soon_as_it_is_closed() -> None:
    """Before the server says more."""
    gate = threading.Event()
    script = [text('{"items": [{"n": 1}'), wait(gate), text(', {"n": 2}]}')]
    with serve(script) as server:
        provider = OpenAICompatible("m", base_url=server.url)
        with provider.stream("Q", into=list[Item]) as stream:
            items = stream.items()
            assert next(items) == Item(n=1)
            assert stream.outcome is None
            gate.set()
            assert list(items) == [Item(n=2)]


def test_items_begin_with_the_first_although_text_was_read() -> None:
    provider = ScriptedProvider(pieces(items_of(3), 8))
    with provider.stream("Q", into=list[Item]) as stream:
        next(stream)
        next(stream)
        assert [item.n for item in stream.items()] == [0, 1, 2]
        assert stream.value == [Item(n=0), Item(n=1), Item(n=2)]


def test_items_of_plain_types_and_of_a_schema() -> None:
    assert [*ScriptedProvider('{"items": [1, [2], "3"]}').stream("Q", into=list[Any]).items()] == [
        *(1, [2], "3")
    ]
    schema = {"type": "array", "items": {"$ref": "#/$defs/N"}, "$defs": {"N": {"type": "integer"}}}
    found, error = collect(ScriptedProvider("[1, 2, true]").stream("Q", into=schema).items())
    assert found == [1, 2]
    assert isinstance(error, InvalidAnswer)
    assert error.errors[0]["loc"] == (2,)


WRONG_ITEMS = '{"items": [{"n": 1}, {"n": "x"}, {"n": 2}, {}, {"n": 3}]}'


def test_wrong_item_raises_at_once_and_stops_the_answer() -> None:
    provider = ScriptedProvider([text(WRONG_ITEMS[:40]), stall()])
    stream = provider.stream("Q", into=list[Item])
    found, error = collect(stream.items())
    assert found == [Item(n=1)]
    assert isinstance(error, InvalidAnswer)
    assert error.errors[0]["loc"] == (1, "n")
    assert error.partial_value == {"n": "x"}
    assert error.partial == stream.text == WRONG_ITEMS[:40]
    assert error.outcome == stream.outcome == "cancelled"
    assert len(provider.requests) == 1


def test_wrong_items_are_skipped_if_wanted() -> None:
    stream = ScriptedProvider(pieces(WRONG_ITEMS, 3)).stream(
        "Q", into=list[Item], skip_invalid=True
    )
    assert [item.n for item in stream.items()] == [1, 2, 3]
    assert [(each.errors[0]["loc"], each.partial_value) for each in stream.invalid] == [
        ((1, "n"), {"n": "x"}),
        ((3, "n"), {}),
    ]
    assert stream.value == [Item(n=1), Item(n=2), Item(n=3)]
    assert len(stream.invalid) == 2


def test_value_skips_wrong_items_without_a_repair() -> None:
    provider = ScriptedProvider(WRONG_ITEMS)
    stream = provider.stream("Q", into=list[Item], skip_invalid=True)
    assert [item.n for item in stream.value] == [1, 2, 3]
    assert [each.errors[0]["loc"] for each in stream.invalid] == [(1, "n"), (3, "n")]
    assert len(provider.requests) == 1


def test_completion_keeps_the_items_that_were_skipped() -> None:
    """And pickles with them."""
    completion = ScriptedProvider(WRONG_ITEMS).complete("Q", into=list[Item], skip_invalid=True)
    assert len(completion.value) == 3
    for each in (completion, pickle.loads(pickle.dumps(completion))):
        assert [failure.partial_value for failure in each.invalid] == [{"n": "x"}, {}]
    assert ScriptedProvider(items_of(1)).complete("Q", into=list[Item]).invalid == ()


@pytest.mark.parametrize(
    ("end", "kind"),
    [
        ([cut()], StreamCut),
        ([finish("length")], InvalidAnswer),
        ([finish("stop")], InvalidAnswer),
    ],
)
def test_items_before_a_bad_end_are_handed_out(end: list[Any], kind: type[Exception]) -> None:
    said = items_of(3)[:-3]
    found, error = collect(
        ScriptedProvider([text(said), *end]).stream("Q", into=list[Item]).items()
    )
    assert [item.n for item in found] == [0, 1]
    assert type(error) is kind
    assert error.partial == said
    assert error.partial_value == [{"n": 0}, {"n": 1}, {}]


@pytest.mark.parametrize("said", ['{"name": [1]}', "No.", "3", '{"items": 3}', ""])
def test_answer_without_a_list_has_no_items(said: str) -> None:
    stream = ScriptedProvider(answer(said, finish("stop"))).stream("Q", into=list[Item])
    found, error = collect(stream.items())
    assert found == []
    assert isinstance(error, InvalidAnswer)
    assert error.partial == said


def test_leaving_the_loop_and_closing_ends_the_items() -> None:
    with serve([text(items_of(3)[:-1]), stall()]) as server:
        stream = OpenAICompatible("m", base_url=server.url).stream("Q", into=list[Item])
        items = stream.items()
        assert next(items) == Item(n=0)
        stream.close()
        assert list(items) == []
        assert stream.outcome == "cancelled"
        server.wait_closed(1)


# --- partial objects


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_partials_grow_into_the_whole(size: int) -> None:
    whole = {
        "name": "Pan \u00e9 \U0001f600",
        "steps": ["a", "b"],
        "n": 12,
        "ok": True,
        "in": {"x": None},
    }
    provider = ScriptedProvider(pieces(json.dumps(whole), size))
    stream = provider.stream("Q", into=dict[str, Any])
    found = list(stream.partials())
    assert found[-1] == whole
    assert all(is_prefix(part, whole) for part in found)
    assert stream.value == whole
    assert stream.outcome == "complete"


def test_partials_are_of_the_list_itself_and_never_change() -> None:
    a, b = threading.Event(), threading.Event()
    script = [text('{"items": [{"n": 1'), wait(a), text('}, {"n"'), wait(b), text(": 2}]}")]
    with serve(script) as server:
        provider = OpenAICompatible("m", base_url=server.url)
        with provider.stream("Q", into=list[Item]) as stream:
            partials = stream.partials()
            first = next(partials)
            assert first == [{}]
            a.set()
            second = next(partials)
            assert second == [{"n": 1}, {}]
            first.append("mine")
            b.set()
            assert list(partials) == [[{"n": 1}, {"n": 2}]]
            assert second == [{"n": 1}, {}]
            assert stream.value == [Item(n=1), Item(n=2)]


def test_partial_is_yielded_once_for_a_batch() -> None:
    """All events that have arrived meanwhile give one object."""
    gate = threading.Event()
    first, *rest = pieces(items_of(200), 20)
    with serve([first, wait(gate), *rest]) as server:
        provider = OpenAICompatible("m", base_url=server.url)
        with provider.stream("Q", into=list[Item]) as stream:
            partials = stream.partials()
            next(partials)
            gate.set()
            wait_until(lambda: channel_of(stream).ended)
            assert list(partials) == [[{"n": number} for number in range(200)]]


@pytest.mark.parametrize(
    ("into", "said", "last"),
    [
        (int, '{"value": 12}', 12),
        (int, "12", 12),
        (str, '{"value": "ab"}', "ab"),
        (str, '"ab"', "ab"),
    ],
)
def test_partials_of_scalars(into: Any, said: str, last: Any) -> None:
    assert [*ScriptedProvider(pieces(said, 1)).stream("Q", into=into).partials()][-1] == last


def test_partials_pass_over_prose() -> None:
    said = 'As in [1] and [2]:\n```json\n{"n": 1}\n```\nSee [3].'
    found = list(ScriptedProvider(pieces(said, 4)).stream("Q", into=Item).partials())
    assert found[-1] == {"n": 1}
    assert all(isinstance(part, dict) for part in found)


def test_partials_are_not_validated_but_must_be_whole() -> None:
    found, error = collect(ScriptedProvider('{"n": "x"}').stream("Q", into=Item).partials())
    assert (found, error) == ([{"n": "x"}], None)
    said = answer('{"n": "x"', finish("stop"))
    found, error = collect(ScriptedProvider(said).stream("Q", into=Item).partials())
    assert found == [{"n": "x"}]
    assert isinstance(error, InvalidAnswer)


# --- rounds


def wrong_then(*second: Any) -> list[Any]:
    return [answer('{"n": "x"}', usage(1, 1)), answer(*second)]


def test_total_covers_all_rounds() -> None:
    with serve(wrong_then(text('{"n":'), stall())) as server:
        provider = OpenAICompatible("m", base_url=server.url, timeouts=Timeouts(total=0.4))
        stream = provider.stream("Q", into=Item)
        with pytest.raises(APITimeoutError, match=r"longer than 0\.4 s in total") as caught:
            _ = stream.value
        assert caught.value.clock == "total"
        assert stream.outcome == "deadline"
        assert 0.3 < stream.stats.duration_s < 2
        assert caught.value.partial == '{"n":'
        assert isinstance(caught.value.__context__, (InvalidAnswer, type(None)))


@pytest.mark.parametrize("stop", ["cancel", "token", "close"])
def test_second_round_can_be_stopped(stop: str) -> None:
    token, second = CancelToken(), threading.Event()
    with serve(wrong_then(text('{"n":'), signal(second), stall())) as server:
        provider = OpenAICompatible("m", base_url=server.url)
        stream = provider.stream("Q", into=Item, cancel=token)
        stops: dict[str, Callable[[], None]] = {
            "cancel": stream.cancel,
            "token": token.cancel,
            "close": stream.close,
        }

        def stop_it() -> None:
            second.wait(5)
            stops[stop]()

        thread = threading.Thread(target=stop_it)
        thread.start()
        with pytest.raises(StreamCancelled):
            _ = stream.value
        thread.join()
        assert stream.outcome == "cancelled"
        server.wait_closed(1)


def test_cut_second_round_raises_its_own_error() -> None:
    stream = ScriptedProvider(wrong_then(text('{"n":'), cut())).stream("Q", into=Item, retry=1)
    with pytest.raises(StreamCut) as caught:
        _ = stream.value
    assert (caught.value.partial, caught.value.partial_value) == ('{"n":', {})
    assert stream.stats.attempts == 2


def test_two_threads_may_ask_for_the_value() -> None:
    """One of them asks again; both get the object."""
    for _ in range(20):
        stream = ScriptedProvider(wrong_then(text('{"n": 1}'))).stream("Q", into=Item)
        found: list[Any] = []
        threads = [
            threading.Thread(target=lambda s=stream, f=found: f.append(s.value)) for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [Item(n=1), Item(n=1)]


def test_dropping_the_stream_releases_everything() -> None:
    with serve([text('{"n":'), stall()]) as server:
        stream = OpenAICompatible("m", base_url=server.url).stream("Q", into=Item)
        assert isinstance(stream, TypedStream)
        del stream
        server.wait_closed(1)


def test_stop_during_the_change_of_rounds_stops_the_second_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It waits for the lock of the first round, and must take that of the second one."""
    stream = ScriptedProvider([text('{"n":'), stall()]).stream("Q", into=Item)
    locks: list[Any] = []
    take_rest = stream._take_rest
    monkeypatch.setattr(
        stream,
        "_take_rest",
        lambda: (locks.append(channel_of(stream).lock._is_owned()), take_rest()),
    )
    first = channel_of(stream)
    waiting = threading.Event()

    class Lock:
        """The first round's lock, which says that somebody waits for it."""

        def __enter__(self) -> None:
            waiting.set()
            lock.acquire()

        def __exit__(self, *error: object) -> None:
            lock.release()

    lock = first.lock
    with lock:
        monkeypatch.setattr(first, "lock", Lock())
        thread = threading.Thread(target=stream.cancel)
        thread.start()
        assert waiting.wait(5)
        stream._channel = Channel(first.timeouts, first)
    thread.join()
    assert stream.outcome == "cancelled"
    assert locks == [True]
    monkeypatch.setattr(first, "lock", lock)
    first.stop(None)
