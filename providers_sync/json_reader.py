"""Reads JSON as it arrives: text goes in in pieces, and the value so far can be taken at any time.

Valid is what ``json.loads(text, strict=False)`` takes, with the same result: RFC 8259, ``NaN`` and
``Infinity``, control characters inside strings (models write them), lone surrogates, and for a key
that comes twice its last value. Beyond that there are limits of depth, length and digits. Reading
takes time in proportion to the text, however it is split.

A partial value is a prefix of the final one in this sense:

- of an object: it has the first keys of the final one, in their order. All their values are final
  except the last key's, which is a prefix. A key is absent until its value has begun.
- of a list: it has the first items. All are final except the last one, which is a prefix.
- of a string: its first characters. An escape comes when it is whole, a surrogate pair as one.
- numbers, ``true``, ``false`` and ``null`` are absent until what follows shows that they are whole.

One thing is not a prefix: where a key comes twice in an object, partials have its first value until
the second one has begun, in the first one's place, and then what has arrived of the second one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum
from typing import Any, Final, Union

Path = tuple[Union[str, int], ...]
"""Keys and indexes from the root to a value."""

MAX_DEPTH = 200
"""Levels; legitimate JSON has 20. Whoever walks the value may use stack for each."""
MAX_CHARACTERS = 64 * 1024 * 1024
MAX_NUMBER = 5000
"""Characters of a number. Python itself refuses integers of more than 4300 digits by default."""

SMALL = 1000
"""A partial value is always copied by ``changed_partial`` if that costs at most so much."""
COST_PER_CHARACTER = 16
"""A larger one is copied when enough text has come since the last copy."""
LEVEL_COST = 16
"""Of copying an empty container. The unit is the copying of an item of a container."""
CHARACTERS_PER_COST = 16
"""Characters of a string that are copied in the time of an item."""

_SPACE = re.compile(r"[ \t\n\r]*")
_PLAIN = re.compile(r'[^"\\]*')
_WORD = re.compile(r"[-+.\w]+")
_SIMPLE = r"""(?:"([^"\\]*)"|([-+.\w]+)(?=[ \t\n\r,\]}]))[ \t\n\r]*(,[ \t\n\r]*)?"""
_ITEM = re.compile(_SIMPLE)
_MEMBER = re.compile(rf""""([^"\\]*)"[ \t\n\r]*:[ \t\n\r]*{_SIMPLE}""")
"""Of a list or an object what is whole in one piece, and most often is: a fast way for it."""
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_LITERALS = {
    **{"true": True, "false": False, "null": None},
    **{"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")},
}
_ESCAPE = re.compile(
    r"""\\(?:(?P<plain>["\\/bfnrt])
    |u(?P<high>[dD][89abAB][0-9a-fA-F]{2})\\u(?P<low>[dD][c-fC-F][0-9a-fA-F]{2})
    |u(?P<code>[0-9a-fA-F]{4}))""",
    re.VERBOSE,
)
_ESCAPE_BEGINNING = re.compile(
    r"""\\(?:u(?:[0-9a-fA-F]{0,3}
    |[dD][89abAB][0-9a-fA-F]{2}(?:\\(?:u(?:[dD](?:[c-fC-F][0-9a-fA-F]?)?)?)?)?)?)?""",
    re.VERBOSE,
)
"""An escape, or a high surrogate that may have a low one after it, which is not whole yet."""
_ESCAPE_LENGTH = 12
_PLAIN_ESCAPES = {
    **{'"': '"', "\\": "\\", "/": "/"},
    **{"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"},
}


class NotChanged(Enum):
    """The type of ``NOT_CHANGED``."""

    NOT_CHANGED = "not changed"


NOT_CHANGED: Final = NotChanged.NOT_CHANGED
"""What ``changed_partial`` returns if it returns no value."""


