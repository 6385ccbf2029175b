"""Threads, forks, process pools, gevent and interpreter shutdown."""

from __future__ import annotations

import concurrent.futures
import copy
import gc
import multiprocessing
import os
import pickle
import random
import select
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from providers_sync import (
    AI365VIP,
    CancelToken,
    OpenAICompatible,
    Provider,
    ProviderError,
    RateLimitError,
    StreamCancelled,
    Vitalentum,
)
from providers_sync.testing import (
    Request,
    answer,
    done,
    finish,
    pause,
    reset,
    serve,
    status,
    text,
    wait,
)

THREADS = 64
WORDS = [f"word {i} " for i in range(20)]
TEXT = "".join(WORDS)
FORKS = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
# Python 3.12 and later warn of a fork while other threads run, which these tests do on purpose.
FORK_WARNING = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def openai(url: str, **settings: Any) -> Provider:
    return OpenAICompatible("m", base_url=url, **settings)


# --- threads


def echo(request: Request) -> Any:
    """Answer with the prompt, one word at a time."""
    words = request.json()["messages"][-1]["content"].split(" ")
    return [step for word in words for step in (text(f"{word} "), pause(0.001))]


def in_threads(count: int, work: Callable[[int], None]) -> None:
    """Run ``work`` in ``count`` threads that start together; raise what one of them raised."""
    barrier = threading.Barrier(count)

    def wait_and_work(number: int) -> None:
        barrier.wait(30)
        work(number)

    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        for future in [pool.submit(wait_and_work, number) for number in range(count)]:
            future.result(60)


def test_64_threads_share_a_provider_without_mixing_or_reconnecting() -> None:
    """Each thread gets its own answer; a second round of calls reuses the connections."""
    with serve(echo) as server:
        provider = openai(server.url)

        def call(number: int) -> None:
            prompt = " ".join(f"{number}-{i}" for i in range(10))
            assert provider.complete(prompt).text == prompt + " "

        in_threads(THREADS, call)
        in_threads(THREADS, call)
        assert len(server.connections) <= THREADS  # as many as were in use at once
        assert len(server.requests) == 2 * THREADS


def test_plain_text_shares_connections_too() -> None:
    """A protocol without an end marker reuses its connections as well."""
    with serve(answer(*WORDS)) as server:
        provider = AI365VIP(base_url=server.url)

        def call(_: int) -> None:
            assert provider.complete("Hi").text == TEXT

        for _ in range(2):
            in_threads(16, call)
        assert len(server.connections) <= 17


def test_threads_that_read_one_stream_share_its_chunks() -> None:
    """Each chunk goes to one thread, and all of them see the end."""
    with serve([step for word in WORDS for step in (text(word), pause(0.002))]) as server:
        stream = openai(server.url).stream("Hi")
        chunks: list[str] = []
        in_threads(4, lambda _: chunks.extend(stream))
    assert sorted(chunks) == sorted(WORDS)
    assert stream.text == TEXT


