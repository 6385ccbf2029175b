"""Frozen and jumping clocks (freezegun, time-machine): every wait ends when it should."""

from __future__ import annotations

import ast
import asyncio
import concurrent.futures
import contextlib
import functools
import itertools
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import freezegun
import pytest
import tenacity
import time_machine

import providers_sync
from providers_sync import (
    APIStatusError,
    APITimeoutError,
    Failover,
    OpenAICompatible,
    Provider,
    Timeouts,
    aio,
    batch,
    local_server,
)
from providers_sync.clock import monotonic
from providers_sync.testing import answer, pause, serve, stall, status

ROOT = Path(providers_sync.__file__).parent
WALL_CLOCK = {
    *("transport/status_errors.py", "wsgi.py", "recording/exchange.py", "recording/file.py"),
    *("otel/call_span.py", "prices.py", "request_usage.py"),
}
"""Modules that need today's date."""
CLOCKS = {
    *("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns"),
    *("clock_gettime", "clock_gettime_ns", "thread_time", "process_time"),
}
WAITS_BY_PYTHONS_CLOCK = {
    *("Queue", "LifoQueue", "PriorityQueue"),  # get(timeout=)
    *("Barrier", "Semaphore", "BoundedSemaphore", "as_completed", "communicate"),
}
"""Names of the standard library whose timeouts count by ``time.monotonic``."""
OWN_WAIT_FOR = {"self", "self.attempt", "self._attempt", "self.connection"}
"""Objects whose ``wait_for`` is a method of ours, and not the one of a ``Condition``."""
GOOD = answer("Hel", "lo")
WITHIN_S = 0.5
"""How late a wait may end on a busy machine."""


# --- the source


def clock_reads(source: str, path: str) -> list[str]:
    """Return what reads a clock that can be replaced, or waits by one, in a module's source."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module in ("time", "datetime"):
            clocks = CLOCKS if path in WALL_CLOCK else {*CLOCKS, "datetime"}
            names = [alias.name for alias in node.names if alias.name in clocks]
            found += [f"{path}: from {node.module} import {name}" for name in names]
        elif isinstance(node, ast.Attribute):
            owner = ast.unparse(node.value)
            is_clock = owner == "time" and node.attr in CLOCKS
            if is_clock and not (node.attr == "time" and path in WALL_CLOCK):
                found.append(f"{path}: time.{node.attr}")
            if node.attr == "wait_for" and owner not in OWN_WAIT_FOR:
                found.append(f"{path}: {owner}.wait_for")
            if node.attr in WAITS_BY_PYTHONS_CLOCK:
                found.append(f"{path}: {owner}.{node.attr}")
    return found


def test_no_module_reads_a_clock_that_can_be_replaced() -> None:
    """``clock.monotonic`` is read everywhere; nothing waits by another clock."""
    modules = {path.relative_to(ROOT).as_posix(): path for path in ROOT.rglob("*.py")}
    del modules["clock.py"]
    assert len(modules) > 100
    assert [
        each for name, path in modules.items() for each in clock_reads(path.read_text(), name)
    ] == []


@pytest.mark.parametrize(
    "source",
    [
        "import time\ntime.monotonic()",
        "import time\nclock = time.perf_counter",
        "from time import monotonic as now",
        "import time\ntime.time()",
        "from datetime import datetime",
        "condition.wait_for(lambda: True, 5)",
        "self._changed.wait_for(done, 5)",
        "import queue\nqueue.Queue()",
        "import concurrent.futures\nconcurrent.futures.as_completed(fs, 3)",
    ],
)
def test_a_read_of_another_clock_is_found(source: str) -> None:
    """The check above is not empty."""
    assert len(clock_reads(source, "stream/x.py")) == 1


# --- behaviour


@contextlib.contextmanager
def frozen() -> Iterator[None]:
    with freezegun.freeze_time("2026-01-01"):
        yield


@contextlib.contextmanager
def travelling() -> Iterator[None]:
    with time_machine.travel("2026-01-01", tick=False):
        yield


@contextlib.contextmanager
def jumping() -> Iterator[None]:
    """Let the clock jump days and years, forward and back, in the middle of every wait."""
    ended = threading.Event()
    with freezegun.freeze_time("2026-01-01") as freezer:

        def jump() -> None:
            for year in itertools.cycle((2026, 2031, 2028)):
                if ended.wait(0.01):
                    return
                freezer.move_to(f"{year}-01-01")
                freezer.tick(100)

        thread = threading.Thread(target=jump)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


ODD_CLOCKS = {"freezegun": frozen, "time-machine": travelling, "jumps": jumping}


WAITS: dict[str, Callable[[], None]] = {}
"""Checks of one kind of wait each, which all run at once to save time."""


def check_of(wait: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Add a function to ``WAITS``."""

    def add(check: Callable[[], None]) -> Callable[[], None]:
        WAITS[wait] = check
        return check

    return add


