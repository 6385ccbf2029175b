"""The JSON form of an object that ``into=`` has made."""

from __future__ import annotations

import functools
from typing import Any


def to_json(value: Any) -> Any:
    """Return the JSON of an object that ``into=`` has made, with the names of its fields."""
    try:
        from pydantic_core import to_jsonable_python
    except ImportError:  # then it is JSON already: ``into=`` was a schema
        return value
    convert = functools.partial(to_jsonable_python, by_alias=False, serialize_unknown=True)
    try:
        return convert(value)
    except ValueError:  # bytes that are not text
        return convert(value, bytes_mode="base64")