def test_threads_that_read_a_fast_stream_lose_nothing() -> None:
    """Even if they fetch the next batch at the same time, again and again."""
    words = [f"word {i} " for i in range(3000)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with serve(words) as server:
            for _ in range(5):
                stream = openai(server.url).stream("Hi")
                chunks: list[str] = []
                in_threads(4, lambda _, to=chunks, stream=stream: to.extend(stream))
                assert sorted(chunks) == sorted(words)
                assert stream.text == "".join(words)
    finally:
        sys.setswitchinterval(interval)


def test_cancelling_a_stream_that_has_just_ended_affects_no_other_call() -> None:
    """Another call may already use its connection, and gets its complete answer."""
    until = time.monotonic() + 3
    counts = {"complete": 0, "cancelled": 0}
    with serve([text("Hel"), text("lo"), finish(), done()]) as server:
        provider = openai(server.url, retry=1)

        def call(number: int) -> None:
            generator, longest = random.Random(number), 0.02
            while time.monotonic() < until:
                token = CancelToken()
                timer = threading.Timer(generator.uniform(0.001, longest), token.cancel)
                timer.start()
                try:
                    text, outcome = provider.complete("Hi", cancel=token).text, "complete"
                except StreamCancelled as error:
                    text, outcome = error.partial, "cancelled"
                assert text == "Hello" or (outcome == "cancelled" and "Hello".startswith(text))
                counts[outcome] += 1
                # Half of the cancellations should come too late, however fast this machine is now.
                longest = max(0.002, longest * (1.2 if outcome == "cancelled" else 0.8))
                timer.join()

        in_threads(8, call)
    assert min(counts.values()) > 20


# --- forks


def in_child(work: Callable[[], Any], limit: float = 10.0) -> Any:
    """Fork, run ``work`` in the child, and return what it returned; raise what it raised."""
    receiving, sending = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(receiving)
        try:
            result = pickle.dumps((True, work()))
        except BaseException:  # noqa: BLE001 (reported to the parent)
            result = pickle.dumps((False, traceback.format_exc()))
        os.write(sending, result)
        os._exit(0)
    os.close(sending)
    with open(receiving, "rb") as pipe:
        ready = select.select([pipe], [], [], limit)[0]
        if not ready:
            os.kill(pid, signal.SIGKILL)
        data = pipe.read()
    os.waitpid(pid, 0)
    assert data, "the child hung or died"
    good, result = pickle.loads(data)
    assert good, result
    return result


@FORKS
@FORK_WARNING
def test_provider_works_before_and_after_a_fork() -> None:
    """Parent and children use separate connections (gunicorn's prefork)."""
    with serve(WORDS) as server:
        provider = openai(server.url)
        assert provider.complete("parent").text == TEXT
        for _ in range(3):
            assert in_child(lambda: provider.complete("child").text) == TEXT
            assert provider.complete("parent").text == TEXT
        by_connection: dict[int, set[str]] = {}
        for request in server.requests:
            prompt = request.json()["messages"][-1]["content"]
            by_connection.setdefault(request.connection, set()).add(prompt)
        assert all(len(prompts) == 1 for prompts in by_connection.values())
        assert len(by_connection) == 4


@FORKS
@FORK_WARNING
def test_fork_while_threads_are_busy_gives_a_working_child() -> None:
    """Whatever lock another thread holds at that moment."""
    stop = threading.Event()
    with serve(WORDS) as server:
        provider = openai(server.url)

        def keep_busy() -> None:
            while not stop.is_set():
                assert provider.complete("Hi").text == TEXT

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            busy = [pool.submit(keep_busy) for _ in range(4)]
            try:
                for _ in range(10):
                    assert in_child(lambda: provider.complete("child").text) == TEXT
            finally:
                stop.set()
            for future in busy:
                future.result(10)


ENDINGS: dict[str, Callable[[list[Any]], object]] = {
    "drops": lambda streams: (streams.clear(), gc.collect()),
    "closes": lambda streams: streams[0].close(),
    "cancels": lambda streams: streams[0].cancel(),
}


@FORKS
@FORK_WARNING
@pytest.mark.parametrize("ending", ENDINGS)
def test_child_that_ends_an_inherited_stream_does_not_affect_the_parent(ending: str) -> None:
    """The connection belongs to the parent, which reads on to the end."""
    go = threading.Event()
    with serve([text("Hel"), wait(go), text("lo")]) as server:
        streams = [openai(server.url).stream("Hi")]
        assert next(streams[0]) == "Hel"
        stream = streams[0]

        def end() -> None:
            inherited = list(streams)
            streams.clear()
            nonlocal stream
            del stream
            ENDINGS[ending](inherited)

        in_child(end)
        go.set()
        assert stream.read() == "lo"
        assert stream.outcome == "complete"


@FORKS
@FORK_WARNING
def test_child_that_reads_an_inherited_stream_gets_an_error_at_once() -> None:
    """It does not wait for a thread that only the parent has."""
    go = threading.Event()
    with serve([text("Hel"), wait(go), text("lo")]) as server:
        stream = openai(server.url).stream("Hi")
        assert next(stream) == "Hel"

        def read() -> tuple[str, str, float]:
            start = time.monotonic()
            with pytest.raises(ProviderError) as caught:
                next(stream)
            return str(caught.value), caught.value.partial, time.monotonic() - start

        message, partial, duration = in_child(read)
        assert "process" in message
        assert partial == "Hel"
        assert duration < 0.25
        go.set()
        assert stream.read() == "lo"


def pool_of_processes(method: str) -> concurrent.futures.ProcessPoolExecutor:
    context = multiprocessing.get_context(method)
    return concurrent.futures.ProcessPoolExecutor(2, mp_context=context)


@FORK_WARNING
@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_provider_and_its_errors_pass_through_a_process_pool(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The provider and the prompt are pickled, and so is the answer, or the error with its data."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    with serve([answer(*WORDS), status(429, "Slow", headers={"Retry-After": "99"})]) as server:
        provider = openai(server.url, api_key="sk-secret", temperature=0)
        with pool_of_processes(method) as pool:
            assert pool.submit(provider.complete, "Hi").result(30).text == TEXT
            with pytest.raises(RateLimitError) as caught:
                pool.submit(provider.complete, "Hi").result(30)
        assert (caught.value.status_code, caught.value.retry_after) == (429, 99)
        assert caught.value.outcome == "failed"
        assert server.requests[0].headers["Authorization"] == "Bearer sk-secret"


def test_copy_of_a_busy_provider_is_independent() -> None:
    """Copies share configuration and nothing else, even while the original streams."""
    go = threading.Event()
    with serve([[text("Hel"), wait(go), text("lo")], WORDS]) as server:
        provider = Vitalentum(base_url=server.url)
        stream = provider.stream("Hi")
        assert next(stream) == "Hel"
        for twin in (
            copy.copy(provider),
            copy.deepcopy(provider),
            pickle.loads(pickle.dumps(provider)),
        ):
            assert twin.complete("Hi").text == TEXT
            assert repr(twin) == repr(provider)
        go.set()
        assert stream.read() == "lo"
        assert len(server.connections) == 4


# --- other interpreters


def python(script: str, *arguments: str, limit: float = 20.0) -> tuple[float, str]:
    """Run a script in a fresh interpreter; return how long it took from its ``ready`` line to its
    end, and what else it printed. It must exit with 0 and print nothing on stderr."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", script, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=Path(__file__).parent,
    )
    with process:
        try:
            assert process.stdout is not None
            ready = process.stdout.readline()
            start = time.monotonic()
            output, errors = process.communicate(timeout=limit)
            duration = time.monotonic() - start
        finally:
            process.kill()
    assert errors == ""
    assert (ready, process.returncode) == ("ready\n", 0)
    return duration, output


OPEN = """
import sys, threading, time
from providers_sync import OpenAICompatible
provider = OpenAICompatible("m", base_url=sys.argv[1])
"""

HOLDING = """
code = '''
import threading, time
def hold(lock):
    held = threading.Event()
    def keep():
        with lock:
            held.set()
            time.sleep(60)
    threading.Thread(target=keep, daemon=True).start()
    held.wait()
'''
namespace = {}
exec(code, namespace)  # a thread that runs code of this module would keep its names alive
"""
"""A thread that holds a lock when the interpreter shuts down."""

EXITS = {
    "with a stream in a global": """
stream = provider.stream("Hi")
print(next(stream)[:0] + "ready", flush=True)
""",
    "out of a loop": """
for chunk in provider.stream("Hi"):
    print("ready", flush=True)
    sys.exit(0)
""",
    "inside a with": """
with provider.stream("Hi") as stream:
    next(stream)
    print("ready", flush=True)
    sys.exit(0)
""",
    "with a daemon thread that waits": """
reading = threading.Event()
def read():
    for chunk in provider.stream("Hi"):
        reading.set()
threading.Thread(target=read, daemon=True).start()
reading.wait()
print("ready", flush=True)
""",
    "with many daemon threads that wait": """
barrier = threading.Barrier(21)
def read():
    stream = provider.stream("Hi")
    next(stream)
    barrier.wait()
    stream.read()
for _ in range(20):
    threading.Thread(target=read, daemon=True).start()
barrier.wait()
print("ready", flush=True)
""",
    "with a stream in a reference cycle": """
class Holder: pass
holder = Holder()
holder.me, holder.stream = holder, provider.stream("Hi")
next(holder.stream)
del holder
print("ready", flush=True)
""",
    "while a daemon thread holds the stream's lock": HOLDING
    + """
stream = provider.stream("Hi")
next(stream)
namespace['hold'](stream._channel.lock)
print("ready", flush=True)
""",
    "out of a generator that reads its stream's state": HOLDING
    + """
def answer():
    with provider.stream("Hi") as stream:
        try:
            for chunk in stream:
                namespace['hold'](stream._channel.lock)
                yield chunk
        finally:
            assert stream.text.startswith("Hel")
            assert stream.stats.chunks
chunks = answer()
next(chunks)
print("ready", flush=True)
""",
    "calling in a finalizer": """
from providers_sync import ProviderError
class Calls:
    def __init__(self, provider):
        self.provider = provider
    def __del__(self):
        try:
            self.provider.complete("Bye")
        except ProviderError as error:
            assert "shuts down" in str(error)
        else:
            raise AssertionError("no error")
calls = Calls(provider)
stream = provider.stream("Hi")
next(stream)
print("ready", flush=True)
""",
    "cancelling in a finalizer": """
from providers_sync import CancelToken
token = CancelToken()
class Cancels:
    def __del__(self, token=token):
        token.cancel()
        assert token.cancelled
cancels = Cancels()
stream = provider.stream("Hi", cancel=token)
next(stream)
threading.Thread(target=stream._channel.lock.acquire, daemon=True).start()
print("ready", flush=True)
""",
    "with an unread stream": """
stream = provider.stream("Hi")
time.sleep(0.1)
print("ready", flush=True)
""",
}


@pytest.mark.parametrize("how", EXITS)
@pytest.mark.parametrize("busy", [False, True], ids=["silent", "busy"])
def test_interpreter_exits_at_once_with_a_stream_open(how: str, busy: bool) -> None:
    """Exit code 0, within a second, and nothing on stderr."""
    script = answer(text("Hel"), *([text("lo " * 1000)] * 20_000 if busy else [wait(NEVER)]))
    with serve(script) as server:
        duration, _ = python(OPEN + EXITS[how], server.url)
    assert duration < 1


NEVER = threading.Event()


def test_ctrl_c_ends_a_program_as_usual() -> None:
    """At once, with the traceback of ``KeyboardInterrupt`` and its exit status."""
    script = OPEN + "print('ready', flush=True)\nprovider.stream('Hi').read()"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with serve([text("Hel"), wait(NEVER)]) as server:
        process = subprocess.Popen(
            [sys.executable, "-c", script, server.url],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        with process:
            server.wait_request(1)
            process.send_signal(signal.SIGINT)
            start = time.monotonic()
            _, errors = process.communicate(timeout=10)
            duration = time.monotonic() - start
        server.wait_closed(1, timeout=1)
    assert process.returncode == -signal.SIGINT
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert "Exception ignored" not in errors
    assert duration < 1


GEVENT = """
from gevent import monkey
monkey.patch_all()
import sys, time
import gevent
from providers_sync import APITimeoutError, CancelToken, OpenAICompatible
from providers_sync import StreamCancelled, StreamCut, Timeouts

def provider(name, **settings):
    return OpenAICompatible("m", base_url=f"http://127.0.0.1:{ports[name]}", retry=1, **settings)

gevent.get_hub().NOT_ERROR += (Exception,)  # this script checks what a job raises
ports = dict(pair.split("=") for pair in sys.argv[1:])
ticks = []

def tick():
    while True:
        ticks.append(time.monotonic())
        gevent.sleep(0.01)

ticker = gevent.spawn(tick)
print("ready", flush=True)

shared = provider("slow")
start = time.monotonic()
jobs = [gevent.spawn(shared.complete, "Hi") for _ in range(50)]
gevent.joinall(jobs, raise_error=True)
assert {job.value.text for job in jobs} == {"Hello"}
assert time.monotonic() - start < 3, "one after another"

token = CancelToken()
job = gevent.spawn(provider("silent").complete, "Hi", cancel=token)
gevent.sleep(0.1)
start = time.monotonic()
token.cancel()
try:
    job.get(timeout=2)
except StreamCancelled as error:
    assert error.partial == "Hel", error.partial
    assert time.monotonic() - start < 0.25
else:
    raise AssertionError("not cancelled")

start = time.monotonic()
try:
    provider("silent", timeouts=Timeouts(idle=0.3)).complete("Hi")
except APITimeoutError as error:
    assert error.clock == "idle"
    assert 0.3 <= time.monotonic() - start < 0.55
else:
    raise AssertionError("no timeout")

try:
    provider("cut").complete("Hi")
except StreamCut as error:
    assert error.partial == "Hel"
else:
    raise AssertionError("not cut")

job = gevent.spawn(provider("silent").complete, "Hi")
gevent.sleep(0.1)
job.kill(timeout=2)
assert job.dead
gaps = [b - a for a, b in zip(ticks, ticks[1:])]
assert max(gaps) < 0.5, f"the hub was blocked for {max(gaps)} s"
print("done")
"""


def test_streams_run_concurrently_under_gevent() -> None:
    """Fifty greenlets at once, a cancel, a timeout, a cut and a kill; the hub is never blocked."""
    pytest.importorskip("gevent")
    with (
        serve([text("Hel"), pause(0.3), text("lo")]) as slow,
        serve([text("Hel"), wait(NEVER)]) as silent,
        serve([text("Hel"), reset()]) as cut,
    ):
        ports = {"slow": slow.port, "silent": silent.port, "cut": cut.port}
        _, output = python(GEVENT, *(f"{name}={port}" for name, port in ports.items()))
        assert output == "done\n"
        for connection in range(1, 4):
            silent.wait_closed(connection, timeout=1)
