"""What a command line says about a call: options, attachments and the schema of the answer.

>>> parse_options(["temperature=0.2", "stop=END"], max_tokens=100)
{'temperature': 0.2, 'stop': 'END', 'max_tokens': 100}
>>> parse_schema("name, age int")["properties"]
{'name': {'type': 'string'}, 'age': {'type': 'integer'}}
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from .errors import InvalidRequestError
from .files import load_file

_OTHER_ARGUMENTS = {
    **{"model": "--model", "system": "--system", "tools": "--tool", "into": "--schema"},
    **dict.fromkeys(("self", "messages", "cancel", "approve", "journal"), ""),
}
"""Names that are not options of a request, and what to use instead."""
_TYPES = {
    **dict.fromkeys(("str", "string", "text"), "string"),
    **dict.fromkeys(("int", "integer"), "integer"),
    **dict.fromkeys(("float", "number"), "number"),
    **dict.fromkeys(("bool", "boolean"), "boolean"),
}
SCHEMA_BYTES = 4 * 1024 * 1024


def parse_options(options: Sequence[str], max_tokens: int | None = None) -> dict[str, Any]:
    """Return the options that ``NAME=VALUE`` texts set; the last one of a name wins.

    A value is JSON (``0.2``, ``true``, ``null``, ``["a"]``), or else text. Raises
    ``InvalidRequestError`` for a text of another form, and for what is not an option.
    """
    parsed: dict[str, Any] = {}
    for option in options:
        name, equals, text = option.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name.isidentifier():
            raise InvalidRequestError(
                f"-o needs NAME=VALUE, such as temperature=0.2, not {option[:60]!r}"
            )
        if name in _OTHER_ARGUMENTS:
            instead = _OTHER_ARGUMENTS[name]
            raise InvalidRequestError(
                f"-o {name}: {f'use {instead}' if instead else 'this is not a request option'}"
            )
        parsed[name] = _value(text)
    if max_tokens is not None:
        if max_tokens < 1:
            raise InvalidRequestError(f"--max-tokens must be 1 or more, not {max_tokens}")
        parsed["max_tokens"] = max_tokens
    return parsed


def _value(text: str) -> Any:
    try:
        return _decode(text)
    except (ValueError, RecursionError):
        return text


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


_decode = json.JSONDecoder(parse_constant=_reject_constant).decode


def attachment_part(name: str) -> dict[str, Any]:
    """Return the part of a message for a file's name or a URL; the content tells its type.

    Raises ``InvalidRequestError`` like ``load_file``, and for an address without a known type.
    """
    if not name.strip():
        raise InvalidRequestError("-a needs a file name or a URL")
    if name[:8].lower().startswith(("http://", "https://", "data:")):
        source: object = name
    else:
        source = Path(os.path.expanduser(name))
    file = load_file(source, f"the attachment {name[:200]}")
    if file.kind == "":
        raise InvalidRequestError(
            f"the type of the attachment {name[:200]} is unknown: its URL must end in, for "
            "example, .png or .pdf; otherwise download it and pass the file"
        )
    return {"type": "file", "file": source}


def parse_schema(text: str) -> dict[str, Any]:
    """Return the JSON schema that a text describes.

    It is the schema itself; or the name of a file with one, which ends in ``.json`` or has a
    slash before any colon; or the fields of an object: ``name, age int, bio: one sentence``.
    A field is text, or an ``int``, ``float`` or ``bool``; a colon begins its description.

    Raises ``InvalidRequestError`` for anything else.
    """
    if text.lstrip().startswith("{"):
        return _json_schema(text, "--schema")
    if text.endswith(".json") or "/" in text.partition(":")[0] or "\\" in text:
        return _json_schema(_read(text), text)
    fields = [_field(field) for field in text.split(",") if field.strip()]
    properties = dict(fields)
    if not properties:
        raise InvalidRequestError("--schema needs a file, a JSON schema, or fields: name, age int")
    if len(properties) < len(fields):
        raise InvalidRequestError("--schema has two fields with the same name")
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _read(path: str) -> str:
    try:
        with open(os.path.expanduser(path), encoding="utf-8-sig") as file:
            text = file.read(SCHEMA_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidRequestError(f"the schema {path} cannot be read: {reason}") from error
    if len(text) > SCHEMA_BYTES:
        raise InvalidRequestError(f"the schema {path} is larger than {SCHEMA_BYTES >> 20} MB")
    return text


def _json_schema(text: str, name: str) -> dict[str, Any]:
    try:
        schema = _decode(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError(f"{name} is not JSON: {error}") from error
    if not isinstance(schema, dict):
        raise InvalidRequestError(f"{name} is not a JSON schema: it must be an object")
    from .typed.targets import schema_validator  # late: few need it

    schema_validator(schema, schema, name)
    return schema


def _field(text: str) -> tuple[str, dict[str, str]]:
    words, _, description = text.partition(":")
    name, _, kind = words.strip().partition(" ")
    kind, description = kind.strip() or "str", description.strip()
    if not re.fullmatch(r"\w[\w-]*", name) or kind not in _TYPES or description in _TYPES:
        raise InvalidRequestError(
            f"--schema has a field {text.strip()[:60]!r}; a field is a name, then one of str, int, "
            'float, bool, and a description without a comma after a colon: "age int: in years"'
        )
    field = {"type": _TYPES[kind]}
    if description:
        field["description"] = description
    return name, field
