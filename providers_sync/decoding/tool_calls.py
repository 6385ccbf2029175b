"""Assembles tool calls from their pieces, which servers number and name in many ways."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ..config import TOOL_CALLS
from ..error_words import as_text
from ..errors import MalformedStream
from ..server_json import load_json
from ..types import ToolCall
from .json_nesting import JSONNesting
from .parsing import join_surrogates, json_values

NAME_CHARACTERS = 1000
"""Limit of a name that comes in parts; vendors allow 64 to 256. Joining more takes too long."""
_RAW_CHARACTERS = 2000
"""How much of a call that cannot be read an error shows."""


@dataclass(eq=False)
class PartialCall:
    """A tool call whose pieces arrive."""

    position: int = 0
    """Which of the answer's calls it is, from 0."""
    index: object = None
    """The server's index of its first piece."""
    id: str = ""
    name: str = ""
    pieces: list[str] = field(default_factory=list)
    is_custom: bool = False
    """Whether its input is text, not JSON."""
    more: dict[str, Any] = field(default_factory=dict)
    """Other fields of the call, which its protocol wants back."""
    has_empty_input: bool = False
    """Whether ``{}`` came as an object; it gives way to pieces."""
    _nesting: JSONNesting = field(default_factory=JSONNesting)
    _unread: int = 0
    """How many pieces ``_nesting`` has seen."""

    @property
    def raw(self) -> str:
        return join_surrogates("".join(self.pieces)) or ("{}" if self.has_empty_input else "")

    def is_whole(self) -> bool:
        """Return whether its arguments are complete JSON."""
        if not self.pieces:
            return self.has_empty_input
        pieces, self._unread = self._unread, len(self.pieces)
        return self._nesting.feed("".join(self.pieces[pieces:]))

    def more_to_return(self) -> dict[str, Any]:
        """Return what its protocol wants back, besides a function and its arguments."""
        if not self.is_custom:
            return self.more
        custom = {"name": join_surrogates(self.name), "input": self.raw}
        return {**self.more, "type": "custom", "custom": custom}

    def finished(self) -> ToolCall:
        raw = self.raw
        arguments = None if self.is_custom else parse_arguments(raw)
        if arguments is None and not self.is_custom and (once := _once(self.pieces, raw)):
            raw, arguments = once, parse_arguments(once)
        return ToolCall(join_surrogates(self.id), join_surrogates(self.name), arguments, raw)


class ToolCallAssembler:
    """Assembles the tool calls of one answer in OpenAI's protocol."""

    def __init__(self) -> None:
        self.calls: list[PartialCall] = []
        self._open: dict[object, PartialCall] = {}
        self._by_id: dict[str, PartialCall] = {}
        self._has_indexes = False
        self._last: PartialCall | None = None

    def add(
        self, index: object, place: object, call_id: object, name: object, arguments: object
    ) -> PartialCall:
        """Add a piece of a call; return the call that it belongs to.

        ``index`` is that of the server; without one, its ``place`` in the event's list stands for
        it. The id of a call that is open goes before both. Arguments that are not text (an object,
        in place of its JSON) are complete.
        """
        call_id, name = as_text(call_id or ""), as_text(name or "")
        is_empty_input = arguments == {}
        if not isinstance(arguments, str):
            arguments = "" if arguments is None or is_empty_input else json.dumps(arguments)
        call = self._find(index, place, call_id, name, arguments)
        call.has_empty_input = call.has_empty_input or is_empty_input
        if call_id and not call.id:
            call.id = call_id
            self._by_id.setdefault(call_id, call)
        call.name = _joined_name(call, name)
        if arguments:
            call.pieces.append(arguments)
        self._last = call
        return call

    def _find(
        self, index: object, place: object, call_id: str, name: str, arguments: str
    ) -> PartialCall:
        key = ("place", place) if index is None else index
        call = self._open.get(key)
        named = self._by_id.get(call_id)
        if (
            named is not None
            and named is not call
            and (index is None or named.index in (None, index))
            and _goes_on(named, name)
        ):
            return named
        if call is None and not name and self._last is not None:
            if index is None:
                return self._last
            if not self._has_indexes:  # the call began without one
                return self._open.get(("place", index), self._last)
        self._has_indexes = self._has_indexes or index is not None
        if call is not None and _begins_another(call, call_id, name, arguments):
            call = None
        if call is None:
            if len(self.calls) >= TOOL_CALLS:
                raise MalformedStream(f"the answer has more than {TOOL_CALLS} tool calls")
            call = self._open[key] = PartialCall(len(self.calls), index)
            self.calls.append(call)
        return call

    def finished(self) -> Iterator[ToolCall]:
        """Yield the calls, now complete, in order.

        Raises ``MalformedStream``, with what arrived, for one without a name.
        """
        nameless: list[str] = []
        for call in self.calls:
            if call.name:
                yield call.finished()
            elif call.id or call.pieces:
                nameless.append(f"{call.id} {call.raw[:_RAW_CHARACTERS]}".strip())
        if nameless:
            raise MalformedStream(f"the model calls a tool without naming it: {nameless[0]}")


def _goes_on(call: PartialCall, name: str) -> bool:
    """Return whether a piece with the id of ``call`` can belong to it."""
    return not name or (name == call.name and not call.is_whole())


def _joined_name(call: PartialCall, name: str) -> str:
    """Return the name of a call after another piece: it may come whole each time, or in parts."""
    if not name or name == call.name or call.pieces or call.has_empty_input:
        return call.name or name
    if len(call.name) > NAME_CHARACTERS:
        raise MalformedStream(f"the name of a tool has more than {NAME_CHARACTERS} characters")
    return name if name.startswith(call.name) else call.name + name


def _begins_another(call: PartialCall, call_id: str, name: str, arguments: str) -> bool:
    """Return whether a piece under the index of ``call`` is the first of another call.

    Servers repeat the name in every piece, give each piece another id, or put all calls under one
    index, with or without ids. So another call begins only with a name, after complete arguments.
    """
    if not name or not call.name:
        return False
    other_id = bool(call_id) and call_id != call.id
    if other_id and call.id and name != call.name:
        return True
    if not (other_id or name != call.name or (not call_id and arguments.lstrip()[:1] == "{")):
        return False
    return call.is_whole()


def _once(pieces: list[str], raw: str) -> str:
    """Return arguments that a server has sent more than once, once; empty if it has not.

    Some send them whole at the end again, also as a JSON string; some send all so far each time.
    """
    last = pieces[-1] if pieces else ""
    if len(pieces) > 1 and all(map(str.startswith, pieces[1:], pieces)):
        return last if parse_arguments(last) is not None else ""
    values = list(json_values(raw))
    first = values[0][0] if values else None
    if not isinstance(first, dict) or raw[values[-1][1] :].strip():
        return ""
    is_repeated = all(
        value == first or (isinstance(value, str) and parse_arguments(value) == first)
        for value, _ in values
    )
    return raw[: values[0][1]] if is_repeated else ""


def parse_arguments(raw: str) -> dict[str, Any] | None:
    """Return the arguments of a call; ``None`` if they are not a JSON object."""
    try:
        value = load_json(raw.strip() or "{}")
        if "\\ud" in raw.lower():  # escaped surrogates, which ``join_surrogates(raw)`` does not see
            value = json.loads(join_surrogates(json.dumps(value, ensure_ascii=False)))
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
