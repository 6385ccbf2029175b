"""Runs among threads, signals and forks: nothing hangs, and nothing is called twice."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from faults.phases import wait_until
from run_kit import BERGEN, OSLO, Weather, hanging, scripted
from test_processes import FORK_WARNING, FORKS
from test_thrown import TooLate, run_in_thread, throw

from providers_sync import (
    CancelToken,
    Chat,
    InvalidRequestError,
    Outcome,
    Pause,
    ProviderError,
    Run,
    Stream,
    StreamCancelled,
    StreamCut,
    ToolCall,
    chat_stopped,
)
from providers_sync.locked_file import LockedFile
from providers_sync.stream import Channel, reader
from providers_sync.stream import stream as stream_module
from providers_sync.testing import cut, text, tool_call
from providers_sync.tools import execution
from providers_sync.tools.journal import call_keys
from providers_sync.tools.tool import STOPPED


@pytest.fixture
def asked() -> Weather:
    return Weather()


class NoticedLock:
    """A lock for turns that tells when a second thread waits for it."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.owner: int | None = None
        self.is_awaited = threading.Event()

    def acquire(self, timeout: float) -> bool:
        if self.owner not in (None, threading.get_ident()):
            self.is_awaited.set()
        if not self.lock.acquire(timeout=timeout):
            return False
        self.owner = threading.get_ident()
        return True

    def release(self) -> None:
        self.owner = None
        self.lock.release()


def test_second_reader_takes_no_second_turn(asked: Weather) -> None:
    turns = NoticedLock()
    decisions = []

    def approve(call: ToolCall) -> bool:
        decisions.append(call.id)
        assert turns.is_awaited.wait(10)
        return True

    run = scripted([OSLO], [text("Yes")]).run("?", tools=[asked.weather], approve=approve)
    run._turn_lock = turns  # type: ignore[assignment]
    texts: list[str] = []
    readers = [run_in_thread(lambda: texts.extend(run)) for _ in range(2)]
    for thread, raised in readers:
        thread.join(10)
        assert not raised
    assert (texts, decisions, asked.cities) == (["Yes"], ["call_1"], ["Oslo"])
    assert run.outcome is Outcome.COMPLETE
    assert [each.text for each in run.rounds] == ["", "Yes"]


def test_stop_frees_a_second_reader_while_approve_is_asked(asked: Weather) -> None:
    turns, asking, go = NoticedLock(), threading.Event(), threading.Event()

    def approve(call: ToolCall) -> bool:
        asking.set()
        return go.wait(10)

    run = scripted([OSLO], [text("never")]).run("?", tools=[asked.weather], approve=approve)
    run._turn_lock = turns  # type: ignore[assignment]
    readers = [run_in_thread(run.read) for _ in range(2)]
    assert turns.is_awaited.wait(10)
    assert asking.wait(10)  # else both readers end at once
    run.cancel()
    wait_until(lambda: [thread.is_alive() for thread, _ in readers].count(True) == 1)
    go.set()
    for thread, raised in readers:
        thread.join(10)
        assert [type(error) for error in raised] == [StreamCancelled]
    assert asked.cities == []


@pytest.mark.parametrize(
    "reading", [Run.read, Run.completion, next, lambda run: list(run.events())]
)
def test_approve_must_not_read_its_run(reading: Callable[[Run], Any], asked: Weather) -> None:
    def approve(call: ToolCall) -> bool:
        assert run.text == "See. "
        assert len(run.messages) == 2
        reading(run)
        return True

    run = scripted([text("See. "), OSLO]).run("?", tools=[asked.weather], approve=approve)
    with pytest.raises(InvalidRequestError, match="must not read the run"):
        run.read()
    assert asked.cities == []
    assert len(run.rounds) == 1


@pytest.mark.parametrize("stop", [Run.close, Run.cancel])
def test_approve_that_stops_the_run_is_asked_no_more(
    stop: Callable[[Run], None], asked: Weather
) -> None:
    decisions = []

    def approve(call: ToolCall) -> bool:
        decisions.append(call.id)
        stop(run)
        return True

    run = scripted([OSLO, BERGEN]).run("?", tools=[asked.weather], approve=approve)
    raised = run_in_thread(run.read)
    raised[0].join(10)
    assert run.outcome is Outcome.CANCELLED
    assert decisions == ["call_1"]
    assert asked.cities == []
    assert next(run.events(), None) is None if stop is Run.close else raised[1]


