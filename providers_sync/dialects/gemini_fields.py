"""Checks of the objects in requests of Gemini's protocol, shared by its readers.

The service reads JSON as protocol buffers do: a name may be in camelCase or in snake_case, ``null``
is as good as absent, and a name that is not known is an error. Source: Protocol Buffers, "ProtoJSON
format"; Gemini API reference, "Generating content".
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from . import validation
from .types import RequestError


def read_fields(
    value: Any, name: str, known: Collection[str], unsupported: Collection[str] = ()
) -> dict[str, Any]:
    """Return an object's fields under their names in camelCase, without those that are ``null``.

    ``unsupported`` are fields of the protocol that the gateway cannot honour; with a false or
    empty value they ask for nothing. Raises ``RequestError`` for any other, and for unknown names.

    >>> read_fields({"top_p": 0.5, "topK": None, "logprobs": 0}, "x", ["topP"], ["logprobs"])
    {'topP': 0.5}
    """
    fields = {}
    for key, each in validation.check_object(value, name or "the body").items():
        found = camel_case(key)
        if each is None or (found in unsupported and not each):
            continue
        if found in unsupported:
            place = f"{name}.{found}" if name else found
            raise RequestError(f"{place} is not supported by this gateway: leave it out")
        if found not in known:
            place = f" at {name!r}" if name else ""
            raise RequestError(f'Unknown name "{key}"{place}: the protocol has no such field')
        fields[found] = each
    return fields


def camel_case(name: str) -> str:
    """Return a name in camelCase.

    >>> camel_case("generation_config"), camel_case("topP")
    ('generationConfig', 'topP')
    """
    return re.sub(r"_([a-z0-9])", lambda found: found[1].upper(), name)


def as_list(value: Any) -> Any:
    """Return an object as a list of it: the service takes one where it expects a list.

    >>> as_list({"text": "Hi"}), as_list([1]), as_list(None)
    ([{'text': 'Hi'}], [1], None)
    """
    return [value] if isinstance(value, dict) else value


def read_enum(value: Any, name: str, values: Collection[str]) -> str:
    """Return one of ``values``, or an empty text for the name that stands for no value."""
    if not isinstance(value, str) or (value not in values and not value.endswith("_UNSPECIFIED")):
        raise RequestError(f"{name} must be one of {', '.join(values)}")
    return value if value in values else ""
