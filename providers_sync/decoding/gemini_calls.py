"""Assembles the function calls of a Gemini answer, which may come in parts.

Reference: Gemini API, "Function calling"; Vertex AI, "Stream function call arguments": a part with
``willContinue`` is followed by others, which have no name.
"""

from __future__ import annotations

import json
import re
from typing import Any

from ..config import TOOL_CALLS
from ..error_words import as_text
from ..errors import MalformedStream
from ..types import ToolCall
from .gemini_arguments import GrowingArguments
from .parsing import join_surrogates

CALL_KEYS = frozenset({"name", "args", "id", "partialArgs", "willContinue"})
_NOT_IN_IDS = re.compile(r"[^A-Za-z0-9_-]")
_ID_CHARACTERS = 40


class FunctionCall:
    """A function call, whole or growing."""

    def __init__(self, start: dict[str, Any], default_id: str) -> None:
        self.name = as_text(start["name"])
        self.id = as_text(start.get("id") or "") or default_id
        self.part: dict[str, Any] = {}
        """The other fields of its part, such as its signature."""
        self.is_open = False
        self._start = {key: value for key, value in start.items() if key not in CALL_KEYS}
        if start.get("id"):
            self._start["id"] = start["id"]
        self._arguments: dict[str, Any] = {}
        self._growing: GrowingArguments | None = None

    def is_continued_by(self, piece: dict[str, Any]) -> bool:
        """Return whether a part goes on with this call: it has no name, or repeats name and id."""
        repeats = piece.get("id") and (piece["id"], piece.get("name")) == (self.id, self.name)
        return self.is_open and bool(repeats or not piece.get("name"))

    def add(self, piece: dict[str, Any]) -> None:
        """Add the arguments of a part."""
        arguments = piece.get("args")
        if arguments is not None and not isinstance(arguments, dict):
            raise TypeError("args is not an object")
        self._arguments.update(arguments or {})
        for part in piece.get("partialArgs") or ():
            self._growing = self._growing or GrowingArguments()
            self._growing.add(part)
        self.is_open = bool(piece.get("willContinue"))

    def arguments(self) -> dict[str, Any]:
        """Return the arguments so far."""
        return {**self._arguments, **(self._growing.value() if self._growing else {})}

    def finished(self) -> ToolCall:
        """Return the call; one that the server has left open has no arguments that hold."""
        arguments = self.arguments()
        raw = join_surrogates(json.dumps(arguments, ensure_ascii=False))
        return ToolCall(
            join_surrogates(self.id),
            join_surrogates(self.name),
            None if self.is_open else json.loads(raw),
            raw,
        )

    def returned_part(self) -> dict[str, Any]:
        """Return its part in the form that the protocol takes back."""
        call = {"name": self.name, "args": self.arguments(), **self._start}
        return {"functionCall": call, **self.part}


class FunctionCalls:
    """The function calls of one answer."""

    def __init__(self) -> None:
        self.calls: list[FunctionCall] = []
        self._nameless = ""
        """What came of a call without a name."""

    def add(self, piece: dict[str, Any], response_id: str) -> FunctionCall | None:
        """Add a ``functionCall``; return its call, ``None`` if there is none that it continues.

        A server that gives no ids gets ids that are unique among the answers of a conversation.
        """
        call = self.calls[-1] if self.calls else None
        goes_on = call is not None and call.is_continued_by(piece)
        if piece.get("name") and not goes_on:
            if len(self.calls) >= TOOL_CALLS:
                raise MalformedStream(f"the answer has more than {TOOL_CALLS} tool calls")
            stem = _NOT_IN_IDS.sub("", response_id)[: _ID_CHARACTERS - len("call__1000000")]
            default_id = "_".join(filter(None, ["call", stem, str(len(self.calls))]))
            call = FunctionCall(piece, default_id)
            self.calls.append(call)
        elif call is None or not goes_on:
            if piece.get("args") or piece.get("partialArgs"):
                self._nameless = self._nameless or as_text(piece)
            return None
        call.add(piece)
        return call

    def finished(self) -> list[ToolCall]:
        """Return the calls; raise ``MalformedStream`` if one has no name."""
        if self._nameless:
            raise MalformedStream(f"the model calls a tool without naming it: {self._nameless}")
        return [call.finished() for call in self.calls]
