"""Puts together the arguments of a Gemini function call that come in parts.

Reference: Vertex AI, "Stream function call arguments": each part has a JSON path (RFC 9535) and a
value there; a string grows while parts name the same path.
"""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

from ..errors import MalformedStream
from ..server_json import JSON_LEVELS
from .parsing import join_surrogates, short_repr

_STEP = re.compile(
    r"""\.?(?:\[(\d+)\]|\[('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")\]|([^.\[\]]+))""", re.DOTALL
)
_ESCAPED = re.compile(r'\\.|"', re.DOTALL)
_VALUES = ("stringValue", "numberValue", "boolValue", "nullValue")
_SKIPPED = 64
"""How many items of a list may be left out before one that comes."""
_ALL_SKIPPED = 1000
"""How many items may be left out in the arguments of a call: they take memory."""


class _Text(list[str]):
    """The pieces of a string."""


class GrowingArguments:
    """Arguments that grow."""

    def __init__(self) -> None:
        self._root: dict[str, Any] = {}
        self._skipped = 0

    def add(self, part: dict[str, Any]) -> None:
        """Put one of ``partialArgs`` into its place; raise ``MalformedStream`` if it has none."""
        steps = _steps(part["jsonPath"])
        kind = next((kind for kind in _VALUES if kind in part), None)
        at: Any = self._root
        for step, after in itertools.pairwise(steps):
            at = self._child(at, step, [] if isinstance(after, int) else {})
        last = steps[-1]
        if kind is None:  # the path only: its value comes, or has come
            return
        value = None if kind == "nullValue" else part[kind]
        if not isinstance(value, str):
            self._set(at, last, value)
            return
        text = self._child(at, last, _Text())
        if not isinstance(text, _Text):
            self._set(at, last, text := _Text())
        text.append(value)

    def value(self) -> dict[str, Any]:
        """Return the arguments so far."""
        value: dict[str, Any] = _joined(self._root)
        return value

    def _child(self, at: Any, step: int | str, empty: Any) -> Any:
        """Return what is at a step; put ``empty`` there if it is nothing."""
        self._extend(at, step)
        found = at[step] if isinstance(step, int) else at.get(step)
        if found is None:
            at[step] = found = empty
        return found

    def _set(self, at: Any, step: int | str, value: Any) -> None:
        self._extend(at, step)
        at[step] = value

    def _extend(self, at: Any, step: int | str) -> None:
        if isinstance(at, _Text) or isinstance(at, list) is not isinstance(step, int):
            raise MalformedStream("the parts of a call's arguments contradict each other")
        if isinstance(step, int) and step >= len(at):
            self._skipped += step - len(at)
            if step > len(at) + _SKIPPED or self._skipped > _ALL_SKIPPED:
                raise MalformedStream(f"a call's arguments lack the items before number {step}")
            at.extend([None] * (step + 1 - len(at)))


def _steps(path: str) -> list[int | str]:
    """Return the names and indexes of a path.

    >>> _steps("$.items[0]['two words'].id")
    ['items', 0, 'two words', 'id']
    """
    steps: list[int | str] = []
    position = 1 if path.startswith("$") else 0
    while position < len(path) and len(steps) < JSON_LEVELS:
        match = _STEP.match(path, position)
        if match is None:
            break
        position = match.end()
        index, quoted, name = match.groups()
        if index is not None:
            steps.append(int(index[:9]))
        else:
            steps.append(name if quoted is None else _unquoted(quoted))
    if position < len(path) or not steps or isinstance(steps[0], int):
        raise MalformedStream(f"the path of an argument cannot be read: {short_repr(path)}")
    return steps


def _unquoted(name: str) -> str:
    """Return a quoted name without its quotes and escapes, which are those of JSON and ``\\'``."""
    inner = _ESCAPED.sub(lambda match: {"\\'": "'", '"': '\\"'}.get(match[0], match[0]), name[1:-1])
    try:
        value: str = json.loads(f'"{inner}"', strict=False)
    except ValueError as error:
        raise MalformedStream(f"the name of an argument cannot be read: {name}") from error
    return value


def _joined(value: Any) -> Any:
    if isinstance(value, _Text):
        return join_surrogates("".join(value))
    if isinstance(value, list):
        return [_joined(each) for each in value]
    if isinstance(value, dict):
        return {join_surrogates(name): _joined(each) for name, each in value.items()}
    return value
