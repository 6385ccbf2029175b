"""Simple annotations: their JSON schema, and the argument for a plain value, without pydantic."""

from __future__ import annotations

import collections.abc
import enum
import functools
import json
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

MAX_MISTAKES = 20
"""How many mistakes of one call are listed."""
SHOWN = 40
"""Characters that a message repeats of a wrong value or name."""
_CHOICES = 50
"""Allowed values that a message lists."""
_LISTS = (list, collections.abc.Sequence, collections.abc.MutableSequence, collections.abc.Iterable)
_DICTS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_UNIONS = (typing.Union, types.UnionType)

Mistakes = list[str]
Read = Callable[[Any, str, Mistakes], Any]
"""Returns the argument for a plain value; or adds to the mistakes, under the name given."""


@dataclass(frozen=True)
class ArgumentType:
    """What an annotation says: ``schema`` to the model, ``read`` about a value."""

    schema: dict[str, Any]
    read: Read


def simple_type(annotation: Any) -> ArgumentType | None:
    """Return what a type says that needs no pydantic; ``None`` for any other type."""
    for scalar, kind in _SCALARS:  # not every annotation is hashable
        if annotation is scalar:
            return kind
    origin, arguments = typing.get_origin(annotation) or annotation, typing.get_args(annotation)
    if origin is typing.Annotated:
        return _annotated(arguments[0], arguments[1:])
    if origin is typing.Literal:
        return _literal(arguments)
    if origin in _UNIONS:
        return _union([simple_type(each) for each in arguments])
    if origin in _LISTS and len(arguments) <= 1:
        return _list(simple_type(arguments[0] if arguments else Any))
    if origin in _DICTS and (not arguments or arguments[0] is str):
        return _dict(simple_type(arguments[1] if arguments else Any))
    if isinstance(annotation, enum.EnumMeta):
        return _enum(annotation)
    return simple_type(annotation.__supertype__) if hasattr(annotation, "__supertype__") else None


def _read_kind(
    kinds: tuple[type, ...], wanted: str, value: Any, name: str, mistakes: Mistakes
) -> Any:
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        mistakes.append(f"{name}: must be {wanted}, not {kind_of(value)}")
    return value


def _read_int(value: Any, name: str, mistakes: Mistakes) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return _read_kind((int,), "an integer", value, name, mistakes)


def _read_float(value: Any, name: str, mistakes: Mistakes) -> Any:
    _read_kind((int, float), "a number", value, name, mistakes)
    try:
        return float(value) if isinstance(value, int) else value
    except OverflowError:
        mistakes.append(f"{name}: is too large a number")


def _read_any(value: Any, name: str, mistakes: Mistakes) -> Any:
    return deepcopy(value)  # the function may change it, but not what is sent to the model again


def _scalar(kind: str, read: Read) -> ArgumentType:
    return ArgumentType({"type": kind}, read)


_SCALARS: tuple[tuple[Any, ArgumentType], ...] = (
    (str, _scalar("string", functools.partial(_read_kind, (str,), "a string"))),
    (int, _scalar("integer", _read_int)),
    (float, _scalar("number", _read_float)),
    (bool, _scalar("boolean", functools.partial(_read_kind, (bool,), "true or false"))),
    (None, _scalar("null", functools.partial(_read_kind, (type(None),), "null"))),
    (type(None), _scalar("null", functools.partial(_read_kind, (type(None),), "null"))),
    (Any, ArgumentType({}, _read_any)),
    (object, ArgumentType({}, _read_any)),
)


def _annotated(inner: Any, extras: Sequence[Any]) -> ArgumentType | None:
    """Return a type with its description: a text, or a ``Doc`` (PEP 727)."""
    kind = simple_type(inner)
    texts = [text_of(extra) for extra in extras]
    if kind is None or any(_constrains(extra) for extra in extras):
        return None
    return ArgumentType({**kind.schema, "description": "\n".join(filter(None, texts))}, kind.read)


def text_of(extra: Any) -> str:
    """Return the description that something in ``Annotated`` gives; empty if it gives none."""
    text = extra if isinstance(extra, str) else getattr(extra, "documentation", None)
    text = getattr(extra, "description", None) if text is None else text
    return text if isinstance(text, str) else ""


def _constrains(extra: Any) -> bool:
    """Return whether something in ``Annotated`` may do more than describe."""
    return not isinstance(extra, str) and not isinstance(getattr(extra, "documentation", 0), str)


def _literal(values: Sequence[Any]) -> ArgumentType | None:
    if not all(value is None or type(value) in (str, int, bool) for value in values):
        return None
    return _choice([(value, value) for value in values])


