"""The steps of an answer as frozen objects: each knows how to play itself."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol, Union

from .encoders import Encoder, ScriptError


class Output(Protocol):
    """Where a step is played: the real connection, or a measuring stand-in."""

    encoder: Encoder

    def body(self, data: bytes) -> None:
        """Send inside the body's framing."""

    def wire(self, data: bytes) -> None:
        """Send straight onto the socket."""

    def pause(self, seconds: float) -> None:
        """Let time pass, watching the client."""

    def wait(self, event: threading.Event) -> None:
        """Hold until the event is set, watching the client."""

    def signal(self, event: threading.Event) -> None:
        """Set the event."""

    def stall(self) -> None:
        """Hold until the client goes away."""

    def hang_up(self, reset: bool) -> None:
        """End the connection here."""

    def forever(self) -> None:
        """Take note that the script has no end."""


class Step:
    """One thing that the server does. Frozen: a script can be used again and shared."""

    def substeps(self, encoder: Encoder) -> Iterator[Step]:
        """Yield the steps it is made of, in turn, for a player who must stop between them."""
        yield self

    def play(self, out: Output) -> None:
        raise NotImplementedError


class BodyStep(Step):
    """A step that is bytes of the body, so that it can be dripped and cut as well."""

    def render(self, encoder: Encoder) -> bytes:
        raise NotImplementedError

    def play(self, out: Output) -> None:
        out.body(self.render(out.encoder))


@dataclass(frozen=True)
class ProtocolStep(BodyStep):
    """A word of the protocol, said as the protocol says it."""

    word: str
    args: tuple[Any, ...] = ()

    def __repr__(self) -> str:
        return f"{self.word}({', '.join(map(repr, self.args))})"

    def render(self, encoder: Encoder) -> bytes:
        said: bytes = getattr(encoder, self.word)(*self.args)
        return said


@dataclass(frozen=True)
class Raw(BodyStep):
    """Bytes as they stand."""

    data: bytes

    def render(self, encoder: Encoder) -> bytes:
        return self.data


@dataclass(frozen=True)
class Part(BodyStep):
    """The beginning of a piece."""

    piece: BodyStep
    until: int | bytes | None

    def render(self, encoder: Encoder) -> bytes:
        data = self.piece.render(encoder)
        if self.until is None:
            return data[: len(data) // 2]
        if isinstance(self.until, int):
            return data[: self.until]
        found, mark, _ = data.partition(self.until)
        if not mark:
            raise ScriptError(f"{self.piece!r} has no {self.until!r} to break off after")
        return found + mark


@dataclass(frozen=True)
class Drip(Step):
    """A piece that is sent little by little."""

    piece: BodyStep
    every: float
    size: int

    def substeps(self, encoder: Encoder) -> Iterator[Step]:
        data = self.piece.render(encoder)
        rest = ConnectionStep(f"pause({self.every})", lambda out: out.pause(self.every))
        for at in range(0, len(data), self.size):
            yield Raw(data[at : at + self.size])
            yield rest

    def play(self, out: Output) -> None:
        for move in self.substeps(out.encoder):
            move.play(out)


@dataclass(frozen=True)
class Repeat(Step):
    """Steps that are played again and again."""

    steps: tuple[Step, ...]
    times: int | None

    def substeps(self, encoder: Encoder) -> Iterator[Step]:
        played = 0
        while played != self.times:
            for step in self.steps:
                yield from step.substeps(encoder)
            played += 1

    def play(self, out: Output) -> None:
        if self.times is None:
            out.forever()
        for move in self.substeps(out.encoder):
            move.play(out)


@dataclass(frozen=True)
class ConnectionStep(Step):
    """A step that is not bytes; ``does`` is what it does to the connection."""

    name: str
    does: Callable[[Output], None] = field(repr=False)

    def play(self, out: Output) -> None:
        self.does(out)


StepLike = Union[Step, str, bytes]
"""Where a step is wanted, a string means ``text()`` and bytes mean ``raw()``."""


def to_step(like: StepLike) -> Step:
    """Return ``like`` as a step."""
    if isinstance(like, Step):
        return like
    if isinstance(like, str):
        return ProtocolStep("text", (like,))
    if isinstance(like, (bytes, bytearray)):
        return Raw(bytes(like))
    raise ScriptError(f"{like!r} is no step: use text('…'), raw(b'…'), pause(1), cut() …")


def to_steps(likes: Iterable[StepLike]) -> tuple[Step, ...]:
    """Return ``likes`` as steps."""
    return tuple(to_step(like) for like in likes)


def to_body_step(like: StepLike) -> BodyStep:
    """Return ``like`` as bytes of the body."""
    found = to_step(like)
    if isinstance(found, BodyStep):
        return found
    raise ScriptError(
        f"{found!r} is no bytes of the body; drip() and part() want text, raw, event …"
    )
