"""JSON schemas in the words that llama.cpp can hold a model to.

Not expressible, and refused: ``not``, ``if``, ``contains``, ``dependentRequired``,
``propertyNames`` other than a list of names or a pattern, look-around in ``pattern``, and ``oneOf``
with options that may overlap. ``uniqueItems`` is not expressible, either: it is refused where the
request has ``strict: true``, and else left out, since a Python set accepts the same item twice. A
``format`` that llguidance does not know is an annotation, as it is in JSON Schema itself.
Sources: llguidance, docs/json_schema.md; JSON Schema 2020-12, Validation, section 7.2.1.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

EXACT_INTEGER = 2**53 - 1
"""Limit of integers without bounds (RFC 7493); a small model may go on to write digits."""
FRACTION = 1e-6
"""Step of numbers with neither a step nor narrow bounds, for the same reason."""
FORMATS = ("date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uuid")
"""The formats that llguidance knows."""
LONGEST = {"date-time": 27, "time": 16, "duration": 8, "email": 64, "hostname": 64}
"""Characters of formats that could go on and on; seconds have at most six decimals."""
URI = r"^https?://[a-z0-9-]+(\.[a-z0-9-]+)+(/[A-Za-z0-9._~-]+)*/?$"
"""What ``format: uri`` is held to: the addresses of web pages, as most schemas mean them."""
URI_LENGTH = 80


def held_schema(schema: dict[str, Any], is_strict: bool) -> dict[str, Any]:
    """Return a schema that llguidance can hold, if there is one; what fits it fits ``schema``.

    ``is_strict``: keep keywords that cannot be held, so that the schema is refused.
    """
    held: dict[str, Any] = _expressible(schema, schema, is_strict)
    return held if _combines_objects(held) else _narrowed(held, held)


def _expressible(schema: Any, root: Mapping[str, Any], is_strict: bool) -> Any:
    """Return a schema with keywords that llguidance does not know put in words that it knows."""
    if not isinstance(schema, dict):
        return schema
    schema = _with_each(schema, lambda inner: _expressible(inner, root, is_strict))
    if isinstance(schema.get("anyOf"), list):  # a number or a text, as pydantic writes Decimal
        options = [each for each in schema["anyOf"] if not _looks_around(each)]
        schema["anyOf"] = options or schema["anyOf"]
    kind = schema.get("format")
    if isinstance(kind, str) and kind not in FORMATS:
        del schema["format"]
        if kind == "uri" and "pattern" not in schema:
            schema = {**_without_bounds(schema), "pattern": URI}
            if "minLength" not in schema:
                schema.setdefault("maxLength", URI_LENGTH)
    if schema.get("uniqueItems") is False or not is_strict:
        schema.pop("uniqueItems", None)
    return _with_names(schema, root)


def _looks_around(schema: Any) -> bool:
    """Return whether a schema has a pattern that llguidance does not know."""
    pattern = schema.get("pattern") if isinstance(schema, dict) else None
    return isinstance(pattern, str) and bool(re.search(r"\(\?<?[=!]", pattern))


def _without_bounds(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a string's schema without limits of length that every short address keeps."""
    least, most = schema.get("minLength", 0), schema.get("maxLength", URI_LENGTH)
    is_wide = least in range(11) and isinstance(most, int) and most >= URI_LENGTH
    dropped = ("minLength", "maxLength") if is_wide else ()
    return {key: value for key, value in schema.items() if key not in dropped}


