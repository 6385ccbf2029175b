"""What the rounds of a typed answer have in common, and the completion that they end in."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from ..errors import InvalidAnswer
from ..stream import Channel, PreparedCall, Reading, Source
from ..types import Completion, Messages
from .json_form import to_json

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True)
class TypedCompletion(Completion, Generic[T_co]):
    """A complete typed answer."""

    value: T_co = field(kw_only=True)
    """The object: an instance of the type that ``into=`` names."""
    invalid: tuple[InvalidAnswer, ...] = field(default=(), compare=False)
    """With ``skip_invalid=True`` the items that do not validate, each as an error."""

    def shown_value(self) -> Any:
        """Return the object as JSON, to be shown; ``None`` if a serializer of its type fails."""
        try:
            return to_json(self.value)
        except Exception:  # noqa: BLE001 (it is the user's code)
            return None

    def _repr_html_(self) -> str | None:
        """Return a table of the object for a notebook, in which everything is text."""
        from ..value_table import html_table  # only notebooks need it

        value = self.shown_value()
        return None if value is None else html_table(value)


def asking(repair: Callable[[Messages], PreparedCall], messages: Messages) -> Source:
    """Return a source that prepares its request in the worker thread: it may read large files."""

    def source(channel: Channel) -> Generator[Reading, None, None]:
        yield from repair(messages).source(channel)

    return source