def openai(url: str, **settings: Any) -> Provider:
    return OpenAICompatible("m", base_url=url, **settings)


@contextlib.contextmanager
def takes(seconds: float) -> Iterator[None]:
    """Check that this takes as many real seconds, and fail soon if it hangs."""
    start = monotonic()
    yield
    assert seconds <= monotonic() - start < seconds + WITHIN_S


def fails_with(clock: str, call: Callable[[], object]) -> None:
    with pytest.raises(APITimeoutError) as caught:
        call()
    assert caught.value.clock == clock


@check_of("retries and their waits")
def check_retries_and_their_waits() -> None:
    """The back-off, a ``Retry-After`` in seconds, and one that is a date."""
    date = {"Date": "Thu, 01 Jan 2099 00:00:00 GMT", "Retry-After": "Thu, 01 Jan 2099 00:00:00 GMT"}
    script = [status(503), status(503, headers={"Retry-After": "0.2"}), status(503, headers=date)]
    with serve([*script, GOOD]) as server:
        stream = openai(server.url, retry=4, timeouts=5).stream("Hi")
        assert stream.read() == "Hello"
        first, second, third, fourth = (request.at for request in server.requests)
    assert 0.25 <= second - first < 0.5 + WITHIN_S
    assert 0.2 <= third - second < 0.22 + WITHIN_S
    assert fourth - third < WITHIN_S
    assert 0.45 <= stream.stats.duration_s < 0.72 + 3 * WITHIN_S


@check_of("retry after as a date counts by the servers clock")
def check_retry_after_as_a_date_counts_by_the_servers_clock() -> None:
    """The local date is wrong by years."""
    date = {"Date": "Thu, 01 Jan 2099 00:00:00 GMT", "Retry-After": "Thu, 01 Jan 2099 00:00:30 GMT"}
    with serve(status(503, headers=date)) as server, pytest.raises(APIStatusError) as caught:
        openai(server.url, retry=None).complete("Hi")
    assert caught.value.retry_after == 30


@check_of("first token idle and total expire")
def check_first_token_idle_and_total_expire() -> None:
    """Each on time."""
    with serve(
        [answer(before=[pause(9)]), answer("Hel", stall()), answer("Hel", stall())]
    ) as server:
        with takes(0.2):
            provider = openai(server.url, timeouts=Timeouts(first_token=0.2))
            fails_with("first_token", lambda: provider.complete("Hi"))
        with takes(0.2):
            provider = openai(server.url, timeouts=Timeouts(idle=0.2))
            fails_with("idle", lambda: provider.complete("Hi"))
        with takes(0.2):
            provider = openai(server.url, timeouts=0.2)
            fails_with("total", lambda: provider.complete("Hi"))


