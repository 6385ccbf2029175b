"""Checked copies of JSON schemas: finite, of JSON values, with references that lead somewhere.

Source: JSON Schema 2020-12, Core (where schemas stand in schemas, ``$ref``); RFC 6901 (pointers).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from ..errors import InvalidRequestError

MAX_DEPTH = 100
"""Levels of dicts and lists. Far more than people write, far less than Python's recursion limit."""
MAX_VALUES = 100_000
"""Dicts, lists and values in them; a small object that shares its parts can be huge as JSON."""
TYPES = ("object", "array", "string", "integer", "number", "boolean", "null")

_NUMBERS = (
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    *("minLength", "maxLength", "minItems", "maxItems"),
)
_DEFINITIONS = ("$defs", "definitions")
_NAMED = ("properties", *_DEFINITIONS, "patternProperties", "dependentSchemas")
_LISTED = ("anyOf", "oneOf", "allOf", "prefixItems")
_SINGLE = (
    *("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames"),
    *("unevaluatedItems", "unevaluatedProperties"),
)


def checked_copy(schema: object) -> dict[str, Any]:
    """Return a copy of an object's schema whose root is not a reference.

    Raises ``InvalidRequestError`` if it is not a JSON schema, is too large, or has a reference that
    leads nowhere, outside or back to itself.
    """
    if not isinstance(schema, Mapping):
        raise InvalidRequestError(f"schema must be a dict, not {type(schema).__name__}")
    copy = _Copy().of(schema, "schema", 0)
    _check_all(copy)
    root = _without_root_reference(copy)
    if "type" not in root and "properties" in root:
        root["type"] = "object"
    if root.get("type") != "object":
        raise InvalidRequestError(
            "schema must have the type 'object' at its root: put other types and unions into a "
            "property of an object"
        )
    return root


