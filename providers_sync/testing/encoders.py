"""An encoder for each protocol, the protocols' names, and ``guess_protocol``."""

from __future__ import annotations

import re
from typing import Any

from .base_encoders import MODEL, Encoder, EventStreamEncoder, ScriptError, split_text, to_json
from .gemini_encoder import GeminiEncoder
from .ollama_encoder import OllamaEncoder
from .responses_encoder import ResponsesEncoder

_MODEL_NAME = re.compile(rb'"model"\s*:\s*"')


class VitalentumEncoder(EventStreamEncoder):
    """``EventStreamEncoder`` under the name ``vitalentum``."""

    name = "vitalentum"


class OpenAIEncoder(EventStreamEncoder):
    """Encodes OpenAI's chat completion chunks: role, finish reason, ``[DONE]``."""

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
        deltas = [call | {"function": {"name": name, "arguments": ""}}]
        deltas += [
            {"index": index, "function": {"arguments": part}}
            for part in split_text(arguments, pieces)
        ]
        return b"".join(self._chunk({"tool_calls": [delta]}) for delta in deltas)

    def finish(self, reason: str | None) -> bytes:
        self._finished = True
        return self._chunk({}, reason or ("tool_calls" if self._calls else "stop"))

    def ending(self) -> bytes:
        if self.is_over:
            return b""
        return (b"" if self._finished else self.finish(None)) + self.done()


class AnthropicEncoder(EventStreamEncoder):
    """Encodes Anthropic's named events; adds ``message_start`` and content blocks as needed."""

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

    def _open(self, kind: str, block: dict[str, Any], *, is_new: bool = False) -> bytes:
        if self._block == kind and not is_new:
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
        raise self._unsupported("refusal")

    def tool_call(self, name: str, arguments: str, id: str, pieces: int) -> bytes:
        self._called = True
        opened = self._open("tool_use", {"id": id, "name": name, "input": {}}, is_new=True)
        parts = (
            self._delta("input_json_delta", partial_json=p) for p in split_text(arguments, pieces)
        )
        return opened + b"".join(parts)

    def finish(self, reason: str | None) -> bytes:
        self._finished = True
        delta = {"stop_reason": reason or ("tool_use" if self._called else "end_turn")}
        before = self._start() + self._close()
        usage = {"output_tokens": self._output_tokens}
        return before + self.event({"type": "message_delta", "delta": delta, "usage": usage})

    def usage(self, input_tokens: int, output_tokens: int) -> bytes:
        self._output_tokens = output_tokens
        usage = {"input_tokens": input_tokens, "output_tokens": output_tokens}
        before = self._start() + self._close()
        return before + self.event({"type": "message_delta", "delta": {}, "usage": usage})

    def done(self) -> bytes:
        self.is_over = True
        return self.event({"type": "message_stop"})

    def error(self, message: str, type: str, code: str | None) -> bytes:
        self.is_over = True
        return self.event({"type": "error", "error": {"type": type, "message": message}})

    def ending(self) -> bytes:
        if self.is_over:
            return b""
        return (b"" if self._finished else self.finish(None)) + self.done()

    def garbage(self) -> bytes:
        return b'event: content_block_delta\ndata: {"type": "content_block_delta", oops\n\n'

    def complete(self, text: str) -> tuple[str, bytes]:
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


class AI365VIPEncoder(Encoder):
    """``Encoder`` (plain text) under the name ``ai365vip``."""

    name = "ai365vip"


ENCODERS: dict[str, type[Encoder]] = {
    kind.name: kind
    for kind in (
        OpenAIEncoder,
        ResponsesEncoder,
        AnthropicEncoder,
        GeminiEncoder,
        OllamaEncoder,
        VitalentumEncoder,
        EventStreamEncoder,
        AI365VIPEncoder,
        Encoder,
    )
}
"""The encoder class of every protocol; ``plain`` and ``ai365vip`` are the same protocol."""


_ENDINGS = {
    "/messages": "anthropic",
    "/responses": "responses",
    ":streamGenerateContent": "gemini",
    ":generateContent": "gemini",
    "/api/converse-edge": "vitalentum",
}
"""How the paths end that only one protocol has."""


def encoder_for(name: str) -> Encoder:
    """Return a new encoder for the protocol ``name``; raise ``ScriptError`` if it is unknown."""
    try:
        return ENCODERS[name]()
    except KeyError:
        raise ScriptError(f"unknown protocol {name!r}; use one of {', '.join(ENCODERS)}") from None


def guess_protocol(path: str, body: bytes) -> str:
    """Return the protocol of a request, judging by its path and body.

    >>> [guess_protocol(path, b"") for path in ("/v1/messages", "/api/converse-edge", "/x")]
    ['anthropic', 'vitalentum', 'openai']
    >>> [guess_protocol(path, b"") for path in ("/responses", "/models/m:streamGenerateContent")]
    ['responses', 'gemini']
    >>> bodies = b'{"key": "", "prompt": ""}', b'{"model": "qwen3"}', b"{}"
    >>> [guess_protocol("/api/chat", body) for body in bodies]
    ['ai365vip', 'ollama', 'codelinkava']
    """
    path = path.partition("?")[0].rstrip("/")
    for ending, name in _ENDINGS.items():
        if path.endswith(ending):
            return name
    if not path.endswith("/api/chat"):
        return "openai"
    if b'"key"' in body:  # three providers share the path
        return "ai365vip"
    return "ollama" if _MODEL_NAME.search(body) else "codelinkava"
