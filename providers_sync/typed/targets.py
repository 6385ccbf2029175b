"""``Target``: the type of a typed answer, its JSON schema, and the validation of a value."""

from __future__ import annotations

import collections.abc
import copy
import dataclasses
import functools
import json
import typing
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, Generic, TypeVar

from ..encoding.schema_trees import MAX_DEPTH, target_of, wrapped
from ..errors import InvalidRequestError

T = TypeVar("T")
ITEMS, VALUE = "items", "value"
"""Under which key a list, or anything else that is not an object, is sent."""
MAX_ERRORS = 100
"""How many mistakes of one answer are listed."""
MESSAGE_PART = 200
"""Characters at the beginning and the end of what is wrong with a value that may be large."""
_LISTS = (
    *(list, set, frozenset, collections.deque, collections.abc.Sequence, collections.abc.Set),
    *(collections.abc.MutableSequence, collections.abc.MutableSet, collections.abc.Iterable),
)
INSTALL = "pip install 'providers-sync[typed]'"


class InvalidValue(ValueError):
    """A value does not validate; ``errors`` lists why."""

    def __init__(self, errors: list[dict[str, Any]]) -> None:
        super().__init__(describe_errors(errors))
        self.errors = errors


class MissingPydanticError(ImportError):
    """Pydantic 2 is not installed; the message is what is needed."""


class _UnknownItemsError(Exception):
    """A list names no one type for its items."""


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
        self.schema = schema if self.wrapper is None else wrapped(schema, self.wrapper)
        """The JSON schema of an answer, always that of an object."""

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

    def prepare_items(self, wanted: str) -> None:
        """Raise ``InvalidRequestError`` if the value has no items to be validated one at a time."""
        if not self.has_items:
            raise InvalidRequestError(
                f"{wanted} needs into=list[…]: {self.name} is not a list; use value or partials()"
            )
        try:
            self._validate_item = self._validate_item or _item_validator(self.into)
        except _UnknownItemsError:
            raise InvalidRequestError(
                f"{wanted} needs into=list[…]: {self.name} has no single item type; use value or "
                "partials()"
            ) from None

    def validate_item(self, value: Any) -> Any:
        """Return the object of one item of a list. Raises ``InvalidValue``."""
        if self._validate_item is None:
            self.prepare_items("an item")
        assert self._validate_item is not None
        return self._validate_item(value)


def _wrapper(schema: Mapping[str, Any]) -> str | None:
    """Return the key for a value of a schema; an object needs none."""
    kind = _followed(schema, schema).get("type")
    if kind == "object":
        return None
    return ITEMS if kind == "array" else VALUE


