"""``batch.map`` with pandas, polars, numpy, and ``template=``; the first row that asks nothing."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy
import pandas
import polars
import pytest

from providers_sync import InvalidRequestError, batch
from providers_sync.testing import Request, ScriptedProvider, text

ROWS = {"prompt": ["one", "two"], "custom_id": ["a", "b"], "n": [1, 2]}
FRAMES: list[Callable[[Any], Any]] = [pandas.DataFrame, polars.DataFrame]


def echo(request: Request) -> Any:
    """Answer with the prompt."""
    return [text(request.json()["messages"][-1]["content"])]


def run(inputs: Any, **options: Any) -> list[batch.Result]:
    """Return the results in order."""
    return list(batch.map(ScriptedProvider(echo), inputs, ordered=True, **options))


def refused(inputs: Any, **options: Any) -> str:
    """Return the message of the error that ends the batch before anything is sent."""
    provider = ScriptedProvider(echo)
    with pytest.raises(InvalidRequestError) as caught:
        list(batch.map(provider, inputs, **options))
    assert provider.requests == []
    return str(caught.value)


@pytest.mark.parametrize("frame", FRAMES)
def test_data_frame_gives_its_rows(frame: Any) -> None:
    """Each row is a dict of plain values, with the answer to its prompt."""
    results = run(frame(ROWS))
    assert [each.text for each in results] == ["one", "two"]
    assert [each.custom_id for each in results] == ["a", "b"]
    assert results[0].input == {"prompt": "one", "custom_id": "a", "n": 1}
    assert type(results[0].input["n"]) is int


@pytest.mark.parametrize(
    "inputs",
    [
        pandas.Series(["one", "two"], index=["x", "y"]),
        pandas.Series(["one", "two"], dtype="object"),
        polars.Series(["one", "two"]),
        numpy.array(["one", "two"]),
    ],
    ids=["pandas", "object", "polars", "numpy"],
)
def test_series_gives_its_values_not_its_index(inputs: Any) -> None:
    assert [each.text for each in run(inputs)] == ["one", "two"]


@pytest.mark.parametrize("missing", [None, float("nan"), numpy.nan, pandas.NA, pandas.NaT])
def test_row_without_a_value_fails_alone_and_is_named(missing: Any) -> None:
    """In a Series, in a column of prompts, and in a column of the template."""
    frame = pandas.DataFrame({"prompt": ["one", missing]}, dtype="object")
    for inputs in (frame.prompt, frame, ["one", missing]):
        first, second = run(inputs)
        assert first.text == "one"
        assert "row 2 has no prompt (it is empty)" in str(second.error)
    _, second = run(frame, template="Say {prompt}")
    assert "row 2 has no value in column 'prompt' (blank, None or NaN)" in str(second.error)


def test_input_of_a_result_is_plain_python() -> None:
    """NaN is ``None``, a text of numpy a text: what a result holds can be pickled and be JSON."""
    frame = pandas.DataFrame({"prompt": [numpy.str_("one")], "n": [numpy.nan]}, dtype="object")
    (result,) = run(frame)
    assert result.input == {"prompt": "one", "n": None}
    assert type(result.input["prompt"]) is str


@pytest.mark.parametrize("frame", FRAMES)
def test_data_frame_without_a_prompt_is_refused_at_once(frame: Any) -> None:
    """The names of its columns are not asked."""
    provider = ScriptedProvider(echo)
    with pytest.raises(InvalidRequestError, match=r"a template; it has 'text', 'n'"):
        batch.map(provider, frame({"text": ["one"], "n": [1]}))
    assert provider.requests == []


def test_data_frame_with_two_equal_names_is_refused() -> None:
    frame = pandas.DataFrame([["a", "b"]], columns=["prompt", "prompt"])
    assert "two columns 'prompt'" in refused(frame)


def test_columns_of_numbers_have_names_and_ids() -> None:
    """A frame without a header, and a ``custom_id`` that ``read_csv`` has made a number."""
    (first,) = run(pandas.DataFrame([["Hello"]]), template="{0}!")
    assert first.text == "Hello!"
    (first,) = run(pandas.DataFrame({"custom_id": [7], "prompt": ["Hi"]}))
    assert first.custom_id == "7"


def test_messages_of_a_parquet_file_are_asked(tmp_path: Path) -> None:
    """pandas reads lists back as arrays of numpy."""
    path = tmp_path / "rows.parquet"
    messages = [[{"role": "user", "content": "Hi"}]]
    pandas.DataFrame({"messages": messages, "custom_id": ["a"]}).to_parquet(path)
    (result,) = run(pandas.read_parquet(path))
    assert result.text == "Hi"
    assert result.input["messages"] == messages[0]


def test_rerun_of_a_frame_sends_nothing(tmp_path: Path) -> None:
    """The fingerprints are the same whatever types of numpy the cells have."""
    ledger = tmp_path / "answers.jsonl"
    frame = pandas.DataFrame({"text": ["a", "b"], "n": [1, 2], "x": [0.5, 1.5]})
    run(frame, template="{text} {n} {x}", ledger=ledger)
    rows = [
        {"text": numpy.str_("a"), "n": numpy.int64(1), "x": numpy.float64(0.5)},
        {"text": "b", "n": 2, "x": 1.5},
    ]
    again = run(rows, template="{text} {n} {x}", ledger=ledger)
    assert [(each.text, each.recorded) for each in again] == [("a 1 0.5", True), ("b 2 1.5", True)]


def test_records_join_the_columns_of_the_input() -> None:
    """Names of ours, and of the answer's fields, are ``input.…`` for the input."""
    frame = pandas.DataFrame({"text": ["a", "b"], "label": [1, 2], "prompt": ["one", "two"]})
    found = pandas.DataFrame(batch.to_records(run(frame)))
    assert list(found["input.text"]) == ["a", "b"]
    assert list(found["label"]) == [1, 2]
    assert list(found["text"]) == ["one", "two"]
    assert list(found.columns)[:4] == ["custom_id", "input.text", "label", "prompt"]
    (record,) = batch.to_records(run([{"prompt": "a", "text": 1, "input.text": 2}]))
    assert (record["input.text"], record["input.input.text"]) == (1, 2)


