"""``to_records``: the results of a batch as flat dicts, for pandas and ``csv``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from .results import Result

COLUMNS = (
    *("custom_id", "outcome", "error", "finish_reason", "model"),
    *("input_tokens", "output_tokens", "attempts", "seconds"),
)
_KEYS = {*COLUMNS, "text", "item"}


def to_records(results: Iterable[Result]) -> list[dict[str, Any]]:
    """Return flat dicts, all with the same keys: ``pandas.DataFrame(to_records(results))``.

    ``custom_id``, ``outcome``, ``error`` (the text of the error), ``finish_reason``, ``model``,
    ``input_tokens``, ``output_tokens``, ``attempts`` and ``seconds``; then ``text``, or of a typed
    answer the fields of its object: those of an object inside as ``address.city``, a list inside as
    JSON, and what is no object under ``value``. Each is as JSON has it: a date is text. An answer
    that is a list gives one record for each item, numbered in ``item`` from 0; an empty one gives
    one without a number. A field that is named like another key is ``value.custom_id``.

    A row without an object, such as a failed one, has its ``text`` instead.

    >>> to_records([])
    []
    """
    records = [record for result in results for record in _records(result)]
    keys = dict.fromkeys(key for record in records for key in record)
    return [{key: record.get(key) for key in keys} for record in records]


def _records(result: Result) -> list[dict[str, Any]]:
    usage = result.usage
    about = {
        **{name: getattr(result, name, None) for name in COLUMNS},
        "outcome": str(result.outcome),
        "error": None if result.error is None else str(result.error),
        "input_tokens": usage and usage.input_tokens,
        "output_tokens": usage and usage.output_tokens,
    }
    if result.value is None:
        return [{**about, "text": result.text}]
    from ..typed import to_json  # loaded already

    value = to_json(result.value)
    if not isinstance(value, list):
        return [{**about, **_fields(value)}]
    items = [{**about, "item": number, **_fields(item)} for number, item in enumerate(value)]
    return items or [{**about, "item": None}]


def _fields(value: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, cell in _cells(value, ""):
        while name in _KEYS or name in fields:
            name = f"value.{name}"
        fields[name] = cell
    return fields


def _cells(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield the scalars in a JSON value, with the names of the objects around them."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _cells(item, f"{name}.{key}" if name else key)
    elif isinstance(value, (dict, list)):
        yield name or "value", json.dumps(value, ensure_ascii=False)
    else:
        yield name or "value", value
