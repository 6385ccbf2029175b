"""``to_records``: the results of a batch as flat dicts, for pandas and ``csv``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .cells import cell_text, plain_value
from .results import Result
from .rows import is_message

COLUMNS = (
    *("custom_id", "outcome", "error", "finish_reason", "model"),
    *("input_tokens", "output_tokens", "attempts", "seconds"),
)
_KEYS = {*COLUMNS, "text", "item"}
_BATCH_LINE = {"body", "method", "url"}
"""Keys of a line of OpenAI's batch input, which are not columns of a table."""


def to_records(results: Iterable[Result]) -> list[dict[str, Any]]:
    """Return flat dicts, all with the same keys: ``pandas.DataFrame(to_records(results))``.

    ``custom_id``; the columns of the input, if it is a dict; then ``outcome``, ``error`` (the text
    of the error), ``finish_reason``, ``model``, ``input_tokens``, ``output_tokens``, ``attempts``
    and ``seconds``; then ``text``, or of a typed answer the fields of its object: those of an
    object inside as ``address.city``, a list inside as JSON, and anything else under ``value``.
    Each is as JSON has it: a date is text. An answer that is a list gives one record for each item,
    numbered in ``item`` from 0; an empty one gives one without a number. A field that is named like
    another key is ``value.custom_id``; a column of the input that is named like any other key is
    ``input.text``.

    A row without an object, such as a failed one, has its ``text`` instead.

    Args:
        results: What ``map`` yields.

    Examples:
        >>> to_records([])
        []
    """
    found = [(_columns(result.input), _records(result)) for result in results]
    answer_keys = dict.fromkeys(key for _, each in found for record in each for key in record)
    input_keys = dict.fromkeys(key for columns, _ in found for key in columns)
    names = _input_names(input_keys, {*answer_keys, *_KEYS})
    keys = list(answer_keys)
    keys[1:1] = names.values()
    return [
        {**dict.fromkeys(keys), **{names[key]: cell for key, cell in columns.items()}, **record}
        for columns, each in found
        for record in each
    ]


def _columns(value: Any) -> dict[str, Any]:
    """Return the columns of an input that is a row of a table, with scalars in the cells."""
    if not isinstance(value, Mapping) or is_message(value):
        return {}
    left_out = {"custom_id"}
    if isinstance(value.get("body"), Mapping):
        left_out |= _BATCH_LINE
    if isinstance(value.get("messages"), (list, tuple)):
        left_out.add("messages")
    return {str(key): _scalar(cell) for key, cell in value.items() if key not in left_out}


def _scalar(cell: Any) -> Any:
    """Return a cell without numpy's types, lists and objects as JSON."""
    try:
        cell = plain_value(cell)
        return cell_text(cell) if isinstance(cell, (dict, list)) else cell
    except Exception:  # noqa: BLE001 (of the cell's class; an answer must not be lost for it)
        return f"<{type(cell).__name__}>"


def _input_names(keys: Iterable[str], taken: set[str]) -> dict[str, str]:
    """Return the names that the columns of the input have in the table."""
    names = {}
    for key in keys:
        name = key
        while name in taken:
            name = f"input.{name}"
        names[key] = name
        taken.add(name)
    return names


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