def _followed(schema: Any, root: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what the reference of a schema leads to, or the schema itself."""
    for _ in range(MAX_DEPTH):
        if not isinstance(schema, Mapping) or "$ref" not in schema:
            break
        schema = target_of(schema["$ref"], root)
    return schema if isinstance(schema, Mapping) else {}


# --- types, by pydantic


def _adapt(into: Any) -> tuple[dict[str, Any], Callable[[Any], Any]]:
    """Return the JSON schema of a type, and the function that validates a value."""
    if isinstance(into, str):
        raise InvalidRequestError(
            f"into={into!r:.80} is a string, not a type: pass the type itself"
        )
    if typing.get_origin(into) in (collections.abc.Generator, collections.abc.Iterator):
        raise InvalidRequestError(
            f"into={_name(into)} is not the type of a whole answer: use list[…]"
        )
    try:
        return adapt_type(into)
    except MissingPydanticError as error:
        raise InvalidRequestError(
            f"into= needs {error} for a type: {INSTALL}; a JSON schema in a dict needs no extra "
            "package"
        ) from error
    except TypeError as error:
        raise InvalidRequestError(
            f"pydantic has no JSON schema for into={_name(into)}: {_hint(into) or error}"
        ) from error.__cause__


def adapt_type(kind: Any) -> tuple[dict[str, Any], Callable[[Any], Any]]:
    """Return the JSON schema of a type, and a function that makes its object of a plain value.

    That function raises ``InvalidValue``. Raises ``MissingPydanticError``, and ``TypeError`` for
    what pydantic knows no JSON schema of.
    """
    try:
        import pydantic
    except ImportError as error:
        raise MissingPydanticError("pydantic 2") from error
    if not hasattr(pydantic, "TypeAdapter"):
        raise MissingPydanticError(f"pydantic 2, not {pydantic.VERSION},")
    if typing.get_origin(kind) is collections.abc.Iterable:  # pydantic would validate it later
        kind = list.__class_getitem__(typing.get_args(kind))
    from pydantic.errors import PydanticUserError

    try:
        adapter: Any = pydantic.TypeAdapter(kind)
        schema = adapter.json_schema()
    except (PydanticUserError, TypeError, NameError) as error:
        raise TypeError(str(error)) from error
    return schema, functools.partial(_validate_json, adapter)


def _validate_json(adapter: Any, value: Any) -> Any:
    from pydantic import ValidationError

    try:
        # As JSON and not as Python's objects: a strict model takes a date from a string then.
        return adapter.validate_json(json.dumps(value))
    except ValidationError as error:
        # Without the input: that of each missing field is the whole object.
        errors = error.errors(include_url=False, include_context=False, include_input=False)
        raise InvalidValue([dict(each) for each in errors[:MAX_ERRORS]]) from error


def _item_validator(into: Any) -> Callable[[Any], Any]:
    """Return the function that validates an item. Raises ``_UnknownItemsError``."""
    if isinstance(into, Mapping):
        schema = _followed(into, into)
        if "prefixItems" in schema:
            raise _UnknownItemsError
        return schema_validator(dict(into), schema.get("items", True))
    return _adapt(_item_type(into))[1]


def _item_type(into: Any) -> Any:
    """Return the type of the items of a list type; ``Any`` if it names none.

    Raises ``_UnknownItemsError`` if they have different ones.
    """
    origin, arguments = typing.get_origin(into) or into, typing.get_args(into)
    if origin is typing.Annotated:
        return _item_type(arguments[0])
    if hasattr(origin, "__value__"):  # an alias: ``type Recipes = list[Recipe]``
        values = dict(zip(origin.__type_params__, arguments, strict=False))
        wanted = tuple(values[each] for each in getattr(origin.__value__, "__parameters__", ()))
        return _item_type(origin.__value__[wanted] if wanted else origin.__value__)
    if hasattr(origin, "__supertype__"):  # a NewType
        return _item_type(origin.__supertype__)
    fields = getattr(into, "model_fields", None)
    if isinstance(fields, Mapping) and "root" in fields:  # a RootModel
        return _item_type(fields["root"].annotation)
    if origin in _LISTS or (origin is tuple and arguments[1:] in ((), (...,))):
        return arguments[0] if arguments else Any
    raise _UnknownItemsError


def _hint(into: Any) -> str:
    """Return what to pass instead of something that is not a type."""
    if isinstance(into, (list, tuple)):
        return "for a list use list[…]"
    is_instance = hasattr(type(into), "model_fields") or dataclasses.is_dataclass(into)
    return "give the class, not an instance" if is_instance and not isinstance(into, type) else ""


def _name(into: Any) -> str:
    is_class = isinstance(into, type) and not typing.get_args(into)
    return into.__name__ if is_class else f"{into!r:.80}"


# --- JSON schemas


def _read_schema(into: Mapping[str, Any]) -> tuple[dict[str, Any], Callable[[Any], Any]]:
    try:
        json.dumps(dict(into), allow_nan=False)
        schema = copy.deepcopy(dict(into))  # what is sent and what validates stay the same
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequestError(f"into= is a dict, but not a JSON schema: {error}") from error
    if not isinstance(schema.get("$schema", ""), str):
        raise InvalidRequestError("into= is not a valid JSON schema: $schema must be text")
    return schema, schema_validator(schema, schema)


def schema_validator(
    schema: dict[str, Any], part: Any, name: str = "into="
) -> Callable[[Any], Any]:
    """Return the function that validates a value by a part of a schema, or by all of it.

    It raises ``InvalidValue``; without jsonschema it takes everything. Raises
    ``InvalidRequestError``, which begins with ``name``, for anything that is not a JSON schema.
    """
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
            f"{name} is not a valid JSON schema: {error.message:.300} at {error.json_path}"
        ) from error
    # An empty registry: an address in a schema is never asked for.
    validator = kind(schema, registry=referencing.Registry()).evolve(schema=part)
    return functools.partial(_check, validator, name)


def _check(validator: Any, name: str, value: Any) -> Any:
    import referencing.exceptions

    try:
        errors = [_as_dict(each) for each in islice(validator.iter_errors(value), MAX_ERRORS)]
        json.dumps(value, allow_nan=False)
    except ValueError as error:
        message = "NaN and infinity are not JSON numbers"
        raise InvalidValue([{"type": "number", "loc": (), "msg": message}]) from error
    except referencing.exceptions.Unresolvable as error:
        raise InvalidRequestError(f"{name} has a $ref that points to nothing: {error}") from error
    except RecursionError as error:
        message = "too many levels of objects and lists to be validated"
        raise InvalidValue([{"type": "recursion", "loc": (), "msg": message}]) from error
    if errors:
        raise InvalidValue(errors)
    return value


def _as_dict(error: Any) -> dict[str, Any]:
    words = error.message  # it begins with the value
    if len(words) > 2 * MESSAGE_PART:
        words = f"{words[:MESSAGE_PART]}…{words[-MESSAGE_PART:]}"
    return {"type": error.validator, "loc": tuple(error.absolute_path), "msg": words}
