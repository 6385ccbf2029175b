"""``Transcript``: what an answer has said so far: text, reasoning, tool calls, usage."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Iterator, Mapping, Sequence
from sys import is_finalizing
from typing import TYPE_CHECKING, Any

from ..clock import monotonic
from ..errors import ProviderFailure
from ..finish_reasons import is_whole
from ..request_usage import RequestUsage
from ..returned_messages import assistant_message
from ..types import (
    Citation,
    Delta,
    Extra,
    Finish,
    Join,
    Media,
    Message,
    Messages,
    Outcome,
    ProtocolMessage,
    ReasoningDelta,
    Refusal,
    ServedModel,
    Stats,
    ToolCall,
    Usage,
)
from .channel import AT_EXIT, Channel

if TYPE_CHECKING:
    from ..prices import Cost

GOOD_OUTCOMES = (Outcome.COMPLETE, Outcome.UNVERIFIED)
"""Outcomes of an answer that has arrived to its end."""
JOINED_DELTAS = 64
"""So many deltas become one text: each of a few characters takes sixty bytes."""


class Transcript:
    """What an answer has said so far; the base class of ``Stream``."""

    _channel: Channel

    def __init__(self, model: str | None) -> None:
        self._outcome: Outcome | None = None
        self._asked_model = model
        self.usage: Usage | None = None
        """Tokens counted by the server, if it reports them."""
        self._round_number = 0
        self._earlier_usage: Usage | None = None
        """That of the rounds before this one, or of the parts before a break."""
        self._joins = 0
        self._ended_requests: tuple[RequestUsage, ...] = ()
        self._request: RequestUsage | None = None
        """The request whose answer is being read."""
        self._own_usage: Usage | None = None
        """The usage of that request."""
        self._begin_answer()

    def _begin_answer(self) -> None:
        """Forget what was said so far, except for the usage."""
        # What was handed over: the texts of earlier batches; how many of these there are, how many
        # chunks they had, and the later batches; and the unread deltas of the last batch. Ctrl-C
        # may interrupt between any two calls, so each step is one assignment.
        self._earlier_texts: list[str] = []
        self._position: tuple[int, int, list[Delta]] = (0, 0, [])
        self._unread: Iterator[Delta] = iter(())
        self.model = self._asked_model
        """The model's name as the server reports it, until then the name in the request."""
        self.finish_reason: str | None = None
        """Why the model stopped, as the server reports it: ``stop``, ``length``, …"""
        self.tool_calls: list[ToolCall] = []
        """The complete tool calls the model has made so far."""
        self.citations: list[Citation] = []
        """The sources that the model has cited so far."""
        self.media: list[Media] = []
        """The images and audio so far."""
        self.extras: list[Extra] = []
        """Everything else that the server has sent so far."""
        self._protocol_message: ProtocolMessage | None = None
        self._reasoning: list[str] = []
        self._refusal: list[str] = []

    @property
    def _lock(self) -> Any:
        """The lock that the call's threads and the callers share."""
        if is_finalizing():
            # A finalizer may close a stream now. No other thread will run again; if one was
            # stopped while it held the lock, the exit would wait forever.
            self._channel.abandon(AT_EXIT)
        return self._channel.lock

    def _take_buffer(self) -> None:
        """Make the channel's buffer the unread batch; the one before it has been read."""
        if len(self._position[2]) >= JOINED_DELTAS:
            self._join_texts()
        channel, (texts, chunks, earlier) = self._channel, self._position
        batch = channel.buffer
        unread = iter(batch)
        # If a signal handler has cancelled meanwhile, it has already taken the buffer.
        channel.buffer, self._position, self._unread = (
            [],
            (texts, chunks, earlier + batch),
            unread,
        )
        channel.buffered = 0
        if channel.is_full:
            channel.resume()
        if self._outcome is not None:
            self._unread = iter(())

    def _take_rest(self) -> None:
        """Hand everything over that has arrived: the caller will not read it."""
        channel, (texts, chunks, earlier) = self._channel, self._position
        rest, channel.buffer, self._position = (
            [*self._unread, *channel.buffer],
            [],
            (texts, chunks, earlier + channel.buffer),
        )
        for delta in rest:
            if delta.__class__ is not str:
                self._record(delta)

    def _read_batch(self) -> Iterator[Delta]:
        """Read what is left of the last batch; return it."""
        batch = self._unread
        for delta in batch:
            if delta.__class__ is not str:
                self._record(delta)
        return batch

    def _join_texts(self) -> None:
        """Make one text of those of the later batches."""
        count, chunks, batch = self._position
        size = len(batch)
        texts = [delta for delta in batch if isinstance(delta, str)]
        del self._earlier_texts[count:]  # the last call may have been interrupted before its end
        self._earlier_texts.append("".join(texts))
        # If a signal handler has cancelled meanwhile, it has added to the batch.
        self._position = count + 1, chunks + len(texts), self._position[2][size:]

    def _record(self, delta: Delta) -> None:
        if isinstance(delta, Finish):
            self.finish_reason = delta.reason or self.finish_reason
        elif isinstance(delta, Usage):
            self._own_usage, earlier = delta, self._earlier_usage
            self.usage = delta if earlier is None else add_usage(earlier, delta)
        elif isinstance(delta, ServedModel):
            self.model = delta.name
        elif isinstance(delta, ToolCall):
            self.tool_calls.append(delta)
        elif isinstance(delta, ReasoningDelta):
            self._reasoning.append(delta.text)
        elif isinstance(delta, Refusal):
            self._refusal.append(delta.text)
        elif isinstance(delta, Citation):
            self.citations.append(delta)
        elif isinstance(delta, Media):
            self.media.append(delta)
        elif isinstance(delta, Extra):
            self.extras.append(delta)
        elif isinstance(delta, ProtocolMessage):
            self._protocol_message = None if self._joins else delta  # it is that of a part
        elif isinstance(delta, Join):
            self._joins += 1
            self._earlier_usage, self.finish_reason = self.usage, None
        elif isinstance(delta, RequestUsage):
            self._begin_request(delta)

    def _begin_request(self, request: RequestUsage | None, *, is_final: bool = False) -> None:
        """Begin the answer to a request; the one before it has ended, or broke."""
        ended = [*self._ended_requests, *self._current_request(is_final)]
        self._ended_requests, self._request, self._own_usage = tuple(ended), request, None

    def _current_request(self, is_final: bool) -> tuple[RequestUsage, ...]:
        """Return what the request has used whose answer is being read, if there is one."""
        if self._request is None:
            return ()
        request, usage = self._request, self._own_usage
        return (dataclasses.replace(request, model=self.model, usage=usage, is_final=is_final),)

    def _requests(self) -> tuple[RequestUsage, ...]:
        """Return what each request has used so far."""
        outcome = self._outcome
        is_good = outcome in GOOD_OUTCOMES or outcome is Outcome.PAUSED
        is_final = outcome is not None and (is_good or self.finish_reason is not None)
        return (*self._ended_requests, *self._current_request(is_final))

    @property
    def cost(self) -> Cost:
        """What the answer costs by list prices, that of its earlier requests included.

        Until the end, and for an answer that broke, part of it is unknown: ``cost.unknown`` says
        why (``docs/prices.md``). Raises ``ImportError`` without the extra ``prices``.
        """
        from ..prices import cost_of  # only a program that asks for it pays for it

        return cost_of(self._requests())

    @property
    def outcome(self) -> Outcome | None:
        """The outcome; ``None`` until the stream has been read to its end or stopped."""
        return self._outcome

    @property
    def text(self) -> str:
        """The text handed over so far; after ``cancel()`` and ``close()`` all that had arrived."""
        with self._lock:
            texts = [delta for delta in self._handed_over() if isinstance(delta, str)]
            return "".join(self._earlier_texts[: self._position[0]] + texts)

    @property
    def reasoning(self) -> str:
        """The model's reasoning so far; not part of ``.text``."""
        return "".join(self._reasoning)

    @property
    def refusal(self) -> str:
        """The model's refusal, if the server sends it separately from the text."""
        return "".join(self._refusal)

    def _handed_over(self) -> list[Delta]:
        batch = self._position[2]
        return batch[: len(batch) - operator.length_hint(self._unread)]

    @property
    def message(self) -> Message:
        """The answer so far as a message, to append to the messages of the next request.

        It is JSON, in OpenAI's form. What the protocol wants back unchanged (signed reasoning,
        the server's own tools, …) is under ``providers_sync``: it is sent to the same server and
        family of models only.
        """
        return self._message_of(self.text or self.refusal, self.tool_calls)

    def _message_of(self, text: str, calls: Sequence[ToolCall]) -> Message:
        return assistant_message(
            text,
            calls,
            self._protocol_message,
            self._channel.model or self._asked_model,
            self._channel.server,
        )

    def _added_messages(self) -> tuple[Messages, str]:
        """Return the messages that it adds to the conversation, and text that is in none."""
        return ([self.message], "") if self.outcome in GOOD_OUTCOMES else ([], self.text)

    def _running_functions(self) -> list[str]:
        """Return the names of the functions that must end before a run can go on."""
        return []

    @property
    def is_whole(self) -> bool:
        """Whether the answer is complete, and the model ended it by itself."""
        return is_whole(self.outcome, self.finish_reason, self.refusal)

    @property
    def headers(self) -> Mapping[str, str]:
        """The response headers of the last attempt; names are case-insensitive."""
        return self._channel.headers

    @property
    def attempts(self) -> tuple[ProviderFailure, ...]:
        """The providers of a ``Failover`` that failed before this answer; otherwise empty."""
        return tuple(self._channel.failures)

    @property
    def request_id(self) -> str | None:
        """The request id that the server gave the last attempt, if any."""
        return self._channel.request_id

    @property
    def stats(self) -> Stats:
        """Times, chunks, bytes and attempts so far."""
        channel = self._channel
        with self._lock:
            chunks = sum(isinstance(delta, str) for delta in self._handed_over())
            first, end = channel.first_text_at, channel.ended_at or monotonic()
            return Stats(
                first_chunk_s=None if first is None else first - channel.deadlines.started_at,
                duration_s=end - channel.deadlines.started_at,
                chunks=self._position[1] + chunks,
                bytes=channel.bytes,
                attempts=channel.attempts,
                joins=self._joins,
            )


