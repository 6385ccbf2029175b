"""State that several calls share: no lock of one object is taken under another's lock.

A finalizer may close any stream at any moment, also while its thread holds a lock.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import copy
import gc
import itertools
import linecache
import os
import pickle
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from test_processes import FORK_WARNING, FORKS, in_child, in_threads

from providers_sync import (
    CancelToken,
    Chat,
    Failover,
    OpenAICompatible,
    Outcome,
    Provider,
    ProviderError,
    Stream,
)
from providers_sync import chat as chat_module
from providers_sync.chat import InterruptedAnswer
from providers_sync.circuit_breaker import CircuitBreakers
from providers_sync.stream import cancel as cancel_module
from providers_sync.stream import stream as stream_module
from providers_sync.testing import ScriptedProvider, answer, cut, pause, serve, status, text, wait

LIMIT_S = 5.0
"""After this, a call hangs."""
SECONDS = float(os.environ.get("SHARED_STATE_SECONDS", "2"))
"""Duration of the random run; 60 for the full one."""


def openai(url: str, **settings: Any) -> Provider:
    return OpenAICompatible("m", base_url=url, **settings)


class Blocked(threading.Thread):
    """A thread for work that must not hang; ``finish`` raises what it raised."""

    def __init__(self, work: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._work = work
        self._failure: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 (raised by ``finish``)
            self._failure = error

    def finish(self) -> None:
        self.join(LIMIT_S)
        assert not self.is_alive(), "it hangs"
        if self._failure is not None:
            raise self._failure


def before_line(function: Any, part: str, call: Callable[[], None]) -> Callable[..., Any]:
    """Return a trace function that calls ``call`` before each line of a function with ``part``."""
    code = function.__code__

    def trace_line(frame: FrameType, event: str, _: Any) -> Any:
        if event == "line" and part in linecache.getline(code.co_filename, frame.f_lineno):
            sys.settrace(None)
            call()
            sys.settrace(trace)
        return trace_line

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        return trace_line if frame.f_code is code else None

    return trace


# --- circuit breakers


def test_a_stream_that_is_collected_under_the_breakers_lock_does_not_block_a_failover(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Even if its answer ends at that moment, in its own thread."""
    go, recording = threading.Event(), threading.Event()
    streams: list[Stream] = []
    record_end = CircuitBreakers.record_end

    def announce(self: CircuitBreakers, *arguments: Any) -> None:
        recording.set()
        record_end(self, *arguments)

    class CollectingLock:
        """A lock under which the garbage collector closes the other stream."""

        def __init__(self, lock: Any) -> None:
            self._lock = lock

        def __enter__(self) -> None:
            self._lock.acquire()
            if streams:
                go.set()
                assert recording.wait(LIMIT_S)  # the other stream's thread holds that stream's lock
                streams.clear()

        def __exit__(self, *error: object) -> None:
            self._lock.release()

    script = [[text("a"), wait(go), text("b")], answer("Hello")]
    with serve(script) as server:
        provider = Failover([openai(server.url)])
        streams.append(provider.stream("first"))
        breakers = provider._circuit_breakers()
        breakers._lock = CollectingLock(breakers._lock)
        monkeypatch.setattr(CircuitBreakers, "record_end", announce)
        assert provider.complete("second", timeouts=LIMIT_S).text == "Hello"
        assert streams == []


def test_health_is_recorded_before_the_caller_sees_the_end() -> None:
    """The next request, sent at once, already skips the provider that has just failed."""
    with serve([[text("a"), cut()]]) as bad, serve("Hello") as good:
        for _ in range(20):
            provider = Failover(
                [openai(bad.url), openai(good.url)], failures=1, strategy="order", cooldown=60
            )
            with pytest.raises(ProviderError):
                provider.complete("Hi")
            assert provider.complete("Hi").text == "Hello"


# --- cancel tokens


