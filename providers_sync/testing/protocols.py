"""What a server of each protocol says, written from its side: one speech object an answer.

It shares no code with ``providers/``: one misreading would otherwise pass every test.
"""

from __future__ import annotations

import json
from typing import Any, ClassVar

STREAM = "text/event-stream"
MODEL = "test-model"


class ScriptError(Exception):
    """The script says something that cannot be sent; the text names the step and the remedy."""


def to_json(value: Any) -> bytes:
    r"""Return compact JSON: UTF-8 as it is, lone surrogates escaped.

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


class Speech:
    """One answer in plain UTF-8 text, without events or an end marker (AI365VIP)."""

    name: ClassVar[str] = "plain"
    content_type: ClassVar[str] = "text/plain; charset=utf-8"

    def __init__(self) -> None:
        self.over = False
        """True once the end marker or an error was said: nothing is added at the end."""

    def text(self, text: str) -> bytes:
        return text.encode("utf-8", "surrogatepass")

    def _cannot(self, word: str) -> ScriptError:
        return ScriptError(
            f"{word}() has no form in protocol {self.name!r}; send raw(b'…') instead"
        )

    def reasoning(self, text: str) -> bytes:
        raise self._cannot("reasoning")

    def refusal(self, text: str) -> bytes:
        raise self._cannot("refusal")

    def tool_call(self, name: str, arguments: str, id: str, pieces: int) -> bytes:
        raise self._cannot("tool_call")

    def event(self, data: Any, name: str | None) -> bytes:
        raise self._cannot("event")

    def comment(self, text: str) -> bytes:
        raise self._cannot("comment")

    def ping(self) -> bytes:
        raise self._cannot("ping")

    def error(self, message: str, type: str, code: str | None) -> bytes:
        raise self._cannot("error")

    def finish(self, reason: str | None) -> bytes:
        return b""

    def usage(self, input_tokens: int, output_tokens: int) -> bytes:
        return b""

    def done(self) -> bytes:
        self.over = True
        return b""

    def garbage(self) -> bytes:
        return b"\xff\xfe\xfa"

    def ending(self) -> bytes:
        """Return what is still missing of the protocol's proper end."""
        return b""

    def whole(self, text: str) -> tuple[str, bytes]:
        """Return content type and body of an answer that is not streamed."""
        return self.content_type, self.text(text)

    def failure(self, message: str, type: str, code: str | None) -> tuple[str, bytes]:
        """Return content type and body of an error status."""
        return self.content_type, message.encode()


class EventStream(Speech):
    """``data: {json}`` events with ``choices[0].delta.content`` (Vitalentum, CodeLinkAva)."""

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
        return self.event({"choices": [], "usage": _tokens(input_tokens, output_tokens)})

    def done(self) -> bytes:
        self.over = True
        return self.event("[DONE]")

    def error(self, message: str, type: str, code: str | None) -> bytes:
        self.over = True
        return self.event({"error": {"message": message, "type": type, "code": code}})

    def garbage(self) -> bytes:
        return b'data: {"choices": [{"delta": {"content": oops\n\n'

    def ending(self) -> bytes:
        return b"" if self.over else self.done()

    def whole(self, text: str) -> tuple[str, bytes]:
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        body = {"object": "chat.completion", "model": MODEL, "choices": [choice]}
        return "application/json", to_json(body | {"usage": _tokens(1, 1)})

    def failure(self, message: str, type: str, code: str | None) -> tuple[str, bytes]:
        body = {"error": {"message": message, "type": type, "param": None, "code": code}}
        return "application/json", to_json(body)


class Vitalentum(EventStream):
    """The same events under the other name."""

    name = "vitalentum"


class OpenAI(EventStream):
    """OpenAI's chat completion chunks: role, finish reason, ``[DONE]``."""

    name = "openai"

    def __init__(self) -> None:
        super().__init__()
        self._started = False
        self._finished = False
        self._calls = 0

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> bytes:
        if not self._started:
            self._started = True
            delta = {"role": "assistant"} | delta
        head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 0, "model": MODEL}
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return self.event(head | {"choices": [choice]})

    def reasoning(self, text: str) -> bytes:
        return self._chunk({"reasoning_content": text})

    def refusal(self, text: str) -> bytes:
        return self._chunk({"refusal": text})

    def tool_call(self, name: str, arguments: str, id: str, pieces: int) -> bytes:
        index, self._calls = self._calls, self._calls + 1
        call = {"index": index, "id": id, "type": "function"}
        said = [call | {"function": {"name": name, "arguments": ""}}]
        said += [
            {"index": index, "function": {"arguments": part}} for part in _split(arguments, pieces)
        ]
        return b"".join(self._chunk({"tool_calls": [part]}) for part in said)

    def finish(self, reason: str | None) -> bytes:
        self._finished = True
        return self._chunk({}, reason or ("tool_calls" if self._calls else "stop"))

    def ending(self) -> bytes:
        if self.over:
            return b""
        return (b"" if self._finished else self.finish(None)) + self.done()


