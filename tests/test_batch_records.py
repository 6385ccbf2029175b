"""``batch.to_records``: flat dicts for pandas and ``csv``, of every kind of answer."""

from __future__ import annotations

import csv
import dataclasses
import datetime
import decimal
import enum
import io
import json
import sys
from typing import Any, NamedTuple, Union

import pytest
from pydantic import BaseModel, Field, RootModel
from typing_extensions import TypedDict

from providers_sync import batch
from providers_sync.batch.records import COLUMNS
from providers_sync.testing import ScriptedProvider, answer, finish, status, text, usage

SCALARS = (str, int, float, bool, type(None))


class Color(enum.Enum):
    RED = "red"


class Address(BaseModel):
    city: str
    tags: list[str] = []


@dataclasses.dataclass
class Person:
    name: str
    address: Address


class Pair(TypedDict):
    a: int
    b: str


class Point(NamedTuple):
    x: int
    y: int


class Order(BaseModel):
    number: int = Field(alias="orderNumber")
    when: datetime.datetime
    day: datetime.date
    price: decimal.Decimal
    color: Color
    raw: bytes
    counts: set[int]
    by_number: dict[int, str]
    address: Address | None = None
    empty: dict[str, int] = {}
    error: str = "late"


class Points(RootModel[list[Address]]):
    pass


def results(into: Any, *said: Any, **options: Any) -> list[batch.Result]:
    """Return the results of as many rows as there are answers, in order."""
    answers = [each if isinstance(each, str) else json.dumps(each) for each in said]
    provider = ScriptedProvider([answer(each, finish("stop")) for each in answers])
    rows = [f"prompt {number}" for number in range(len(said))]
    return list(
        batch.map(provider, rows, into=into, ordered=True, concurrency=1, repairs=0, **options)
    )


def records(into: Any, *said: Any, **options: Any) -> list[dict[str, Any]]:
    """Return the records, checked as a table, without the columns of the call itself."""
    found = batch.to_records(results(into, *said, **options))
    check_table(found)
    return [{name: cell for name, cell in each.items() if name not in COLUMNS} for each in found]


def check_table(found: list[dict[str, Any]]) -> None:
    """Assert that all records have the same keys and plain cells, and that ``csv`` takes them."""
    assert {tuple(each) for each in found} == {tuple(found[0])}
    assert all(isinstance(cell, SCALARS) for each in found for cell in each.values())
    file = io.StringIO()
    writer = csv.DictWriter(file, found[0])
    writer.writeheader()
    writer.writerows(found)
    read = list(csv.DictReader(io.StringIO(file.getvalue())))
    wanted = [
        {name: "" if cell is None else str(cell) for name, cell in each.items()} for each in found
    ]
    assert read == wanted


def test_untyped_results_have_their_text() -> None:
    """And what the call says about itself."""
    provider = ScriptedProvider([[text("Hello"), usage(3, 4)], status(400, "no")])
    found = batch.to_records(batch.map(provider, ["a", "b"], ordered=True, concurrency=1))
    check_table(found)
    first, second = found
    assert tuple(first) == (*COLUMNS, "text")
    assert first["seconds"] > 0
    del first["seconds"], second["seconds"]
    assert first == {
        "custom_id": "row-1",
        "outcome": "complete",
        "error": None,
        "finish_reason": "stop",
        "model": "test-model",
        "input_tokens": 3,
        "output_tokens": 4,
        "attempts": 1,
        "text": "Hello",
    }
    assert (second["outcome"], second["text"], second["input_tokens"]) == ("failed", "", None)
    assert "no" in second["error"]


@pytest.mark.parametrize(
    ("into", "said", "fields"),
    [
        (Address, {"city": "Bonn", "tags": ["x"]}, {"city": "Bonn", "tags": '["x"]'}),
        (
            Person,
            {"name": "Ö", "address": {"city": "Bonn"}},
            {"name": "Ö", "address.city": "Bonn", "address.tags": "[]"},
        ),
        (Pair, {"a": 1, "b": "x"}, {"a": 1, "b": "x"}),
        (Union[Address, Pair], {"a": 1, "b": "x"}, {"a": 1, "b": "x"}),
        (int, {"value": 3}, {"value": 3}),
        (bool, {"value": True}, {"value": True}),
        (str, {"value": "x"}, {"value": "x"}),
        (Color, {"value": "red"}, {"value": "red"}),
        (datetime.date, {"value": "2026-11-28"}, {"value": "2026-11-28"}),
        (bytes, {"value": "é"}, {"value": "é"}),
        (dict[str, bytes], {"a": "é"}, {"a": "é"}),
        (dict[str, int], {}, {"value": "{}"}),
        ({"type": "object"}, {"a": {"b": [1, "ä"]}}, {"a.b": '[1, "ä"]'}),
    ],
    ids=str,
)
def test_fields_of_the_object(into: Any, said: Any, fields: dict[str, Any]) -> None:
    assert records(into, said) == [fields]


