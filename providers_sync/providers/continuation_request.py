"""``ContinuationRequest``: asks a model for the rest of an answer that has broken."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context, ContextVar
from typing import Any

from ..errors import APIStatusError
from ..failure_reasons import INVALID_REQUEST
from ..stream import Channel, Source
from ..types import Decoder, Message, Messages
from .attempts import Amend, Readings

_SHOWN_CHARACTERS = 60
"""About how much of its last words a model is asked to repeat."""

_asked_words: ContextVar[str] = ContextVar("providers_sync_asked_words", default="")
"""The words that the model was asked to repeat, in the context of a decoder of the rest."""


class BrokenAnswer:
    """An answer that has broken: its text, and the decoder and the server of its last part."""

    def __init__(self, text: str, decoder: Decoder | None, server: str) -> None:
        self.text = text
        self.decoder = decoder
        self.server = server

    def messages(self, question: Messages, *, is_prefix: bool) -> Messages:
        """Return the messages that ask for the rest of the answer.

        ``is_prefix``: the model takes its own words as the beginning of its turn. Else a turn of
        the user asks it to go on.
        """
        if not self.text.strip():
            return question
        words = self.text.rstrip() if is_prefix else self.text
        *before, last = question
        if last["role"] == "assistant" and isinstance(last["content"], str):  # begun by the caller
            turns = [*before, {**last, "content": last["content"] + words}]
        else:
            turns = [*question, {"role": "assistant", "content": words}]
        return turns if is_prefix else [*turns, self._request()]

    @property
    def last_words(self) -> str:
        """What the user's turn asks the model to repeat; empty if it has said nothing."""
        end = self.text[-_SHOWN_CHARACTERS:]
        if len(end) < len(self.text) and " " in end.strip():
            end = end.lstrip().partition(" ")[2]
        return end if self.text.strip() else ""

    def _request(self) -> Message:
        # The words come last: what follows them, small models copy into the answer.
        return {
            "role": "user",
            "content": (
                "Your last answer was interrupted. Go on exactly where it stopped. Do not begin "
                "again from the start, and do not mention the interruption. Begin by repeating the "
                "last words of your answer, then go on with what comes next. Its last words are:"
                f"\n\n{self.last_words}"
            ),
        }


class ContinuationRequest:
    """The bodies that ask for the rest of an answer, as a prefix if the model takes that."""

    def __init__(
        self,
        broken: BrokenAnswer,
        question: Messages,
        make_body: Callable[[Messages], dict[str, Any]],
    ) -> None:
        self._broken = broken
        self._question = question
        self._make_body = make_body
        self._is_prefix = False

    def first_body(self, takes_prefix: bool) -> dict[str, Any]:
        """Return the body to send."""
        self._is_prefix = takes_prefix and bool(self._broken.text.strip())
        return self._body()

    def decoder_of(self, decoder: Callable[[str], Decoder]) -> Callable[[str], Decoder]:
        """Return a function that makes the same decoder, in whose context the words are known."""

        def made(content_type: str) -> Decoder:
            _asked_words.set("" if self._is_prefix else self._broken.last_words)
            return decoder(content_type)

        return made

    def amended_after(self, amend: Amend) -> Amend:
        """Return a function that amends a body as ``amend`` does, or else asks without a prefix.

        Some models of a protocol that takes one refuse it.
        """

        def amended(body: dict[str, Any], error: APIStatusError) -> dict[str, Any] | None:
            other = amend(body, error)
            is_refusal = error.status_code in (400, 422) and error.reason == INVALID_REQUEST
            if other is None and self._is_prefix and is_refusal:
                self._is_prefix = False
                other = self._body()
            return other

        return amended

    def _body(self) -> dict[str, Any]:
        return self._make_body(self._broken.messages(self._question, is_prefix=self._is_prefix))


def resuming(resumed: Source, again: Source) -> Source:
    """Return a source that gets the rest from a server that keeps it, or else asks again."""

    def source(channel: Channel) -> Readings:
        try:
            yield from resumed(channel)
        except APIStatusError:
            if channel.started:
                raise
            yield from again(channel)

    return source


def words_asked_for(context: Context) -> str:
    """Return the words that the model was asked to repeat, in the context of its decoder."""
    return context.get(_asked_words, "")
