"""``Answer`` and its constructors, ``Fault``, ``Script``, and the queue that hands answers out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Union

from ..recording import Exchange
from .base_encoders import Encoder, ScriptError, to_json
from .records import Request
from .step_types import Step, StepLike, to_steps
from .steps import cut, pause, reset, stall, wire

AUTO = "auto"
FRAMINGS = ("chunked", "one-chunk", "length", "close")
ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


@dataclass(frozen=True)
class Answer:
    """The response to one request. Create it with ``answer()``, ``status()``, ``html()`` ….

    Attributes:
        steps: What is sent, one after the other.
        status: The HTTP status.
        headers: Added to the default headers, or replacing them.
        content_type: ``auto`` for the protocol's.
        framing: How the body is framed.
        length: The size that the framing promises.
        gzip: Whether the body is compressed.
        trailer: Whether the gzip stream is finished.
        end: Whether the proper ending is sent.
        keep_alive: Whether the connection stays open.
        head_every: Seconds between two bytes of the header block.
        connect: Steps played when the connection is accepted.
        before: Steps before the status line.
        inside: Steps between the headers and their blank line.
        protocol: Used instead of the server's.
        body: Creates a body that depends on the protocol; returns content type and bytes.
    """

    steps: tuple[Step, ...] = ()
    status: int = 200
    headers: Mapping[str, str | None] = field(default_factory=dict)
    content_type: str | None = AUTO
    framing: str = "chunked"
    length: int | None = None
    gzip: bool = False
    trailer: bool = True
    end: bool = True
    keep_alive: bool = True
    head_every: float | None = None
    connect: tuple[Step, ...] = ()
    before: tuple[Step, ...] = ()
    inside: tuple[Step, ...] = ()
    protocol: str | None = None
    body: Callable[[Encoder], tuple[str, bytes]] | None = None


def answer(
    *steps: StepLike,
    status: int = 200,
    headers: Mapping[str, str | None] | None = None,
    content_type: str | None = AUTO,
    framing: str = "chunked",
    length: int | None = None,
    gzip: bool = False,
    trailer: bool = True,
    end: bool = True,
    keep_alive: bool = True,
    head_every: float | None = None,
    connect: Iterable[StepLike] = (),
    before: Iterable[StepLike] = (),
    inside: Iterable[StepLike] = (),
    protocol: str | None = None,
) -> Answer:
    """Return an answer with these steps and settings; a plain list of steps is ``answer(*steps)``.

    After the last step the rest of the protocol's proper ending is sent (a finish reason,
    ``[DONE]``), unless ``end=False``, ``done()`` or ``error()`` was played, or a step ended the
    connection. The framing is always closed properly, so ``end=False`` alone is a clean end
    without an end marker.

    Args:
        *steps: What is sent, one after the other: steps, strings or bytes.
        status: The HTTP status.
        headers: Added to the default headers, or replacing them; ``None`` removes a default.
        content_type: The protocol's by default; ``None`` sends none.
        framing: ``chunked`` (each step its own HTTP chunk), ``one-chunk`` (one HTTP chunk for all),
            ``length`` (Content-Length) or ``close`` (the body ends with the connection).
        length: The size that ``length`` and ``one-chunk`` promise in bytes. By default that of the
            complete answer with its ending, so ``answer("Hel", cut(), framing="length")`` is too
            short. If the server sends fewer bytes than promised, it closes the connection
            afterwards. An endless script promises 1 GiB.
        gzip: Compress the body, flushed after each step.
        trailer: ``False`` leaves the gzip stream unfinished.
        end: ``False`` leaves the proper ending out.
        keep_alive: ``False`` sends ``Connection: close`` and closes the connection after the
            answer.
        head_every: Send the header block byte by byte, with this many seconds between bytes.
        connect: Steps played when the connection is accepted, before TLS and HTTP:
            ``answer(connect=[stall()])`` never sends anything, ``[reset()]`` resets immediately.
        before: Steps before the status line: ``before=[stall()]``.
        inside: Steps between the headers and their blank line:
            ``inside=[wire(b"X-Half: on"), cut()]``.
        protocol: Used for this answer instead of the server's.

    Raises:
        ScriptError: The framing is unknown, or a step cannot be sent.
    """
    if framing not in FRAMINGS:
        raise ScriptError(f"unknown framing {framing!r}; use one of {', '.join(FRAMINGS)}")
    return Answer(
        to_steps(steps),
        status=status,
        headers=dict(headers or {}),
        content_type=content_type,
        framing=framing,
        length=length,
        gzip=gzip,
        trailer=trailer,
        end=end,
        keep_alive=keep_alive,
        head_every=head_every,
        connect=to_steps(connect),
        before=to_steps(before),
        inside=to_steps(inside),
        protocol=protocol,
    )


def status(
    code: int,
    message: str = "The request failed",
    *,
    type: str | None = None,
    error_code: str | None = None,
    headers: Mapping[str, str | None] | None = None,
) -> Answer:
    """Return an answer with an error status and the protocol's error body.

    ``status(429, "Slow down", headers={"Retry-After": "1"})``

    Args:
        code: The HTTP status.
        message: The error message.
        type: The type of the error; by default the one that belongs to the status.
        error_code: The code of the error, in protocols that have one.
        headers: As for ``answer``.
    """
    kind = type or ERROR_TYPES.get(code, "api_error")

    def body(encoder: Encoder) -> tuple[str, bytes]:
        return encoder.failure(message, kind, error_code)

    return Answer(status=code, headers=dict(headers or {}), framing="length", end=False, body=body)


def redirect(location: str, code: int = 307) -> Answer:
    """Return a redirect.

    Args:
        location: The new address.
        code: The HTTP status.
    """
    return Answer(
        status=code, headers={"Location": location}, content_type=None, framing="length", end=False
    )


def html(page: str = "<!doctype html><title>Sign in</title>", code: int = 200) -> Answer:
    """Return a web page; ``answer(b"<html>…", content_type=None)`` omits its content type.

    Args:
        page: The HTML.
        code: The HTTP status.
    """
    return answer(page.encode(), status=code, content_type="text/html", framing="length", end=False)


def json_body(value: Any, code: int = 200) -> Answer:
    """Return a JSON document.

    Args:
        value: What it holds.
        code: The HTTP status.
    """
    return answer(
        to_json(value), status=code, content_type="application/json", framing="length", end=False
    )


def whole(text: str) -> Answer:
    """Return the protocol's answer without streaming: one JSON document.

    Args:
        text: The answer's text.
    """
    return Answer(framing="length", end=False, body=lambda encoder: encoder.complete(text))


def empty() -> Answer:
    """Return status 200, the usual headers and an empty body."""
    return answer(end=False)


def recorded_answer(exchange: Exchange, *, paced: bool = False) -> Answer:
    """Return the answer that was recorded: its status, headers and body, and how it ended.

    A script may hold an ``Exchange`` itself, which is sent at once:
    ``serve(read_recordings("answers.jsonl"))``.

    If a timeout ended it, nothing more is sent; if no response arrived, the connection is
    closed. How the body was framed is not recorded: it is chunked.

    Args:
        exchange: The recording.
        paced: Whether to send each piece of the body at its recorded time, instead of at once.
    """
    if exchange.status is None:
        wait = [pause(exchange.seconds)] if paced else []
        return answer(before=[stall()] if exchange.how == "timeout" else [*wait, cut()])
    steps: list[Step | bytes] = []
    now = 0.0
    for seconds, data in [*exchange.pieces, (exchange.seconds, b"")]:
        if paced and seconds > now:
            steps.append(pause(seconds - now))
            now = seconds
        steps += [data] if data else []
    steps += _RECORDED_ENDS.get(exchange.how, ())
    return answer(
        *steps,
        status=exchange.status,
        headers=exchange.headers,
        content_type=None,
        framing="chunked" if steps else "length",
        gzip=exchange.how == "malformed",
        end=False,
    )


_RECORDED_ENDS: Mapping[str, tuple[Step, ...]] = {
    "cut": (cut(),),
    "error": (cut(),),
    "reset": (reset(),),
    "timeout": (stall(),),
    "malformed": (wire(b"4\r\n\xff\xff\xff\xff\r\n"), cut()),
}
"""How a body ends that has not ended well; one with broken compression is compressed again."""


@dataclass(frozen=True)
class Fault:
    """A canned script with its name; can be used wherever a script can.

    Attributes:
        name: Its key in ``FAULTS``.
        about: One line that says what goes wrong.
        script: The script.
    """

    name: str
    about: str
    script: Any = field(repr=False)


Script = Union[Step, str, bytes, Answer, Exchange, Fault, Iterable[Any], Callable[[Request], Any]]
"""What ``serve()`` accepts: the steps of one answer, an answer, a list of answers (the last one
repeats), a function that returns an answer or steps for a request, or a canned fault. An
``Exchange``, as recorded, is an answer, too."""


def to_answer(script: Any) -> Answer:
    """Return ``script`` as one answer: unchanged, or built from a step or a list of steps."""
    if isinstance(script, Answer):
        return script
    if isinstance(script, Exchange):
        return recorded_answer(script)
    if isinstance(script, Fault):
        return to_answer(script.script)
    if isinstance(script, (Step, str, bytes)):
        return answer(script)
    if isinstance(script, Iterable):
        return answer(*script)
    raise ScriptError(f"{script!r} is not an answer: use a list of steps, answer(…) or status(…)")


class AnswerQueue:
    """The answers of a script, handed out in order; the last one repeats."""

    def __init__(self, script: Script) -> None:
        self._lock = threading.Lock()
        self._next = 0
        self._answers = _to_sources(script)

    def at_connect(self) -> Answer | None:
        """Return and consume the next answer if it has ``connect`` steps, else ``None``."""
        with self._lock:
            upcoming = self._answers[self._next]
            if not isinstance(upcoming, Answer) or not upcoming.connect:
                return None
            self._advance()
            return upcoming

    def for_request(self, request: Request) -> Answer:
        """Return and consume the next answer."""
        with self._lock:
            upcoming = self._answers[self._next]
            self._advance()
        return upcoming if isinstance(upcoming, Answer) else to_answer(upcoming(request))

    def _advance(self) -> None:
        self._next = min(self._next + 1, len(self._answers) - 1)


AnswerSource = Union[Answer, Callable[[Request], Any]]


def _to_sources(script: Any) -> list[AnswerSource]:
    if isinstance(script, Fault):
        return _to_sources(script.script)
    if callable(script):
        return [script]
    if isinstance(script, (Answer, Exchange, Step, str, bytes)):
        return [to_answer(script)]
    parts = list(script)
    if not any(map(_is_answer, parts)):
        return [to_answer(parts)]
    for part in parts:
        if not _is_answer(part):
            raise ScriptError(f"{part!r} is mixed with complete answers: put it into a list")
    return [source for part in parts for source in _to_sources(part)]


def _is_answer(part: Any) -> bool:
    return isinstance(part, (Answer, Exchange, Fault, list, tuple)) or callable(part)