def test_values_that_json_does_not_have() -> None:
    """They are text, under the names that the program uses; a name of ours is not replaced."""
    said = {
        "orderNumber": 7,
        "when": "2026-11-28T10:00:00Z",
        "day": "2026-11-28",
        "price": "1.10",
        "color": "red",
        "raw": "abc",
        "counts": [1],
        "by_number": {"1": "one"},
    }
    assert records(Order, said) == [
        {
            "number": 7,
            "when": "2026-11-28T10:00:00Z",
            "day": "2026-11-28",
            "price": "1.10",
            "color": "red",
            "raw": "abc",
            "counts": "[1]",
            "by_number.1": "one",
            "address": None,
            "empty": "{}",
            "value.error": "late",
        }
    ]


def test_bytes_that_are_no_text_are_base64() -> None:
    (result,) = results(dict[str, Any], {"a": 1})
    (record,) = batch.to_records([dataclasses.replace(result, value={"a": b"\xff"})])
    assert record["a"] == "_w=="


@pytest.mark.parametrize(
    ("said", "fields"),
    [
        ({"text": 1, "item": 2}, {"value.text": 1, "value.item": 2}),
        ({"a.b": 1, "a": {"b": 2}}, {"a.b": 1, "value.a.b": 2}),
        (
            {"value": {"a": {"b": 3}}, "a.b": 1, "a": {"b": 2}},
            {"value.a.b": 3, "a.b": 1, "value.value.a.b": 2},
        ),
        (
            {"custom_id": 1, "value": {"custom_id": 2}},
            {"value.custom_id": 1, "value.value.custom_id": 2},
        ),
        ({"": 1, "value": 2}, {"value": 1, "value.value": 2}),
    ],
)
def test_names_that_collide_lose_no_field(said: Any, fields: dict[str, Any]) -> None:
    assert records(dict[str, Any], said) == [fields]


@pytest.mark.parametrize(
    ("into", "said", "rows"),
    [
        (
            list[Address],
            [{"city": "a"}, {"city": "b"}],
            [{"item": 0, "city": "a", "tags": "[]"}, {"item": 1, "city": "b", "tags": "[]"}],
        ),
        (list[int], [5, 6], [{"item": 0, "value": 5}, {"item": 1, "value": 6}]),
        (list[list[int]], [[1], [2]], [{"item": 0, "value": "[1]"}, {"item": 1, "value": "[2]"}]),
        (set[int], [5], [{"item": 0, "value": 5}]),
        (Point, [5, 6], [{"item": 0, "value": 5}, {"item": 1, "value": 6}]),
        (Points, [{"city": "a"}], [{"item": 0, "city": "a", "tags": "[]"}]),
        (
            list[Union[Address, int]],
            [1, {"city": "a"}],
            [
                {"item": 0, "value": 1, "city": None, "tags": None},
                {"item": 1, "value": None, "city": "a", "tags": "[]"},
            ],
        ),
    ],
    ids=str,
)
def test_list_gives_a_record_for_each_item(into: Any, said: Any, rows: list[Any]) -> None:
    assert records(into, {"items": said}) == rows


def test_no_row_vanishes() -> None:
    """An empty list, an answer that fails, and one that is null have a record each."""
    found = batch.to_records(results(list[Address], [{"city": "a"}], [], "No."))
    check_table(found)
    assert [each["custom_id"] for each in found] == ["row-1", "row-2", "row-3"]
    assert [each["item"] for each in found] == [0, None, None]
    assert [each["city"] for each in found] == ["a", None, None]
    assert [each["text"] for each in found] == [None, None, "No."]
    assert [each["error"] is None for each in found] == [True, True, False]
    nulls = records(int | None, {"value": None}, {"value": 1})
    assert nulls == [
        {"text": '{"value": null}', "value": None},
        {"text": None, "value": 1},
    ]
    assert records(list[Address], [3], skip_invalid=True) == [{"item": None}]


def test_rows_of_different_types_are_one_table() -> None:
    """The columns come in the order of their first use."""
    mixed = [*results(Pair, {"a": 1, "b": "x"}), *results(int, "No."), *results(int, {"value": 1})]
    found = batch.to_records(mixed)
    check_table(found)
    assert tuple(found[0])[len(COLUMNS) :] == ("a", "b", "text", "value")


def test_results_are_read_once_and_may_be_none() -> None:
    assert batch.to_records(iter([])) == []


def test_json_schema_needs_no_pydantic(monkeypatch: pytest.MonkeyPatch) -> None:
    found = results({"type": "object"}, {"a": [1]})
    for name in ("pydantic", "pydantic_core"):
        monkeypatch.setitem(sys.modules, name, None)
    assert batch.to_records(found)[0]["a"] == "[1]"
