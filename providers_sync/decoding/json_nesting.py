"""Tells whether JSON that comes in pieces is complete."""

from __future__ import annotations

import re

_JSON_MARK = re.compile(r'\\.|["\[\]{}]', re.DOTALL)


class JSONNesting:
    """Follows JSON that comes in pieces, to tell whether it is complete."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = self._has_begun = False
        self._held = ""
        """A backslash at the end of a piece: it belongs to the next one."""

    def feed(self, text: str) -> bool:
        """Return whether the JSON up to the end of this piece is a complete object or list."""
        text = self._held + text
        self._held = ""
        end = 0
        for mark in _JSON_MARK.finditer(text):
            character, end = mark[0], mark.end()
            if character == '"':
                self._in_string = not self._in_string
            elif not self._in_string and len(character) == 1:
                self._has_begun = True
                self._depth += 1 if character in "[{" else -1
        if text.endswith("\\") and end < len(text):
            self._held = "\\"
        return self._has_begun and self._depth <= 0 and not self._in_string
