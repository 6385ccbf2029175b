"""Where processes live: threads, forks, pools of processes, gevent, and the interpreter's end."""

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
SAID = "".join(WORDS)
FORKS = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
# Python 3.12 and later warn of forking beside threads, which is what these tests are about.
FORK_WARNING = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def openai(url: str, **settings: Any) -> Provider:
    return OpenAICompatible("m", base_url=url, **settings)


# --- threads


def echo(request: Request) -> Any:
    """Answer with the question, a word at a time."""
    words = request.json()["messages"][-1]["content"].split(" ")
    return [step for word in words for step in (text(f"{word} "), pause(0.001))]


def in_threads(count: int, work: Callable[[int], None]) -> None:
    """Run ``work`` in so many threads that begin at once; raise what one of them raised."""
    begin = threading.Barrier(count)

    def begin_and_work(number: int) -> None:
        begin.wait(30)
        work(number)

    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        for future in [pool.submit(begin_and_work, number) for number in range(count)]:
            future.result(60)


def test_64_threads_share_a_provider_without_mixing_or_reconnecting() -> None:
    """Everyone gets its own answer; a second round of calls uses the first one's connections."""
    with serve(echo) as server:
        provider = openai(server.url)

        def ask(number: int) -> None:
            question = " ".join(f"{number}-{i}" for i in range(10))
            assert provider.complete(question).text == question + " "

        in_threads(THREADS, ask)
        first = len(server.connections)
        assert first <= THREADS
        in_threads(THREADS, ask)
        assert len(server.connections) - first <= THREADS // 16
        assert len(server.requests) == 2 * THREADS


def test_plain_text_shares_connections_too() -> None:
    """A protocol without an end marker keeps its connections as well."""
    with serve(answer(*WORDS)) as server:
        provider = AI365VIP(base_url=server.url)

        def ask(_: int) -> None:
            assert provider.complete("Hi").text == SAID

        for _ in range(2):
            in_threads(16, ask)
        assert len(server.connections) <= 17


def test_threads_that_read_one_stream_share_its_chunks() -> None:
    """Each chunk goes to one reader, and all of them see the end."""
    with serve([each for word in WORDS for each in (text(word), pause(0.002))]) as server:
        stream = openai(server.url).stream("Hi")
        chunks: list[str] = []
        in_threads(4, lambda _: chunks.extend(stream))
    assert sorted(chunks) == sorted(WORDS)
    assert stream.text == SAID


def test_threads_that_read_a_fast_stream_lose_nothing() -> None:
    """Though they may go for the next batch at the same time, again and again."""
    words = [f"word {i} " for i in range(3000)]
    before = sys.getswitchinterval()
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
        sys.setswitchinterval(before)


def test_cancelling_a_stream_that_has_just_ended_harms_nobody() -> None:
    """Its connection has gone to another call, which gets its whole answer."""
    until = time.monotonic() + 3
    counts = {"whole": 0, "cancelled": 0}
    with serve([text("Hel"), text("lo"), finish(), done()]) as server:
        provider = openai(server.url, retry=1)

        def ask(number: int) -> None:
            dice, reach = random.Random(number), 0.02
            while time.monotonic() < until:
                token = CancelToken()
                late = threading.Timer(dice.uniform(0.001, reach), token.cancel)
                late.start()
                try:
                    said, verdict = provider.complete("Hi", cancel=token).text, "whole"
                except StreamCancelled as error:
                    said, verdict = error.partial, "cancelled"
                assert said == "Hello" or (verdict == "cancelled" and "Hello".startswith(said))
                counts[verdict] += 1
                # Half of the cancels shall come too late, however fast this machine is just now.
                reach = max(0.002, reach * (1.2 if verdict == "cancelled" else 0.8))
                late.join()

        in_threads(8, ask)
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
        except BaseException:  # noqa: BLE001 (told to the parent)
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
    """Parent and children have connections of their own (gunicorn's prefork)."""
    with serve(WORDS) as server:
        provider = openai(server.url)
        assert provider.complete("parent").text == SAID
        for _ in range(3):
            assert in_child(lambda: provider.complete("child").text) == SAID
            assert provider.complete("parent").text == SAID
        by_connection: dict[int, set[str]] = {}
        for request in server.requests:
            who = request.json()["messages"][-1]["content"]
            by_connection.setdefault(request.connection, set()).add(who)
        assert all(len(who) == 1 for who in by_connection.values())
        assert len(by_connection) == 4


