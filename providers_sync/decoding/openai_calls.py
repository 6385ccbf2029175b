"""Reads tool calls in OpenAI's form, whose pieces servers write in many ways."""

from __future__ import annotations

from typing import Any

from ..error_words import as_text
from ..types import ToolCallStarted
from .events import EventsDecoder
from .openai_parts import text_of
from .tool_calls import PartialCall, ToolCallAssembler

_CALL_KEYS = frozenset({"index", "id", "type", "function", "custom", "name", "arguments"})
_ARGUMENTS = ("arguments", "input", "parameters")
_FUNCTION_KEYS = _CALL_KEYS | {*_ARGUMENTS, "description"}


def _arguments(function: dict[str, Any]) -> Any:
    """Return the arguments of a call, which some servers name otherwise."""
    return next((function[key] for key in _ARGUMENTS if function.get(key) is not None), None)


def _are_calls_under_one_index(calls: list[dict[str, Any]]) -> bool:
    """Return whether calls that begin together have ids of their own, but not indexes."""
    if len(calls) < 2:
        return False
    indexes = {call.get("index") for call in calls}
    ids = {as_text(call.get("id") or "") for call in calls}
    if len(indexes) > 1 or len(ids) < len(calls) or not all(ids):
        return False
    return all((call.get("function") or call).get("name") for call in calls)


class CallsDecoder(EventsDecoder):
    """The base of ``DeltaDecoder``: knows the tool calls of a delta."""

    def __init__(self, content_type: str = "") -> None:
        super().__init__(content_type)
        self._calls = ToolCallAssembler()

    def _read_function_call(self, call: Any) -> None:
        """Read the older form of a call, of which there is one."""
        if isinstance(call, dict):
            self._add_call("function_call", 0, None, call.get("name"), call.get("arguments"))
        else:
            self._add_extra("choices[0].delta.function_call", call)

    def _read_calls(self, calls: Any) -> None:
        calls = [calls] if isinstance(calls, dict) else [call for call in calls if call is not None]
        has_indexes = not _are_calls_under_one_index(calls)
        for position, call in enumerate(calls):
            custom = call.get("custom")
            function = custom or call.get("function") or call
            arguments = text_of(custom.get("input")) if custom else _arguments(function)
            index = call.get("index") if has_indexes else None
            place = position if has_indexes else as_text(call["id"])
            added = self._add_call(index, place, call.get("id"), function.get("name"), arguments)
            added.is_custom = added.is_custom or bool(custom)
            if not (call.keys() <= _CALL_KEYS and function.keys() <= _FUNCTION_KEYS):
                path = f"choices[0].delta.tool_calls[{added.position}]."
                added.more.update((k, v) for k, v in call.items() if k not in _CALL_KEYS)
                if more := {k: v for k, v in function.items() if k not in _FUNCTION_KEYS}:
                    added.more["function"] = {**added.more.get("function", {}), **more}
                self._add_extras(call, _CALL_KEYS, path)
                self._add_extras(function, _FUNCTION_KEYS, f"{path}function.")

    def _add_call(
        self, index: Any, place: Any, call_id: Any, name: Any, arguments: Any
    ) -> PartialCall:
        if name or arguments:
            self._deltas.append(ToolCallStarted())
        return self._calls.add(index, place, call_id, name, arguments)
