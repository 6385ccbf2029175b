"""Tests of timeouts longer than the system can count: each call works as without a timeout."""

from __future__ import annotations

import asyncio
import sys
import threading
from dataclasses import replace
from typing import Any

import pytest
import requests
import tenacity
from faults.phases import fill

from providers_sync import CancelToken, OpenAICompatible, StreamCancelled, Timeouts, aio
from providers_sync.testing import Server, serve, stall, status, text

CHUNKS, CHUNK = 400, "x" * 2000
NAMES = ["connect", "first_token", "idle", "total"]
LONG = [1e10, 4294968.0, sys.float_info.max, None]
"""Seconds: more than ``time_t`` and 32 bits of milliseconds hold, the longest, and no limit."""


@pytest.fixture(scope="module")
def server() -> Any:
    """A server whose answer is three times as long as a stream's buffer."""
    with serve([text(CHUNK)] * CHUNKS) as server:
        yield server


def every(seconds: float | None) -> Timeouts:
    return Timeouts(*[seconds] * 4)


def cases() -> list[Any]:
    """Return each timeout alone, and all at once, for each length."""
    return [
        pytest.param(timeouts, id=f"{name}-{seconds}")
        for seconds in LONG
        for name, timeouts in [
            *((each, Timeouts(**{each: seconds})) for each in NAMES),
            ("all", every(seconds)),
        ]
    ]


@pytest.mark.parametrize("timeouts", cases())
def test_slow_reader_gets_the_whole_answer(server: Server, timeouts: Timeouts) -> None:
    """The stream waits for it, with its buffer full, as long as the timeouts allow."""
    with OpenAICompatible("m", base_url=server.url, timeouts=timeouts) as provider:
        stream = provider.stream("Hi")
        assert next(stream) == CHUNK
        fill(stream)
        assert len(stream.read()) == CHUNKS * len(CHUNK) - len(CHUNK)
        assert stream.outcome == "complete"


@pytest.mark.parametrize("seconds", LONG)
def test_asynchronous_reader_gets_the_whole_answer(server: Server, seconds: float | None) -> None:
    """The event loop counts the time in another way."""

    async def read() -> int:
        stream = aio.stream(provider, "Hi")
        return sum([len(chunk) async for chunk in stream])

    with OpenAICompatible("m", base_url=server.url, timeouts=every(seconds)) as provider:
        assert asyncio.run(read()) == CHUNKS * len(CHUNK)


@pytest.mark.parametrize("seconds", LONG)
def test_session_of_the_caller_waits(
    server: Server, session: requests.Session, seconds: float | None
) -> None:
    """The session gets the timeouts as numbers, of which ``total`` must not be the least."""
    timeouts = replace(every(seconds), total=None)
    provider = OpenAICompatible("m", base_url=server.url, timeouts=timeouts, session=session)
    assert len(provider.complete("Hi").text) == CHUNKS * len(CHUNK)


@pytest.mark.parametrize("seconds", LONG)
def test_long_wait_before_a_retry_can_be_cancelled(seconds: float | None) -> None:
    """A lent policy may want to wait for centuries."""
    token, waits = CancelToken(), threading.Event()

    def forever(_: Any) -> float:
        threading.Timer(0.05, token.cancel).start()
        waits.set()
        return (seconds or sys.float_info.max) / 2  # a wait that total would cut is not begun

    retry = tenacity.Retrying(wait=forever, stop=tenacity.stop_after_attempt(2))
    with serve(status(503)) as server:
        provider = OpenAICompatible("m", base_url=server.url, timeouts=every(seconds), retry=retry)
        with pytest.raises(StreamCancelled):
            provider.complete("Hi", cancel=token)
        assert waits.is_set()


@pytest.mark.parametrize("seconds", LONG)
def test_wait_for_a_silent_server_can_be_cancelled(seconds: float | None) -> None:
    """In the middle of an answer, where ``idle`` is the next deadline."""
    with serve([text("Hello"), stall()]) as server:
        stream = OpenAICompatible("m", base_url=server.url, timeouts=every(seconds)).stream("Hi")
        assert next(stream) == "Hello"
        threading.Timer(0.05, stream.cancel).start()
        with pytest.raises(StreamCancelled):
            next(stream)
