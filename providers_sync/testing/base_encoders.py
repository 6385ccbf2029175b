"""``Encoder``, the base of all encoders, the basic event stream, and ``ScriptError``.

They share no code with ``providers/``: otherwise a misreading of the protocol would be in both
and pass every test.
"""

from __future__ import annotations

import json
from typing import Any, ClassVar

STREAM = "text/event-stream"
MODEL = "test-model"
"""The model name in every answer."""


class ScriptError(Exception):
    """The script contains something that cannot be sent; the text names the step and the remedy."""


def to_json(value: Any) -> bytes:
    r"""Return compact JSON in UTF-8, with lone surrogates escaped.

    >>> to_json({"a": "é"})
    b'{"a":"\xc3\xa9"}'
    >>> to_json("\ud83d")
    b'"\\ud83d"'
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    try:
        return text.encode()
    except UnicodeEncodeError:  # half a surrogate pair has no UTF-8
        return json.dumps(value, separators=(",", ":")).encode()


class Encoder:
    """Encodes one answer as plain UTF-8 text, without events or an end marker (AI365VIP)."""

    name: ClassVar[str] = "plain"
    content_type: ClassVar[str] = "text/plain; charset=utf-8"

    def __init__(self) -> None:
        self.is_over = False
        """True once the end marker or an error was sent: ``ending()`` then adds nothing."""

    def text(self, text: str) -> bytes:
        return text.encode("utf-8", "surrogatepass")

    def _unsupported(self, step: str) -> ScriptError:
        return ScriptError(
            f"protocol {self.name!r} does not support {step}(); send raw(b'…') instead"
        )

    def reasoning(self, text: str) -> bytes:
        raise self._unsupported("reasoning")

    def refusal(self, text: str) -> bytes:
        raise self._unsupported("refusal")

    def tool_call(self, name: str, arguments: str, id: str, pieces: int) -> bytes:
        raise self._unsupported("tool_call")

    def event(self, data: Any, name: str | None) -> bytes:
        raise self._unsupported("event")

    def comment(self, text: str) -> bytes:
        raise self._unsupported("comment")

    def ping(self) -> bytes:
        raise self._unsupported("ping")

    def error(self, message: str, type: str, code: str | None) -> bytes:
        raise self._unsupported("error")

    def finish(self, reason: str | None) -> bytes:
        return b""

    def usage(self, input_tokens: int, output_tokens: int) -> bytes:
        return b""

    def done(self) -> bytes:
        self.is_over = True
        return b""

    def garbage(self) -> bytes:
        return b"\xff\xfe\xfa"

    def ending(self) -> bytes:
        """Return what is still missing from the protocol's proper ending."""
        return b""

    def complete(self, text: str) -> tuple[str, bytes]:
        """Return content type and body of an answer that is not streamed."""
        return self.content_type, self.text(text)

    def failure(self, message: str, type: str, code: str | None) -> tuple[str, bytes]:
        """Return content type and body of an error status."""
        return self.content_type, message.encode()


class EventStreamEncoder(Encoder):
    """Encodes events with ``choices[0].delta.content`` in JSON (Vitalentum, CodeLinkAva)."""

    name = "codelinkava"
    content_type = STREAM

    def event(self, data: Any, name: str | None = None) -> bytes:
        body = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else to_json(data)
        head = f"event: {name}\n".encode() if name else b""
        return head + b"".join(b"data: %b\n" % line for line in body.split(b"\n")) + b"\n"

    def comment(self, text: str) -> bytes:
        return f": {text}\n\n".encode()

    def ping(self) -> bytes:
        return self.comment("ping")

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice: dict[str, Any] = {"delta": delta}
        if finish:
            choice["finish_reason"] = finish
        return self.event({"choices": [choice]})

    def text(self, text: str) -> bytes:
        return self._chunk({"content": text})

    def finish(self, reason: str | None) -> bytes:
        return self._chunk({}, reason or "stop")

    def usage(self, input_tokens: int, output_tokens: int) -> bytes:
        return self.event({"choices": [], "usage": tokens(input_tokens, output_tokens)})

    def done(self) -> bytes:
        self.is_over = True
        return self.event("[DONE]")

    def error(self, message: str, type: str, code: str | None) -> bytes:
        self.is_over = True
        return self.event({"error": {"message": message, "type": type, "code": code}})

    def garbage(self) -> bytes:
        return b'data: {"choices": [{"delta": {"content": oops\n\n'

    def ending(self) -> bytes:
        return b"" if self.is_over else self.done()

    def complete(self, text: str) -> tuple[str, bytes]:
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        body = {"object": "chat.completion", "model": MODEL, "choices": [choice]}
        return "application/json", to_json(body | {"usage": tokens(1, 1)})

    def failure(self, message: str, type: str, code: str | None) -> tuple[str, bytes]:
        body = {"error": {"message": message, "type": type, "param": None, "code": code}}
        return "application/json", to_json(body)


def tokens(input_tokens: int, output_tokens: int) -> dict[str, int]:
    """Return the token counts in OpenAI's format."""
    total = input_tokens + output_tokens
    named = {"prompt_tokens": input_tokens, "completion_tokens": output_tokens}
    return named | {"total_tokens": total}


def split_text(text: str, pieces: int) -> list[str]:
    """Return the text in at most ``pieces`` parts of about the same length."""
    size = max(1, -(-len(text) // pieces))
    return [text[at : at + size] for at in range(0, len(text), size)]
