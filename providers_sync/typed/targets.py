"""``Target``: the type of a typed answer, its JSON schema, and the validation of a value."""

from __future__ import annotations

import collections.abc
import functools
import json
import typing
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, Generic, TypeVar

from ..errors import InvalidRequestError

T = TypeVar("T")
ITEMS, VALUE = "items", "value"
"""Under which key a list, or anything else that is no object, travels."""
MAX_ERRORS = 100
"""How many mistakes of one answer are listed."""
_LISTS = (
    *(list, set, frozenset, collections.deque, collections.abc.Sequence, collections.abc.Set),
    *(collections.abc.MutableSequence, collections.abc.Iterable, collections.abc.Collection),
)
_INSTALL = "pip install 'providers-sync[typed]'"


class InvalidValue(ValueError):
    """A value does not validate; ``errors`` lists why."""

    def __init__(self, errors: list[dict[str, Any]]) -> None:
        super().__init__(describe_errors(errors))
        self.errors = errors


def describe_errors(errors: list[dict[str, Any]]) -> str:
    """Return the mistakes in words, one line each."""
    return "\n".join(
        f"{'.'.join(map(str, error['loc'])) or 'the answer'}: {error['msg']}" for error in errors
    )


class Target(Generic[T]):
    """What ``into=`` names: a type that pydantic validates, or a JSON schema as a dict.

    Raises ``InvalidRequestError`` for what is neither, and without pydantic 2 for a type.
    """

    def __init__(self, into: Any) -> None:
        self.into = into
        schema, self._validate = _read_schema(into) if isinstance(into, Mapping) else _adapt(into)
        self._validate_item: Callable[[Any], Any] | None = None
        self.wrapper = _wrapper(schema)
        """The key that the value travels under; ``None`` if it is an object itself."""
        self.schema = schema
        """The JSON schema of an answer, always that of an object."""
        if self.wrapper is not None:
            definitions = _definitions(schema)
            inner = {name: value for name, value in schema.items() if name not in definitions}
            self.schema = {
                "type": "object",
                "properties": {self.wrapper: inner},
                "required": [self.wrapper],
                "additionalProperties": False,
                **definitions,
            }

    @classmethod
    def of(cls, into: Any) -> Target[Any]:
        """Return ``into`` itself if it is a ``Target``, else the one for it."""
        return into if isinstance(into, Target) else cls(into)

    def __reduce__(self) -> tuple[type[Target[T]], tuple[Any]]:
        return type(self), (self.into,)

    def __repr__(self) -> str:
        return f"Target({self.into!r})"

    @property
    def name(self) -> str:
        """What ``into=`` names, in words."""
        return "the JSON schema" if isinstance(self.into, Mapping) else _name(self.into)

    @property
    def has_items(self) -> bool:
        """Whether the value is a list."""
        return self.wrapper == ITEMS

    def unwrapped(self, value: Any) -> list[Any]:
        """Return what the value of an answer may be, the likeliest first."""
        if self.wrapper is not None and isinstance(value, dict) and self.wrapper in value:
            return [value[self.wrapper], value]
        return [value]

    def validate(self, value: Any) -> T:
        """Return the object of a plain value. Raises ``InvalidValue``."""
        return typing.cast(T, self._validate(value))

    def validate_item(self, value: Any) -> Any:
        """Return the object of one item of a list. Raises ``InvalidValue``."""
        if self._validate_item is None:
            self._validate_item = _item_validator(self.into)
        return self._validate_item(value)


