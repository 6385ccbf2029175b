"""Decoder for Ollama's chat protocol.

Reference: Ollama API, "Generate a chat completion": lines of JSON, the last of which has
``"done": true``.
"""

from __future__ import annotations

import re
from typing import Any

from ..error_words import as_text
from ..errors import MalformedStream
from ..types import Media, ToolCallStarted
from .counts import ollama_usage
from .lines import LinesDecoder
from .openai_parts import decode_base64
from .parsing import WRONG_SHAPE, join_surrogates, json_text, short_repr
from .server_errors import reports_error, server_error
from .tool_calls import ToolCallAssembler

_LINE_KEYS = frozenset(
    {
        *("model", "created_at", "message", "done", "done_reason"),
        *("prompt_eval_count", "eval_count"),
    }
)
_MESSAGE_KEYS = frozenset({"role", "content", "thinking", "tool_calls", "images"})
_CALL_KEYS = frozenset({"id", "type", "function"})
_FUNCTION_KEYS = frozenset({"index", "name", "arguments"})
_NOT_IN_IDS = re.compile(r"\W")


class OllamaDecoder(LinesDecoder):
    """Decodes one answer; it is truncated without ``"done": true``."""

    protocol = "ollama"
    end_marker = '"done": true'

    def __init__(self, content_type: str = "") -> None:
        super().__init__(content_type)
        self._thinking: list[str] = []
        self._calls = ToolCallAssembler()
        self._created_at = ""

    def _read_value(self, value: Any) -> None:
        if not isinstance(value, dict):
            raise MalformedStream(f"a line is not a JSON object: {short_repr(value)}")
        is_answer = "message" in value or "done" in value
        if reports_error(value, is_answer=is_answer):
            raise server_error(value)
        self._read_model(value.get("model"))
        self._created_at = self._created_at or as_text(value.get("created_at") or "")
        try:
            self._read_message(value.get("message") or {})
        except WRONG_SHAPE as error:
            raise MalformedStream(f"a line has the wrong shape: {error}") from error
        if not value.keys() <= _LINE_KEYS:
            self._add_extras(value, _LINE_KEYS)
        if not is_answer:
            self._words = self._words or short_repr(json_text(value))
        if value.get("done") in (True, "true"):
            if (usage := ollama_usage(value)) is not None:
                self._deltas.append(usage)
            if reason := value.get("done_reason"):
                self._note_reason(reason)
                self._note_failure(value)
            self.ended = True

    def _read_message(self, message: dict[str, Any]) -> None:
        if thinking := message.get("thinking"):
            self._thinking.append(thinking)
            self._read_reasoning(thinking)
        if content := message.get("content"):
            self._read_text(content)
        for call in message.get("tool_calls") or ():
            self._read_call(call)
        for image in message.get("images") or ():
            data = decode_base64(image)
            if data is not None:
                self._deltas.append(Media("image", None, data))
            else:
                self._add_extra("message.images", image)
        if not message.keys() <= _MESSAGE_KEYS:
            self._add_extras(message, _MESSAGE_KEYS, "message.")

    def _read_call(self, call: dict[str, Any]) -> None:
        """Read a call, which is whole; older servers give no ids."""
        function = call["function"]
        position = len(self._calls.calls)
        call_id = call.get("id") or "_".join(
            filter(None, ["call", _NOT_IN_IDS.sub("", self._created_at)[:30], str(position)])
        )
        self._calls.add(None, position, call_id, function.get("name"), function.get("arguments"))
        self._deltas.append(ToolCallStarted())
        place = f"message.tool_calls[{position}]."
        self._add_extras(call, _CALL_KEYS, place)
        self._add_extras(function, _FUNCTION_KEYS, f"{place}function.")

    def _finish(self) -> None:
        self._deltas.extend(self._calls.finished())

    def _message_fields(self) -> dict[str, Any]:
        thinking = join_surrogates("".join(self._thinking))
        return {"thinking": thinking} if thinking else {}
