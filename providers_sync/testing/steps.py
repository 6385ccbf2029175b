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
    """Send a chunk of the answer's text: ``text("Hello ")``.

    Args:
        text: The chunk.
    """
    return ProtocolStep("text", (text,))


def reasoning(text: str) -> Step:
    """Send a chunk of the model's reasoning (OpenAI ``reasoning_content``, Anthropic thinking).

    Args:
        text: The chunk.
    """
    return ProtocolStep("reasoning", (text,))


def refusal(text: str) -> Step:
    """Send a chunk of the model's refusal (OpenAI only).

    Args:
        text: The chunk.
    """
    return ProtocolStep("refusal", (text,))


def tool_call(
    name: str, arguments: Mapping[str, Any] | str, *, id: str = "call_1", pieces: int = 2
) -> Step:
    """Send a tool call: ``tool_call("weather", {"city": "Oslo"})``. OpenAI and Anthropic only.

    Args:
        name: The name of the tool.
        arguments: An object; or a string, which is sent unchanged, so it may be broken JSON.
        id: The id of the call.
        pieces: The number of events that the arguments are split into.
    """
    raw_arguments = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return ProtocolStep("tool_call", (name, raw_arguments, id, pieces))


def event(data: Any, name: str | None = None) -> Step:
    """Send one event.

    Args:
        data: ``{"choices": []}`` is sent as JSON, a string such as ``"{oops"`` unchanged.
        name: The type of the event (``event:``), if it has one.
    """
    return ProtocolStep("event", (data, name))


def comment(text: str = "") -> Step:
    """Send an event-stream comment, which clients ignore.

    Args:
        text: What follows the colon.
    """
    return ProtocolStep("comment", (text,))


def ping(every: float = 1.0, times: int | None = None) -> Step:
    """Send the protocol's keep-alive again and again.

    Args:
        every: Seconds between two.
        times: How many; by default they never end.
    """
    return repeat(ProtocolStep("ping"), pause(every), times=times)


def usage(input_tokens: int, output_tokens: int) -> Step:
    """Send the token counts.

    Args:
        input_tokens: Tokens of the request.
        output_tokens: Tokens of the answer.
    """
    return ProtocolStep("usage", (input_tokens, output_tokens))


def finish(reason: str | None = None) -> Step:
    """Send the finish reason.

    Args:
        reason: By default ``stop`` or ``end_turn``; after a tool call ``tool_calls`` or
            ``tool_use``.
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

    Args:
        message: The error message.
        type: Its type.
        code: Its code, in protocols that have one.
    """
    return ProtocolStep("error", (message, type, code))


def garbage() -> Step:
    """Send an event of broken JSON, or in a plain-text protocol bytes that are not UTF-8."""
    return ProtocolStep("garbage")


def raw(data: bytes) -> Step:
    """Send bytes in the body, inside its framing (chunked, gzip …).

    Args:
        data: The bytes.
    """
    return Raw(data)


def wire(data: bytes) -> Step:
    """Send bytes directly on the connection, outside the framing; TLS still applies.

    ``[text("Hel"), wire(b"1f"), cut()]`` breaks off inside a chunk's size line.

    Args:
        data: The bytes.
    """
    return ConnectionStep(f"wire({data!r})", lambda output: output.wire(data))


def part(like: StepLike, until: int | bytes | None = None) -> Step:
    r"""Send the beginning of a step's bytes.

    ``[text("Hel"), part(text("lo")), cut()]`` breaks off inside an event, and
    ``part("é", b"\xc3")`` inside a character.

    Args:
        like: The step, a string or bytes.
        until: By default half of them; a number: that many bytes (-1: all but the last); bytes: up
            to and including these.
    """
    return Part(to_body_step(like), until)


def drip(like: StepLike, every: float = 0.05, size: int = 1) -> Step:
    """Send a step's bytes slowly: ``drip("Hello", every=1)``.

    Forever: ``repeat(drip(b"x", every=1))``.

    Args:
        like: The step, a string or bytes.
        every: Seconds of pause after each piece.
        size: How many bytes are sent at a time.
    """
    return Drip(to_body_step(like), every, size)


def repeat(*steps: StepLike, times: int | None = None) -> Step:
    """Play some steps repeatedly.

    Args:
        *steps: The steps, strings or bytes.
        times: How many times; by default forever.
    """
    return Repeat(to_steps(steps), times)


def pause(seconds: float) -> Step:
    """Send nothing for a while.

    Args:
        seconds: For how long.
    """
    return ConnectionStep(f"pause({seconds})", lambda output: output.pause(seconds))


def wait(event: threading.Event) -> Step:
    """Wait until the test sets an event.

    Args:
        event: The event.
    """
    return ConnectionStep("wait()", lambda output: output.wait(event))


def signal(event: threading.Event) -> Step:
    """Set an event, so that a test knows that the script has reached this step.

    Args:
        event: The event.
    """
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
