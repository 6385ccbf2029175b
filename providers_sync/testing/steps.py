"""The words of a script: what to say inside one answer, and how to fail."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, Union

from .protocols import ScriptError, Speech


class Out(Protocol):
    """Where a step is played: the real connection, or a measuring stand-in."""

    speech: Speech

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

    def play(self, out: Out) -> None:
        raise NotImplementedError


class Piece(Step):
    """A step that is bytes of the body, so that it can be dripped and cut as well."""

    def render(self, speech: Speech) -> bytes:
        raise NotImplementedError

    def play(self, out: Out) -> None:
        out.body(self.render(out.speech))


@dataclass(frozen=True)
class Say(Piece):
    """A word of the protocol, said as the protocol says it."""

    word: str
    args: tuple[Any, ...] = ()

    def __repr__(self) -> str:
        return f"{self.word}({', '.join(map(repr, self.args))})"

    def render(self, speech: Speech) -> bytes:
        said: bytes = getattr(speech, self.word)(*self.args)
        return said


@dataclass(frozen=True)
class Raw(Piece):
    data: bytes

    def render(self, speech: Speech) -> bytes:
        return self.data


@dataclass(frozen=True)
class Part(Piece):
    piece: Piece
    size: int | None

    def render(self, speech: Speech) -> bytes:
        data = self.piece.render(speech)
        return data[: len(data) // 2 if self.size is None else self.size]


@dataclass(frozen=True)
class Drip(Step):
    piece: Piece
    every: float
    size: int

    def play(self, out: Out) -> None:
        data = self.piece.render(out.speech)
        for at in range(0, len(data), self.size):
            out.body(data[at : at + self.size])
            out.pause(self.every)


@dataclass(frozen=True)
class Repeat(Step):
    steps: tuple[Step, ...]
    times: int | None

    def play(self, out: Out) -> None:
        if self.times is None:
            out.forever()
        played = 0
        while played != self.times:
            for step in self.steps:
                step.play(out)
            played += 1


@dataclass(frozen=True)
class Act(Step):
    """A step that is not bytes; ``does`` is what it does to the connection."""

    name: str
    does: Callable[[Out], None] = field(repr=False)

    def play(self, out: Out) -> None:
        self.does(out)


Like = Union[Step, str, bytes]
"""Where a step is wanted, a string means ``text()`` and bytes mean ``raw()``."""


def step(like: Like) -> Step:
    """Return ``like`` as a step."""
    if isinstance(like, Step):
        return like
    if isinstance(like, str):
        return text(like)
    if isinstance(like, (bytes, bytearray)):
        return raw(bytes(like))
    raise ScriptError(f"{like!r} is no step: use text('…'), raw(b'…'), pause(1), cut() …")


def steps(likes: Iterable[Like]) -> tuple[Step, ...]:
    """Return ``likes`` as steps."""
    return tuple(step(like) for like in likes)


def _piece(like: Like) -> Piece:
    found = step(like)
    if isinstance(found, Piece):
        return found
    raise ScriptError(
        f"{found!r} is no bytes of the body; drip() and part() want text, raw, event …"
    )


def text(text: str) -> Step:
    """Say a piece of the answer: ``text("Hello ")``."""
    return Say("text", (text,))


def reasoning(text: str) -> Step:
    """Say a piece of the model's reasoning (OpenAI ``reasoning_content``, Anthropic thinking)."""
    return Say("reasoning", (text,))


def refusal(text: str) -> Step:
    """Say a piece of the model's refusal (OpenAI only)."""
    return Say("refusal", (text,))


def tool_call(
    name: str, arguments: Mapping[str, Any] | str, *, id: str = "call_1", pieces: int = 2
) -> Step:
    """Ask for a tool: ``tool_call("weather", {"city": "Oslo"})``.

    Arguments given as a string go out as they are, so they may be broken JSON; they are split into
    ``pieces`` events. OpenAI and Anthropic only.
    """
    raw_arguments = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return Say("tool_call", (name, raw_arguments, id, pieces))


def event(data: Any, name: str | None = None) -> Step:
    """Send one event: ``event({"choices": []})`` as JSON, ``event("{oops")`` as it stands."""
    return Say("event", (data, name))


def comment(text: str = "") -> Step:
    """Send an event-stream comment, which means nothing."""
    return Say("comment", (text,))


def ping(every: float = 1.0, times: int | None = None) -> Step:
    """Send the protocol's keep-alive every so many seconds, for ever unless ``times`` is given."""
    return repeat(Say("ping"), pause(every), times=times)


def usage(input_tokens: int, output_tokens: int) -> Step:
    """Report the tokens used."""
    return Say("usage", (input_tokens, output_tokens))


def finish(reason: str | None = None) -> Step:
    """Say why the answer ends; by default ``stop`` or ``end_turn``, after a call the tool's."""
    return Say("finish", (reason,))


def done() -> Step:
    """Say the end marker: ``data: [DONE]``, or Anthropic's ``message_stop``."""
    return Say("done")


def error(
    message: str = "The server had an error", type: str = "server_error", code: str | None = None
) -> Step:
    """Report an error inside the stream; nothing proper follows it.

    ``error("Overloaded", "overloaded_error")`` is the overload of Anthropic.
    """
    return Say("error", (message, type, code))


def garbage() -> Step:
    """Send what the protocol does not know: an event of broken JSON, or bytes that are no UTF-8."""
    return Say("garbage")


def raw(data: bytes) -> Step:
    """Send these bytes of the body, inside its framing (chunked, gzip …)."""
    return Raw(data)


def wire(data: bytes) -> Step:
    """Send these bytes straight onto the connection, outside the framing; TLS still applies.

    ``[text("Hel"), wire(b"1f"), cut()]`` breaks off inside a chunk's size line.
    """
    return Act(f"wire({data!r})", lambda out: out.wire(data))


def part(like: Like, size: int | None = None) -> Step:
    """Send the first ``size`` bytes of a piece; all but the last with -1, half by default.

    ``[text("Hel"), part(text("lo")), cut()]`` breaks off inside an event.
    """
    return Part(_piece(like), size)


def drip(like: Like, every: float = 0.05, size: int = 1) -> Step:
    """Send a piece byte by byte (``size`` at a time), each followed by ``every`` seconds.

    ``drip("Hello", every=1)``; for ever: ``repeat(drip(b"x", every=1))``.
    """
    return Drip(_piece(like), every, size)


def repeat(*likes: Like, times: int | None = None) -> Step:
    """Play some steps again and again, for ever unless ``times`` is given."""
    return Repeat(steps(likes), times)


def pause(seconds: float) -> Step:
    """Say nothing for so many seconds."""
    return Act(f"pause({seconds})", lambda out: out.pause(seconds))


def wait(event: threading.Event) -> Step:
    """Hold until the test sets the event."""
    return Act("wait()", lambda out: out.wait(event))


def signal(event: threading.Event) -> Step:
    """Set the event: the script has come this far."""
    return Act("signal()", lambda out: out.signal(event))


def cut() -> Step:
    """End the connection here, orderly (FIN), with the framing and the answer unfinished.

    Over TLS without a ``close_notify``, as a crash does it.
    """
    return Act("cut()", lambda out: out.hang_up(False))


def reset() -> Step:
    """End the connection here with a TCP reset."""
    return Act("reset()", lambda out: out.hang_up(True))


def stall() -> Step:
    """Say nothing more until the client goes away or the server stops."""
    return Act("stall()", lambda out: out.stall())