class Anthropic(EventStream):
    """Anthropic's named events; ``message_start`` and the content blocks are added as needed."""

    name = "anthropic"

    def __init__(self) -> None:
        super().__init__()
        self._started = False
        self._finished = False
        self._block = ""
        self._index = -1
        self._called = False
        self._output_tokens = 1

    def event(self, data: Any, name: str | None = None) -> bytes:
        if name is None and isinstance(data, dict):
            name = data.get("type")
        return super().event(data, name)

    def ping(self) -> bytes:
        return self.event({"type": "ping"})

    def _start(self) -> bytes:
        if self._started:
            return b""
        self._started = True
        usage = {"input_tokens": 1, "output_tokens": 1}
        message: dict[str, Any] = {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": MODEL,
        }
        message |= {"content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
        return self.event({"type": "message_start", "message": message})

    def _open(self, kind: str, block: dict[str, Any], *, fresh: bool = False) -> bytes:
        if self._block == kind and not fresh:
            return b""
        before = self._start() + self._close()
        self._block, self._index = kind, self._index + 1
        start = {"type": "content_block_start", "index": self._index}
        return before + self.event(start | {"content_block": {"type": kind} | block})

    def _close(self) -> bytes:
        if not self._block:
            return b""
        self._block = ""
        return self.event({"type": "content_block_stop", "index": self._index})

    def _delta(self, kind: str, **delta: str) -> bytes:
        head = {"type": "content_block_delta", "index": self._index}
        return self.event(head | {"delta": {"type": kind} | delta})

    def text(self, text: str) -> bytes:
        return self._open("text", {"text": ""}) + self._delta("text_delta", text=text)

    def reasoning(self, text: str) -> bytes:
        opened = self._open("thinking", {"thinking": "", "signature": ""})
        return opened + self._delta("thinking_delta", thinking=text)

    def refusal(self, text: str) -> bytes:
        raise self._cannot("refusal")

    def tool_call(self, name: str, arguments: str, id: str, pieces: int) -> bytes:
        self._called = True
        opened = self._open("tool_use", {"id": id, "name": name, "input": {}}, fresh=True)
        parts = (self._delta("input_json_delta", partial_json=p) for p in _split(arguments, pieces))
        return opened + b"".join(parts)

    def finish(self, reason: str | None) -> bytes:
        self._finished = True
        delta = {"stop_reason": reason or ("tool_use" if self._called else "end_turn")}
        said = self._start() + self._close()
        usage = {"output_tokens": self._output_tokens}
        return said + self.event({"type": "message_delta", "delta": delta, "usage": usage})

    def usage(self, input_tokens: int, output_tokens: int) -> bytes:
        self._output_tokens = output_tokens
        usage = {"input_tokens": input_tokens, "output_tokens": output_tokens}
        said = self._start() + self._close()
        return said + self.event({"type": "message_delta", "delta": {}, "usage": usage})

    def done(self) -> bytes:
        self.over = True
        return self.event({"type": "message_stop"})

    def error(self, message: str, type: str, code: str | None) -> bytes:
        self.over = True
        return self.event({"type": "error", "error": {"type": type, "message": message}})

    def ending(self) -> bytes:
        if self.over:
            return b""
        return (b"" if self._finished else self.finish(None)) + self.done()

    def garbage(self) -> bytes:
        return b'event: content_block_delta\ndata: {"type": "content_block_delta", oops\n\n'

    def whole(self, text: str) -> tuple[str, bytes]:
        body: dict[str, Any] = {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": MODEL,
        }
        body |= {"content": [{"type": "text", "text": text}], "stop_reason": "end_turn"}
        body |= {"usage": {"input_tokens": 1, "output_tokens": 1}}
        return "application/json", to_json(body)

    def failure(self, message: str, type: str, code: str | None) -> tuple[str, bytes]:
        body = {"type": "error", "error": {"type": type, "message": message}}
        return "application/json", to_json(body)


class AI365VIP(Speech):
    """Plain text under its provider's name."""

    name = "ai365vip"


SPEECHES: dict[str, type[Speech]] = {
    kind.name: kind for kind in (OpenAI, Anthropic, Vitalentum, EventStream, AI365VIP, Speech)
}
"""Every protocol by its name; ``plain`` and ``ai365vip`` are the same."""


def speech_for(name: str) -> Speech:
    """Return a new speech of the protocol ``name``, or say which names there are."""
    try:
        return SPEECHES[name]()
    except KeyError:
        raise ScriptError(f"no protocol {name!r}; there are {', '.join(SPEECHES)}") from None


def guess(path: str, body: bytes) -> str:
    """Return the protocol that a request speaks.

    >>> guess("/v1/messages", b""), guess("/api/converse-edge", b""), guess("/x", b"")
    ('anthropic', 'vitalentum', 'openai')
    >>> guess("/api/chat", b'{"key": "", "prompt": ""}'), guess("/api/chat", b"{}")
    ('ai365vip', 'codelinkava')
    """
    path = path.partition("?")[0].rstrip("/")
    if path.endswith("/messages"):
        return "anthropic"
    if path.endswith("/api/converse-edge"):
        return "vitalentum"
    if path.endswith("/api/chat"):  # two providers share the path; only one sends a key
        return "ai365vip" if b'"key"' in body else "codelinkava"
    return "openai"


def _tokens(input_tokens: int, output_tokens: int) -> dict[str, int]:
    total = input_tokens + output_tokens
    named = {"prompt_tokens": input_tokens, "completion_tokens": output_tokens}
    return named | {"total_tokens": total}


def _split(text: str, pieces: int) -> list[str]:
    size = max(1, -(-len(text) // pieces))
    return [text[at : at + size] for at in range(0, len(text), size)]