def _with_names(schema: dict[str, Any], root: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema with its ``propertyNames`` as properties, if these say the same."""
    if "propertyNames" not in schema or schema.keys() & {"properties", "patternProperties"}:
        return schema
    names, value = _resolved(schema["propertyNames"], root), schema.get("additionalProperties", {})
    found = _values(names)
    made = {key: each for key, each in schema.items() if key != "propertyNames"}
    if all(isinstance(name, str) for name in found or [0]):
        return {**made, "properties": dict.fromkeys(found, value), "additionalProperties": False}
    if isinstance(names, dict) and names.keys() - {"type", "title"} == {"pattern"}:
        patterns = {names["pattern"]: value}
        return {**made, "patternProperties": patterns, "additionalProperties": False}
    return schema


def _resolved(schema: Any, root: Mapping[str, Any]) -> Any:
    """Return the definition that a schema refers to, if it does."""
    reference = schema.get("$ref") if isinstance(schema, dict) else None
    match = re.fullmatch(r"#/(\$defs|definitions)/([^/~%]+)", str(reference))
    definitions = root.get(match[1]) if match else None
    return definitions.get(match[2]) if match and isinstance(definitions, dict) else schema


def _values(schema: Any) -> list[Any]:
    """Return the values that a schema lists; none if it lists none."""
    if not isinstance(schema, dict):
        return []
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    return values if isinstance(values, list) else []


def _combines_objects(schema: Any) -> bool:
    """Return whether one object has to fit several schemas, which then allow each other's keys."""
    if isinstance(schema, list):
        return any(map(_combines_objects, schema))
    if not isinstance(schema, dict):
        return False
    keys = schema.keys()
    combines = "properties" in keys and keys & {"anyOf", "oneOf", "$ref"}
    return bool(combines or "allOf" in keys or any(map(_combines_objects, schema.values())))


def _narrowed(schema: Any, root: Mapping[str, Any]) -> Any:
    """Return a schema without what makes a small model go on and on; what fits it fits ``schema``.

    Keys that no property names, unless the schema allows them itself, and endless numbers and
    formats. A constant is required, as it may tell the options of ``oneOf`` apart.
    """
    if not isinstance(schema, dict):
        return schema
    schema = _with_each(schema, lambda inner: _narrowed(inner, root))
    properties, required = schema.get("properties"), schema.get("required", [])
    if isinstance(properties, dict) and isinstance(required, list):
        constants = [name for name, each in properties.items() if _is_constant(each)]
        if constants:
            required = [*required, *(name for name in constants if name not in required)]
            schema["required"] = required
        if "patternProperties" not in schema and all(name in [*properties] for name in required):
            schema.setdefault("additionalProperties", False)
    if _are_apart(schema.get("oneOf"), root):
        schema["anyOf"] = schema.pop("oneOf")
    longest = LONGEST.get(str(schema.get("format")))
    if longest and schema.keys().isdisjoint(("minLength", "pattern")):
        schema.setdefault("maxLength", longest)
    kinds = schema.get("type")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if "number" in kinds and _is_wide(schema):
        schema.setdefault("multipleOf", FRACTION)
    if "number" in kinds or "integer" in kinds:
        for name, limit in (("inimum", -EXACT_INTEGER), ("aximum", EXACT_INTEGER)):
            if f"exclusiveM{name}" not in schema:
                schema.setdefault(f"m{name}", limit)
    return schema


def _is_constant(schema: Any) -> bool:
    return isinstance(schema, dict) and "const" in schema


def _is_wide(schema: Mapping[str, Any]) -> bool:
    """Return whether a number's bounds are further apart than ``FRACTION``.

    llguidance finds no number at all where a step meets bounds below zero.
    """
    lows = [schema[name] for name in ("minimum", "exclusiveMinimum") if name in schema]
    highs = [schema[name] for name in ("maximum", "exclusiveMaximum") if name in schema]
    if not all(type(each) in (int, float) for each in [*lows, *highs]):
        return False
    highest = min(highs, default=EXACT_INTEGER)
    return highest > 0 and highest - max(lows, default=-EXACT_INTEGER) > 2 * FRACTION


def _are_apart(options: Any, root: Mapping[str, Any]) -> bool:
    """Return whether a required property has other values in each of the options of ``oneOf``.

    llguidance finds that out by itself for some schemas, but not for those that ``$ref`` names.
    """
    found = [_resolved(each, root) for each in options] if isinstance(options, list) else []
    if not found or not all(isinstance(each, dict) for each in found):
        return False
    return any(_differ([_tags(each).get(name) for each in found]) for name in _tags(found[0]))


def _tags(schema: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return the values of each property that is required, or a constant, and lists them."""
    properties, required = schema.get("properties"), schema.get("required")
    if not isinstance(properties, dict):
        return {}
    sure = required if isinstance(required, list) else []
    return {
        name: _values(each)
        for name, each in properties.items()
        if _values(each) and (name in sure or _is_constant(each))
    }


def _differ(options: list[list[Any] | None]) -> bool:
    """Return whether no two options share a value; numbers may be equal in other words."""
    values = [value for each in options for value in each or [None]]
    is_known = all(each and len(set(map(str, each))) == len(each) for each in options)
    return is_known and all(isinstance(v, str) for v in values) and len(set(values)) == len(values)


def _with_each(schema: dict[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    """Return a schema with each schema in it changed."""
    made = dict(schema)
    for key in schema.keys() & {"properties", "patternProperties", "$defs", "definitions"}:
        if isinstance(schema[key], dict):
            made[key] = {name: change(each) for name, each in schema[key].items()}
    for key in schema.keys() & {"anyOf", "oneOf", "allOf", "prefixItems"}:
        if isinstance(schema[key], list):
            made[key] = [change(each) for each in schema[key]]
    for key in schema.keys() & {"items", "additionalProperties"}:
        made[key] = change(schema[key])
    return made