def wrapped(schema: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the schema of an object whose only property ``name`` follows ``schema``.

    Definitions stay at the root; references to other parts of ``schema`` follow them.

    >>> wrapped({"type": "array", "items": {"$ref": "#"}}, "items")["properties"]
    {'items': {'type': 'array', 'items': {'$ref': '#/properties/items'}}}

    Raises ``InvalidRequestError`` as ``checked_copy`` does.
    """
    inner = _Copy().of(schema, "schema", 0)
    _check_all(inner)
    _move_references(inner, f"#/properties/{name}")
    definitions = {word: inner.pop(word) for word in _DEFINITIONS if word in inner}
    return {
        "type": "object",
        "properties": {name: inner},
        "required": [name],
        "additionalProperties": False,
        **definitions,
    }


def _move_references(schema: Any, to: str) -> None:
    """Change the references to parts of a schema that is moved, but for its definitions."""
    if isinstance(schema, bool):
        return
    reference = schema.get("$ref")
    if reference is not None and reference.split("/")[1:2] not in ([word] for word in _DEFINITIONS):
        schema["$ref"] = to + reference[1:]
    for holder, key, _ in places(schema):
        _move_references(holder[key], to)


def places(schema: Mapping[str, Any]) -> Iterator[tuple[Any, Any, str]]:
    """Yield where the schemas directly inside a schema stand: a dict or list, a key, a path.

    Only keywords lead to schemas: a property may have any name.
    """
    for keyword in _NAMED:
        if keyword in schema:
            yield from ((schema[keyword], name, f"{keyword}.{name}") for name in schema[keyword])
    for keyword in _LISTED:
        options = schema.get(keyword, ())
        yield from ((options, i, f"{keyword}[{i}]") for i in range(len(options)))
    yield from ((schema, keyword, keyword) for keyword in _SINGLE if keyword in schema)


def target_of(reference: Any, root: Mapping[str, Any]) -> Any:
    """Return what ``#/…`` stands for. Raises ``InvalidRequestError`` if there is nothing."""
    if not isinstance(reference, str) or (reference != "#" and not reference.startswith("#/")):
        raise InvalidRequestError(
            f"schema has the reference {reference!r:.200}, which points outside it: put the "
            "definition into its '$defs', and refer to it with '#/$defs/…'"
        )
    value: Any = root
    for part in reference.split("/")[1:]:
        key = unquote(part).replace("~1", "/").replace("~0", "~")
        if isinstance(value, list) and key in map(str, range(min(len(value), MAX_DEPTH))):
            value = value[int(key)]
        elif isinstance(value, dict) and key in value:
            value = value[key]
        else:
            raise InvalidRequestError(
                f"schema has the reference {reference!r:.200}, which points to nothing: add "
                f"{key!r:.80}"
            )
    return value


def with_only_part(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema with an ``allOf`` of one part put into it, if they do not contradict."""
    parts = schema.get("allOf", ())
    if len(parts) != 1 or not isinstance(parts[0], dict):
        return schema
    own = {keyword: value for keyword, value in schema.items() if keyword != "allOf"}
    differing = {word for word in parts[0].keys() & own.keys() if parts[0][word] != own[word]}
    if differing - {"$defs", "title", "description", "default", "examples"}:
        return schema
    return with_only_part({**parts[0], **own})


class _Copy:
    """Copies JSON values and counts them."""

    def __init__(self) -> None:
        self._values = 0

    def of(self, value: Any, name: str, depth: int) -> Any:
        self._values += 1
        if depth > MAX_DEPTH or self._values > MAX_VALUES:
            limit = f"{MAX_DEPTH} levels" if depth > MAX_DEPTH else f"{MAX_VALUES} values"
            raise InvalidRequestError(
                f"schema has more than {limit}: make it smaller, with '$defs' and '$ref' for "
                "repeated parts"
            )
        if isinstance(value, Mapping):
            for key in value:
                if not isinstance(key, str):
                    raise InvalidRequestError(f"{name} has the key {key!r}: keys must be text")
            return {key: self.of(each, f"{name}.{key}", depth + 1) for key, each in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.of(each, f"{name}[{i}]", depth + 1) for i, each in enumerate(value)]
        is_finite = not isinstance(value, float) or math.isfinite(value)
        if value is None or (isinstance(value, (str, int, float)) and is_finite):
            return value
        raise InvalidRequestError(f"{name} must be a JSON value, not {value!r:.80}")


def _check_all(root: dict[str, Any]) -> None:
    """Check each schema in a schema, and what references in it lead to."""
    waiting: list[tuple[Any, str]] = [(root, "schema")]
    checked: set[int] = set()
    while waiting:
        schema, name = waiting.pop()
        if isinstance(schema, bool) or id(schema) in checked:
            continue
        _check(schema, name)
        checked.add(id(schema))
        inside = [(holder[key], f"{name}.{path}") for holder, key, path in places(schema)]
        waiting += reversed(inside)
        if "$ref" in schema:
            _check_chain(schema["$ref"], root)
            waiting.append((target_of(schema["$ref"], root), schema["$ref"]))


def _check(schema: Any, name: str) -> None:
    if not isinstance(schema, dict):
        raise InvalidRequestError(f"{name} must be a JSON schema, a dict, not {schema!r:.80}")
    kinds = schema.get("type", [])
    if kinds not in TYPES and (not isinstance(kinds, list) or any(k not in TYPES for k in kinds)):
        raise InvalidRequestError(f"{name}.type must be one of {', '.join(TYPES)}, or a list")
    if isinstance(schema.get("items"), list):
        raise InvalidRequestError(f"{name}.items must be a schema: use prefixItems for a tuple")
    for keyword in _NAMED:
        if not isinstance(schema.get(keyword, {}), dict):
            raise InvalidRequestError(f"{name}.{keyword} must be a dict of schemas")
    for keyword in (*_LISTED, "enum", "required"):
        if not isinstance(schema.get(keyword, []), list):
            raise InvalidRequestError(f"{name}.{keyword} must be a list")
    for keyword in ("anyOf", "oneOf", "allOf", "enum", "type"):
        if schema.get(keyword) == []:
            raise InvalidRequestError(f"{name}.{keyword} must not be empty")
    if not all(isinstance(each, str) for each in schema.get("required", ())):
        raise InvalidRequestError(f"{name}.required must be a list of names")
    for keyword in _NUMBERS:
        if type(schema.get(keyword, 0)) not in (int, float):
            raise InvalidRequestError(f"{name}.{keyword} must be a number")
    for keyword in ("$ref", "title", "description", "pattern", "format"):
        if not isinstance(schema.get(keyword, ""), str):
            raise InvalidRequestError(f"{name}.{keyword} must be text")


def _check_chain(reference: Any, root: Mapping[str, Any]) -> None:
    """Check that a reference leads to a schema in the end, not only to other references."""
    target = target_of(reference, root)
    for _ in range(MAX_DEPTH):
        if not isinstance(target, dict) or "$ref" not in target:
            return
        target = target_of(target["$ref"], root)
    raise InvalidRequestError(
        f"schema has the reference {reference!r:.200}, which points to itself, or to too many "
        "others: refer to a definition that has a type"
    )


def _without_root_reference(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema whose root is what its reference leads to, with all definitions."""
    root = with_only_part(schema)
    for _ in range(MAX_DEPTH):
        if "$ref" not in root:
            break
        own = {keyword: value for keyword, value in root.items() if keyword != "$ref"}
        root = with_only_part({**own, "allOf": [target_of(root["$ref"], schema)]})
    return root
