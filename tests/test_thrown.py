"""Exceptions thrown into the reading thread from outside: by another thread or a signal handler."""

from __future__ import annotations

import ctypes
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from faults.phases import fill, wait_until

from providers_sync import OpenAICompatible, Outcome, ProviderError, Stream, Timeouts
from providers_sync.decoding import OpenAIDecoder
from providers_sync.stream import Channel, channel_of, open_streams
from providers_sync.testing import answer, pause, serve, stall, text, wait
from providers_sync.testing import signal as reached
from providers_sync.types import Decoder, Delta


class TooLate(Exception):
    """A user's exception, with a message of its own."""

    def __init__(self) -> None:
        super().__init__("too late")


class Killed(BaseException):
    """A user's exception that is not an ``Exception``."""


def throw(error: type[BaseException], thread: threading.Thread) -> None:
    """Throw an exception into a thread."""
    ident = ctypes.c_ulong(thread.ident or 0)
    assert ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(error)) == 1


def run_in_thread(work: Callable[[], Any]) -> tuple[threading.Thread, list[BaseException]]:
    """Start a thread that runs ``work``; return it and a list for what ``work`` raises."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 (for the test)
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, raised


@pytest.mark.parametrize("error", [TooLate, Killed, TimeoutError, ConnectionError, LookupError])
def test_exception_thrown_into_a_reading_thread_comes_out_as_itself(
    error: type[BaseException],
) -> None:
    """The stream is closed, keeps its text and releases its connection."""
    go, waiting = threading.Event(), threading.Event()
    words = [step for word in "abcde" for step in (text(word), pause(0.01))]
    with serve([*words, reached(waiting), wait(go), text("f"), stall()]) as server:
        stream = OpenAICompatible("m", base_url=server.url).stream("x")
        seen: list[str] = []
        thread, raised = run_in_thread(lambda: seen.extend(stream))
        assert waiting.wait(10)
        wait_until(lambda: stream.text == "abcde")
        throw(error, thread)
        go.set()
        thread.join(10)
        assert not thread.is_alive()
        assert [type(caught) for caught in raised] == [error]
        assert stream.outcome is Outcome.CANCELLED
        assert stream.text in ("abcde", "abcdef")
        assert next(stream, None) is None
        server.wait_closed(1)


def test_time_of_a_call_in_a_second_thread_can_be_limited() -> None:
    """As stopit's ``ThreadingTimeout`` does; whatever the thread was doing at that time."""
    caught = []
    with serve([[text("w "), pause(0.004)] * 500]) as server:
        provider = OpenAICompatible("m", base_url=server.url)

        def read() -> None:
            for number in range(8):
                timer = threading.Timer(
                    0.05 + number * 0.0007, throw, (TooLate, threading.current_thread())
                )
                timer.start()
                try:
                    provider.complete("x")
                except TooLate as error:
                    caught.append(str(error))
                timer.join()

        thread, raised = run_in_thread(read)
        thread.join(20)
    assert (caught, raised) == (["too late"] * 8, [])
    assert not open_streams()


class FaultyDecoder(OpenAIDecoder):
    """Decodes four events, then fails."""

    def __init__(self, fail: Callable[[], object]) -> None:
        super().__init__("text/event-stream")
        self.fail = fail
        self.left = 4

    def feed(self, data: bytes) -> list[Delta]:
        """Count the deltas."""
        deltas = super().feed(data)
        self.left -= len(deltas)
        if self.left < 0:
            self.fail()
        return deltas


class Faulty(OpenAICompatible):
    """Raises at the fifth event what a hook of a user may raise."""

    def __init__(self, url: str, fail: Callable[[], object]) -> None:
        super().__init__("m", base_url=url)
        self.fail = fail

    def decoder(self, content_type: str = "") -> Decoder:
        """Return a decoder that fails."""
        return FaultyDecoder(self.fail)


def raise_without_arguments() -> None:
    """Raise an exception like one that was thrown in, but for the statement."""
    raise LookupError


@pytest.mark.parametrize(
    ("fail", "cause"),
    [
        (raise_without_arguments, LookupError),
        ({}.popitem, KeyError),
        (lambda: int("x"), ValueError),
    ],
)
def test_error_of_a_hook_is_not_taken_for_one_thrown_in(
    fail: Callable[[], object], cause: type[Exception]
) -> None:
    """It stays the cause of a ``ProviderError``, and ends this stream only."""
    with serve([step for word in "abcdefgh" for step in (text(word), pause(0.01))]) as server:
        thread, raised = run_in_thread(Faulty(server.url, fail).stream("x").read)
        thread.join(10)
    (error,) = raised
    assert isinstance(error, ProviderError)
    assert type(error.__cause__) is cause


def test_exception_thrown_in_before_the_headers_arrives_soon() -> None:
    """A silent server does not keep it back until a timeout of ours; nothing stays open."""
    with serve(answer(before=[stall()])) as server:
        provider = OpenAICompatible("m", base_url=server.url)
        thread, raised = run_in_thread(lambda: provider.stream("x"))
        server.wait_request(1)
        throw(TooLate, thread)
        thread.join(5)
        assert [type(error) for error in raised] == [TooLate]
        assert not open_streams()
        server.wait_closed(1)


