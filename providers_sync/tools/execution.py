"""``Execution``: calls the functions of one round side by side, each with a time limit."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextvars import Context, copy_context

from ..clock import monotonic
from ..errors import ToolError
from ..observing import UNWATCHED
from ..stream import CancelToken, Channel
from ..threads import start_thread
from ..types import Message, ToolCall, ToolResult
from .journal import Journal
from .settings import RunSettings

MAX_FAILED_ROUNDS = 3
"""How many rounds in a row may bring nothing but mistakes."""
ERROR_CHARACTERS = 2000
"""How much of the text of an exception the model is told."""


class PendingCall:
    """A tool call that has no result yet."""

    def __init__(self, call: ToolCall, key: str = "") -> None:
        self.call = call
        self.key = key
        """Under which the journal knows it."""
        self.cancel = CancelToken()
        """Cancelled when nobody waits for the function any more."""
        self.function: Callable[[], str] | None = None
        """Calls the function, with its arguments; ``None`` if it must not be called."""
        self.result: ToolResult | None = None
        self.is_mistake = False
        """Whether the model or the function has made one, which counts towards the limit."""
        self.error: BaseException | None = None
        """What the function has raised."""
        self.fatal: BaseException | None = None
        """Why the run must end: the journal cannot be written."""
        self.due_at = math.inf

    @property
    def has_ended(self) -> bool:
        """Whether nobody waits for it any longer."""
        return self.result is not None or self.fatal is not None

    def settle(self, content: str, *, is_error: bool = False, seconds: float = 0.0) -> None:
        """Set the result, if there is none yet."""
        if self.result is None:
            # A lone surrogate, such as of a file name in an error, has no UTF-8 form.
            content = content.encode("utf-8", "backslashreplace").decode("utf-8")
            self.result = ToolResult(self.call.id, self.call.name, content, is_error, seconds)

    def mistake(self, content: str, error: BaseException | None = None) -> None:
        """Set the result of a call that cannot be made."""
        self.is_mistake, self.error = True, error
        self.settle(content, is_error=True)


class RunState:
    """What the rounds of a run share with its functions; it does not reference the ``Run``."""

    def __init__(self, settings: RunSettings, journal: Journal | None) -> None:
        self.settings = settings
        self.journal = journal
        self.left_running: list[PendingCall] = []
        """Calls whose functions did not end within ``tool_timeout``."""
        self.failed_rounds = 0
        """How many rounds in a row have brought nothing but mistakes."""
        self.has_ended = False
        """Whether the run has ended; functions may still run."""
        self._running: set[PendingCall] = set()
        self._recorded: set[PendingCall] = set()
        """Those of them that the journal is open for."""

    # Single operations on the sets are atomic: a finalizer and a signal handler may end a run, so
    # there is no lock.

    def begin_call(self, call: PendingCall) -> None:
        """Record that the journal is needed for a call until ``end_call``."""
        self._running.add(call)
        self._recorded.add(call)

    def end_call(self, call: PendingCall) -> None:
        """Record that a function has ended; if it was the last one, the journal is closed first."""
        self._recorded.discard(call)
        self._close_journal()
        self._running.discard(call)

    def end(self) -> None:
        """Close the journal, as soon as no function runs that is recorded in it."""
        self.has_ended = True
        self._close_journal()

    def _close_journal(self) -> None:
        if self.journal is not None and self.has_ended and not self._recorded:
            self.journal.close()

    def is_running(self, call: PendingCall) -> bool:
        """Return whether the function of a call has not ended."""
        return call in self._running


class Execution:
    """The calls of one round. ``message``: the answer that makes them, if it is of this run."""

    def __init__(self, state: RunState, calls: list[PendingCall], message: Message | None) -> None:
        self.calls = calls
        self._state = state
        self._message = message

    def messages(self) -> list[Message]:
        """Return the answer, and the results so far as messages."""
        results = [call.result for call in self.calls if call.result is not None]
        answer = [] if self._message is None else [self._message]
        return [*answer, *map(result_message, results)]

    def running(self) -> list[str]:
        """Return the names of the functions that still run after the end of the run, if they count.

        They do if the call has no result yet, or a journal stays open for them. One whose
        ``tool_timeout`` has passed gets the result of a late one. To be called under the lock.
        """
        running = [call for call in self.calls if self._state.is_running(call)]
        self._settle_late(running)
        has_journal = self._state.journal is not None
        return [call.call.name for call in running if has_journal or call.result is None]

    def run(self, channel: Channel) -> None:
        """Call the functions, and hand their results over in the order of the calls.

        In a worker thread. Raises ``ToolError`` if the run cannot go on, and ``CallEnded``.
        """
        with channel.lock:
            channel.deadlines.only_total()
        waiting = deque(call for call in self.calls if call.result is None)
        running: list[PendingCall] = []
        unsent = deque(self.calls)
        context = copy_context()
        try:
            _hand_over(unsent, channel)
            self._check(self.calls)
            while waiting or running:
                while waiting and len(running) < self._state.settings.parallel:
                    running.append(waiting.popleft())
                    self._start(running[-1], channel, context.copy())
                _wait_for_any(running, channel)
                self._give_up_late(running, channel)
                ended = {call for call in running if call.has_ended}
                running = [call for call in running if call not in ended]
                _hand_over(unsent, channel)
                self._check(ended)
        except BaseException:
            for call in running:
                call.cancel.cancel()
            raise
        self._count_mistakes()

    # --- in the worker

    def _start(self, call: PendingCall, channel: Channel, context: Context) -> None:
        limit = self._state.settings.tool_timeout
        call.due_at = math.inf if limit is None else monotonic() + limit
        self._state.begin_call(call)
        thread = threading.Thread(
            target=context.run,
            args=(_call, call, self._state, channel),
            name=f"providers-sync-tool-{call.call.name}",
        )
        try:
            start_thread(thread)
        except BaseException:
            self._state.end_call(call)
            raise

    def _settle_late(self, running: list[PendingCall]) -> list[PendingCall]:
        """Set the result of the calls whose time is over; return them. Under the lock."""
        limit = self._state.settings.tool_timeout or 0.0
        now = monotonic()
        late = [call for call in running if call.result is None and call.due_at <= now]
        for call in late:
            call.is_mistake = True
            call.settle(
                f"{call.call.name} did not end within {limit:g} s, so its result is unknown",
                is_error=True,
                seconds=limit,
            )
        return late

    def _give_up_late(self, running: list[PendingCall], channel: Channel) -> None:
        with channel.lock:
            late = self._settle_late(running)
        for call in late:
            call.cancel.cancel()
        left = self._state.left_running
        left[:] = [call for call in [*left, *late] if self._state.is_running(call)]
        if len(left) > self._state.settings.parallel:
            names = ", ".join(sorted({call.call.name for call in left}))
            raise ToolError(
                f"{len(left)} functions are still running after their tool_timeout ({names}); the "
                f"limit is {self._state.settings.parallel} (parallel=)"
            )

    def _check(self, calls: Iterable[PendingCall]) -> None:
        """Raise ``ToolError`` for what must end the run."""
        for call in calls:
            if call.fatal is not None:
                raise call.fatal
            if call.is_mistake and self._state.settings.on_error == "raise":
                assert call.result is not None
                words = f"{call.call.name} failed: {call.result.content}"
                raise ToolError(words) from call.error

    def _count_mistakes(self) -> None:
        mistakes = [call for call in self.calls if call.is_mistake]
        if any(call.function is not None and not call.is_mistake for call in self.calls):
            self._state.failed_rounds = 0
        elif mistakes:
            self._state.failed_rounds += 1
        if self._state.failed_rounds >= MAX_FAILED_ROUNDS:
            last = mistakes[-1]
            assert last.result is not None
            raise ToolError(
                f"{MAX_FAILED_ROUNDS} rounds in a row had no valid tool call; the last one: "
                f"{last.call.name}: {last.result.content}"
            ) from last.error


def _wait_for_any(running: list[PendingCall], channel: Channel) -> None:
    """Wait until one of the calls has ended, or its time is over."""
    due_at = min(call.due_at for call in running)
    channel.wait_until(lambda: any(call.has_ended for call in running), due_at)


def _hand_over(unsent: deque[PendingCall], channel: Channel) -> None:
    """Hand over the results up to the first one that is missing."""
    ready: list[ToolResult] = []
    while unsent and (result := unsent[0].result) is not None:
        ready.append(result)
        unsent.popleft()
    if ready:
        channel.hand_over([*ready])


def _call(call: PendingCall, state: RunState, channel: Channel) -> None:
    """Call a function, in a thread of its own; not if the run has been stopped meanwhile."""
    assert call.function is not None
    with channel.lock:
        if channel.ended:
            state.end_call(call)
            return
    journal, started = state.journal, monotonic()
    try:
        if journal is not None:
            journal.begin(call.key, call.call)
        observer = channel.observer
        step = UNWATCHED if observer is None else observer.tool(call.call)
        error: BaseException | None = None
        try:
            with step:
                content = step.run(call.function)
        except BaseException as failure:  # noqa: BLE001 (told to the model)
            content, error = describe(failure), failure
        seconds = monotonic() - started
        if journal is not None:
            journal.end(call.key, content, error is not None, seconds)
    except BaseException as failure:  # noqa: BLE001 (ends the run)
        call.fatal = failure
    else:
        with channel.lock:
            if call.result is None:
                call.is_mistake, call.error = error is not None, error
                call.settle(content, is_error=error is not None, seconds=seconds)
    state.end_call(call)
    channel.notify()


def describe(error: BaseException) -> str:
    """Return an exception in words, for the model."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 (of a class of the program)
        text = ""
    if text and isinstance(error, ToolError):  # of an MCP server: its words
        words = text
    else:
        words = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return words if len(words) <= ERROR_CHARACTERS else words[:ERROR_CHARACTERS] + "…"


def result_message(result: ToolResult) -> Message:
    """Return a result as the message of the next request."""
    message = {"role": "tool", "tool_call_id": result.id, "content": result.content}
    return {**message, "is_error": True} if result.is_error else message
