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
from ..errors import ProviderError, ToolError
from ..finish_reasons import wants_to_go_on
from ..stream import CancelToken, Channel, PreparedCall, Reading, Source, Stream
from ..types import Completion, Delta, Message, Messages, Outcome, ToolCall, Usage
from .deciding import decide
from .execution import Execution, PendingCall, RunState
from .journal import call_keys
from .pending import CallsOfAnswer, last_calls, with_unique_ids
from .tool import Tool

PlanRound = Callable[[Messages], PreparedCall]
"""Prepares the request of the next round."""


class Run(Stream):
    """An answer with tools: a ``Stream`` over all its rounds.

    A function is called after its ``ToolCall`` has been handed over and more is asked for: nothing
    is called behind the reader's back. ``text``, ``usage`` and the lists are those of all rounds;
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
        self._round_usage: Usage | None = None
        super().__init__(channel, cancel, model, **more)
        self.rounds: list[Completion] = []
        """The answers of the model so far that have ended well, one for each request."""
        self._question = question
        self._tools = tools
        self._state = state
        self._plan = plan
        self._turn_lock = threading.RLock()
        self._is_between = False
        """Whether a round has ended, and what it asks for has not begun."""
        self._is_last = False
        """Whether no other round may follow."""
        self._is_paused = False
        self._done: Messages = []
        """The messages after the question that are finished."""
        self._execution: Execution | None = None
        """The calls that are not in ``_done`` yet, and their answer."""
        self._open_calls = last_calls(question)
        """The calls that the question ends with."""
        self._marks = self._lengths()

    # --- what it has said

    @property
    def messages(self) -> Messages:
        """The conversation so far: the question, the finished answers, the results of the tools.

        After a failure or a pause ``provider.run(run.messages, …)`` goes on from there: a function
        that has ended is not called again.
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
            return with_unique_ids(self._message_of(words, self.tool_calls[calls:]))

    def _added_messages(self) -> tuple[Messages, str]:
        with self._lock:
            return self.messages[len(self._question) :], self._text_of_round()

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
            usage=self._round_usage,
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
        )

    def _begin_round(self) -> None:
        """Go on after the last round: what it has said stays."""
        self._round_number += 1
        self._earlier_usage, self._round_usage = self.usage, None
        self.finish_reason = self._protocol_message = None
        self._marks = self._lengths()

    def _record(self, delta: Delta) -> None:
        if isinstance(delta, Usage):
            self._round_usage = delta
        super()._record(delta)

    # --- from one round to the next

    def _fetch_batch(self, read: Iterator[Delta]) -> bool:
        going = super()._fetch_batch(read)
        if self._is_between:
            try:
                with self._turn_lock:  # another thread may read, too
                    if self._is_between:
                        self._is_between = False
                        self._take_turn()
            except BaseException:  # of ``approve``, or Ctrl-C; no effect after the end
                self.close()
                raise
        return going

    def wait(self, seconds: float) -> bool:
        """Wait for events or the end, at most ``seconds``; return whether there is either.

        Begins the next round, and asks ``approve``, when it is time for that. Raises only what
        ``approve`` raises.
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
        self._is_between = self._goes_on()
        return self._is_between or super()._may_ask_again()

    def _goes_on(self) -> bool:
        return self._channel.error is None and not self._is_last

    def _take_turn(self) -> None:
        """Do what the round asks for that has ended; in the reader's thread, without the lock."""
        found, message = self._open_calls, None
        self._open_calls = None
        if found is None:
            found, message = self._end_round()
        pending = self._pending_calls(found)
        self._execution = execution = Execution(self._state, pending, message)
        is_for_program = len(pending) < sum(found.is_open)
        if not pending and (is_for_program or not wants_to_go_on(self.finish_reason)):
            return self._end_run()
        try:
            self._check_limit(found.calls)
            if not decide(pending, self._tools, self._state):
                self._is_paused = True
                return self._end_run()
        except ProviderError as error:
            return self._end_run(error)
        self._is_last = is_for_program
        plan = None if self._is_last else self._plan
        source = _execute_and_ask(execution, [*self._question, *self._done], plan)
        self._ask_again(source, copy_context())

    def _end_round(self) -> tuple[CallsOfAnswer, Message]:
        """Return the calls to be made of the round that has ended, and its answer."""
        answer = self._round()
        self.rounds.append(answer)
        before = self._finish_messages()
        calls = []
        if answer.is_whole:
            ids = [call["id"] for call in answer.message.get("tool_calls", ())]
            calls = list(map(_with_id, answer.tool_calls, ids))
        return CallsOfAnswer(before, calls, [True] * len(calls)), answer.message

    def _finish_messages(self) -> Messages:
        """Let no more results come into the messages; return them."""
        with self._lock:
            messages = self.messages
            self._done, self._execution = messages[len(self._question) :], None
        return messages

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
                f"the answer is not finished after {limit} rounds, the last calls {names}: raise "
                "max_rounds, or go on with provider.run(run.messages, …)"
            )

    # --- the end

    def _end_run(self, error: ProviderError | None = None) -> None:
        """End the run; raise the error, if there is one."""
        with self._lock:
            self._is_last = True
            if self._outcome is None:
                self._channel.error = error
        super()._fetch_batch(self._unread)

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

    def __repr__(self) -> str:
        return f"<Run of {self.model}: {self._outcome or 'running'}, {len(self.rounds)} rounds>"


def _with_id(call: ToolCall, call_id: str) -> ToolCall:
    return replace(call, id=call_id)


def _execute_and_ask(execution: Execution, before: Messages, plan: PlanRound | None) -> Source:
    """Return a source that calls the functions, and asks the model again (``plan``)."""

    def source(channel: Channel) -> Generator[Reading, None, None]:
        execution.run(channel)
        if plan is not None:
            yield from plan([*before, *execution.messages()]).source(channel)

    return source
