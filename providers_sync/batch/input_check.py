"""Find what is wrong in the rows of an input before the first request; nothing is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..errors import ProviderError
from ..providers import Provider
from .rows import Row, RowNames, to_row
from .templates import Template, shown_name

KINDS_SHOWN = 5
"""How many kinds of mistakes are kept: each row of a wrong file may have its own."""
ANY_MODEL = "model"
"""For rows without a model while it is not known yet: a server may have only one."""


class InputCheck:
    """What is wrong in the rows of an input, by kind.

    ``typed`` has the arguments of a typed answer: ``into`` and ``repairs``.
    """

    def __init__(
        self, provider: Provider, template: Template | None, typed: Mapping[str, Any]
    ) -> None:
        self._provider = provider
        self._template = template
        self._typed = typed
        self._names = RowNames()
        self._kinds: dict[str, list[Any]] = {}  # the first mistake of its kind, and how many
        self.rows = 0
        self.invalid = 0
        self.without_model = 0
        """Rows that can be sent once the provider has a model."""

    def check(self, inputs: Iterable[Any], show: Callable[[int], None]) -> None:
        """Check all rows; ``show`` is told after each one how many there were.

        Raises what reading the inputs raises.
        """
        for self.rows, value in enumerate(inputs, 1):
            row = to_row(value, self.rows, self._template)
            if (mistake := self._mistake(row)) is not None:
                self.invalid += 1
                self._note(row, mistake)
            elif not row.model:
                self.without_model += 1
            show(self.rows)

    def lines(self) -> list[str]:
        """Return the mistakes in words, those of a kind in one line."""
        lines = [
            f"{text}; and {count - 1} more like it" if count > 1 else text
            for text, count in self._kinds.values()
        ]
        others = self.invalid - sum(count for _, count in self._kinds.values())
        return [*lines, f"and {others} more"] if others else lines

    def _mistake(self, row: Row) -> str | None:
        if (earlier := self._names.earlier(row)) is not None:
            name = shown_name(row.custom_id)
            return f"custom_id {name} is already used in row {earlier}: it must be unique"
        if row.error is not None:
            return str(row.error)
        provider = self._provider
        model = row.model or (None if provider.model or provider.default_model else ANY_MODEL)
        try:
            provider.prepare(row.messages, model, retry=None, **row.options, **self._typed)
        except ProviderError as error:
            return str(error)
        return None

    def _note(self, row: Row, mistake: str) -> None:
        where = f"row {row.number}"
        kind = mistake.removeprefix(where)
        if kind in self._kinds:
            self._kinds[kind][1] += 1
        elif len(self._kinds) < KINDS_SHOWN:
            self._kinds[kind] = [mistake if kind != mistake else f"{where}: {mistake}", 1]
