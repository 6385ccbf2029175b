"""Writes Ollama's answers: lines of a stream, complete answers, errors.

Source: Ollama API, "Generate a chat completion"; durations are in nanoseconds.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from ..clock import monotonic
from ..types import ReasoningDelta, Refusal, ToolCall, Usage
from .reasons import openai_reason
from .types import AnswerInfo, Delta, Ending, RequestError, json_bytes, raw_arguments

REFUSAL = "refusal"
"""The ``done_reason`` of an answer that has a refusal in its text; Ollama itself has no name."""


class OllamaWriter:
    """Writes one line of JSON for each delta, and one with ``"done": true`` and the counts."""

    content_type = "application/x-ndjson"

    def __init__(self, info: AnswerInfo) -> None:
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(info.created))
        self._head = {"model": info.model, "created_at": created}
        self._calls = 0
        self._refused = False
        self._started = self._first = monotonic()

    def start(self, usage: Usage) -> bytes:
        self._first = monotonic()
        return b""

    def delta(self, delta: Delta) -> bytes:
        return self._line({"role": "assistant", "content": "", **self._message(delta)})

    def end(self, ending: Ending) -> bytes:
        return self._line({"role": "assistant", "content": ""}, self._end(ending))

    def error(self, error: RequestError) -> bytes | None:
        return json_bytes(error_shape(error)) + b"\n"

    def complete(self, deltas: Sequence[Delta], ending: Ending) -> bytes:
        found: dict[str, list[Any]] = {"content": [], "thinking": [], "tool_calls": []}
        for delta in deltas:
            for key, value in self._message(delta).items():
                found[key] += [value] if isinstance(value, str) else value
        message: dict[str, Any] = {"role": "assistant", "content": "".join(found["content"])}
        if found["thinking"]:
            message["thinking"] = "".join(found["thinking"])
        if found["tool_calls"]:
            message["tool_calls"] = found["tool_calls"]
        return self._line(message, self._end(ending))

    def _message(self, delta: Delta) -> dict[str, Any]:
        """Return the fields of the message for a delta.

        Raises ``RequestError`` for a call whose arguments are not an object, as Ollama does.
        """
        if isinstance(delta, str):
            return {"content": delta}
        if isinstance(delta, ReasoningDelta):
            return {"thinking": delta.text}
        if isinstance(delta, Refusal):
            self._refused = True
            return {"content": delta.text}
        return {"tool_calls": [self._call(delta)]}

    def _call(self, call: ToolCall) -> dict[str, Any]:
        raw = raw_arguments(call)
        if call.arguments is None and raw:
            raise RequestError(
                f"the arguments of the model's call of {call.name!r} are not a JSON object: {raw}",
                status=500,
            )
        index, self._calls = self._calls, self._calls + 1
        function = {"index": index, "name": call.name, "arguments": call.arguments or {}}
        return {"id": call.id, "function": function}

    def _line(self, message: dict[str, Any], end: dict[str, Any] | None = None) -> bytes:
        rest = {"done": False} if end is None else {"done": True, **end}
        return json_bytes({**self._head, "message": message, **rest}) + b"\n"

    def _end(self, ending: Ending) -> dict[str, Any]:
        """Return the finish reason, the counts and the durations of the last line."""
        reason = openai_reason(ending)
        if reason == "tool_calls":
            reason = "stop"
        now = monotonic()
        # In a whole answer the first token's time is not known: all of it counts as the answer's.
        measured = {
            "total_duration": now - self._started,
            "load_duration": 0,
            "prompt_eval_duration": self._first - self._started,
            "eval_duration": now - self._first,
        }
        counts = {
            "prompt_eval_count": ending.usage.input_tokens,
            "eval_count": ending.usage.output_tokens,
        }
        return {
            "done_reason": REFUSAL if self._refused else reason,
            **{name: int(seconds * 1e9) for name, seconds in measured.items()},
            **{name: count for name, count in counts.items() if count is not None},
        }


def error_shape(error: RequestError) -> dict[str, Any]:
    """Return an error in Ollama's form."""
    return {"error": error.message}