def test_a_stream_closed_while_another_takes_its_token_does_not_block_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A finalizer closes it just when its reader has reached the end."""
    go, ending = threading.Event(), threading.Event()
    detach = stream_module.detach

    def announce(*arguments: Any) -> None:
        ending.set()
        detach(*arguments)

    def close_other() -> None:
        go.set()
        assert ending.wait(LIMIT_S)  # its reader holds the stream's lock
        other.close()

    def call() -> None:
        sys.settrace(before_line(cancel_module.attach, "_streams", close_other))
        try:
            assert provider.complete("second", cancel=token).text == "Hello"
        finally:
            sys.settrace(None)

    with serve([[text("a"), wait(go)], answer("Hello")]) as server:
        provider, token = openai(server.url), CancelToken()
        other = provider.stream("first", cancel=token)
        monkeypatch.setattr(stream_module, "detach", announce)
        reader, caller = Blocked(other.read), Blocked(call)
        caller.finish()
        reader.finish()


def test_a_token_forgets_the_streams_that_have_ended() -> None:
    """However they end; otherwise a token of a long-lived service grows."""
    script = [answer("Hello"), [text("a"), cut()], [text("a"), wait(threading.Event())]]
    with serve(script) as server:
        provider, token = openai(server.url, retry=1), CancelToken()
        provider.complete("Hi", cancel=token)
        with pytest.raises(ProviderError):
            provider.complete("Hi", cancel=token)
        provider.stream("Hi", cancel=token).close()
        stream: list[Any] = [provider.stream("Hi", cancel=token)]
        stream.append(stream)
        assert len(token._streams) == 1
        del stream
        gc.collect()
        assert not token._streams


def test_token_cannot_be_copied() -> None:
    """A copy would cancel nothing."""
    for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="CancelToken"):
            duplicate(CancelToken())


@FORKS
@FORK_WARNING
def test_a_token_in_a_forked_child_cancels_the_childs_calls_only() -> None:
    """Also if a thread of the parent was just using it; the parent's stream goes on."""
    go, attaching, resume = threading.Event(), threading.Event(), threading.Event()

    def stop_here() -> None:
        attaching.set()
        assert resume.wait(30)

    def call() -> None:
        sys.settrace(before_line(cancel_module.attach, "_streams", stop_here))
        try:
            assert provider.complete("second", cancel=token).text == "Hello"
        finally:
            sys.settrace(None)

    def in_the_child() -> tuple[str, str, bool]:
        running = provider.stream("Hi", cancel=token)
        token.cancel()
        outcomes = []
        for start in (lambda: running, lambda: provider.stream("Hi", cancel=token)):
            try:
                start().read()
            except ProviderError as error:
                outcomes.append(str(error.outcome))
        return outcomes[0], outcomes[1], token.cancelled

    script = [[text("Hel"), wait(go), text("lo")], [text("a"), wait(go)], answer("Hello")]
    with serve(script) as server:
        provider, token = openai(server.url), CancelToken()
        stream = provider.stream("first", cancel=token)
        assert next(stream) == "Hel"
        caller = Blocked(call)
        assert attaching.wait(LIMIT_S)
        assert in_child(in_the_child) == ("cancelled", "cancelled", True)
        resume.set()
        caller.finish()
        go.set()
        assert stream.read() == "lo"
        assert (stream.outcome, token.cancelled) == ("complete", False)
        assert len(server.requests) == 3


# --- chats


class Paused(OpenAICompatible):
    """A provider that waits before it sends."""

    def __init__(self, url: str) -> None:
        super().__init__("m", base_url=url)
        self.entered, self.go = threading.Event(), threading.Event()

    def stream(self, *arguments: Any, **options: Any) -> Stream:
        self.entered.set()
        assert self.go.wait(LIMIT_S)
        return super().stream(*arguments, **options)


def test_a_chat_refuses_a_second_question_while_the_first_is_being_sent() -> None:
    """And any other change; nothing is sent, and the first question is answered."""
    with serve("Hello") as server:
        provider = Paused(server.url)
        chat = Chat(provider)
        chat.interrupted = interrupted = InterruptedAnswer([], "Half", Outcome.CUT)
        first = Blocked(lambda: chat.send("first").read())
        assert provider.entered.wait(LIMIT_S)
        for change in (lambda: chat.send("second"), chat.resume, chat.discard, chat.undo):
            with pytest.raises(ProviderError, match="still running"):
                Blocked(change).finish()
        assert chat.interrupted is interrupted
        provider.go.set()
        first.finish()
        assert len(server.requests) == 1
    assert [message["content"] for message in chat.history] == ["first", "Hello"]


def test_one_of_many_threads_asks() -> None:
    """The others are refused, whatever the interleaving."""
    refused: list[str] = []
    with serve([text("Hel"), pause(0.05), text("lo")]) as server:
        chat = Chat(openai(server.url))

        def ask(number: int) -> None:
            try:
                chat.send(str(number)).read()
            except ProviderError as error:
                refused.append(str(error))

        for _ in range(5):
            in_threads(8, ask)
        assert len(server.requests) + len(refused) == 40
        assert len(chat.history) == 2 * len(server.requests)
        assert len(server.requests) < 20