def _definitions(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a schema that its references lead to."""
    return {name: schema[name] for name in ("$defs", "definitions") if name in schema}


def _wrapper(schema: Mapping[str, Any]) -> str | None:
    """Return the key for a value of a schema; an object needs none."""
    seen: list[str] = []
    while isinstance(reference := schema.get("$ref"), str) and reference not in seen:
        seen.append(reference)
        name = reference.rpartition("/")[2]
        found = (schema.get("$defs") or schema.get("definitions") or {}).get(name)
        if not isinstance(found, Mapping):
            break
        schema = {**found, "$defs": schema.get("$defs") or schema.get("definitions")}
    if schema.get("type") == "object":
        return None
    return ITEMS if schema.get("type") == "array" else VALUE


# --- types, by pydantic


def _adapt(into: Any) -> tuple[dict[str, Any], Callable[[Any], Any]]:
    """Return the JSON schema of a type, and the function that validates a value."""
    try:
        import pydantic
    except ImportError as error:
        raise InvalidRequestError(
            f"into= needs pydantic 2 for a type: {_INSTALL}; a JSON schema as a dict needs nothing"
        ) from error
    if not hasattr(pydantic, "TypeAdapter"):
        raise InvalidRequestError(f"into= needs pydantic 2, not {pydantic.VERSION}: {_INSTALL}")
    from pydantic.errors import PydanticUserError

    try:
        adapter: Any = pydantic.TypeAdapter(into)
        schema = adapter.json_schema()
    except (PydanticUserError, TypeError, NameError) as error:
        raise InvalidRequestError(
            f"into={_name(into)} is no type of which pydantic knows a JSON schema: {error}"
        ) from error
    return schema, functools.partial(_validate_json, adapter)


def _validate_json(adapter: Any, value: Any) -> Any:
    from pydantic import ValidationError

    try:
        # As JSON and not as Python's objects: a strict model takes a date from a string then.
        return adapter.validate_json(json.dumps(value))
    except ValidationError as error:
        errors = error.errors(include_url=False, include_context=False)[:MAX_ERRORS]
        raise InvalidValue([dict(each) for each in errors]) from error


def _item_validator(into: Any) -> Callable[[Any], Any]:
    if isinstance(into, Mapping):
        items = into.get("items")
        if not isinstance(items, Mapping):
            return lambda value: value
        return _schema_validator({**_definitions(into), **items})
    return _adapt(_item_type(into))[1]


def _item_type(into: Any) -> Any:
    """Return the type of the items of a list type; ``Any`` if it names none."""
    origin = typing.get_origin(into)
    if origin is typing.Annotated:
        return _item_type(typing.get_args(into)[0])
    fields = getattr(into, "model_fields", None)
    if isinstance(fields, Mapping) and "root" in fields:  # a RootModel
        return _item_type(fields["root"].annotation)
    arguments = typing.get_args(into)
    is_list = origin in _LISTS or (origin is tuple and arguments[1:] == (...,))
    return arguments[0] if is_list and arguments else Any


def _name(into: Any) -> str:
    return into.__name__ if isinstance(into, type) and not typing.get_args(into) else repr(into)


# --- JSON schemas


def _read_schema(into: Mapping[str, Any]) -> tuple[dict[str, Any], Callable[[Any], Any]]:
    schema = dict(into)
    try:
        json.dumps(schema, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequestError(f"into= is a dict but no JSON schema: {error}") from error
    return schema, _schema_validator(schema)


def _schema_validator(schema: dict[str, Any]) -> Callable[[Any], Any]:
    try:
        import jsonschema  # type: ignore[import-untyped]
        import referencing
    except ImportError:  # the model has been given the schema; nobody checks what it makes of it
        return lambda value: value
    kind = jsonschema.validators.validator_for(schema)
    try:
        kind.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise InvalidRequestError(
            f"into= is no valid JSON schema: {error.message} at {error.json_path}"
        ) from error
    # An empty registry: an address in a schema is never asked for.
    return functools.partial(_check, kind(schema, registry=referencing.Registry()))


def _check(validator: Any, value: Any) -> Any:
    import referencing.exceptions

    try:
        errors = [_as_dict(each) for each in islice(validator.iter_errors(value), MAX_ERRORS)]
    except referencing.exceptions.Unresolvable as error:
        raise InvalidRequestError(f"into= has a $ref that leads nowhere: {error}") from error
    if errors:
        raise InvalidValue(errors)
    return value


def _as_dict(error: Any) -> dict[str, Any]:
    return {"type": error.validator, "loc": tuple(error.absolute_path), "msg": error.message}
