"""One whole answer: status, headers, framing and steps; and what a script may be made of."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Union

from .encoders import Encoder, ScriptError, to_json
from .records import Request
from .step_types import Step, StepLike, to_steps

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
    """What one request gets. Make it with ``answer()`` or one of its neighbours."""

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
    """A body that depends on the protocol: returns content type and bytes."""


def answer(
    *likes: StepLike,
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
    """Say everything about one answer; a plain list of steps is ``answer(*steps)``.

    After the last step comes what is missing of the protocol's proper end (a finish reason,
    ``[DONE]``), unless ``end=False``, ``done()`` or ``error()`` was played, or a step ended the
    connection. The framing is closed properly in any case, so ``end=False`` alone is a clean end
    without a marker.

    - ``headers``: added, or put in place of ours of the same name; ``None`` drops ours.
    - ``content_type``: the protocol's by default; ``None`` sends none.
    - ``framing``: ``chunked`` (each step its own HTTP chunk), ``one-chunk`` (one HTTP chunk for
      all), ``length`` (Content-Length) or ``close`` (the body ends with the connection).
    - ``length``: the size that ``length`` and ``one-chunk`` promise in bytes. By default that of
      the whole proper answer, so ``answer("Hel", cut(), framing="length")`` comes up short.
      Where more is promised than sent, the server closes; for ever is promised as 1 GiB.
    - ``gzip``: flushed after each step; ``trailer=False`` leaves the gzip stream unfinished.
    - ``keep_alive=False``: the connection is closed after the answer, and the headers say so.
    - ``head_every``: the header block goes out byte by byte, every so many seconds.
    - ``connect``: steps played when the connection is accepted, before TLS and HTTP:
      ``answer(connect=[stall()])`` never speaks, ``[reset()]`` resets at once.
    - ``before``, ``inside``: steps before the status line, and between the headers and their blank
      line: ``before=[stall()]``, ``inside=[wire(b"X-Half: on"), cut()]``.
    - ``protocol``: of this answer, in place of the server's.
    """
    if framing not in FRAMINGS:
        raise ScriptError(f"no framing {framing!r}; there are {', '.join(FRAMINGS)}")
    return Answer(
        to_steps(likes),
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
    """Fail with a status and the protocol's error body.

    ``status(429, "Slow down", headers={"Retry-After": "1"})``; ``type`` follows the code unless
    it is given.
    """
    kind = type or ERROR_TYPES.get(code, "api_error")

    def body(encoder: Encoder) -> tuple[str, bytes]:
        return encoder.failure(message, kind, error_code)

    return Answer(status=code, headers=dict(headers or {}), framing="length", end=False, body=body)


def redirect(location: str, code: int = 307) -> Answer:
    """Send the client elsewhere."""
    return Answer(
        status=code, headers={"Location": location}, content_type=None, framing="length", end=False
    )


def html(page: str = "<!doctype html><title>Sign in</title>", code: int = 200) -> Answer:
    """Send a web page in place of an answer; ``answer(b"<html>…", content_type=None)`` hides it."""
    return answer(page.encode(), status=code, content_type="text/html", framing="length", end=False)


def json_body(value: Any, code: int = 200) -> Answer:
    """Send this value as a JSON document."""
    return answer(
        to_json(value), status=code, content_type="application/json", framing="length", end=False
    )


def whole(text: str) -> Answer:
    """Send the protocol's answer in one JSON document, as if ``stream`` had not been asked for."""
    return Answer(framing="length", end=False, body=lambda encoder: encoder.whole(text))


def empty() -> Answer:
    """Send good headers and an empty body."""
    return answer(end=False)


@dataclass(frozen=True)
class Fault:
    """A canned script with its name; a script itself."""

    name: str
    about: str
    """One line on what goes wrong."""
    script: Any = field(repr=False)


Script = Union[Step, str, bytes, Answer, Fault, Iterable[Any], Callable[[Request], Any]]
"""What ``serve()`` takes: the steps of one answer, an answer, a list of answers (the last one
repeats), a function that returns an answer or steps for a request, or a canned fault."""


def to_answer(script: Any) -> Answer:
    """Return one answer: as it is, or made of a step or a list of steps."""
    if isinstance(script, Answer):
        return script
    if isinstance(script, Fault):
        return to_answer(script.script)
    if isinstance(script, (Step, str, bytes)):
        return answer(script)
    if isinstance(script, Iterable):
        return answer(*script)
    raise ScriptError(f"{script!r} is no answer: give a list of steps, answer(…) or status(…)")


class AnswerQueue:
    """The answers in the order they are given out; the last one repeats."""

    def __init__(self, script: Script) -> None:
        self._lock = threading.Lock()
        self._given = 0
        self._answers = _answers(script)

    def at_connect(self) -> Answer | None:
        """Take the next answer if it begins with the connection itself."""
        with self._lock:
            coming = self._answers[self._given]
            if not isinstance(coming, Answer) or not coming.connect:
                return None
            self._step()
            return coming

    def for_request(self, request: Request) -> Answer:
        """Take the next answer."""
        with self._lock:
            coming = self._answers[self._given]
            self._step()
        return coming if isinstance(coming, Answer) else to_answer(coming(request))

    def _step(self) -> None:
        self._given = min(self._given + 1, len(self._answers) - 1)


AnswerSource = Union[Answer, Callable[[Request], Any]]


def _answers(script: Any) -> list[AnswerSource]:
    if isinstance(script, Fault):
        return _answers(script.script)
    if callable(script):
        return [script]
    if isinstance(script, (Answer, Step, str, bytes)):
        return [to_answer(script)]
    parts = list(script)
    if not any(map(_is_answer, parts)):
        return [to_answer(parts)]
    for part in parts:
        if not _is_answer(part):
            raise ScriptError(f"{part!r} stands between whole answers: put it into a list")
    return [cue for part in parts for cue in _answers(part)]


def _is_answer(part: Any) -> bool:
    return isinstance(part, (Answer, Fault, list, tuple)) or callable(part)
