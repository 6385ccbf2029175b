"""``template=``: a prompt made of the columns of each row.

>>> Template("Translate {text} to {to}: {{}}").fill({"text": "Hello", "to": "French"}, "row 1")
'Translate Hello to French: {}'
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from ..errors import InvalidRequestError
from .cells import cell_text, is_blank, plain_value

COLUMNS_SHOWN = 10
NAME_CHARACTERS = 40
_PARTS = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


def shown_names(names: Iterable[Any]) -> str:
    """Return the first few names of columns, shortened, for an error.

    >>> shown_names(["a", 1]), shown_names([])
    ("'a', 1", 'none')
    """
    shown = (
        repr(name[:NAME_CHARACTERS] if isinstance(name, str) else name)[: NAME_CHARACTERS + 2]
        for name in islice(names, COLUMNS_SHOWN)
    )
    return ", ".join(shown) or "none"


def shown_name(name: str) -> str:
    """Return a name of a column or a row, shortened, for an error."""
    return repr(name[:NAME_CHARACTERS])


def first_twice(names: Iterable[str]) -> str | None:
    """Return the first name that has been there before, if any."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


class Template:
    """A text with ``{column}`` in places; ``{{`` and ``}}`` are braces.

    What stands in braces is the name of a column as it is: no attribute, index or format is looked
    up. Raises ``InvalidRequestError`` for another text.
    """

    def __init__(self, text: object) -> None:
        if not isinstance(text, str):
            raise InvalidRequestError(f"template must be text, not {type(text).__name__}")
        try:
            self._parts = list(_parts(text))
        except ValueError as error:
            raise InvalidRequestError(
                f"the template is not valid: {error}; write {{{{ and }}}} for braces"
            ) from error
        self.columns = list(dict.fromkeys(name for _, name in self._parts if name is not None))
        if not self.columns:
            raise InvalidRequestError(
                "the template does not name a column, so all prompts would be the same: write the "
                "name of a column in braces, such as {text}"
            )

    def check(self, names: Iterable[Any], where: str) -> None:
        """Raise ``InvalidRequestError`` if a column of the template is not among ``names``."""
        found = dict.fromkeys(names)
        for column in self.columns:
            if column not in found:
                raise InvalidRequestError(
                    f"{where} has no column {shown_name(column)}, which the template "
                    f"uses; it has {shown_names(found)}"
                )

    def fill(self, row: Mapping[str, Any], where: str) -> str:
        """Return the prompt of a row, which ``where`` names in errors.

        Raises ``InvalidRequestError`` for a column that is missing, is blank, or cannot be text.
        """
        if any(column not in row for column in self.columns):
            self.check(row, where)
        texts = []
        for before, column in self._parts:
            texts.append(before)
            if column is not None:
                texts.append(_text(row[column], f"{where} has {{}} in column {shown_name(column)}"))
        return "".join(texts)


def _parts(text: str) -> Iterator[tuple[str, str | None]]:
    """Yield each piece of text with the name of the column that follows it, if any."""
    end = 0
    for found in _PARTS.finditer(text):
        before, end = text[end : found.start()], found.end()
        if (name := found[1]) is not None:
            if not name:
                raise ValueError("it has {} without the name of a column")
            yield before, name
        elif len(found[0]) == 2:
            yield before + found[0][0], None
        else:
            raise ValueError(f"it has a single {found[0]}")
    yield text[end:], None


def _text(cell: Any, problem: str) -> str:
    try:
        value = plain_value(cell)
        text = None if value is None else cell_text(value)
    except Exception as error:  # of the cell's class
        kind = type(error).__name__
        problem = problem.format(f"a value that cannot be written as text ({kind})")
        raise InvalidRequestError(problem) from error
    if text is None or is_blank(text):
        raise InvalidRequestError(
            f"{problem.format('no value')} (blank, None or NaN): fill it, or leave the row out"
        )
    return text
