"""``template=``: a prompt made of the columns of each row.

>>> Template("Translate {text} to {to}: {{}}").fill({"text": "Hello", "to": "French"}, "row 1")
'Translate Hello to French: {}'
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from string import Formatter
from typing import Any

from ..errors import InvalidRequestError
from .cells import cell_text, plain_value

COLUMNS_SHOWN = 10
NAME_CHARACTERS = 40


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
            self._parts = [_part(*part) for part in Formatter().parse(text)]
        except ValueError as error:
            raise InvalidRequestError(
                f"the template is not valid: {error}; write {{{{ and }}}} for braces"
            ) from error
        self.columns = list(dict.fromkeys(name for _, name in self._parts if name is not None))
        if not self.columns:
            raise InvalidRequestError(
                "the template names no column, so that all prompts would be the same: write the "
                "name of a column in braces, such as {text}"
            )

    def check(self, names: Iterable[Any], where: str) -> None:
        """Raise ``InvalidRequestError`` if a column of the template is not among ``names``."""
        found = list(names)
        for column in self.columns:
            if column not in found:
                raise InvalidRequestError(
                    f"{where} has no column {column[:NAME_CHARACTERS]!r}, which the template "
                    f"names; it has {shown_names(found)}"
                )

    def fill(self, row: Mapping[str, Any], where: str) -> str:
        """Return the prompt of a row, which ``where`` names in errors.

        Raises ``InvalidRequestError`` for a column that is missing, or has no value.
        """
        self.check(row, where)
        texts = []
        for before, column in self._parts:
            texts.append(before)
            if column is not None:
                value = plain_value(row[column])
                if value is None:
                    raise InvalidRequestError(
                        f"{where} has no value in column {column[:NAME_CHARACTERS]!r} "
                        "(None or NaN): fill it, or leave the row out"
                    )
                texts.append(cell_text(value))
        return "".join(texts)


def _part(
    text: str, name: str | None, form: str | None, conversion: str | None
) -> tuple[str, str | None]:
    if name == "":
        raise ValueError("it has {} without the name of a column")
    if form or conversion:
        raise ValueError(
            f"{{{name}{'!' + conversion if conversion else ''}{':' + form if form else ''}}} is "
            "more than the name of a column"
        )
    return text, name
