"""The step functions of a script: what to send in one answer, when, and how to fail."""

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
    """Send a chunk of the answer's text: ``text("Hello ")``."""
    return ProtocolStep("text", (text,))


def reasoning(text: str) -> Step:
    """Send a chunk of the model's reasoning (OpenAI ``reasoning_content``, Anthropic thinking)."""
    return ProtocolStep("reasoning", (text,))


def refusal(text: str) -> Step:
    """Send a chunk of the model's refusal (OpenAI only)."""
    return ProtocolStep("refusal", (text,))


def tool_call(
    name: str, arguments: Mapping[str, Any] | str, *, id: str = "call_1", pieces: int = 2
) -> Step:
    """Send a tool call: ``tool_call("weather", {"city": "Oslo"})``.

    A string of arguments is sent unchanged, so it may be broken JSON. The arguments are split over
    ``pieces`` events. OpenAI and Anthropic only.
    """
    raw_arguments = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return ProtocolStep("tool_call", (name, raw_arguments, id, pieces))


def event(data: Any, name: str | None = None) -> Step:
    """Send one event: ``event({"choices": []})`` as JSON, ``event("{oops")`` unchanged."""
    return ProtocolStep("event", (data, name))


def comment(text: str = "") -> Step:
    """Send an event-stream comment, which clients ignore."""
    return ProtocolStep("comment", (text,))


def ping(every: float = 1.0, times: int | None = None) -> Step:
    """Send the protocol's keep-alive every ``every`` seconds, forever unless ``times`` is given."""
    return repeat(ProtocolStep("ping"), pause(every), times=times)


def usage(input_tokens: int, output_tokens: int) -> Step:
    """Send the token counts."""
    return ProtocolStep("usage", (input_tokens, output_tokens))


def finish(reason: str | None = None) -> Step:
    """Send the finish reason.

    The default is ``stop`` or ``end_turn``; after a tool call ``tool_calls`` or ``tool_use``.
    """
    return ProtocolStep("finish", (reason,))


def done() -> Step:
    """Send the end marker: ``data: [DONE]``, or Anthropic's ``message_stop``."""
    return ProtocolStep("done")


def error(
    message: str = "The server had an error", type: str = "server_error", code: str | None = None
) -> Step:
    """Send an error inside the stream; the proper ending is not added after it.

    ``error("Overloaded", "overloaded_error")`` is Anthropic's overload error.
    """
    return ProtocolStep("error", (message, type, code))


def garbage() -> Step:
    """Send an event of broken JSON, or in a plain-text protocol bytes that are not UTF-8."""
    return ProtocolStep("garbage")


def raw(data: bytes) -> Step:
    """Send these bytes in the body, inside its framing (chunked, gzip …)."""
    return Raw(data)


def wire(data: bytes) -> Step:
    """Send these bytes directly on the connection, outside the framing; TLS still applies.

    ``[text("Hel"), wire(b"1f"), cut()]`` breaks off inside a chunk's size line.
    """
    return ConnectionStep(f"wire({data!r})", lambda output: output.wire(data))


def part(like: StepLike, until: int | bytes | None = None) -> Step:
    """Send the beginning of a step's bytes.

    By default half of them; with a number, that many bytes (-1: all but the last); with bytes, up
    to and including these.

    ``[text("Hel"), part(text("lo")), cut()]`` breaks off inside an event, and
    ``part("é", b"\\xc3")`` inside a character.
    """
    return Part(to_body_step(like), until)


def drip(like: StepLike, every: float = 0.05, size: int = 1) -> Step:
    """Send a step's bytes one at a time (or ``size``), each followed by ``every`` seconds' pause.

    ``drip("Hello", every=1)``; forever: ``repeat(drip(b"x", every=1))``.
    """
    return Drip(to_body_step(like), every, size)


def repeat(*steps: StepLike, times: int | None = None) -> Step:
    """Play some steps repeatedly, forever unless ``times`` is given."""
    return Repeat(to_steps(steps), times)


def pause(seconds: float) -> Step:
    """Send nothing for ``seconds``."""
    return ConnectionStep(f"pause({seconds})", lambda output: output.pause(seconds))


def wait(event: threading.Event) -> Step:
    """Wait until the test sets the event."""
    return ConnectionStep("wait()", lambda output: output.wait(event))


def signal(event: threading.Event) -> Step:
    """Set the event, so that a test knows that the script has reached this step."""
    return ConnectionStep("signal()", lambda output: output.signal(event))


def cut() -> Step:
    """Close the connection here (FIN), with the framing and the answer unfinished.

    Over TLS no ``close_notify`` is sent, as when a server crashes.
    """
    return ConnectionStep("cut()", lambda output: output.disconnect(False))


def reset() -> Step:
    """Reset the connection here (TCP RST)."""
    return ConnectionStep("reset()", lambda output: output.disconnect(True))


def stall() -> Step:
    """Send nothing more until the client disconnects or the server stops."""
    return ConnectionStep("stall()", lambda output: output.stall())
