"""The messages of a call as attributes, if they are asked for: JSON, of a limited length.

The form is that of the conventions' schemas ``gen-ai-input-messages.json`` and
``gen-ai-output-messages.json``. Files are named and not read; images in the messages are left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..observing import Question
from ..stream import Stream
from .attributes import finish_reason, sendable

LONGEST_TEXT = 65_536
"""Characters of all texts of one attribute together; longer ones are cut, and say so."""


class _Budget:
    """Cuts texts, so that all together have at most ``LONGEST_TEXT`` characters."""

    def __init__(self) -> None:
        self._left = LONGEST_TEXT

    def cut(self, text: object) -> str:
        text = text if isinstance(text, str) else json.dumps(text, default=_kind)
        kept = text[: self._left]
        self._left -= len(kept)
        missing = len(text) - len(kept)
        return f"{kept}… ({missing} characters left out)" if missing else kept


def of_input(question: Question) -> dict[str, Any]:
    """Return the attributes of the question."""
    found = {}
    system = question.options.get("system")
    if system is not None:
        found["gen_ai.system_instructions"] = _dump(_parts(system, _Budget()))
    messages = question.messages
    if isinstance(messages, str):
        messages = {"role": "user", "content": messages}
    turns = [messages] if isinstance(messages, Mapping) else messages
    budget = _Budget()
    found["gen_ai.input.messages"] = _dump([_message(turn, budget) for turn in turns])
    return found


def of_output(stream: Stream) -> dict[str, Any]:
    """Return the attributes of the answer, as far as it has come."""
    budget = _Budget()
    parts = []
    if stream.reasoning:
        parts.append({"type": "reasoning", "content": budget.cut(stream.reasoning)})
    if text := stream.text or stream.refusal:
        parts.append({"type": "text", "content": budget.cut(text)})
    for call in stream.tool_calls:
        arguments = call.raw if call.arguments is None else call.arguments
        parts.append(_tool_call(call.id, call.name, arguments, budget))
    reason = finish_reason(stream) or "stop"
    message = {"role": "assistant", "parts": parts, "finish_reason": reason}
    return {"gen_ai.output.messages": _dump([message])}


def of_tool(arguments: object, result: object) -> dict[str, Any]:
    """Return the attributes of a call of a function."""
    found = {"gen_ai.tool.call.arguments": arguments, "gen_ai.tool.call.result": result}
    return {
        name: sendable(_Budget().cut(value)) for name, value in found.items() if value is not None
    }


def _message(turn: Mapping[str, Any], budget: _Budget) -> dict[str, Any]:
    content = turn.get("content")
    if turn.get("role") == "tool":
        answer = {"type": "tool_call_response", "id": turn.get("tool_call_id")}
        is_list = isinstance(content, (list, tuple))
        response = _parts(content, budget) if is_list else budget.cut(content)
        return {"role": "tool", "parts": [{**answer, "response": response}]}
    parts = _parts(content, budget)
    for call in turn.get("tool_calls") or ():
        function = call.get("function") or {}
        arguments = function.get("arguments")
        parts.append(_tool_call(call.get("id"), function.get("name"), arguments, budget))
    return {"role": str(turn.get("role")), "parts": parts}


def _parts(content: Any, budget: _Budget) -> list[dict[str, Any]]:
    if content is None:
        return []
    if isinstance(content, str):
        return [{"type": "text", "content": budget.cut(content)}]
    return [_part(part, budget) for part in content]


def _part(part: Any, budget: _Budget) -> dict[str, Any]:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "text":
        return {"type": "text", "content": budget.cut(part.get("text"))}
    return {"type": "omitted", "kind": str(kind)}


def _tool_call(name_id: Any, name: Any, arguments: Any, budget: _Budget) -> dict[str, Any]:
    return {"type": "tool_call", "id": name_id, "name": name, "arguments": budget.cut(arguments)}


def _dump(value: Sequence[Any] | Iterable[Any]) -> str:
    return sendable(json.dumps(value, ensure_ascii=False, default=_kind))


def _kind(value: object) -> str:
    """Name what JSON cannot hold, such as a file or bytes."""
    return f"({type(value).__name__})"