def _enum(kind: enum.EnumMeta) -> ArgumentType | None:
    members: list[Any] = list(kind)
    values = [member.value for member in members]
    if not values or not all(isinstance(each, (str, int, float, type(None))) for each in values):
        return None
    return _choice([(member.value, member) for member in members], kind)


def _choice(pairs: list[tuple[Any, Any]], kind: Any = None) -> ArgumentType:
    """Return the type of one of several values; of an ``Enum`` its member is the argument."""
    values = [value for value, _ in pairs]
    types_ = {_TYPE_NAMES.get(type(value)) for value in values}
    named = {"type": types_.pop()} if len(types_) == 1 and None not in types_ else {}
    shown = ", ".join(json.dumps(value, ensure_ascii=False)[:SHOWN] for value in values[:_CHOICES])
    more = "" if len(values) <= _CHOICES else f" and {len(values) - _CHOICES} more"

    def read(value: Any, name: str, mistakes: Mistakes) -> Any:
        for each, result in pairs:
            if each == value and isinstance(each, bool) == isinstance(value, bool):
                return result
        try:
            if kind is not None and not isinstance(value, bool):
                return kind(value)  # it may know other spellings (``_missing_``)
        except (ValueError, TypeError, KeyError, AttributeError):
            pass
        said = kind_of(value)
        if isinstance(value, str) and len(value) <= SHOWN:
            said = json.dumps(value, ensure_ascii=False)
        mistakes.append(f"{name}: must be one of {shown}{more}, not {said}")

    return ArgumentType({"enum": values, **named}, read)


_TYPE_NAMES = {
    str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"
}  # fmt: skip


def _union(options: Sequence[ArgumentType | None]) -> ArgumentType | None:
    kinds = [option for option in options if option is not None]
    if len(kinds) < len(options):
        return None

    def read(value: Any, name: str, mistakes: Mistakes) -> Any:
        found, wrong = [], []
        for kind in kinds:
            tried: Mistakes = []
            result = kind.read(value, name, tried)
            found += [] if tried else [result]
            wrong.append(tried)
        if found:  # an integer stays one in ``float | int``
            is_number = isinstance(value, (int, float))
            return next((each for each in found if is_number and each is value), found[0])
        # The option of the same kind tells most; else the first one's own words do not fit.
        inner = [tried for tried in wrong if tried and not tried[0].startswith(f"{name}: must be ")]
        wanted = " or ".join(dict.fromkeys(_wanted(tried[0]) for tried in wrong))
        mistakes += inner[0] if inner else [f"{name}: must be {wanted}, not {kind_of(value)}"]

    return ArgumentType({"anyOf": [kind.schema for kind in kinds]}, read)


def _wanted(mistake: str) -> str:
    return mistake.partition(": must be ")[2].rpartition(", not ")[0]


def _list(item: ArgumentType | None) -> ArgumentType | None:
    if item is None:
        return None

    def read(value: Any, name: str, mistakes: Mistakes) -> Any:
        if not isinstance(value, (list, tuple)):
            mistakes.append(f"{name}: must be an array, not {kind_of(value)}")
            return None
        result = []
        for index, each in enumerate(value):
            result.append(item.read(each, f"{name}[{index}]", mistakes))
            if len(mistakes) > MAX_MISTAKES:
                break
        return result

    return ArgumentType({"type": "array", "items": item.schema}, read)


def _dict(item: ArgumentType | None) -> ArgumentType | None:
    if item is None:
        return None

    def read(value: Any, name: str, mistakes: Mistakes) -> Any:
        if not isinstance(value, Mapping):
            mistakes.append(f"{name}: must be an object, not {kind_of(value)}")
            return None
        result = {}
        for key, each in value.items():
            result[key] = item.read(each, f"{name}.{key:.{SHOWN}}", mistakes)
            if len(mistakes) > MAX_MISTAKES:
                break
        return result

    return ArgumentType({"type": "object", "additionalProperties": item.schema or True}, read)


def kind_of(value: Any) -> str:
    """Return what a plain value is, in the words of JSON.

    >>> kind_of(True), kind_of(1.5), kind_of(None), kind_of([])
    ('a boolean', 'a number', 'null', 'an array')
    """
    for kind, name in _KINDS:
        if isinstance(value, kind):
            return name
    return type(value).__name__


_KINDS: tuple[tuple[Any, str], ...] = (
    *((bool, "a boolean"), (int, "an integer"), (float, "a number"), (str, "a string")),
    *((type(None), "null"), ((list, tuple), "an array"), (Mapping, "an object")),
)


def location(path: Sequence[Any], before: str = "") -> str:
    """Return where in a value something is.

    >>> location(("days", 2, "name"))
    'days[2].name'
    """
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f"{before}{part!s:.{SHOWN}}"
        before = "."
    return text