class InvalidJSON(ValueError):
    """The text is not JSON; ``position`` counts the characters before the mistake."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message, position)
        self.message = message
        self.position = position

    def __str__(self) -> str:
        return f"{self.message} at character {self.position}"


class JSONReader:
    """Reads one JSON value; what follows it is ignored.

    ``report_depth``: closed values are reported if their path has at most so many steps.
    ``position``: the characters before the first piece; positions are counted from there.

    >>> reader = JSONReader()
    >>> reader.feed('{"items": [{"a": 1}, {"a": "x')
    [(('items', 0), {'a': 1})]
    >>> reader.partial()
    {'items': [{'a': 1}, {'a': 'x'}]}
    """

    def __init__(self, *, report_depth: int = 2, position: int = 0) -> None:
        self.position = position
        """Characters up to the end of the value, the mistake, or so far, without an escape that is
        not whole."""
        self.error: InvalidJSON | None = None
        """The mistake at which reading has stopped."""
        self.has_key = False
        """Whether a key and its colon have been read."""
        self._report_depth = report_depth
        # A state reads from a place in the piece and returns the next place. It is not bound:
        # that would be a reference cycle, and keep the value until garbage is collected. ``None``:
        # after the value or a mistake.
        self._state: Callable[[JSONReader, str, int], int] | None = JSONReader._value
        self._held = ""
        """The beginning of an escape, from the end of the last piece."""
        self._root: Any = None
        self._has_root = False
        self._containers: list[Any] = []
        """Those that are open, each an item of the one before."""
        self._keys: list[str | int] = []
        """For each open container the key or index of the value that is being read."""
        self._parts: list[str] = []
        """Of the string, number or literal that is being read."""
        self._length = 0
        """Of the parts together."""
        self._is_in_string = False
        """Whether the parts are those of a string that is a value, not a key."""
        self._closed: list[tuple[Path, Any]] = []
        self._has_changed = False
        self._copied_at = position

    @property
    def has_begun(self) -> bool:
        """Whether ``partial()`` is a part of the value, and not ``None`` for want of one."""
        return self._has_root or self._is_in_string

    @property
    def is_complete(self) -> bool:
        """Whether the value is whole; a number at the root is at a delimiter or at ``end``."""
        return self._has_root and not self._containers

    @property
    def depth(self) -> int:
        """The number of objects and lists that are open."""
        return len(self._containers)

    def feed(self, text: str) -> list[tuple[Path, Any]]:
        """Read a piece; return path and value of what it has closed, in the order of closing.

        Raises ``InvalidJSON`` at a mistake, and at each later call. If the piece has closed
        something before the mistake, that is returned, and the next call raises, or ``end``. What
        has arrived before it stays in ``partial()``. Treat values as read-only.
        """
        closed = self.read(text)
        if self.error is not None and not closed:
            raise self.error
        return closed

    def read(self, text: str) -> list[tuple[Path, Any]]:
        """Read a piece as ``feed`` does, but raise nothing: see ``error``."""
        if self._state is not None:
            if self.position + len(text) > MAX_CHARACTERS:
                self._fail(f"text of more than {MAX_CHARACTERS} characters", 0)
            text = self._held + text
            self._held = ""
            at, size = 0, len(text)
            while at < size and (state := self._state) is not None:
                at = state(self, text, at)
            self.position += at - len(self._held)
        closed, self._closed = self._closed, []
        return closed

    def end(self) -> list[tuple[Path, Any]]:
        """Say that the text has ended; return what this has closed: a number at the root.

        Raises ``InvalidJSON`` if the value is not whole.
        """
        if self._state is JSONReader._scalar and not self._containers:
            self._end_scalar(0)
        if self._state is not None:
            self._fail("the JSON is incomplete: the text ends", len(self._held))
        return self.feed("")

    def partial(self) -> Any:
        """Return the value so far; ``None`` before it has begun (see ``has_begun``).

        The open containers are copied, so that the result never changes later. Those that are
        closed are shared with other partial values and with the final one: treat them as read-only.
        """
        text = ""
        if self._is_in_string:
            text = "".join(self._parts)
            self._parts = [text]
        if not self._containers:
            return text if self._is_in_string else self._root
        value = self._containers[-1].copy()
        if self._is_in_string and isinstance(value, list):
            value.append(text)
        elif self._is_in_string:
            value[self._keys[-1]] = text
        for container, key in zip(self._containers[-2::-1], self._keys[-2::-1], strict=True):
            outer = container.copy()
            outer[key] = value
            value = outer
        return value

    def changed_partial(self) -> Any:
        """Return ``partial()`` if it has changed since the last call; else ``NOT_CHANGED``.

        A large value is left out, too, until enough text has come since the last one: copying then
        takes time in proportion to the text, however often this is called.
        """
        if not self._has_changed:
            return NOT_CHANGED
        cost = LEVEL_COST * len(self._containers) + sum(map(len, self._containers))
        if self._is_in_string:
            cost += self._length // CHARACTERS_PER_COST
        if cost > max(SMALL, COST_PER_CHARACTER * (self.position - self._copied_at)):
            return NOT_CHANGED
        self._has_changed = False
        self._copied_at = self.position
        return self.partial()

    # --- states

    def _value(self, text: str, at: int) -> int:
        if self._containers and isinstance(self._containers[-1], list):
            match = _ITEM.match(text, at)
            if match and self._take_simple(None, *match.groups()):
                return match.end()
        first = text[at]
        if first == '"':
            self._begin_parts()
            self._is_in_string = self._has_changed = True
            self._state = JSONReader._string
        elif first == "{" or first == "[":
            if len(self._containers) >= MAX_DEPTH:
                return self._fail(f"JSON of more than {MAX_DEPTH} levels", at)
            container: Any = {} if first == "{" else []
            self._put(container)
            self._containers.append(container)
            self._keys.append("" if first == "{" else 0)
            self._state = JSONReader._key if first == "{" else JSONReader._value
        elif first == "]" and self._containers and self._containers[-1] == []:
            self._close_container()
        elif _WORD.match(first):
            self._begin_parts()
            self._state = JSONReader._scalar
            return self._scalar(text, at)
        else:
            return self._skip_space(text, at, "for a value")
        return at + 1

    def _key(self, text: str, at: int) -> int:
        match = _MEMBER.match(text, at)
        if match and self._take_simple(*match.groups()):
            return match.end()
        if text[at] == '"':
            self._begin_parts()
            self._state = JSONReader._string
        elif text[at] == "}" and not self._containers[-1]:
            self._close_container()
        else:
            return self._skip_space(text, at, "for a key")
        return at + 1

    def _colon(self, text: str, at: int) -> int:
        if text[at] != ":":
            return self._skip_space(text, at, "for a colon")
        self.has_key = True
        self._state = JSONReader._value
        return at + 1

    def _comma(self, text: str, at: int) -> int:
        in_list = isinstance(self._containers[-1], list)
        if text[at] == ",":
            self._state = JSONReader._value if in_list else JSONReader._key
        elif text[at] == ("]" if in_list else "}"):
            self._close_container()
        else:
            return self._skip_space(text, at, "after a value")
        return at + 1

    def _string(self, text: str, at: int) -> int:
        end = _PLAIN.match(text, at).end()  # type: ignore[union-attr]
        if end > at:
            self._parts.append(text[at:end])
            self._length += end - at
            self._has_changed = self._has_changed or self._is_in_string
        if end == len(text):
            return end
        if text[end] == "\\":
            return self._escape(text, end)
        self._end_string()
        return end + 1

    def _scalar(self, text: str, at: int) -> int:
        match = _WORD.match(text, at)
        if match:
            self._parts.append(match[0])
            self._length += len(match[0])
            at = match.end()
        if self._length > MAX_NUMBER:
            self._fail(f"a number of more than {MAX_NUMBER} characters", at - self._length)
            return at
        return self._end_scalar(at) if at < len(text) else at

    # --- transitions

    def _skip_space(self, text: str, at: int, wanted: str) -> int:
        end = _SPACE.match(text, at).end()  # type: ignore[union-attr]
        return end if end > at else self._fail(f"unexpected {text[at]!r} {wanted}", at)

    def _begin_parts(self) -> None:
        self._parts = []
        self._length = 0

    def _take_simple(
        self, key: str | None, string: str | None, word: str | None, comma: str | None
    ) -> bool:
        """Take a whole item or member, with the comma after it; return ``False`` for a mistake."""
        value: Any = string
        if word is not None:
            try:
                value = _scalar_value(word)
            except ValueError:
                return False
        if key is not None:
            self._keys[-1] = key
            self.has_key = True
        self._put(value)
        self._close(value)
        if comma:
            self._state = JSONReader._value if key is None else JSONReader._key
        return True

    def _escape(self, text: str, at: int) -> int:
        if len(text) - at < _ESCAPE_LENGTH and _ESCAPE_BEGINNING.fullmatch(text, at):
            self._held = text[at:]
            return len(text)
        match = _ESCAPE.match(text, at)
        if match is None:
            return self._fail("invalid escape", at)
        plain, high, low, code = match.groups()
        if plain:
            character = _PLAIN_ESCAPES[plain]
        elif low:
            character = chr(0x10000 + ((int(high, 16) & 0x3FF) << 10) + (int(low, 16) & 0x3FF))
        else:
            character = chr(int(code, 16))
        self._parts.append(character)
        self._length += 1
        self._has_changed = self._has_changed or self._is_in_string
        return match.end()

    def _end_string(self) -> None:
        text = "".join(self._parts)
        if self._is_in_string:
            self._is_in_string = False
            self._put(text)
            self._close(text)
        else:
            self._keys[-1] = text
            self._state = JSONReader._colon

    def _end_scalar(self, at: int) -> int:
        text = "".join(self._parts)
        try:
            value = _scalar_value(text)
        except ValueError as error:
            self._fail(str(error), at - len(text))
            return at
        self._put(value)
        self._close(value)
        return at

    def _put(self, value: Any) -> None:
        """Put a value where it belongs: a container when it opens, others when they are whole."""
        self._has_changed = True
        if not self._containers:
            self._root, self._has_root = value, True
        elif isinstance(self._containers[-1], list):
            self._keys[-1] = len(self._containers[-1])
            self._containers[-1].append(value)
        else:
            self._containers[-1][self._keys[-1]] = value

    def _close_container(self) -> None:
        self._keys.pop()
        self._close(self._containers.pop())

    def _close(self, value: Any) -> None:
        if len(self._keys) <= self._report_depth:
            self._closed.append((tuple(self._keys), value))
        self._state = JSONReader._comma if self._containers else None

    def _fail(self, message: str, at: int) -> int:
        self.error = InvalidJSON(message, self.position + at)
        self._state = None
        return at


def _scalar_value(text: str) -> Any:
    """Return the value of a number or a literal. Raises ``ValueError`` with what is wrong."""
    if text in _LITERALS:
        return _LITERALS[text]
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise ValueError(f"unexpected {text[:20]!r}")
    if len(text) > MAX_NUMBER:
        raise ValueError(f"a number of more than {MAX_NUMBER} characters")
    if match.lastindex:
        return float(text)
    try:
        return int(text)
    except ValueError:
        raise ValueError("an integer of too many digits") from None