@FORKS
@FORK_WARNING
def test_fork_beside_busy_threads_gives_a_working_child() -> None:
    """Whatever lock another thread holds at that moment."""
    stop = threading.Event()
    with serve(WORDS) as server:
        provider = openai(server.url)

        def keep_busy() -> None:
            while not stop.is_set():
                assert provider.complete("Hi").text == SAID

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            busy = [pool.submit(keep_busy) for _ in range(4)]
            try:
                for _ in range(10):
                    assert in_child(lambda: provider.complete("child").text) == SAID
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
def test_child_that_ends_an_inherited_stream_leaves_the_parents_alone(ending: str) -> None:
    """The connection is the parent's, which reads on to the end."""
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
            began = time.monotonic()
            with pytest.raises(ProviderError) as caught:
                next(stream)
            return str(caught.value), caught.value.partial, time.monotonic() - began

        message, partial, took = in_child(read)
        assert "process" in message
        assert partial == "Hel"
        assert took < 0.25
        go.set()
        assert stream.read() == "lo"


def pool_of_processes(method: str) -> concurrent.futures.ProcessPoolExecutor:
    context = multiprocessing.get_context(method)
    return concurrent.futures.ProcessPoolExecutor(2, mp_context=context)


@FORK_WARNING
@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_provider_and_its_errors_travel_through_a_process_pool(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Provider and question go in; the answer comes out, or the error with all it knows."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    with serve([answer(*WORDS), status(429, "Slow", headers={"Retry-After": "99"})]) as server:
        provider = openai(server.url, api_key="sk-secret", temperature=0)
        with pool_of_processes(method) as pool:
            assert pool.submit(provider.complete, "Hi").result(30).text == SAID
            with pytest.raises(RateLimitError) as caught:
                pool.submit(provider.complete, "Hi").result(30)
        assert (caught.value.status_code, caught.value.retry_after) == (429, 99)
        assert caught.value.outcome == "failed"
        assert server.requests[0].headers["Authorization"] == "Bearer sk-secret"


def test_copy_of_a_busy_provider_answers_on_its_own() -> None:
    """Copies share configuration and nothing else, also while the original streams."""
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
            assert twin.complete("Hi").text == SAID
            assert repr(twin) == repr(provider)
        go.set()
        assert stream.read() == "lo"
        assert len(server.connections) == 4


# --- other interpreters


def python(script: str, *arguments: str, limit: float = 20.0) -> tuple[float, str]:
    """Run a script in a fresh interpreter; return how long it took from its ``ready`` line to its
    end, and what else it printed. It must exit with 0 and say nothing on stderr."""
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
            began = time.monotonic()
            said, complaints = process.communicate(timeout=limit)
            took = time.monotonic() - began
        finally:
            process.kill()
    assert complaints == ""
    assert (ready, process.returncode) == ("ready\n", 0)
    return took, said


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
elsewhere = {}
exec(code, elsewhere)  # a thread that runs code of this module would keep its names alive
"""
"""Where a thread stands that the interpreter's end stops at an unlucky moment."""

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
begun = threading.Event()
def read():
    for chunk in provider.stream("Hi"):
        begun.set()
threading.Thread(target=read, daemon=True).start()
begun.wait()
print("ready", flush=True)
""",
    "with many daemon threads that wait": """
begun = threading.Barrier(21)
def read():
    stream = provider.stream("Hi")
    next(stream)
    begun.wait()
    stream.read()
for _ in range(20):
    threading.Thread(target=read, daemon=True).start()
begun.wait()
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
elsewhere['hold'](stream._channel.lock)
print("ready", flush=True)
""",
    "out of a generator that looks at its stream": HOLDING
    + """
def answer():
    with provider.stream("Hi") as stream:
        try:
            for chunk in stream:
                elsewhere['hold'](stream._channel.lock)
                yield chunk
        finally:
            assert stream.text.startswith("Hel")
            assert stream.stats.chunks
chunks = answer()
next(chunks)
print("ready", flush=True)
""",
    "asking in a finalizer": """
class Asks:
    def __init__(self, provider):
        self.provider = provider
    def __del__(self):
        try:
            self.provider.complete("Bye")
        except RuntimeError as error:
            assert "at its end" in str(error)
        else:
            raise AssertionError("no error")
asks = Asks(provider)
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
threading.Thread(target=token._lock.acquire, daemon=True).start()
print("ready", flush=True)
""",
    "with a stream that nobody reads": """
stream = provider.stream("Hi")
time.sleep(0.1)
print("ready", flush=True)
""",
}


@pytest.mark.parametrize("how", EXITS)
@pytest.mark.parametrize("busy", [False, True], ids=["silent", "busy"])
def test_interpreter_exits_at_once_with_a_stream_open(how: str, busy: bool) -> None:
    """Exit code 0, within a second, and not a word on stderr."""
    script = answer(text("Hel"), *([text("lo " * 1000)] * 20_000 if busy else [wait(NEVER)]))
    with serve(script) as server:
        took, _ = python(OPEN + EXITS[how], server.url)
    assert took < 1


NEVER = threading.Event()


def test_ctrl_c_ends_a_program_the_usual_way() -> None:
    """The traceback of ``KeyboardInterrupt`` and its exit status, at once."""
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
            began = time.monotonic()
            _, complaints = process.communicate(timeout=10)
            took = time.monotonic() - began
        server.wait_closed(1, timeout=1)
    assert process.returncode == -signal.SIGINT
    assert complaints.rstrip().endswith("KeyboardInterrupt")
    assert "Exception ignored" not in complaints
    assert took < 1


GEVENT = """
from gevent import monkey
monkey.patch_all()
import sys, time
import gevent
from providers_sync import APITimeoutError, CancelToken, OpenAICompatible
from providers_sync import StreamCancelled, StreamCut, Timeouts

def provider(name, **settings):
    return OpenAICompatible("m", base_url=f"http://127.0.0.1:{ports[name]}", retry=1, **settings)

gevent.get_hub().NOT_ERROR += (Exception,)  # what a job raises is looked at here
ports = dict(pair.split("=") for pair in sys.argv[1:])
ticks = []

def tick():
    while True:
        ticks.append(time.monotonic())
        gevent.sleep(0.01)

ticker = gevent.spawn(tick)
print("ready", flush=True)

shared = provider("slow")
began = time.monotonic()
jobs = [gevent.spawn(shared.complete, "Hi") for _ in range(50)]
gevent.joinall(jobs, raise_error=True)
assert {job.value.text for job in jobs} == {"Hello"}
assert time.monotonic() - began < 3, "one after another"

token = CancelToken()
job = gevent.spawn(provider("silent").complete, "Hi", cancel=token)
gevent.sleep(0.1)
began = time.monotonic()
token.cancel()
try:
    job.get(timeout=2)
except StreamCancelled as error:
    assert error.partial == "Hel", error.partial
    assert time.monotonic() - began < 0.25
else:
    raise AssertionError("not cancelled")

began = time.monotonic()
try:
    provider("silent", timeouts=Timeouts(idle=0.3)).complete("Hi")
except APITimeoutError as error:
    assert error.clock == "idle"
    assert 0.3 <= time.monotonic() - began < 0.55
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
assert max(gaps) < 0.5, f"the hub stood still for {max(gaps)} s"
print("done")
"""


def test_gevents_patched_world_streams_side_by_side() -> None:
    """Fifty greenlets at once, cancel, a clock, a fault and a kill; the hub never stands still."""
    pytest.importorskip("gevent")
    with (
        serve([text("Hel"), pause(0.3), text("lo")]) as slow,
        serve([text("Hel"), wait(NEVER)]) as silent,
        serve([text("Hel"), reset()]) as cut,
    ):
        ports = {"slow": slow.port, "silent": silent.port, "cut": cut.port}
        _, said = python(GEVENT, *(f"{name}={port}" for name, port in ports.items()))
        assert said == "done\n"
        for connection in range(1, 4):
            silent.wait_closed(connection, timeout=1)