def add_usage(earlier: Usage, later: Usage) -> Usage:
    """Return the sum of the tokens of two rounds, with the later one's ``raw``."""
    counts = {}
    for name in (each.name for each in dataclasses.fields(Usage) if each.name != "raw"):
        before, after = getattr(earlier, name), getattr(later, name)
        counts[name] = after if before is None else before + (after or 0)
    totals = [_known_total(each) for each in (earlier, later)]
    if counts["total_tokens"] is not None and None not in totals:
        counts["total_tokens"] = sum(filter(None, totals))
    return Usage(**counts, raw=later.raw)


def _known_total(usage: Usage) -> int | None:
    """Return the total; of counts that were not final yet, their sum."""
    if usage.total_tokens is not None or usage.input_tokens is None or usage.output_tokens is None:
        return usage.total_tokens
    return usage.input_tokens + usage.output_tokens


def current_batch(stream: Transcript) -> Iterator[Delta]:
    """Return the iterator over the unread deltas of the batch that was fetched last."""
    return stream._unread


def read_batch(stream: Transcript) -> Iterator[Delta]:
    """Read what is left of the batch that was fetched last; return it."""
    return stream._read_batch()


def added_messages(stream: Transcript) -> tuple[Messages, str]:
    """Return the messages that an answer adds to the conversation, and text that is in none.

    Of an answer that has failed the latter is its text, of a run that of its last round.
    """
    return stream._added_messages()


def requests_of(stream: Transcript) -> tuple[RequestUsage, ...]:
    """Return what each request of an answer has used so far."""
    return stream._requests()


def running_functions(stream: Transcript) -> list[str]:
    """Return the names of the functions that must end before a run that was stopped can go on.

    The run adds their results to its messages.
    """
    return stream._running_functions()
