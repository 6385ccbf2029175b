"""What the rounds of a typed answer have in common, and the completion that they end in."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from ..errors import InvalidAnswer
from ..finish_reasons import explain, shown_text
from ..printable import counted
from ..stream import Channel, PreparedCall, Reading, Source
from ..types import Completion, Messages
from .json_form import to_json

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True)
class TypedCompletion(Completion, Generic[T_co]):
    """A complete typed answer: a ``Completion`` with an object.

    Attributes:
        value: The object: an instance of the type that ``into=`` names.
        invalid: With ``skip_invalid=True`` the items that do not validate, each as an error.
    """

    value: T_co = field(kw_only=True)
    invalid: tuple[InvalidAnswer, ...] = field(default=(), compare=False)

    def _repr_html_(self) -> str | None:
        """Return a table of the object for a notebook, in which everything is text.

        What the answer says around it is there, too, how many items are invalid, and why it is not
        whole, if it is not.
        """
        from ..value_table import html_answer, html_text  # only notebooks need it

        value = shown_value(self)
        if value is None:  # then it is shown as text
            return None
        number = len(self.invalid)
        words = " · ".join(
            filter(None, [counted(number, "invalid item") if number else "", explain(self)])
        )
        line = f"<strong>{html_text(words)}</strong>" if words else ""
        return html_answer(value, shown_text(self)) + line


def shown_value(answer: TypedCompletion[Any]) -> Any:
    """Return the object as JSON, to be shown; ``None`` if a serializer of its type fails."""
    try:
        return to_json(answer.value)
    except Exception:  # noqa: BLE001 (it is the user's code)
        return None


def rejected_texts(error: BaseException) -> list[str]:
    """Return what the model wrote before it was asked again, of an answer that ends in ``error``.

    Those are the texts that did not validate, the first one first.
    """
    texts: list[str] = []
    before = error.__context__
    while isinstance(before, InvalidAnswer):
        texts.insert(0, before.partial)
        before = before.__context__
    return texts


def asking(repair: Callable[[Messages], PreparedCall], messages: Messages) -> Source:
    """Return a source that prepares its request in the worker thread: it may read large files."""

    def source(channel: Channel) -> Generator[Reading, None, None]:
        yield from repair(messages).source(channel)

    return source