@check_of("connect expires")
def check_connect_expires() -> None:
    """A server that never answers the TLS handshake."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}"
        provider = openai(url, timeouts=Timeouts(connect=0.2), retry=None)
        with takes(0.2):
            fails_with("connect", lambda: provider.complete("Hi"))


@check_of("wait of a stream ends")
def check_wait_of_a_stream_ends() -> None:
    """With and without an event."""
    with serve(answer("Hel", stall())) as server, openai(server.url).stream("Hi") as stream:
        assert next(stream) == "Hel"
        with takes(0.2):
            assert not stream.wait(0.2)


@check_of("batch keeps its rate")
def check_batch_keeps_its_rate() -> None:
    """Six hundred a minute."""
    with serve(GOOD) as server:
        assert len(list(batch.map(openai(server.url), list("abcd"), rate=600))) == 4
        first, *_, last = (request.at for request in server.requests)
    assert 0.1 <= last - first < 0.3 + WITHIN_S


@check_of("batch pauses")
def check_batch_pauses() -> None:
    """As long as the server asks for."""
    with serve([status(429, headers={"Retry-After": "0.3"}), GOOD]) as server:
        [result] = batch.map(openai(server.url), ["Hi"])
        first, second = (request.at for request in server.requests)
    assert result.text == "Hello"
    assert 0.3 <= second - first < 0.5 + WITHIN_S


@check_of("batch enforces timeouts")
def check_batch_enforces_timeouts() -> None:
    """A row that stalls."""
    with serve(answer("Hel", stall())) as server, takes(0.2):
        [result] = batch.map(openai(server.url, timeouts=0.2), ["Hi"])
        assert isinstance(result.error, APITimeoutError)


@check_of("cooldown of a failover ends")
def check_cooldown_of_a_failover_ends() -> None:
    """After the real time, not before and not never."""
    with serve([status(503), GOOD]) as first, serve(GOOD) as second:
        providers = [openai(first.url), openai(second.url)]
        provider = Failover(providers, failures=1, cooldown=0.3)
        for requests in (1, 1):  # the second call comes before the end
            assert provider.complete("Hi").text == "Hello"
            assert len(first.requests) == requests
        threading.Event().wait(0.35)
        assert provider.complete("Hi").text == "Hello"
        assert len(first.requests) == 2


STOPS = {
    "stop_after_delay": tenacity.stop_after_delay(0.25),
    "stop_before_delay": tenacity.stop_before_delay(0.25),
}


def check_delays_of_a_tenacity_policy(stop: str, in_batch: bool) -> None:
    """From the start of the call, by a clock that runs."""
    policy = tenacity.Retrying(stop=STOPS[stop], wait=tenacity.wait_fixed(0.1))
    with serve(status(503)) as server:
        provider = openai(server.url, retry=policy, timeouts=5)
        with takes(0.15):
            if in_batch:
                [result] = batch.map(provider, ["Hi"])
                assert isinstance(result.error, APIStatusError)
            else:
                with pytest.raises(APIStatusError):
                    provider.complete("Hi")
        assert 1 < len(server.requests) <= 4


@check_of("wait of the test server ends")
def check_wait_of_the_test_server_ends() -> None:
    """``wait_request`` of a server of ours."""
    with serve(GOOD) as server, takes(0.2), pytest.raises(TimeoutError):
        server.wait_request(1, 0.2)


for stop, in_batch in itertools.product(STOPS, (False, True)):
    WAITS[f"{stop}, in a batch: {in_batch}"] = functools.partial(
        check_delays_of_a_tenacity_policy, stop, in_batch
    )


@pytest.mark.parametrize("odd_clock", ODD_CLOCKS)
def test_every_wait_ends_when_it_should(odd_clock: str) -> None:
    """Under each clock that does not tell the time; pytest itself has the real one."""
    with ODD_CLOCKS[odd_clock](), concurrent.futures.ThreadPoolExecutor(len(WAITS)) as pool:
        futures = {wait: pool.submit(check) for wait, check in WAITS.items()}
        failed = {wait: future.exception() for wait, future in futures.items()}
    assert {wait: error for wait, error in failed.items() if error is not None} == {}


def test_wait_for_a_child_process_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server of a local model that does not end is killed."""
    monkeypatch.setattr(local_server, "STOP_S", 0.2)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    with frozen(), takes(0.2):
        local_server._wait_or_kill(child)
    assert child.returncode == -signal.SIGKILL


@pytest.mark.parametrize("odd_clock", ODD_CLOCKS)
def test_idle_worker_threads_end(odd_clock: str) -> None:
    """The thread of a stream ends after its idle time."""
    with ODD_CLOCKS[odd_clock](), serve(GOOD) as server:
        before = set(threading.enumerate())
        openai(server.url).complete("Hi")
        for thread in set(threading.enumerate()) - before:
            if thread.name == "providers-sync-stream":
                thread.join(5)
                assert not thread.is_alive()


def test_async_retry_and_timeout() -> None:
    """With an event loop whose own clock runs, which ``real_asyncio=True`` provides."""

    async def calls(url: str) -> None:
        provider = openai(url, timeouts=Timeouts(idle=0.2))
        assert (await aio.complete(provider, "Hi")).text == "Hello"
        with pytest.raises(APITimeoutError):
            await aio.complete(provider, "Hi")

    clocks = [freezegun.freeze_time("2026-01-01", real_asyncio=True), travelling()]
    for clock in clocks:
        with (
            serve(
                [status(503, headers={"Retry-After": "0"}), GOOD, answer("Hel", stall())]
            ) as server,
            clock,
        ):
            asyncio.run(calls(server.url))


def test_a_frozen_clock_is_one() -> None:
    """The clocks of these tests stand still or jump; otherwise they would prove nothing."""
    with frozen():
        start = time.monotonic(), time.time()
        threading.Event().wait(0.01)
        assert (time.monotonic(), time.time()) == start
    with travelling():
        moment = time.time()
        threading.Event().wait(0.01)
        assert time.time() == moment
    with jumping():
        seen = set()
        while len(seen) < 3:
            seen.add(time.monotonic())
            threading.Event().wait(0.005)
