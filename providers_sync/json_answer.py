"""Finds the JSON in the text of a model's answer: amid prose, in a code fence, or alone."""

from __future__ import annotations

import contextlib
import re
from typing import Any

from .json_reader import MAX_DEPTH, NOT_CHANGED, InvalidJSON, JSONReader, Path

MAX_VALUES = 16
"""That ``json_values`` returns: more are no example and answer, but data in another form."""
_SLICE = 4096
"""Characters that are read at once: at each new beginning the rest of them is copied."""
MAX_BEGINNINGS = 10_000
"""Of values that turn out not to be JSON; each takes some microseconds."""
_BRACKET = re.compile(r"[\[\]{}]")
_QUOTED = re.compile(r'\s*(?:```[^\n]*\n\s*)?"')
_NOTHING = re.compile(r"(?!)")


class AnswerReader:
    """Reads the JSON value in an answer, as ``JSONReader`` reads one without other text.

    Which kinds of values it looks for:

    - ``objects``, ``lists``: the value begins at the first bracket. Prose and code fences before
      it, and all that follows it, are passed over. If it turns out not to be JSON (``[note]``,
      ``{x}``), the next bracket after the mistake is tried. If it had a key already, it is passed
      over up to the bracket that closes it: what is inside a malformed object is not the answer.
    - ``scalars``: strings, numbers and literals count if the whole text is one, perhaps in a code
      fence. They are read at ``end``. So is all text that begins with a quotation mark.

    Nothing is read twice, except such text. After 10,000 that failed no other bracket is tried.

    >>> reader = AnswerReader()
    >>> reader.feed('Sure [as JSON]: {"a": [1, 2')
    [(('a', 0), 1)]
    >>> reader.partial()
    {'a': [1]}
    """

    def __init__(
        self,
        *,
        report_depth: int = 2,
        objects: bool = True,
        lists: bool = True,
        scalars: bool = True,
    ) -> None:
        self._position = 0
        """Of the piece that is being read."""
        self.begin = 0
        """Characters before the value, once it has begun."""
        self._report_depth = report_depth
        brackets = "{" * objects + r"\[" * lists
        self._bracket = re.compile(f"[{brackets}]") if brackets else _NOTHING
        self._reader: JSONReader | None = None
        self._is_reading = False
        """Whether the reader has met no mistake."""
        self._beginnings = 0
        self._level = 0
        """Of brackets that are open while a malformed value is passed over."""
        self._text: list[str] = []
        """All text, while it may be a scalar."""
        self._may_be_scalar = scalars
        self._is_quoted = False

    @property
    def position(self) -> int:
        """Characters up to the end of the value, or to the mistake, or so far."""
        return self._position if self._reader is None else self._reader.position

    @property
    def has_begun(self) -> bool:
        """Whether ``partial()`` is a part of a value."""
        return self._reader is not None and self._reader.has_begun

    @property
    def is_complete(self) -> bool:
        """Whether the value is whole."""
        return self._reader is not None and self._reader.is_complete

    def feed(self, text: str) -> list[tuple[Path, Any]]:
        """Read a piece; return path and value of what it has closed, in the order of closing.

        What was returned is of an earlier value if that has turned out not to be JSON. Raises
        nothing: a mistake shows at ``end``.
        """
        if self._may_be_scalar:
            self._text.append(text)
            if self._is_quoted or not self._bracket.search(text):
                return []
            if _QUOTED.match("".join(self._text)):
                self._is_quoted = True
                return []
            self._may_be_scalar = False
            text = "".join(self._text)
            self._text = []
        return self._read(text)

    def end(self) -> list[tuple[Path, Any]]:
        """Say that the text has ended; return what this has closed.

        Raises ``InvalidJSON`` if there is no JSON or the value is not whole; what has arrived of it
        stays in ``partial()``.
        """
        closed: list[tuple[Path, Any]] = []
        if self._may_be_scalar:
            self._may_be_scalar = False
            text = "".join(self._text)
            self._text = []
            closed = self._read_scalar(text)
            if self._reader is None:
                closed = self._read(text)
        if self._reader is None:
            raise InvalidJSON("no JSON in the text", self._position)
        return closed + self._reader.end()

    def partial(self) -> Any:
        """Return the value so far, as ``JSONReader.partial``; ``None`` before it has begun."""
        return None if self._reader is None else self._reader.partial()

    def changed_partial(self) -> Any:
        """Return ``partial()`` or ``NOT_CHANGED``, as ``JSONReader.changed_partial``."""
        return NOT_CHANGED if self._reader is None else self._reader.changed_partial()

    def _read_scalar(self, text: str) -> list[tuple[Path, Any]]:
        """Take the whole text for a scalar, or the beginning of a string, if it is one."""
        scalar = text.strip()
        if scalar.startswith("```"):
            scalar = scalar.partition("\n")[2].removesuffix("```").strip()
        begin = text.find(scalar)
        closed: list[tuple[Path, Any]] = []
        reader = JSONReader(report_depth=self._report_depth, position=begin)
        with contextlib.suppress(InvalidJSON):
            closed = reader.read(scalar)
            closed += reader.end()
        end = reader.error.position if reader.error else reader.position
        if not reader.has_begun or end < begin + len(scalar) or scalar[0] in "{[":
            return []
        self._reader, self.begin = reader, begin
        return closed

    def _read(self, text: str) -> list[tuple[Path, Any]]:
        closed: list[tuple[Path, Any]] = []
        for begin in range(0, len(text), _SLICE):
            piece = text[begin : begin + _SLICE]
            at = 0
            while at < len(piece):
                at = self._step(piece, at, closed)
            self._position += at
        return closed

    def _step(self, piece: str, at: int, closed: list[tuple[Path, Any]]) -> int:
        """Read on from a place in the piece; return the next one."""
        reader = self._reader
        if self._is_reading and reader is not None:
            closed += reader.read(piece[at:])
            if reader.error is None:
                return len(piece)
            self._is_reading = False
            self._give_up(reader)
            return max(0, reader.position - self._position)
        if self._level:
            return self._pass_over(piece, at)
        match = self._bracket.search(piece, at)
        if match is None:
            return len(piece)
        self._is_reading = True
        self.begin = self._position + match.start()
        self._reader = JSONReader(report_depth=self._report_depth, position=self.begin)
        return match.start()

    def _give_up(self, reader: JSONReader) -> None:
        """Decide where to look for the next value after a malformed one."""
        if reader.has_key or reader.depth == MAX_DEPTH:
            self._level = reader.depth
        elif not reader.partial():
            self._reader = None
        self._beginnings += 1
        if self._beginnings == MAX_BEGINNINGS:
            self._bracket = _NOTHING

    def _pass_over(self, piece: str, at: int) -> int:
        """Read up to where the malformed value ends; brackets in its strings are in pairs, too."""
        for match in _BRACKET.finditer(piece, at):
            self._level += 1 if match[0] in "{[" else -1
            if not self._level:
                return match.end()
        return len(piece)


def json_values(text: str, *, objects: bool = True, lists: bool = True) -> list[Any]:
    """Return the whole objects and lists in a text, in their order; at most 16.

    For an answer that shows an example first. What is inside of another value does not count.

    >>> json_values('Like {"a": ...}, so: {"a": [1]}, {"a": [2]}')
    [{'a': [1]}, {'a': [2]}]
    """
    values: list[Any] = []
    at = 0
    while len(values) < MAX_VALUES:
        reader = AnswerReader(report_depth=0, objects=objects, lists=lists, scalars=False)
        reader.feed(text[at:])
        if not reader.is_complete:
            break
        values.append(reader.partial())
        at += reader.position
    return values