@pytest.mark.parametrize(
    ("row", "template", "prompt"),
    [
        ({"text": "Hi", "to": "French"}, "{text} in {to}", "Hi in French"),
        ({"text": "{to}", "to": "x"}, "{text}{to}", "{to}x"),
        ({"a": 1}, "{{a}} {a}", "{a} 1"),
        ({"a b.c[0]": None, "x": True}, "{x}", "True"),
        ({"a b.c[0]": "y"}, "{a b.c[0]}", "y"),
        ({"tags": ["ä", {"b": 1}]}, "{tags}", '["ä", {"b": 1}]'),
        ("Hi", "Say {prompt}", "Say Hi"),
        ({"role": "nurse", "content": "x"}, "{role}: {content}", "nurse: x"),
    ],
)
def test_template_is_filled(row: Any, template: str, prompt: str) -> None:
    """A column's text is put in as it is; what is in braces is a name and no expression."""
    (result,) = run([row], template=template)
    assert (result.text, result.input) == (prompt, row)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{text", "the template is not valid"),
        ("text}", "the template is not valid"),
        ("{}", "without the name of a column"),
        ("Hello", "does not name a column"),
        (5, "must be text, not int"),
    ],
)
def test_invalid_template_is_refused_at_once(template: Any, message: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        batch.map(ScriptedProvider(), [{"text": "Hi"}], template=template)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["name.__class__", "name[0]", "nam", "name!r", "name:>9"])
def test_unknown_column_is_an_error_before_the_first_request(name: str) -> None:
    """No attribute and no index is looked up; the error names the columns that there are."""
    for inputs in ([{"name": "x"}], iter([{"name": "x"}]), pandas.DataFrame({"name": ["x"]})):
        message = refused(inputs, template=f"{{{name}}}")
        assert f"has no column {name!r}" in message
        assert message.endswith("it has 'name'")


def test_a_later_row_without_a_column_fails_alone() -> None:
    first, second, third = run([{"a": 1}, {"b": 1}, [1]], template="{a}")
    assert first.text == "1"
    assert "row 2 has no column 'a'" in str(second.error)
    assert "row 3 must be a dict or text for a template, not list" in str(third.error)


@pytest.mark.parametrize("inputs", [{"prompt": ["a"]}, "text", b"text", 5])
def test_what_has_no_rows_is_refused(inputs: Any) -> None:
    assert "inputs must be" in refused(inputs)


