"""The words of a script: what to say inside one answer, and how to fail."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import Any

from .step_types import (
    ConnectionStep,
    Drip,
    Part,
    ProtocolStep,
    Raw,
    Repeat,
    Step,
    StepLike,
    to_body_step,
    to_steps,
)


def text(text: str) -> Step:
    """Say a piece of the answer: ``text("Hello ")``."""
    return ProtocolStep("text", (text,))


def reasoning(text: str) -> Step:
    """Say a piece of the model's reasoning (OpenAI ``reasoning_content``, Anthropic thinking)."""
    return ProtocolStep("reasoning", (text,))


def refusal(text: str) -> Step:
    """Say a piece of the model's refusal (OpenAI only)."""
    return ProtocolStep("refusal", (text,))


def tool_call(
    name: str, arguments: Mapping[str, Any] | str, *, id: str = "call_1", pieces: int = 2
) -> Step:
    """Ask for a tool: ``tool_call("weather", {"city": "Oslo"})``.

    Arguments given as a string go out as they are, so they may be broken JSON; they are split into
    ``pieces`` events. OpenAI and Anthropic only.
    """
    raw_arguments = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return ProtocolStep("tool_call", (name, raw_arguments, id, pieces))


def event(data: Any, name: str | None = None) -> Step:
    """Send one event: ``event({"choices": []})`` as JSON, ``event("{oops")`` as it stands."""
    return ProtocolStep("event", (data, name))


def comment(text: str = "") -> Step:
    """Send an event-stream comment, which means nothing."""
    return ProtocolStep("comment", (text,))


def ping(every: float = 1.0, times: int | None = None) -> Step:
    """Send the protocol's keep-alive every so many seconds, for ever unless ``times`` is given."""
    return repeat(ProtocolStep("ping"), pause(every), times=times)


def usage(input_tokens: int, output_tokens: int) -> Step:
    """Report the tokens used."""
    return ProtocolStep("usage", (input_tokens, output_tokens))


def finish(reason: str | None = None) -> Step:
    """Say why the answer ends; by default ``stop`` or ``end_turn``, after a call the tool's."""
    return ProtocolStep("finish", (reason,))


def done() -> Step:
    """Say the end marker: ``data: [DONE]``, or Anthropic's ``message_stop``."""
    return ProtocolStep("done")


def error(
    message: str = "The server had an error", type: str = "server_error", code: str | None = None
) -> Step:
    """Report an error inside the stream; nothing proper follows it.

    ``error("Overloaded", "overloaded_error")`` is the overload of Anthropic.
    """
    return ProtocolStep("error", (message, type, code))


def garbage() -> Step:
    """Send what the protocol does not know: an event of broken JSON, or bytes that are no UTF-8."""
    return ProtocolStep("garbage")


def raw(data: bytes) -> Step:
    """Send these bytes of the body, inside its framing (chunked, gzip …)."""
    return Raw(data)


def wire(data: bytes) -> Step:
    """Send these bytes straight onto the connection, outside the framing; TLS still applies.

    ``[text("Hel"), wire(b"1f"), cut()]`` breaks off inside a chunk's size line.
    """
    return ConnectionStep(f"wire({data!r})", lambda out: out.wire(data))


def part(like: StepLike, until: int | bytes | None = None) -> Step:
    """Send the beginning of a piece: half of it, so many bytes (-1: all but the last), or up to
    and with these bytes.

    ``[text("Hel"), part(text("lo")), cut()]`` breaks off inside an event, and
    ``part("é", b"\\xc3")`` inside a character.
    """
    return Part(to_body_step(like), until)


def drip(like: StepLike, every: float = 0.05, size: int = 1) -> Step:
    """Send a piece byte by byte (``size`` at a time), each followed by ``every`` seconds.

    ``drip("Hello", every=1)``; for ever: ``repeat(drip(b"x", every=1))``.
    """
    return Drip(to_body_step(like), every, size)


def repeat(*likes: StepLike, times: int | None = None) -> Step:
    """Play some steps again and again, for ever unless ``times`` is given."""
    return Repeat(to_steps(likes), times)


def pause(seconds: float) -> Step:
    """Say nothing for so many seconds."""
    return ConnectionStep(f"pause({seconds})", lambda out: out.pause(seconds))


def wait(event: threading.Event) -> Step:
    """Hold until the test sets the event."""
    return ConnectionStep("wait()", lambda out: out.wait(event))


def signal(event: threading.Event) -> Step:
    """Set the event: the script has come this far."""
    return ConnectionStep("signal()", lambda out: out.signal(event))


def cut() -> Step:
    """End the connection here, orderly (FIN), with the framing and the answer unfinished.

    Over TLS without a ``close_notify``, as a crash does it.
    """
    return ConnectionStep("cut()", lambda out: out.hang_up(False))


def reset() -> Step:
    """End the connection here with a TCP reset."""
    return ConnectionStep("reset()", lambda out: out.hang_up(True))


def stall() -> Step:
    """Say nothing more until the client goes away or the server stops."""
    return ConnectionStep("stall()", lambda out: out.stall())
