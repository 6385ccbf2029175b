"""``CheckedDecoder``: runs a decoder that is not of this package, and checks it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import Any

from .. import decoding
from ..errors import MalformedStream, ProviderError
from ..types import (
    AnyDecoder,
    Citation,
    Decoder,
    Delta,
    Extra,
    Finish,
    Media,
    ProtocolMessage,
    ReasoningDelta,
    Refusal,
    ServedModel,
    TextDelta,
    ToolCall,
    ToolCallStarted,
    Usage,
)

_DELTAS = (
    *(Citation, Extra, Finish, Media, ProtocolMessage, ReasoningDelta, Refusal),
    *(ServedModel, ToolCall, ToolCallStarted, Usage),
)
_WRONG_DATA = (ValueError, LookupError, TypeError, AttributeError)
"""What Python raises for JSON that is broken, or has another structure than expected."""


def checked(make: Callable[[str], AnyDecoder]) -> Callable[[str], Decoder]:
    """Return a function that makes the same decoder; one that is not ours is checked."""

    def made(content_type: str) -> Decoder:
        decoder = make(content_type)
        if isinstance(decoder, decoding.BodyDecoder) and _is_ours(type(decoder)):
            return decoder
        return CheckedDecoder(decoder)

    return made


class CheckedDecoder:
    """Decodes like ``decoder``, which may return any iterable, and may raise at any point.

    The deltas before an error are kept: ``feed`` returns them, and ``end`` raises the error.
    """

    def __init__(self, decoder: AnyDecoder) -> None:
        for name in ("feed", "end"):
            if not callable(getattr(decoder, name, None)):
                raise ProviderError(
                    f"decoder() returned {_name(decoder)}, which has no method {name}()"
                )
        self.checked_decoder = decoder
        self._failure: Exception | None = None
        self._text = decoding.SurrogateJoiner()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.checked_decoder, name)

    @property
    def ended(self) -> bool:
        """Whether the decoder has seen the end, or has failed."""
        return self._failure is not None or bool(getattr(self.checked_decoder, "ended", False))

    def feed(self, data: bytes) -> list[Delta]:
        deltas: list[Delta] = []
        try:
            self._collect(deltas, self.checked_decoder.feed(data), "feed")
        except Exception as error:  # noqa: BLE001 (raised by ``end``, after these deltas)
            self._failure = self._explained(error)
        return deltas

    def end(self) -> list[Delta]:
        deltas: list[Delta] = []
        try:
            if self._failure is not None:
                raise self._failure
            self._collect(deltas, self.checked_decoder.end(), "end")
        except Exception as error:  # noqa: BLE001 (raised again)
            failure = self._explained(error)
            self._failure = None  # its traceback refers to this decoder
            with contextlib.suppress(Exception):  # the first error says more than a second one
                self._collect(deltas, vars(error).get("deltas", ()), "end")
            deltas += filter(None, [self._text.end()])
            vars(failure)["deltas"] = deltas
            raise failure from failure.__cause__
        deltas[:0] = filter(None, [self._text.end()])
        return deltas

    def _collect(self, deltas: list[Delta], returned: Iterable[Any], method: str) -> None:
        if isinstance(returned, str) or not isinstance(returned, Iterable):
            raise self._misuse(f"{method}() returned {_name(returned)}, not a list of deltas")
        for delta in returned:
            if isinstance(delta, TextDelta):
                delta = delta.text
            if isinstance(delta, str):
                delta = self._text.feed(delta)
            elif not isinstance(delta, _DELTAS):
                raise self._misuse(
                    f"{method}() returned {_name(delta)} as a delta; text must be a str"
                )
            if delta != "":
                deltas.append(delta)

    def _misuse(self, text: str) -> ProviderError:
        return ProviderError(f"{_name(self.checked_decoder)}.{text}")

    def _explained(self, error: Exception) -> Exception:
        """Return an error of ours for one that Python raises for wrong data."""
        if isinstance(error, ProviderError) or not isinstance(error, _WRONG_DATA):
            return error
        name = _name(self.checked_decoder)
        failure = MalformedStream(f"{name} cannot read what the server sent: {_name(error)}")
        failure.__cause__ = error
        return failure


def _is_ours(kind: type) -> bool:
    """Return whether a class is of this package; a subclass elsewhere may do anything."""
    return kind.__module__.partition(".")[0] == __name__.partition(".")[0]


def _name(value: object) -> str:
    return "None" if value is None else type(value).__name__
