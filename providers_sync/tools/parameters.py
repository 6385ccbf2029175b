"""The parameters of a tool: their JSON schema, and the values for the arguments of a call."""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from ..errors import InvalidRequestError
from .argument_types import accepts_none, argument_type, description_in
from .signatures import EMPTY, Signature
from .simple_types import SHOWN, ArgumentType, Mistakes, location

_MAX_DEFAULT = 1000
"""Characters of a default value as JSON; the model is not told a larger one."""
_NO_VALUE = object()


class FunctionParameters:
    """The parameters of a function, by its annotations; ``texts`` describe them.

    Raises ``InvalidRequestError`` for a parameter that JSON cannot carry.
    """

    def __init__(self, signature: Signature, texts: Mapping[str, str]) -> None:
        signature.check_describable()
        self._types: dict[str, ArgumentType] = {}
        properties: dict[str, Any] = {}
        definitions: dict[str, Any] = {}
        for each in signature.parameters:
            if each.name in signature.cancel_names:
                continue
            owner = signature.owner_of(each)
            annotation = signature.annotation_of(each)
            kind = argument_type(Any if annotation is EMPTY else annotation, owner)
            schema = _hoisted(kind.schema, definitions)
            if each.default is None and not accepts_none(kind):
                schema = {"anyOf": [schema, {"type": "null"}]}
                kind = _or_none(kind)
            if description := description_in(annotation) or texts.get(each.name):
                schema = {**schema, "description": description}
            if (default := _default(each.default, owner)) is not _NO_VALUE:
                schema = {**schema, "default": default}
            self._types[each.name] = kind
            properties[each.name] = schema
        self._required = [
            each.name
            for each in signature.parameters
            if each.name in properties and each.default is EMPTY
        ]
        self.schema: dict[str, Any] = {
            "type": "object",
            "properties": properties,
            **({"required": list(self._required)} if self._required else {}),
            "additionalProperties": False,
            **({"$defs": definitions} if definitions else {}),
        }

    def read(self, arguments: Mapping[str, Any], mistakes: Mistakes) -> dict[str, Any]:
        """Return the values to call the function with; or add to the mistakes."""
        values: dict[str, Any] = {}
        for name in arguments:
            if name not in self._types:
                known = ", ".join(self._types) or "none"
                mistakes.append(f"{name!s:.{SHOWN}}: is unknown (known: {known}); leave it out")
        for name, kind in self._types.items():
            if name not in arguments:
                mistakes += [f"{name}: is missing"] * (name in self._required)
                continue
            count = len(mistakes)
            values[name] = kind.read(arguments[name], name, mistakes)
            if len(mistakes) > count and arguments[name] is None and name not in self._required:
                mistakes[-1] += "; leave it out for the default"
        return values


class SchemaParameters:
    """The parameters by a JSON schema of the user's own.

    Raises ``InvalidRequestError`` for what is not a JSON schema of an object.
    """

    def __init__(self, signature: Signature, name: str, schema: object) -> None:
        from ..typed.targets import schema_validator

        self._signature = signature
        owner = f"parameters= of the tool {name!r}"
        if not isinstance(schema, Mapping):
            raise InvalidRequestError(
                f"{owner} must be a JSON schema, a dict, not {type(schema).__name__}"
            )
        try:
            plain = json.loads(json.dumps(dict(schema), allow_nan=False))
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidRequestError(f"{owner} is not JSON: {error!s:.200}") from error
        # OpenAI refuses an object without ``properties``, which servers of tools leave out.
        self.schema: dict[str, Any] = {"type": "object", "properties": {}, **plain}
        if self.schema["type"] != "object" or not isinstance(self.schema["properties"], dict):
            raise InvalidRequestError(
                f'{owner} must be the schema of an object: {{"type": "object", "properties": …}}'
            )
        self._validate = schema_validator(self.schema, self.schema, owner)

    def read(self, arguments: Mapping[str, Any], mistakes: Mistakes) -> dict[str, Any]:
        """Return the values to call the function with; or add to the mistakes."""
        from ..typed.targets import InvalidValue

        values = deepcopy(dict(arguments))  # the function may change them
        try:
            self._validate(values)
            tokens = dict.fromkeys(self._signature.cancel_names)
            self._signature.check_call({**values, **tokens})
        except InvalidValue as error:
            for each in error.errors:
                mistakes.append(f"{location(each['loc']) or 'the arguments'}: {each['msg']}")
        except TypeError as error:
            mistakes.append(f"the arguments: {error}")
        return values


def _or_none(kind: ArgumentType) -> ArgumentType:
    def read(value: Any, name: str, mistakes: Mistakes) -> Any:
        return None if value is None else kind.read(value, name, mistakes)

    return ArgumentType(kind.schema, read)


def _default(value: Any, owner: str) -> Any:
    """Return a default value as JSON; ``_NO_VALUE`` if there is none that JSON can carry."""
    if value is EMPTY:
        return _NO_VALUE
    if type(value).__name__ == "FieldInfo" and type(value).__module__.startswith("pydantic"):
        raise InvalidRequestError(
            f"{owner} has pydantic's Field(…) as its default, which the function would receive: "
            "write Annotated[…, Field(…)], and a default value after it"
        )
    try:
        text = json.dumps(value.value if isinstance(value, enum.Enum) else value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return _NO_VALUE
    return json.loads(text) if len(text) <= _MAX_DEFAULT else _NO_VALUE


# --- definitions


def _hoisted(schema: Mapping[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Return a schema without its ``$defs``, which go to those of the whole object.

    Where another definition has the same name, they get new names.
    """
    own = {key: value for key, value in schema.items() if key != "$defs"}
    found = schema.get("$defs", {})
    # If one differs, none is shared: those that refer to it mean something else, too.
    differs = any(definitions.get(name, each) != each for name, each in found.items())
    names = {name: name for name in found}
    for name in found if differs else ():
        number = 2
        while f"{name}_{number}" in {*definitions, *found, *names.values()}:
            number += 1
        names[name] = f"{name}_{number}"
    references = {f"#/$defs/{name}": f"#/$defs/{new}" for name, new in names.items()}
    for name, definition in found.items():
        definitions[names[name]] = _renamed(definition, references)
    renamed: dict[str, Any] = _renamed(own, references)
    return renamed


def _renamed(value: Any, references: Mapping[str, str]) -> Any:
    """Return a copy of a JSON value with other references."""
    if isinstance(value, dict):
        return {key: _renamed(each, references) for key, each in value.items()}
    if isinstance(value, list):
        return [_renamed(each, references) for each in value]
    return references.get(value, value) if isinstance(value, str) else value