@pytest.mark.parametrize("failure", [KeyboardInterrupt, ProviderError, SystemExit])
def test_a_chat_whose_question_was_not_sent_takes_another(
    failure: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever interrupted the first, and while its error is still being handled."""
    with serve("Hello") as server:
        chat = Chat(openai(server.url))

        def fail(*_: Any, **__: Any) -> None:
            raise failure("stop")

        with monkeypatch.context() as patch:
            patch.setattr(OpenAICompatible, "stream", fail)
            with pytest.raises(failure) as caught:
                chat.send("first")
        assert chat.send("second").read() == "Hello"
        assert caught.value is not None


@pytest.mark.parametrize("function", ["__init__", "send", "_send", "resume", "discard"])
def test_ctrl_c_at_any_line_leaves_a_usable_chat(function: str) -> None:
    """It may come between any two lines, before anybody could release the chat."""
    owner = Chat if function != "__init__" else chat_module._Reservation
    seen = 0
    while True:
        chat = Chat(ScriptedProvider("Hello"))
        chat.interrupted = InterruptedAnswer([{"role": "user", "content": "a"}], "b", Outcome.CUT)
        lines = itertools.count()

        def interrupt(lines: Iterator[int] = lines, line: int = seen) -> None:
            if next(lines) == line:
                raise KeyboardInterrupt

        change = {"resume": chat.resume, "discard": chat.discard}.get(
            function, lambda chat=chat: chat.send("Hi")
        )
        sys.settrace(before_line(getattr(owner, function), "", interrupt))
        try:
            change()
        except KeyboardInterrupt:
            seen += 1
        else:
            break
        finally:
            sys.settrace(None)
        assert chat.send("again").read() == "Hello"
    assert seen > 1


@pytest.mark.parametrize("cycle", [False, True], ids=["dropped", "collected"])
def test_a_dropped_answer_that_was_never_read_frees_the_chat(cycle: bool) -> None:
    """Its connection is closed, and the next question is sent."""
    with serve([[text("Half"), wait(threading.Event())], answer("Hello")]) as server:
        chat = Chat(openai(server.url))
        holder: list[Any] = [chat.send("first")]
        if cycle:
            holder.append(holder)
        del holder
        gc.collect()
        assert chat.interrupted is not None
        assert chat.send("second").read() == "Hello"


def test_a_chat_is_free_as_soon_as_the_reader_sees_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread stops the answer, and has not finished storing it."""
    storing, seen = threading.Event(), threading.Event()
    store = Chat._store_answer

    def slow(self: Chat, *arguments: Any) -> None:
        storing.set()
        assert not seen.wait(0.1)
        store(self, *arguments)

    def read() -> None:
        with pytest.raises(ProviderError):
            stream.read()
        seen.set()
        assert chat.send("second").read() == "Hello"

    with serve([[text("Half"), wait(threading.Event())], answer("Hello")]) as server:
        chat = Chat(openai(server.url))
        stream = chat.send("first")
        assert next(stream) == "Half"
        with monkeypatch.context() as patch:
            patch.setattr(Chat, "_store_answer", slow)
            reader, stopper = Blocked(read), Blocked(stream.cancel)
            stopper.finish()
        reader.finish()


def test_a_chat_that_is_saved_while_an_answer_ends_is_consistent(tmp_path: Path) -> None:
    """The file has either the interrupted answer or the finished one, never both or neither."""
    saved = set()

    def save() -> None:
        chat.save(tmp_path / "chat.json")
        loaded = Chat.load(tmp_path / "chat.json", chat.provider)
        saved.add((len(loaded.history), loaded.interrupted is None))

    with serve([[text("Half "), cut()], [text("whole")]]) as server:
        chat = Chat(openai(server.url))
        with pytest.raises(ProviderError):
            chat.send("Hi").read()
        stream = chat.resume()
        sys.settrace(before_line(Chat._store_answer, "", save))
        try:
            assert stream.read() == "whole"
        finally:
            sys.settrace(None)
        save()
    assert saved == {(0, False), (2, True)}


# --- everything at once


class Closes:
    """Its finalizer closes a stream, or cancels a token, wherever the garbage collector runs."""

    def __init__(self, stop: Callable[[], None]) -> None:
        self.stop = stop
        self.me = self

    def __del__(self) -> None:
        self.stop()


@contextlib.contextmanager
def frequent_collections() -> Iterator[None]:
    threshold, interval = gc.get_threshold(), sys.getswitchinterval()
    gc.set_threshold(5, 2, 2)
    sys.setswitchinterval(1e-5)
    try:
        yield
    finally:
        gc.set_threshold(*threshold)
        sys.setswitchinterval(interval)


@pytest.mark.timeout(SECONDS + 60)
def test_threads_that_share_everything_under_constant_collection_do_not_hang() -> None:
    """A failover, tokens and streams of eight threads; finalizers close what is running."""
    until = time.monotonic() + SECONDS
    counts = {"complete": 0, "stopped": 0}
    shared: list[Any] = [CancelToken()]
    good = [text("Hel"), pause(0.001), text("lo")]
    with serve([status(500), good, good]) as bad, serve(good) as server:
        provider = Failover([openai(bad.url), openai(server.url)], failures=1, cooldown=0.01)

        def call(number: int) -> None:
            generator = random.Random(number)
            while time.monotonic() < until:
                token = shared[0]
                if token.cancelled:
                    token = shared[0] = CancelToken()
                try:
                    stream = provider.stream("Hi", cancel=token, timeouts=LIMIT_S)
                    stops = [stream.close, stream.cancel, token.cancel]
                    if generator.random() < 0.5:
                        Closes(generator.choice(stops))
                    cycle: list[Any] = [stream, provider.stream("Hi", cancel=token)]
                    cycle.append(cycle)
                    del cycle
                    stream.read()
                except ProviderError:
                    counts["stopped"] += 1
                else:
                    counts["complete" if stream.outcome == "complete" else "stopped"] += 1

        with frequent_collections(), concurrent.futures.ThreadPoolExecutor(8) as pool:
            for future in [pool.submit(call, number) for number in range(8)]:
                future.result(SECONDS + 30)
        gc.collect()
    assert min(counts.values()) > 0
