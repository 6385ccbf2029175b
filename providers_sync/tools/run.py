"""``Run``: an answer in rounds; between two of them the functions that the model calls."""

from __future__ import annotations

import contextlib
import operator
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextvars import copy_context
from dataclasses import replace
from typing import Any

from ..clock import monotonic
from ..config import MAIN_THREAD_WAIT_S
from ..errors import InvalidRequestError, ProviderError, ToolError
from ..finish_reasons import wants_to_go_on
from ..returned_messages import with_call_ids
from ..stream import CancelToken, Channel, PreparedCall, Reading, Source, Stream
from ..types import Completion, Delta, Event, Message, Messages, Outcome, ToolCall
from .deciding import decide
from .execution import Execution, PendingCall, RunState
from .journal import call_keys
from .pending import CallsOfAnswer, last_calls, unique_id, without_calls
from .tool import Tool

PlanRound = Callable[[Messages], PreparedCall]
"""Prepares the request of the next round."""


class Run(Stream):
    """An answer with tools: a ``Stream`` over all its rounds, made by ``provider.run(…)``.

    A function is called after its ``ToolCall`` has been yielded, when the caller asks for more.
    ``text``, ``usage`` and the lists are those of all rounds;
    ``finish_reason``, ``model`` and ``message`` are those of the last one.
    """

    def __init__(
        self,
        channel: Channel,
        cancel: CancelToken | None,
        model: str | None,
        *,
        question: Messages,
        tools: dict[str, Tool | None],
        state: RunState,
        plan: PlanRound,
        **more: Any,
    ) -> None:
        self._given_ids: list[str] = []
        """Those that the server gave the calls of this round."""
        self._call_ids: dict[str, None] = {}
        """Those that they have here, each another."""
        self.rounds: list[Completion] = []
        """The answers of the model so far that have ended well, one for each request."""
        self._question = question
        self._tools = tools
        self._state = state
        self._plan = plan
        self._turn_lock = threading.RLock()
        self._ended_channel: Channel | None = None
        """The channel of the last round that has ended. If it is still the run's, what the round
        asks for has not begun."""
        self._is_in_turn = False
        self._is_last = False
        """Whether no other round may follow."""
        self._is_paused = False
        self._done: Messages = []
        """The messages after the question that are finished."""
        self._execution: Execution | None = None
        """The calls that are not in ``_done`` yet, and their answer."""
        self._open_calls = last_calls(question)
        """The calls that the question ends with."""
        super().__init__(channel, cancel, model, **more)
        self._marks = self._lengths()

    # --- what it has said

    @property
    def messages(self) -> Messages:
        """The conversation so far: the question, the finished answers, the results of the tools.

        After a failure or a pause ``provider.run(run.messages, …)`` continues from there: a
        function that has ended is not called again.
        """
        with self._lock:
            last = [] if self._execution is None else self._execution.messages()
            return [*self._question, *self._done, *last]

    @property
    def message(self) -> Message:
        """The last answer as a message, to append to the messages of the next request."""
        with self._lock:
            text, refusal, calls = self._marks[:3]
            words = self.text[text:] or self.refusal[refusal:]
            message = self._message_of(words, self.tool_calls[calls:])
            ids = list(self._call_ids)
            return message if ids == self._given_ids else with_call_ids(message, ids)

    def _added_messages(self) -> tuple[Messages, str]:
        with self._lock:
            return self.messages[len(self._question) :], self._text_of_round()

    def _running_functions(self) -> list[str]:
        with self._lock:
            return [] if self._execution is None else self._execution.running()

    def _text_of_round(self) -> str:
        """Return the text of the round that has not ended well yet, or of none."""
        return self.text[sum(len(each.text) for each in self.rounds) :]

    def _lengths(self) -> list[int]:
        """Return how much there is of everything now."""
        said: list[Sequence[Any]] = [self.text, self.refusal, self.tool_calls, self.reasoning]
        return list(map(len, [*said, self.citations, self.media, self.extras]))

    def _round(self) -> Completion:
        """Return the round that has ended well."""
        text, refusal, calls, reasoning, citations, media, extras = self._marks
        return Completion(
            text=self.text[text:],
            finish_reason=self.finish_reason,
            usage=self._own_usage,
            model=self.model,
            outcome=super()._good_outcome(),
            stats=self.stats,
            reasoning=self.reasoning[reasoning:],
            tool_calls=tuple(self.tool_calls[calls:]),
            refusal=self.refusal[refusal:],
            citations=tuple(self.citations[citations:]),
            media=tuple(self.media[media:]),
            extras=tuple(self.extras[extras:]),
            message=self.message,
            requests=self._current_request(is_final=True),
        )

    def _begin_round(self) -> None:
        """Go on after the last round: what it has said stays."""
        self._round_number += 1
        self._unread = iter(())  # another thread that reads sees that it has been read
        self._begin_request(None, is_final=True)
        self._earlier_usage = self.usage
        self.finish_reason = self._protocol_message = None
        self._given_ids, self._call_ids = [], {}
        self._marks = self._lengths()

    def _record(self, delta: Delta) -> None:
        if isinstance(delta, ToolCall):
            self._given_ids.append(delta.id)
            delta = replace(delta, id=unique_id(delta.id, self._call_ids))
            self._call_ids[delta.id] = None
        super()._record(delta)

    def _typed_events(self, batch: Iterator[Delta]) -> Iterator[Event]:
        for event in super()._typed_events(batch):
            yield self.tool_calls[-1] if isinstance(event, ToolCall) else event

    # --- from one round to the next

    def _fetch_batch(self, read: Iterator[Delta]) -> bool:
        try:
            going = super()._fetch_batch(read)
            while self._is_between:
                # In slices: another thread may take the turn, and the run be stopped meanwhile.
                lock = self._turn_lock
                if lock.acquire(timeout=MAIN_THREAD_WAIT_S):
                    try:
                        self._take_turn_once()
                    finally:
                        lock.release()
        except BaseException:  # of ``approve``, or Ctrl-C; no effect after the end
            self.close()
            raise
        return going

    @property
    def _is_between(self) -> bool:
        is_ended = self._ended_channel is self._channel and self._outcome is None
        return is_ended and self._goes_on()

    def _take_turn_once(self) -> None:
        """Take the turn, unless another thread has done so; under the lock for turns."""
        if not self._is_between:
            return
        if self._is_in_turn:
            raise InvalidRequestError("approve= and on_unknown= must not read the run itself")
        self._is_in_turn = True
        try:
            self._take_turn()
        finally:
            self._is_in_turn = False

    def wait(self, seconds: float) -> bool:
        """Wait for events or the end; return whether either has arrived.

        Begins the next round, and asks ``approve``, when it is time for that. Raises only what
        ``approve`` raises.

        Args:
            seconds: The longest wait.
        """
        until = monotonic() + seconds
        while super().wait(max(0.0, until - monotonic())):
            with self._lock:
                batch = self._unread
                if not self._has_turn():
                    return True
            with contextlib.suppress(ProviderError):  # ``next`` raises it
                self._fetch_batch(batch)
        return False

    def _has_turn(self) -> bool:
        with self._lock:
            is_at_end = self._channel.ended and not (
                self._channel.buffer or operator.length_hint(self._unread)
            )
            return is_at_end and self._outcome is None and self._goes_on()

    def _may_ask_again(self) -> bool:
        if self._goes_on():
            self._ended_channel = self._channel
            return True
        return super()._may_ask_again()

    def _goes_on(self) -> bool:
        return self._channel.error is None and not self._is_last

    def _take_turn(self) -> None:
        """Do what the round asks for that has ended; in the reader's thread, without the lock."""
        found, answer, message = self._open_calls, None, None
        if found is None:
            answer = self._round()
            found, message = self._calls_of(answer), _message_of(answer)
        pending = self._pending_calls(found)
        execution = Execution(self._state, pending, message)
        with self._lock:
            if self._outcome is not None:  # stopped: what it has said is not changed any more
                return
            done, rounds = self.messages[len(self._question) :], [*self.rounds]
            rounds += [] if answer is None else [answer]
            # One step: a signal handler may stop the run.
            self._done, self._execution, self._open_calls, self.rounds = (
                done,
                execution,
                None,
                rounds,
            )
        is_for_program = len(pending) < sum(found.is_open)
        if not pending and (is_for_program or not wants_to_go_on(self.finish_reason)):
            return self._end_run()
        try:
            self._check_limit(found.calls)
            if not decide(pending, self._tools, self._state):
                self._is_paused = True
                return self._end_run()
            self._is_last = is_for_program
            plan = None if self._is_last else self._plan
            source = _execute_and_ask(execution, [*self._question, *done], plan)
            self._ask_again(source, copy_context())
        except ProviderError as error:
            self._end_run(error)

    def _calls_of(self, answer: Completion) -> CallsOfAnswer:
        """Return the calls of a round that has ended well: none if it is not whole."""
        calls = list(answer.tool_calls) if answer.is_whole else []
        return CallsOfAnswer(self.messages, calls, [True] * len(calls))

    def _pending_calls(self, found: CallsOfAnswer) -> list[PendingCall]:
        """Return the calls to be made, without those that the program handles itself."""
        keys = call_keys(found.before, found.calls) if self._state.journal else []
        pending = []
        for place, (call, is_open) in enumerate(zip(found.calls, found.is_open, strict=True)):
            if is_open and self._tools.get(call.name, call) is not None:
                pending.append(PendingCall(call, keys[place] if keys else ""))
        return pending

    def _check_limit(self, calls: list[ToolCall]) -> None:
        limit = self._state.settings.max_rounds
        if len(self.rounds) >= limit:
            names = ", ".join(dict.fromkeys(call.name for call in calls)) or "nothing"
            raise ToolError(
                f"the answer is not finished after {limit} rounds; the last one calls {names}: "
                "raise max_rounds, or continue with provider.run(run.messages, …)"
            )

    # --- the end

    def _end_run(self, error: ProviderError | None = None) -> None:
        """End the run; raise the error, if there is one."""
        with self._lock:
            self._is_last = True
            if self._outcome is None:
                if not self._channel.ended:  # the next round could not start
                    self._channel.stop(error)
                self._channel.error = error
        super()._fetch_batch(self._unread)
        if error is not None:  # of ``approve``, which has closed the run
            raise error

    def _good_outcome(self) -> Outcome:
        if self._is_paused:
            return Outcome.PAUSED
        return self.rounds[-1].outcome if self.rounds else Outcome.COMPLETE

    def _release(self) -> None:
        self._state.end()
        super()._release()

    def _abandon(self, reason: str) -> None:
        self._turn_lock = threading.RLock()  # another thread of the parent may hold the old one
        super()._abandon(reason)
        if self._goes_on():  # a round has ended; what it asks for is the parent's
            self._channel.error = ProviderError(reason)

    def __repr__(self) -> str:
        return f"<Run of {self.model}: {self._outcome or 'running'}, {len(self.rounds)} rounds>"


def _message_of(answer: Completion) -> Message:
    """Return an answer as it goes back: the calls of one that is not whole are left out."""
    if answer.is_whole or wants_to_go_on(answer.finish_reason):
        return answer.message
    return without_calls(answer.message)


def _execute_and_ask(execution: Execution, before: Messages, plan: PlanRound | None) -> Source:
    """Return a source that calls the functions, and asks the model again (``plan``)."""

    def source(channel: Channel) -> Generator[Reading, None, None]:
        execution.run(channel)
        if plan is not None:
            yield from plan([*before, *execution.messages()]).source(channel)

    return source