def test_pandas_is_not_imported_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A DataFrame is told by its methods."""
    frame = pandas.DataFrame(ROWS)
    for name in ("pandas", "polars", "numpy"):
        monkeypatch.setitem(sys.modules, name, None)
    assert [each.text for each in run(frame)] == ["one", "two"]


def test_the_program_in_the_documentation_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the one under ``DataFrames`` in ``docs/batch.md``."""
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parent.parent / "docs/batch.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"^### DataFrames\n.*?^```python\n(.*?)^```$", page, re.M | re.S)
    names: dict[str, Any] = {"provider": ScriptedProvider(echo), "batch": batch}
    exec(program, names)
    answers = names["answers"]
    assert list(answers["text"]) == [
        "Translate to French: Good morning",
        "Translate to German: Good night",
    ]
    assert list(answers["input.text"]) == ["Good morning", "Good night"]
    assert list(answers["language"]) == ["French", "German"]


def test_any_text_without_braces_names_a_column() -> None:
    row = {"Price: EUR": 1, "w!": 2, "a.b[0]": 3}
    (result,) = run([row], template="{{{Price: EUR}}} {w!}{a.b[0]}}}")
    assert result.text == "{1} 23}"


class Unprintable:
    """A cell that has no text."""

    def __str__(self) -> str:
        raise OSError("no text")

    __repr__ = __str__


def circular() -> list[Any]:
    """Return a list that contains itself."""
    found: list[Any] = []
    found.append(found)
    return found


@pytest.mark.parametrize(
    "cell",
    [{(1, 2): 3}, circular(), 10**5000, Unprintable(), [Unprintable()]],
    ids=["key", "circular", "long", "error", "inside"],
)
def test_a_cell_that_is_no_text_costs_no_answer(cell: Any) -> None:
    """Its row fails if it is asked; its place in the records says what it is otherwise."""
    rows = [{"prompt": "Hi", "cell": cell}, {"prompt": "Ho", "cell": 1}]
    first, second = run(rows, template="{cell}")
    assert "row 1 has a value that cannot be written as text" in str(first.error)
    assert second.error is None
    records = batch.to_records(run(rows))
    assert [each["text"] for each in records] == ["Hi", "Ho"]


@pytest.mark.parametrize(
    "missing",
    ["", " ", float("nan"), numpy.float32("nan"), numpy.datetime64("NaT"), Decimal("NaN")],
    ids=repr,
)
def test_what_is_blank_is_missing(missing: Any) -> None:
    """In a column, a list, and a template."""
    for rows, options in (
        ([missing], {}),
        ([{"prompt": missing}], {}),
        ([{"a": missing}], {"template": "To {a}"}),
    ):
        (result,) = run(rows, **options)
        assert "row 1 has no" in str(result.error)


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        (numpy.datetime64("2024-01-02T03:04:05", "ns"), "2024-01-02T03:04:05.000000000"),
        (numpy.timedelta64(5, "ns"), "5 nanoseconds"),
        ([numpy.int64(3), {"a": numpy.float64(0.5)}], '[3, {"a": 0.5}]'),
        (numpy.array([1, 2]), "[1, 2]"),
    ],
    ids=repr,
)
def test_types_of_numpy_are_text_like_those_of_python(cell: Any, shown: str) -> None:
    (result,) = run([{"a": cell}], template="{a}")
    assert result.text == shown


@pytest.mark.parametrize("name", [7, numpy.int64(7)], ids=["int", "numpy"])
def test_a_number_names_a_row(name: Any) -> None:
    first, second = run(
        [{"prompt": "a", "custom_id": name}, {"prompt": "b", "custom_id": float("nan")}]
    )
    assert (first.custom_id, second.custom_id) == ("7", "row-2")


def test_columns_that_are_named_as_in_a_batch_file_are_kept() -> None:
    """Unlike a line of such a file."""
    row = {"prompt": "Hi", "url": "u", "method": "m", "body": "b", "messages": "x"}
    (record,) = batch.to_records(run([row]))
    assert {key: record[key] for key in row} == row
    line = {"url": "/chat/completions", "method": "POST", "body": {"messages": "Hi"}, "own": 1}
    (record,) = batch.to_records(run([line]))
    assert record["own"] == 1
    assert not {"url", "method", "body"} & set(record)
    (record,) = batch.to_records(run([{"messages": [{"role": "user", "content": "Hi"}]}]))
    assert "messages" not in record