def test_nothing_begins_after_a_stop(asked: Weather, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if the stop comes just before the thread of the function starts."""

    def start(thread: threading.Thread) -> None:
        run.cancel()
        execution_start(thread)

    execution_start = execution.start_thread
    run = scripted([OSLO, BERGEN]).run("?", tools=[asked.weather])
    monkeypatch.setattr(execution, "start_thread", start)
    with pytest.raises(StreamCancelled):
        run.read()
    wait_until(lambda: not run._state._running)
    assert asked.cities == []


def test_nothing_begins_after_a_stop_between_two_rounds(
    asked: Weather, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a signal handler stops it while the next round is being made."""

    def make_channel(*arguments: Any) -> Channel:
        run.cancel()
        return Channel(*arguments)

    run = scripted([OSLO, BERGEN]).run("?", tools=[asked.weather])
    monkeypatch.setattr(stream_module, "Channel", make_channel)
    with pytest.raises(StreamCancelled):
        run.read()
    monkeypatch.undo()
    scripted([text("Hi")]).complete("Hi")  # what had begun would have been called by now
    assert run._channel.ended
    assert asked.cities == []


def test_run_whose_next_round_cannot_start_fails(
    asked: Weather, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(call: Any) -> None:
        raise ProviderError("no thread can be started")

    run = scripted([text("See. "), OSLO]).run("?", tools=[asked.weather])
    monkeypatch.setattr(reader, "start", start)
    for _ in range(2):
        with pytest.raises(ProviderError, match="no thread can be started"):
            run.read()
    assert run.outcome is Outcome.FAILED
    assert asked.cities == []


def test_function_may_stop_its_run(asked: Weather) -> None:
    def weather(city: str) -> str:
        asked.weather(city)
        run.cancel()
        return "rain"

    run = scripted([text("See. "), OSLO, BERGEN]).run("?", tools=[weather], parallel=1)
    with pytest.raises(StreamCancelled):
        run.read()
    assert asked.cities == ["Oslo"]
    wait_until(lambda: len(run.messages) == 3)  # its result is not lost


def test_function_may_look_at_its_run_and_start_another(asked: Weather) -> None:
    def weather(city: str) -> str:
        assert run.text == "See. "
        assert [message["role"] for message in run.messages] == ["user", "assistant"]
        return provider.run(f"In {city}?", tools=[asked.weather]).read()

    provider = scripted([text("See. "), OSLO], [BERGEN], [text("Rain")], [text("Yes")])
    run = provider.run("?", tools=[weather])
    assert run.read() == "See. Yes"
    assert asked.cities == ["Bergen"]
    assert run.messages[2]["content"] == "Rain"


def test_thousands_of_calls_in_one_answer() -> None:
    calls = [tool_call("double", {"i": i}, id="" if i % 2 else f"call_{i}") for i in range(2000)]
    run = scripted(calls, [text("Yes")]).run("?", tools=[double], approve=lambda _: False)
    assert run.read() == "Yes"
    ids = [call["id"] for call in run.messages[1]["tool_calls"]]
    assert len(set(ids)) == 2000
    assert [message["tool_call_id"] for message in run.messages[2:-1]] == ids
    again = scripted([text("Yes")]).run(run.messages[:-2], tools=[double])
    assert again.read() == "Yes"
    assert again.messages[-2] == {"role": "tool", "tool_call_id": ids[-1], "content": "3998"}


def double(i: int) -> int:
    return 2 * i


def test_large_results_arrive_whole() -> None:
    def weather(city: str) -> str:
        return city * 2_000_000

    run = scripted([OSLO, BERGEN], [text("Yes")]).run("?", tools=[weather])
    assert run.read() == "Yes"
    assert [len(message["content"]) for message in run.messages[2:4]] == [8_000_000, 12_000_000]


def test_half_characters_do_not_reach_the_server() -> None:
    def weather(city: str) -> str:
        raise FileNotFoundError(f"no file {city}-\udcff")

    provider = scripted([OSLO], [text("Sorry")])
    assert provider.run("?", tools=[weather]).read() == "Sorry"
    assert rb"\\udcff" in provider.requests[1].body
    assert rb" \udcff" not in provider.requests[1].body


# --- signals and exceptions from outside


def test_signal_handler_may_stop_a_run_while_the_journal_is_written(
    asked: Weather, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = os.fspath(tmp_path / "run.jsonl")
    token = CancelToken()

    def handler(number: int, frame: FrameType | None) -> None:
        token.cancel()

    def sync(fd: int) -> None:
        os.kill(os.getpid(), signal.SIGUSR1)
        os.fstat(fd)  # it is still open
        synced.append(fd)

    synced: list[int] = []
    weather, go, _ = hanging()
    with scripted([OSLO]).run("?", tools=[weather], journal=journal) as run:
        leave_begun(run)
    go.set()
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        again = scripted([OSLO]).run(
            "?", tools=[weather], journal=journal, cancel=token, on_unknown=lambda _: "rain"
        )
        monkeypatch.setattr(os, "fsync", sync)
        with pytest.raises(StreamCancelled):
            again.read()
        monkeypatch.undo()
        assert len(synced) == 1
    finally:
        signal.signal(signal.SIGUSR1, before)
    third = scripted([OSLO], [text("Yes")]).run("?", tools=[weather], journal=journal)
    assert third.read() == "Yes"
    assert third.messages[2]["content"] == "rain"


def leave_begun(run: Run) -> None:
    """Leave a call in the journal that has begun only."""
    journal = run._state.journal
    assert journal is not None
    call = ToolCall("call_1", "weather", {"city": "Oslo"}, "")
    journal.begin(call_keys(run.messages, [call])[0], call)


def test_closing_a_locked_file_may_be_interrupted_by_closing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = LockedFile(tmp_path / "run.jsonl")
    closed = []

    def close(fd: int) -> None:
        closed.append(fd)
        file.close()  # as a signal handler does
        os_close(fd)

    os_close = os.close
    monkeypatch.setattr(os, "close", close)
    thread, raised = run_in_thread(file.close)
    thread.join(5)
    assert not thread.is_alive()
    assert not raised
    assert len(closed) == 1


POINTS = [
    *("_fetch_batch", "_take_turn_once", "_take_turn", "_round", "_pending_calls", "decide"),
    *("bind", "_execute_and_ask", "_ask_again", "_begin_round", "start", "_end_run", "_finish"),
]


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("error", [TooLate, OSError])
def test_exception_thrown_in_between_rounds_leaves_nothing_behind(
    point: str, error: type[BaseException], asked: Weather
) -> None:
    def trace(frame: FrameType, event: str, argument: Any) -> None:
        if frame.f_code.co_name == point and "providers_sync" in frame.f_code.co_filename:
            sys.settrace(None)
            throw(error, threading.current_thread())

    provider = scripted([text("See. "), OSLO], [text("Yes")])
    run = provider.run("?", tools=[asked.weather])
    wait_until(lambda: run._channel.ended)

    def read() -> None:
        sys.settrace(trace)
        run.read()

    thread, raised = run_in_thread(read)
    thread.join(10)
    assert not thread.is_alive()
    assert [type(caught) for caught in raised] == [error]
    assert run.outcome in (Outcome.CANCELLED, Outcome.COMPLETE)
    assert "See. Yes".startswith(run.text)
    assert next(run, None) is None
    assert asked.cities in ([], ["Oslo"])


def test_answer_of_a_run_that_is_stopped_in_a_turn_is_kept(
    asked: Weather, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chat stores what has arrived at that moment, and it does not change afterwards."""

    def stop_first(*arguments: Any) -> Any:
        answer.cancel()
        return pending_calls(*arguments)

    pending_calls = Run._pending_calls
    monkeypatch.setattr(Run, "_pending_calls", stop_first)
    chat = Chat(scripted([text("See. "), OSLO]), tools=[asked.weather])
    answer = chat.send("?")
    with pytest.raises(StreamCancelled):
        answer.read()
    assert chat.interrupted is not None
    assert chat.interrupted.text == "See. "
    assert isinstance(answer, Run)
    assert answer.messages == chat.interrupted.question
    assert answer.rounds == []


# --- processes


@FORKS
@FORK_WARNING
def test_forked_child_calls_nothing(asked: Weather) -> None:
    child = -1

    def approve(call: ToolCall) -> bool:
        nonlocal child
        child = os.fork() if child == -1 else child
        return True

    run = scripted([OSLO], [text("Yes")]).run("?", tools=[asked.weather], approve=approve)
    code = 1
    try:
        assert run.read() == "Yes"
    except ProviderError as error:
        code = 0 if "belongs to the parent" in str(error) and not asked.cities else 2
    finally:
        if child == 0:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert asked.cities == ["Oslo"]


@FORKS
@FORK_WARNING
def test_run_is_of_no_use_in_a_forked_child() -> None:
    weather, go, tokens = hanging()
    run = scripted([OSLO], [text("Yes")]).run("?", tools=[weather])
    thread, raised = run_in_thread(run.read)
    wait_until(lambda: bool(tokens))
    child = os.fork()
    if child == 0:
        code = 1
        try:
            run.read()
        except ProviderError as error:
            code = 0 if "belongs to the parent" in str(error) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    go.set()
    thread.join(10)
    assert not raised
    assert run.text == "Yes"


EXIT = """
import sys, threading
from providers_sync import Timeouts
from providers_sync.testing import ScriptedProvider, text, tool_call

begun = threading.Event()

def weather(city: str) -> str:
    begun.set()
    threading.Event().wait()

provider = ScriptedProvider([[tool_call("weather", {"city": "Oslo"})], [text("Yes")]])
run = provider.run("?", tools=[weather])
thread = threading.Thread(target=list, args=[run], daemon=True)
thread.start()
assert begun.wait(10)
print(run.outcome)
sys.exit(3)
"""


def test_program_ends_while_a_function_runs() -> None:
    done = subprocess.run(
        [sys.executable, "-c", EXIT], capture_output=True, text=True, timeout=20, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "None\n", "")


# --- a conversation


def test_chat_goes_on_after_any_end(asked: Weather, tmp_path: Path) -> None:
    """Paused, saved, loaded, stopped and taken back; no call is made twice."""
    provider = scripted([text("See. "), OSLO])
    chat = Chat(provider, tools=[asked.weather], approve=lambda _: Pause)
    chat.send("?").read()
    assert chat.interrupted is not None
    assert chat.interrupted.outcome is Outcome.PAUSED
    chat.save(tmp_path / "chat.json")
    chat = Chat.load(tmp_path / "chat.json", provider, tools=[asked.weather])
    provider.play([[BERGEN], [text("Yes"), text(" and no")]])
    answer = chat.resume()
    assert next(answer) == "Yes"
    answer.close()
    assert asked.cities == ["Oslo", "Bergen"]
    chat.save(tmp_path / "chat.json")
    chat = Chat.load(tmp_path / "chat.json", provider, tools=[asked.weather], budget=1000)
    provider.play([[text(" or so")]])
    chat.resume().read()
    assert asked.cities == ["Oslo", "Bergen"]
    assert chat.interrupted is None
    roles = ["user", "assistant", "tool", "assistant", "tool", "assistant"]
    assert [message["role"] for message in chat.history] == roles
    assert chat.history[-1]["content"].endswith(" or so")
    json.dumps(chat.history)
    assert chat.undo()[0] == {"role": "user", "content": "?"}
    assert chat.history == []


def stopped_chat(
    *, after: str = "", **settings: Any
) -> tuple[Chat, Run, threading.Event, list[CancelToken]]:
    """Return a chat whose answer was stopped while its function hangs, and how to let it end."""
    weather, go, tokens = hanging()
    script = [text(after), OSLO] if after else [OSLO]
    chat = Chat(scripted(script), tools=[weather], **settings)
    answer = chat.send("?")
    assert isinstance(answer, Run)
    reading = threading.Thread(target=_read_to_its_end, args=[answer])
    reading.start()
    wait_until(lambda: bool(tokens))
    answer.cancel()
    reading.join(5)
    wait_until(lambda: tokens[0].cancelled)
    return chat, answer, go, tokens


def _read_to_its_end(answer: Any) -> None:
    with contextlib.suppress(ProviderError):
        answer.read()


@pytest.mark.parametrize("step", ["resume", "discard", "undo", "save", "pickle"])
def test_chat_waits_for_a_function_of_a_stopped_answer(step: str, tmp_path: Path) -> None:
    """``resume()`` refuses until it has ended; then its result counts, and nothing is repeated."""
    chat, answer, go, tokens = stopped_chat(after="See. ")
    with pytest.raises(InvalidRequestError, match="weather is still running"):
        chat.resume()
    assert chat.interrupted is not None
    assert [message["role"] for message in chat.interrupted.question] == ["user", "assistant"]
    go.set()
    wait_until(lambda: not answer._state._running)
    provider: Any = chat.provider
    provider.play([[text("Yes")]])
    if step == "discard":
        interrupted = chat.discard()
        assert interrupted is not None
        chat.send(interrupted.question).read()
    elif step == "undo":
        chat.send(chat.undo()).read()
    else:
        if step == "save":
            chat.save(tmp_path / "chat.json")
            chat = Chat.load(tmp_path / "chat.json", provider, **chat.options)
        elif step == "pickle":
            assert "late" in str(chat.__getstate__()["interrupted"])
        chat.resume().read()
    assert len(tokens) == 1
    contents = [message.get("content") for message in chat.history]
    assert contents == ["?", "See. ", f"late\n{STOPPED}", "Yes"]


@pytest.mark.parametrize("is_discarded", [False, True])
def test_new_question_does_not_wait_for_a_function_of_a_stopped_answer(is_discarded: bool) -> None:
    """And the chat does not keep the stopped answer."""
    chat, answer, go, _ = stopped_chat()
    if is_discarded:
        assert chat.discard() is not None
    else:
        provider: Any = chat.provider
        provider.play([[text("Hello")]])
        assert chat.send("Hi").read() == "Hello"
    with pytest.raises(InvalidRequestError, match="no interrupted answer"):
        chat.resume()
    ended = weakref.ref(answer)
    del answer
    go.set()
    wait_until(lambda: gc.collect() >= 0 and ended() is None)


def test_function_that_is_too_late_is_not_waited_for() -> None:
    """Nothing can stop it, so its ``tool_timeout`` counts after the stop, too."""
    chat, _, go, tokens = stopped_chat(tool_timeout=0.3)
    provider: Any = chat.provider
    provider.play([[text("Yes")]])
    resumed: list[Stream] = []

    def resumes() -> bool:
        with contextlib.suppress(InvalidRequestError):
            resumed.append(chat.resume())
        return bool(resumed)

    wait_until(resumes)
    assert resumed[0].read() == "Yes"
    assert "did not end within 0.3 s" in chat.history[2]["content"]
    assert len(tokens) == 1
    go.set()


def test_saving_meanwhile_changes_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A thread that saves the chat while another resumes it does not bring the old answer back."""
    chat, answer, go, _ = stopped_chat()
    go.set()
    wait_until(lambda: not answer._state._running)
    provider: Any = chat.provider
    provider.play([[text("Yes")]])
    original, is_inside = chat_stopped.messages_after, False

    def messages_after(stream: Stream, prefix: str) -> Any:
        nonlocal is_inside
        found = original(stream, prefix)
        if not is_inside:
            is_inside = True
            chat.resume().read()
        return found

    monkeypatch.setattr(chat_stopped, "messages_after", messages_after)
    chat.save(tmp_path / "chat.json")
    assert chat.interrupted is None
    assert len(chat.history) == 4


def test_journal_that_a_function_still_holds_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The result is set before the file is free."""
    is_free, end_call = threading.Event(), execution.RunState.end_call

    def end_call_later(self: execution.RunState, call: execution.PendingCall) -> None:
        is_free.wait(10)
        end_call(self, call)

    monkeypatch.setattr(execution.RunState, "end_call", end_call_later)
    chat, answer, go, tokens = stopped_chat(journal=tmp_path / "journal.jsonl")
    go.set()
    wait_until(lambda: "late" in str(answer.messages))
    with pytest.raises(InvalidRequestError, match="weather is still running"):
        chat.resume()
    is_free.set()
    wait_until(lambda: not answer._state._running)
    provider: Any = chat.provider
    provider.play([[text("Yes")]])
    assert chat.resume().read() == "Yes"
    assert len(tokens) == 1


def test_forced_call_is_not_forced_again_after_its_result() -> None:
    chat, answer, go, tokens = stopped_chat(tool_choice="required")
    go.set()
    wait_until(lambda: not answer._state._running)
    provider: Any = chat.provider
    provider.play([[text("Yes"), cut()], [text(" and")]])
    with pytest.raises(StreamCut):
        chat.resume().read()
    chat.resume().read()
    choices = [each.options.get("tool_choice") for each in provider.asked]
    assert choices == ["required", None, None]
    provider.play([[OSLO], [text("No")]])
    chat.send("And now?").read()
    choices = [each.options.get("tool_choice") for each in provider.asked]
    assert choices[3:] == ["required", None]
    assert len(tokens) == 2
