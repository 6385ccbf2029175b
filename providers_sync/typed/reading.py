"""Reads the text of a typed answer: its object at the end, its items and partial objects before."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

from ..errors import InvalidAnswer
from ..json_answer import AnswerReader, json_values
from ..json_reader import NOT_CHANGED, InvalidJSON
from ..server_json import load_json
from .targets import InvalidValue, Target

T = TypeVar("T")
SHOWN_CHARACTERS = 300
"""How much of the validator's words is in the text of an error; all of it is in ``errors``."""


class PartialReader(Generic[T]):
    """Turns the text of an answer into plain objects that grow."""

    def __init__(self, target: Target[T]) -> None:
        self._target = target
        self._reader = _reader_for(target)
        self._last: Any = NOT_CHANGED

    def feed(self, text: str) -> Iterator[Any]:
        """Read a piece of the text; yield the object so far, if it has grown, at most once."""
        self._reader.feed(text)
        partial = plain_part(self._target, self._reader.changed_partial())
        if partial is not NOT_CHANGED:
            self._last = partial
            yield partial

    def restarted(self) -> PartialReader[T]:
        """Return a reader of another text."""
        return PartialReader(self._target)

    def end(self) -> Iterator[Any]:
        """Read the end of the text; yield the whole object if it has grown since.

        Raises ``InvalidJSON`` if it is not whole.
        """
        self._reader.end()
        whole = plain_part(self._target, self._reader.partial())
        if whole is not NOT_CHANGED and whole != self._last:
            yield whole


class ItemReader(Generic[T]):
    """Turns the text of an answer that is a list into its items, each as soon as it is closed."""

    def __init__(self, target: Target[T], invalid: list[InvalidAnswer] | None) -> None:
        self._target = target
        self._invalid = invalid
        self._reader = _reader_for(target)

    def feed(self, text: str) -> Iterator[Any]:
        """Read a piece of the text; yield the items that it closes.

        Raises ``InvalidAnswer`` for one that does not validate, unless these are collected.
        """
        return self._items(self._reader.feed(text))

    def restarted(self) -> ItemReader[T]:
        """Return a reader of another text; the invalid items of this one do not count."""
        if self._invalid is not None:
            self._invalid.clear()
        return ItemReader(self._target, self._invalid)

    def end(self) -> Iterator[Any]:
        """Read the end of the text; yield the last items.

        Raises ``InvalidJSON`` if it is incomplete, and ``InvalidAnswer`` if it is not a list.
        """
        yield from self._items(self._reader.end())
        value = self._reader.partial()
        if not any(isinstance(found, list) for found in self._target.unwrapped(value)):
            error = {"type": "list_type", "loc": (), "msg": "the answer should be a list"}
            raise invalid_answer(self._target, [error], value)

    def _items(self, closed: list[tuple[tuple[Any, ...], Any]]) -> Iterator[Any]:
        for path, value in closed:
            if len(path) != 1 + (path[:1] == (self._target.wrapper,)) or isinstance(path[-1], str):
                continue
            try:
                yield self._target.validate_item(value)
            except InvalidValue as error:
                failure = invalid_answer(self._target, _below(path[-1], error.errors), value)
                if self._invalid is None:
                    raise failure from error.__cause__
                failure.__cause__ = error.__cause__
                self._invalid.append(failure)


def read_value(target: Target[T], text: str, invalid: list[InvalidAnswer] | None = None) -> T:
    """Return the object in the text of an answer.

    ``invalid``: collects the items of a list that do not validate. Raises ``InvalidAnswer``.
    """
    try:
        values = _json_in(text)
    except InvalidJSON as error:
        raise not_json(target, error, text) from error
    failure: InvalidAnswer | None = None
    for plain in (plain for value in values for plain in target.unwrapped(value)):
        try:
            return _validated(target, plain, invalid)
        except InvalidValue as error:
            failure = failure or invalid_answer(target, error.errors, plain, error.__cause__)
    assert failure is not None
    raise failure


def _json_in(text: str) -> list[Any]:
    """Return the values in a text; raise ``InvalidJSON`` if there is none."""
    with contextlib.suppress(ValueError):  # usually there is nothing else
        return [load_json(text)]
    if values := list(json_values(text)):
        return values
    reader = AnswerReader()
    reader.feed(text)
    reader.end()
    return [reader.partial()]


def partial_value(target: Target[Any], text: str) -> Any:
    """Return the plain object as far as it has arrived; ``None`` if nothing of it has."""
    reader = _reader_for(target)
    reader.feed(text)
    plain = plain_part(target, reader.partial())
    return None if plain is NOT_CHANGED else plain


def _reader_for(target: Target[Any]) -> AnswerReader:
    """Return a reader that passes over what cannot be the answer: ``[1]`` in prose, for example."""
    is_object = target.wrapper is None
    return AnswerReader(lists=not is_object, scalars=not (is_object or target.has_items))


def invalid_answer(
    target: Target[Any],
    errors: list[dict[str, Any]],
    value: Any,
    cause: BaseException | None = None,
) -> InvalidAnswer:
    """Return the error for a value that does not validate."""
    words = "; ".join(str(InvalidValue(errors[:3])).splitlines())
    more = f" (and {len(errors) - 3} more)" if len(errors) > 3 else ""
    shown = words if len(words) <= SHOWN_CHARACTERS else words[:SHOWN_CHARACTERS] + "…"
    failure = InvalidAnswer(
        f"the answer does not validate as {target.name}: {shown}{more}", errors=errors
    )
    failure.partial_value = value
    failure.__cause__ = cause
    return failure


def _validated(target: Target[T], value: Any, invalid: list[InvalidAnswer] | None) -> T:
    try:
        return target.validate(value)
    except InvalidValue:
        if invalid is None or not isinstance(value, list):
            raise
    collected: list[InvalidAnswer] = []
    kept = []
    for index, item in enumerate(value):
        try:
            target.validate_item(item)
            kept.append(item)
        except InvalidValue as error:
            errors = _below(index, error.errors)
            collected.append(invalid_answer(target, errors, item, error.__cause__))
    found = target.validate(kept)
    invalid[:] = collected
    return found


def _below(index: Any, errors: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**error, "loc": (index, *error["loc"])} for error in errors]


def plain_part(target: Target[Any], partial: Any) -> Any:
    """Return the part of a partial value that is of the object itself; else ``NOT_CHANGED``."""
    if target.wrapper is None or not isinstance(partial, dict):
        return partial
    if target.wrapper in partial:
        return partial[target.wrapper]
    return NOT_CHANGED if target.has_items or not partial else partial


def not_json(target: Target[Any], error: InvalidJSON, text: str) -> InvalidAnswer:
    """Return the error for a text that holds no whole JSON."""
    errors = [{"type": "json_invalid", "loc": (), "msg": str(error)}]
    failure = InvalidAnswer(f"the answer is not JSON: {error}", errors=errors)
    failure.partial_value = partial_value(target, text)
    failure.__cause__ = error
    return failure
