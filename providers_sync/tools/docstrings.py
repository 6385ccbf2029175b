"""Takes the descriptions of parameters out of a docstring: Google's, NumPy's and reST's sections.

Sources: Google Python Style Guide, 3.8.3; numpydoc, "Style guide"; Sphinx, "The Python domain",
Info field lists. Docstrings found in the wild are looser than these, and so are the patterns here.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection

_HEADER = r"(?:args|arguments|params|parameters|other parameters|keyword arg(?:ument)?s)"
_GOOGLE = re.compile(rf"{_HEADER}\s*:", re.IGNORECASE)
_NUMPY = re.compile(_HEADER, re.IGNORECASE)
_UNDERLINE = re.compile(r"[-=~]{3,}")
_TYPE = r"\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)"
_ITEM = re.compile(
    r"(?P<bullet>[-*+]\s+)?[`*]{0,2}(?P<name>\w+)[`*]{0,2}\s*"
    rf"(?P<type>{_TYPE})?\s*(?::|\s--?(?=\s))(?:\*\*)?\s*(?P<text>.*)"
)
"""``city (str, optional): …``, ``- `city`: …``, ``city - …``"""
_NUMPY_ITEM = re.compile(r"[`*]{0,2}(?P<names>\w+(?:\s*,\s*[`*]{0,2}\w+)*)[`*]{0,2}\s*(?::.*)?")
_FIELD = re.compile(
    r"\s*[:@](?P<kind>param|parameter|arg|argument|key|keyword|kwarg|type)\s+"
    r"(?:[^:]*\s)?\\?\*{0,2}(?P<name>\w+)\s*:\s*(?P<text>.*)"
)
_BULLET = re.compile(r"\s*(?:[-*+•]|\d+[.)])\s")


def split_docstring(text: str, names: Collection[str]) -> tuple[str, dict[str, str]]:
    """Return a docstring without what describes parameters, and the description of each.

    ``names``: those of the parameters.

    >>> split_docstring("Weather. Args:\\n\\nArgs:\\n    city (str): A place.", ["city"])
    ('Weather. Args:', {'city': 'A place.'})
    """
    reader = _Reader(inspect.cleandoc(text).splitlines(), names)
    reader.read()
    kept = re.sub(r"\n{3,}", "\n\n", "\n".join(reader.kept)).strip()
    return kept, {name: _joined(lines) for name, lines in reader.found.items() if _joined(lines)}


def _joined(lines: list[str]) -> str:
    """Return the lines of a description, those of a paragraph on one line."""
    text = ""
    for line in lines:
        starts = not text or text.endswith("\n") or _BULLET.match(line)
        if not line.strip():
            text = text.rstrip("\n") + "\n"
        elif starts:
            text = text.rstrip("\n") + ("\n" if text else "") + line.strip()
        else:
            text += " " + line.strip()
    return text.strip()


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


class _Reader:
    """Reads the lines of a docstring."""

    def __init__(self, lines: list[str], names: Collection[str]) -> None:
        self._lines = lines
        self._names = names
        self._at = 0
        self.kept: list[str] = []
        self.found: dict[str, list[str]] = {}

    def read(self) -> None:
        while self._at < len(self._lines):
            line = self._lines[self._at]
            if _GOOGLE.fullmatch(line.rstrip()) and not self._is_underlined(self._at):
                self._at += 1
                self._read_google()
            elif _NUMPY.fullmatch(line.rstrip().rstrip(":")) and self._is_underlined(self._at):
                self._at += 2
                self._read_numpy()
            elif field := _FIELD.fullmatch(line):
                self._at += 1
                self._read_field(field)
            else:
                self.kept.append(line)
                self._at += 1

    def _is_underlined(self, at: int) -> bool:
        following = self._lines[at + 1 : at + 2]
        return bool(following and _UNDERLINE.fullmatch(following[0].strip()))

    def _first_indent(self) -> int:
        return next((_indent(line) for line in self._lines[self._at :] if line.strip()), 0)

    def _start(self, names: list[str], text: str) -> list[str]:
        """Begin a description; return where its further lines go."""
        lines = [text]
        for name in names:
            if name in self._names:
                self.found.setdefault(name, lines)
        return lines

    def _read_google(self) -> None:
        """Read the items of a section, which ends where a line is indented no more."""
        base = self._first_indent()
        current: list[str] | None = None
        while self._at < len(self._lines):
            line = self._lines[self._at]
            blank = not line.strip()
            item = _ITEM.fullmatch(line.strip()) if _indent(line) <= base else None
            starts = item is not None and self._is_item(item)
            if not blank and _indent(line) == 0 and not (base == 0 and starts):
                break  # not indented: only items go on, in a section that never was
            if item is not None and starts:
                current = self._start([item["name"]], item["text"])
            elif current is not None:
                current.append(line)
            elif line.strip(" .").lower() not in ("", "none"):
                self.kept.append(line)  # words about all of them
            self._at += 1

    def _is_item(self, item: re.Match[str]) -> bool:
        """Return whether this is an item, perhaps of a parameter that is gone; or just words."""
        return item["name"] in self._names or bool(item["type"] and not item["bullet"])

    def _read_numpy(self) -> None:
        """Read the items of a section, which ends with the next one."""
        base = self._first_indent()
        current: list[str] = []
        while self._at < len(self._lines) and not self._is_underlined(self._at):
            line = self._lines[self._at]
            if line.strip() and _indent(line) <= base:
                item = _NUMPY_ITEM.fullmatch(line.strip())
                names = re.findall(r"\w+", item["names"]) if item is not None else []
                following = self._lines[self._at + 1 : self._at + 2]
                has_text = bool(following) and _indent(following[0]) > base
                if not (has_text or any(name in self._names for name in names)):
                    break
                current = self._start(names, "")
            else:
                current.append(line)
            self._at += 1

    def _read_field(self, field: re.Match[str]) -> None:
        """Read the lines that go on with a field."""
        names = [] if field["kind"] == "type" else [field["name"]]
        current = self._start(names, field["text"])
        while self._at < len(self._lines):
            line = self._lines[self._at]
            blank = not line.strip()
            if blank or line.lstrip().startswith((":", "@")):
                break
            current.append(line)
            self._at += 1
