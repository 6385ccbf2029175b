"""``ContinuedAnswer``: an answer that is asked for again where it broke, by the same iterator."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any

from .. import call_log, retry
from ..errors import (
    APITimeoutError,
    InvalidRequestError,
    MalformedStream,
    ProviderError,
    ServerError,
    StreamCut,
    StreamTruncated,
)
from ..stream import Channel, Reading, Source, in_context
from ..types import (
    Decoder,
    Delta,
    Finish,
    Join,
    Media,
    Refusal,
    ToolCall,
    ToolCallStarted,
)
from .attempts import Readings
from .continuation_request import BrokenAnswer, words_asked_for
from .seams import Seam

_CANNOT_CONTINUE = {
    ToolCall: "a tool call had begun",
    ToolCallStarted: "a tool call had begun",
    Refusal: "the model had refused",
    Media: "it has images or sound",
}


class ContinuedAnswer:
    """The source of an answer in parts: after a break it asks for the rest, ``breaks`` times.

    ``obstacle``: why it must not, if there is a reason.
    """

    def __init__(
        self,
        first: Source,
        rest: Callable[[BrokenAnswer], Source],
        breaks: int,
        obstacle: str = "",
    ) -> None:
        self._obstacle = obstacle
        self._first = first
        self._rest = rest
        self._breaks = breaks

    def __call__(self, channel: Channel) -> Readings:
        context = copy_context()  # the caller's: no hook has run yet
        said: list[str] = []
        broke: ProviderError | None = None
        readings = self._first(channel)
        part: _Part | None = None
        for left in range(self._breaks, -1, -1):
            part = _Part(said, broke, channel, part)
            channel.begin_part(part.take_held, may_continue=left > 0)
            try:
                yield from part.readings(readings)
                return
            except ProviderError as error:
                is_break = _is_break(error)
                has_begun = channel.started or (is_break and part.has_text)
                if broke is not None and (part.began_anew or not has_begun):
                    raise _not_continued(broke, f"asking for the rest failed: {error}") from error
                if not (left and has_begun and is_break):
                    raise
                if obstacle := part.obstacle or self._obstacle:
                    _not_continued(error, f"it is not continued: {obstacle}")
                    raise
                broke = error
            part.is_joined = channel.started
            said = part.said()
            characters = sum(map(len, said))
            call_log.write(
                "continue",
                host=channel.server,
                characters=characters,
                error=call_log.reason(broke),
            )
            if (observer := channel.observer) is not None:
                observer.note("join", broke, {"characters": characters})
            broken = BrokenAnswer("".join(said), part.decoder, channel.server)
            try:
                source = context.copy().run(self._rest, broken)
            except ProviderError as error:
                raise _not_continued(broke, f"the rest cannot be requested: {error}") from error
            readings = in_context(context.copy(), source(channel))


class _Part:
    """One part of an answer; its decoders take off what it repeats of the parts before."""

    def __init__(
        self,
        before: list[str],
        broke: ProviderError | None,
        channel: Channel,
        earlier: _Part | None,
    ) -> None:
        self._before = before
        self._broke = broke
        self._channel = channel
        self._earlier = earlier
        self.is_joined = False
        """Whether it has handed over its ``Join``."""
        self._current: _PartDecoder | None = None

    def readings(self, readings: Readings) -> Readings:
        """Yield the readings, with decoders of ours around theirs."""
        error: BaseException | None = None
        while True:
            try:
                body, decoder, context = next(readings) if error is None else readings.throw(error)
            except StopIteration:
                return
            seam = self._seam(decoder, context)
            self._current = _PartDecoder(decoder, seam, self._join(), self._channel.text_held)
            error = None
            try:
                yield Reading(body, self._current, context)
            except GeneratorExit:
                readings.close()
                raise
            except BaseException as failure:  # noqa: BLE001 (it is theirs)
                error = failure

    def _seam(self, decoder: Decoder, context: Context) -> Seam:
        said = "" if getattr(decoder, "goes_on", False) else "".join(self._before)
        return Seam(said, words_asked_for(context))

    def _join(self) -> Join | None:
        broke = self._broke
        return (
            None if broke is None else Join(str(broke), broke.outcome, sum(map(len, self._before)))
        )

    @property
    def decoder(self) -> Decoder | None:
        """The decoder of the last response."""
        return self._current and self._current.decoder

    @property
    def obstacle(self) -> str:
        """Why the answer cannot be continued; empty if it can."""
        return self._current.obstacle if self._current else ""

    @property
    def began_anew(self) -> bool:
        """Whether the model has told the answer again, in other words."""
        return bool(self._current and self._current.failure)

    @property
    def has_text(self) -> bool:
        """Whether the last response has brought text, new or not."""
        return bool(self._current and self._current.has_text)

    def said(self) -> list[str]:
        """Return the text of the answer so far."""
        return [*self._before, *(self._current.texts if self._current else ())]

    def take_held(self) -> list[Delta]:
        """Return the text that is held back, as far as it is new.

        As long as the part has no text that is the one of the part before, which was not handed
        over, because the model is asked for it again.
        """
        if self._current and self._current.has_text:
            return self._current.take_held()
        earlier = self._earlier
        held = earlier.take_held() if earlier else []
        join = earlier._join() if earlier and held and not earlier.is_joined else None
        return held if join is None else [join, *held]


class _PartDecoder:
    """A decoder that takes off what the text repeats of the parts before; keeps the rest."""

    def __init__(
        self, decoder: Decoder, seam: Seam, join: Join | None, on_held: Callable[[], None]
    ) -> None:
        self.decoder = decoder
        self.texts: list[str] = []
        self.has_text = False
        self.obstacle = ""
        """What it has brought that cannot be continued."""
        self.failure: MalformedStream | None = None
        """Set where the model has told the answer again, in other words."""
        self._seam = seam
        self._join = join
        self._on_held = on_held

    def __getattr__(self, name: str) -> Any:
        return getattr(self.decoder, name)

    @property
    def ended(self) -> bool:
        return self.failure is not None or bool(getattr(self.decoder, "ended", False))

    def feed(self, data: bytes) -> list[Delta]:
        return self._new(self.decoder.feed(data))

    def end(self) -> list[Delta]:
        if self.failure is not None:
            raise self.failure
        try:
            deltas = self._new(self.decoder.end())
        except Exception as error:
            vars(error).update(deltas=self._new(vars(error).pop("deltas", [])))
            raise
        deltas += self._text_of(self._seam.end)
        if self.failure is not None:
            vars(self.failure).update(deltas=deltas)
            raise self.failure
        return deltas

    def take_held(self) -> list[Delta]:
        """Return the text that is held back, as far as it is new."""
        return self._text_of(self._seam.give_up)

    def _new(self, deltas: list[Delta]) -> list[Delta]:
        """Return the deltas without what they repeat; up to where the answer begins anew."""
        found: list[Delta] = []
        if self._join is not None and deltas:
            found.append(self._join)
            self._join = None
        for delta in deltas:
            if isinstance(delta, str):
                self.has_text = True
                found += self._text_of(functools.partial(self._seam.feed, delta))
            else:
                if isinstance(delta, Finish):
                    found += self._text_of(self._seam.end)
                self.obstacle = self.obstacle or _CANNOT_CONTINUE.get(type(delta), "")
                found.append(delta)
            if self.failure is not None:
                break
        if self.has_text and not self.texts:
            self._on_held()
        return found

    def _text_of(self, read: Callable[[], str]) -> list[Delta]:
        try:
            text = read()
        except MalformedStream as error:
            self.failure, text = error, ""
        if not text:
            return []
        self.texts.append(text)
        return [text]


def _is_break(error: ProviderError) -> bool:
    """Return whether an answer that has begun may go on after this error."""
    if isinstance(error, APITimeoutError):
        return error.clock == "idle"
    if isinstance(error, ServerError):
        return retry.is_retryable(error)
    return isinstance(error, (StreamCut, StreamTruncated, MalformedStream))


def _not_continued(broke: ProviderError, why: str) -> ProviderError:
    """Add to the error of a break why the answer ends there; return it."""
    broke.args = (f"{broke}; {why}",)
    return broke


def validate_breaks(value: Any) -> int:
    """Return how many breaks an answer may survive; raise ``InvalidRequestError`` for no number."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidRequestError(
            f"continue_after_break must be a number of breaks, 0 or more, not {value!r}"
        )
    return value
