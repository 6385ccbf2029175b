"""Classes of the steps in a script: immutable objects that play themselves on an ``Output``."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol, Union

from .base_encoders import Encoder, ScriptError


class Output(Protocol):
    """What a step acts on: the connection, or an object that measures or replaces it."""

    encoder: Encoder

    def body(self, data: bytes) -> None:
        """Send bytes inside the body's framing."""

    def wire(self, data: bytes) -> None:
        """Send bytes directly on the connection."""

    def pause(self, seconds: float) -> None:
        """Wait for ``seconds``, or until the client disconnects."""

    def wait(self, event: threading.Event) -> None:
        """Wait until the event is set or the client disconnects."""

    def signal(self, event: threading.Event) -> None:
        """Set the event."""

    def stall(self) -> None:
        """Wait until the client disconnects."""

    def disconnect(self, reset: bool) -> None:
        """End the connection here."""

    def mark_endless(self) -> None:
        """Note that the script has no end."""


class Step:
    """One action of the server. Steps are immutable: a script can be reused and shared."""

    def substeps(self, encoder: Encoder) -> Iterator[Step]:
        """Yield the parts of the step, for a player that must stop between them.

        Args:
            encoder: Writes the protocol of the answer.
        """
        yield self

    def play(self, output: Output) -> None:
        """Do what the step says. Internal.

        Args:
            output: The connection.
        """

        raise NotImplementedError


class BodyStep(Step):
    """A step that sends bytes of the body; ``drip()`` and ``part()`` accept it."""

    def render(self, encoder: Encoder) -> bytes:
        raise NotImplementedError

    def play(self, output: Output) -> None:
        output.body(self.render(output.encoder))


@dataclass(frozen=True)
class ProtocolStep(BodyStep):
    """An element of the protocol, which the encoder method of this name encodes."""

    method: str
    args: tuple[Any, ...] = ()

    def __repr__(self) -> str:
        return f"{self.method}({', '.join(map(repr, self.args))})"

    def render(self, encoder: Encoder) -> bytes:
        encoded: bytes = getattr(encoder, self.method)(*self.args)
        return encoded


@dataclass(frozen=True)
class Raw(BodyStep):
    """Bytes that are sent unchanged."""

    data: bytes

    def render(self, encoder: Encoder) -> bytes:
        return self.data


@dataclass(frozen=True)
class Part(BodyStep):
    """The beginning of a body step."""

    step: BodyStep
    until: int | bytes | None

    def render(self, encoder: Encoder) -> bytes:
        data = self.step.render(encoder)
        if self.until is None:
            return data[: len(data) // 2]
        if isinstance(self.until, int):
            return data[: self.until]
        found, mark, _ = data.partition(self.until)
        if not mark:
            raise ScriptError(f"{self.step!r} does not contain {self.until!r}, where part() ends")
        return found + mark


@dataclass(frozen=True)
class Drip(Step):
    """A body step that is sent slowly, a few bytes at a time."""

    step: BodyStep
    every: float
    size: int

    def substeps(self, encoder: Encoder) -> Iterator[Step]:
        data = self.step.render(encoder)
        pause = ConnectionStep(f"pause({self.every})", lambda output: output.pause(self.every))
        for at in range(0, len(data), self.size):
            yield Raw(data[at : at + self.size])
            yield pause

    def play(self, output: Output) -> None:
        for substep in self.substeps(output.encoder):
            substep.play(output)


@dataclass(frozen=True)
class Repeat(Step):
    """Steps that are played repeatedly."""

    steps: tuple[Step, ...]
    times: int | None

    def substeps(self, encoder: Encoder) -> Iterator[Step]:
        played = 0
        while played != self.times:
            for step in self.steps:
                yield from step.substeps(encoder)
            played += 1

    def play(self, output: Output) -> None:
        if self.times is None:
            output.mark_endless()
        for substep in self.substeps(output.encoder):
            substep.play(output)


@dataclass(frozen=True)
class ConnectionStep(Step):
    """A step that acts on the connection or waits, without body bytes."""

    name: str
    action: Callable[[Output], None] = field(repr=False)

    def play(self, output: Output) -> None:
        self.action(output)


StepLike = Union[Step, str, bytes]
"""A step, or a string for ``text()``, or bytes for ``raw()``."""


def to_step(like: StepLike) -> Step:
    """Return ``like`` as a step."""
    if isinstance(like, Step):
        return like
    if isinstance(like, str):
        return ProtocolStep("text", (like,))
    if isinstance(like, (bytes, bytearray)):
        return Raw(bytes(like))
    raise ScriptError(f"{like!r} is not a step: use text('…'), raw(b'…'), pause(1), cut() …")


def to_steps(likes: Iterable[StepLike]) -> tuple[Step, ...]:
    """Return ``likes`` as steps."""
    return tuple(to_step(like) for like in likes)


def to_body_step(like: StepLike) -> BodyStep:
    """Return ``like`` as a step that sends body bytes."""
    step = to_step(like)
    if isinstance(step, BodyStep):
        return step
    raise ScriptError(
        f"{step!r} does not send bytes of the body; use text, raw, event … in drip() and part()"
    )