LATER_POINTS = ("wait", "_caller_wait", "_fetch_batch", "_take_buffer")
"""Where the exception is thrown in at the fourth call."""
POINTS = [
    "_start",
    "start",
    "post",
    "run",
    "wait_for_headers",
    "wait",
    "_fetch_batch",
    "_caller_wait",
    "_take_buffer",
    "_finish",
    "_release",
]


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("error", [TooLate, OSError])
def test_exception_thrown_in_at_any_point_leaves_nothing_behind(
    point: str, error: type[BaseException]
) -> None:
    """No lock stays held, no thread waits on, and ``.text`` is what has arrived."""
    words = [step for word in "abcdefgh" for step in (text(word), pause(0.005))]
    with serve(words) as server:
        provider = OpenAICompatible("m", base_url=server.url, timeouts=Timeouts(total=20))
        provider.complete("x")
        streams: list[Stream] = []
        seen: list[str] = []

        def read() -> None:
            sys.settrace(thrower(point, error))
            try:
                streams.append(provider.stream("x"))
                seen.extend(streams[0])
            finally:
                sys.settrace(None)

        thread, raised = run_in_thread(read)
        thread.join(5)
        assert not thread.is_alive()
        assert [type(caught) for caught in raised] == [error]
        for stream in streams:
            assert stream.outcome in (Outcome.CANCELLED, Outcome.COMPLETE)
            assert stream.text.startswith("".join(seen))
            assert "abcdefgh".startswith(stream.text)
            stream.close()
        raised.clear()
        assert not open_streams()


def thrower(point: str, error: type[BaseException]) -> Callable[..., Any]:
    """Return a trace function that throws ``error`` into its own thread at a later call."""
    calls = 0

    def trace(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal calls
        if frame.f_code.co_name == point and "providers_sync" in frame.f_code.co_filename:
            calls += 1
            if calls == (4 if point in LATER_POINTS else 1):
                throw(error, threading.current_thread())

    return trace


@pytest.mark.parametrize("script", [answer(before=[stall()]), ["Hel", stall()]])
def test_exception_of_a_signal_handler_comes_out_of_the_main_thread_as_itself(
    script: Any,
) -> None:
    """While it waits for the headers, and for text."""

    def handler(number: int, frame: FrameType | None) -> None:
        raise TooLate

    before = signal.signal(signal.SIGALRM, handler)
    try:
        with serve(script) as server:
            provider = OpenAICompatible("m", base_url=server.url)
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            with pytest.raises(TooLate):
                provider.complete("x")
            assert not open_streams()
            server.wait_closed(1)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("ending", [Stream.close, Stream.cancel])
def test_exception_thrown_in_at_any_call_of_stopping_loses_nothing(
    ending: Callable[[Stream], None],
) -> None:
    """The stream is stopped all the same, with its text, and its connection is closed."""
    number, is_thrown = 0, True
    with serve(["Hel", "lo", stall()]) as server:
        provider = OpenAICompatible("m", base_url=server.url)
        while is_thrown:
            stream = provider.stream("x")
            wait_until(lambda stream=stream: channel_of(stream).chunks == 2)
            number += 1
            sys.settrace(inner_thrower("_end", number, TooLate))
            try:
                ending(stream)
            except TooLate:
                pass
            else:
                is_thrown = False
            finally:
                sys.settrace(None)
            assert (stream.text, stream.outcome) == ("Hello", Outcome.CANCELLED)
            server.wait_closed(number)
    assert number > 8


def inner_thrower(function: str, number: int, error: type[BaseException]) -> Callable[..., Any]:
    """Return a trace function that throws ``error`` at a call of ``function`` or one inside it."""
    calls = 0

    def trace(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal calls
        caller: FrameType | None = frame
        while caller is not None and caller.f_code.co_name != function:
            caller = caller.f_back
        if caller is not None and "providers_sync" in frame.f_code.co_filename:
            calls += 1
            if calls == number:
                throw(error, threading.current_thread())

    return trace


@pytest.mark.parametrize("point", ["resume", "_attend", "post"])
def test_exception_thrown_in_while_a_full_stream_goes_on_closes_its_connection(point: str) -> None:
    """The reader does not wait for its socket then, and has to be told."""
    with serve([*["word " * 200] * 600, stall()]) as server:
        stream = OpenAICompatible("m", base_url=server.url).stream("x")
        fill(stream)
        sys.settrace(thrower(point, TooLate))
        try:
            with pytest.raises(TooLate):
                stream.read()
        finally:
            sys.settrace(None)
        server.wait_closed(1)


def test_signal_handler_that_wakes_in_the_middle_of_a_wakeup() -> None:
    """Its ``cancel()`` takes the same lock, in the same thread, between two steps."""
    channel = Channel(Timeouts())

    class InterruptedLock:
        def __init__(self) -> None:
            self.lock = threading.Lock()
            self.lock.acquire()

        def locked(self) -> bool:
            is_locked, channel._caller_lock = self.lock.locked(), self.lock
            channel.notify()  # of the handler
            channel._caller_lock = self
            return is_locked

        def release(self) -> None:
            self.lock.release()

    channel._caller_lock = InterruptedLock()
    channel.notify()
