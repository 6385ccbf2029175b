"""Reads schemas in Google's form, a part of OpenAPI 3.0, into JSON schemas.

Source: Gemini API reference, ``Schema`` and ``Type``.
"""

from __future__ import annotations

from typing import Any

from . import validation
from .gemini_fields import camel_case, read_enum
from .types import RequestError

TYPES = ("STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT", "NULL")
COUNTS = {"minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"}
"""Numbers of 64 bits, which JSON of protocol buffers may have as text."""
MAX_DIGITS = 19
"""Of a number of 64 bits; Python itself raises an error for thousands."""
UNCHANGED = {
    *("title", "description", "format", "pattern", "default", "example"),
    *("minimum", "maximum", "required", "enum"),
}
REFERENCES = {"ref": "$ref", "$ref": "$ref", "defs": "$defs", "$defs": "$defs"}


def read_schema(value: Any, name: str) -> dict[str, Any]:
    """Return the JSON schema that says the same.

    >>> read_schema({"type": "ARRAY", "items": {"type": "STRING", "nullable": True}}, "x")
    {'type': 'array', 'items': {'type': ['string', 'null']}}
    """
    given = validation.check_object(value, name)
    schema: dict[str, Any] = {}
    for key, each in given.items():
        if each is not None:
            _read_keyword(schema, camel_case(key), each, f"{name}.{key}")
    if validation.check_flag(given, "nullable"):
        _allow_null(schema)
    return schema


def _read_keyword(schema: dict[str, Any], key: str, value: Any, name: str) -> None:
    if key == "type":
        if isinstance(value, str) and (kind := read_enum(value.upper(), name, TYPES)):
            schema["type"] = kind.lower()
        elif not isinstance(value, str):
            raise RequestError(f"{name} must be text, not {validation.json_type(value)}")
    elif key in ("items", "additionalProperties"):
        schema[key] = value if isinstance(value, bool) else read_schema(value, name)
    elif key in ("anyOf", "prefixItems"):
        numbered = enumerate(validation.check_list(value, name))
        schema[key] = [read_schema(each, f"{name}[{i}]") for i, each in numbered]
    elif key == "properties" or REFERENCES.get(key) == "$defs":
        named = validation.check_object(value, name).items()
        schema[REFERENCES.get(key, key)] = {
            each: read_schema(part, f"{name}.{each}") for each, part in named
        }
    elif key in COUNTS:
        is_text = isinstance(value, str) and value.isdecimal() and len(value) <= MAX_DIGITS
        if isinstance(value, bool) or not (isinstance(value, int) or is_text):
            raise RequestError(f"{name} must be a whole number")
        schema[key] = int(value)
    elif key in UNCHANGED or key in REFERENCES:
        schema[REFERENCES.get(key, key)] = value
    elif key not in ("nullable", "propertyOrdering"):
        raise RequestError(
            f"{name} is not a keyword of Gemini's schemas: use a JSON schema instead"
        )


def _allow_null(schema: dict[str, Any]) -> None:
    if "anyOf" in schema:
        schema["anyOf"] = [*schema["anyOf"], {"type": "null"}]
    elif "type" in schema:
        schema["type"] = [schema["type"], "null"]
        if isinstance(schema.get("enum"), list):
            schema["enum"] = [*schema["enum"], None]
