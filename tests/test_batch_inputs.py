"""Tests of ``batch.read``: text, CSV and JSON lines files, and of invalid rows."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from providers_sync import InvalidRequestError, ProviderError, batch
from providers_sync.batch import inputs
from providers_sync.testing import ScriptedProvider

REQUEST = {
    "custom_id": "a",
    "method": "POST",
    "url": "/v1/chat/completions",
    "body": {"model": "m", "messages": [{"role": "user", "content": "Hi"}]},
}


@pytest.mark.parametrize(
    ("name", "content", "rows"),
    [
        ("a.txt", "one\ntwo\n\n  \nthree", ["one", "two", "three"]),
        ("a.txt", "\ufeffone\r\ntwo\r\n", ["one", "two"]),
        ("a.txt", "U+2028 \u2028 is no line end\n", ["U+2028 \u2028 is no line end"]),
        ("a.txt", "", []),
        ("noend", "one\n", ["one"]),
        ("a.csv", "id,prompt\n1,one\n", [{"id": "1", "prompt": "one"}]),
        ("a.CSV", 'prompt\n"two\nlines, and ""more"""\n', [{"prompt": 'two\nlines, and "more"'}]),
        ("a.csv", "prompt\n" + "x" * 200_000, [{"prompt": "x" * 200_000}]),
        ("a.jsonl", '"one"\n\n{"prompt": "two"}\n', ["one", {"prompt": "two"}]),
        ("a.ndjson", json.dumps(REQUEST), [REQUEST]),
        ("a.csv", "role,text\nnurse,Hi\n", [{"role": "nurse", "text": "Hi"}]),
        ("a.csv", "prompt,,\none,,,,\n", [{"prompt": "one", "": ""}]),
        ("a.csv", "id,prompt\n1\n", [{"id": "1", "prompt": None}]),
        ("a.tsv", 'id\tprompt\n1\tone, "two"\n', [{"id": "1", "prompt": 'one, "two"'}]),
        ("a.TSV", 'id\tprompt\r\n1\t"a\tb"\r\n', [{"id": "1", "prompt": "a\tb"}]),
        ("a.json", '\n \n[\n"one",\n{"prompt": "t\u2028wo"}]\n', ["one", {"prompt": "t\u2028wo"}]),
        ("a.json", '[["one"]]', [["one"]]),
        ("a.json", '["one"]\n\n["t\u2028wo"]\n', [["one"], ["t\u2028wo"]]),
        ("a.json", '{"prompt": "one"}\n"two"\n', [{"prompt": "one"}, "two"]),
        ("a.json", "[]", []),
        ("a.json", "", []),
    ],
)  # fmt: skip
def test_files_are_read_row_by_row(tmp_path: Path, name: str, content: str, rows: Any) -> None:
    """The suffix decides how a line is read."""
    path = tmp_path / name
    path.write_bytes(content.encode())
    assert list(batch.read(path)) == rows


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "a.csv is empty: its first line must name the columns"),
        ("a.csv", b"a,prompt,prompt\n1,2,3\n", "two columns 'prompt'"),
        (
            "a.csv",
            b'id,prompt\n1,"a\nb"\n2,Hi, you\n',
            "the row that ends on line 4 of .*a.csv has more cells than the 2 columns.* comma",
        ),
        ("a.tsv", b"id\tprompt\n1\ta\tb\n", "line 2 of .*more cells .* a tab in"),
        ("a.jsonl", b'"one"\n{"prompt": \n', "line 2 of .*a.jsonl is not JSON"),
        ("a.json", b"[\n1,\n]", "a.json is not a JSON array: .*line [23]"),
        ("a.json", b"[1] x\n", "line 1 of .*one value per line"),
        ("a.json", b"[" * 100_000, "a.json is not a JSON array"),
        ("a.txt", b"one\n\xff\n", "line 2 of .*a.txt is not UTF-8"),
        ("a.csv", b"prompt\none\ntw\xffo\n", "line 3 of .*a.csv is not UTF-8"),
        ("a.jsonl", b'"one"\n"\xed\xa0\x80"\n', "line 2 of .*a.jsonl is not UTF-8"),
        ("a.txt", "one\ntwo\n".encode("utf-16"), "line 1 of .*a.txt .*UTF-"),
        ("a.txt", "one\ntwo\n".encode("utf-16-le"), "line 1 of .*a.txt has a NUL .*UTF-8"),
        ("a.csv", b'prompt\n"o\0ne"\n', "line 2 of .*a.csv has a NUL"),
        ("a.csv", b"x" * 5000 + b",y" * 50, "two columns 'y'"),
        ("a.jsonl", b'"one"\n' + b"[" * 100_000, "line 2 of .*a.jsonl is not JSON"),
        ("a.jsonl", b'"one"\n' + b"9" * 5000 + b"\n", "line 2 of .*a.jsonl is not JSON"),
        ("a.jsonl", b'{"prompt": "x", "n": NaN}', "line 1 of .*NaN is not a JSON number"),
        ("a.jsonl", b"[" * 10_000_000, "line 1 of .*a.jsonl is not JSON"),
        ("nul\0.txt", None, "cannot read .*null byte"),
        ("none.txt", None, "cannot read .*none.txt: No such file"),
    ],
)
def test_an_error_names_the_file_and_the_line(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    """The error also says what is expected."""
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidRequestError, match=message):
        list(batch.read(path))


def test_a_csv_without_a_prompt_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    """The first row names the columns that there are; a template can use them."""
    path = tmp_path / "a.csv"
    names = ["x" * 5000, *(f"y{number}" for number in range(50))]
    path.write_text(f"{','.join(names)}\n{','.join(names)}\n")
    provider = ScriptedProvider("Hello")
    with pytest.raises(InvalidRequestError, match=r"row 1 needs .* it has 'x{40}', 'y0', .*'y8'$"):
        list(batch.map(provider, batch.read(path)))
    assert provider.requests == []
    list(batch.map(provider, batch.read(path), template="{y0}"))
    assert provider.requests[0].json()["messages"][0]["content"] == "y0"


def test_an_array_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read into memory; lines are not."""
    path = tmp_path / "a.json"
    path.write_text("[\n" + '"one",\n' * 100 + '"two"]')
    assert len(list(batch.read(path))) == 101
    monkeypatch.setattr(inputs, "LINE_CHARACTERS", 100)
    with pytest.raises(InvalidRequestError, match=r"too large for one JSON array: use a .jsonl"):
        list(batch.read(path))


def test_reading_is_lazy(tmp_path: Path) -> None:
    """The first row is yielded before a later broken line is read."""
    path = tmp_path / "a.jsonl"
    path.write_text('"one"\nbroken')
    assert next(batch.read(path)) == "one"


def test_a_line_may_be_long_but_must_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images make lines of millions of characters; a device may have no line end at all."""
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps("x" * 10_000_000))
    assert [len(row) for row in batch.read(path)] == [10_000_000]
    monkeypatch.setattr(inputs, "LINE_CHARACTERS", 1_000_000)
    for name in (path, "/dev/zero"):
        with pytest.raises(InvalidRequestError, match=f"line 1 of {name} is too long"):
            list(batch.read(name))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"%s": 1, "b": 2}' % ("k" * 100_000), "row 2 needs a 'prompt'"),
        ('{"url": %s, "body": {}}' % ("[" * 500 + "]" * 500), "row 2 requests POST "),
        ('{"method": "%s", "body": {}}' % ("x" * 100_000), "row 2 requests "),
        ('{"body": {"messages": "x", "self": 1}}', "row 2 has 'self' in its 'body'"),
        ('{"body": {"messages": "x", "model": [1]}}', "model must be a string"),
        ('{"custom_id": ["x"], "prompt": "x"}', "custom_id must be text"),
        ('{"prompt": %s}' % ("[" * 500 + "]" * 500), "must be a dict"),
    ],
)
def test_an_invalid_row_fails_alone_with_a_short_error(
    tmp_path: Path, line: str, message: str
) -> None:
    """It is recorded like any other failure, and the other row is sent."""
    path = tmp_path / "a.jsonl"
    path.write_text(f'"good"\n{line}\n')
    ledger = tmp_path / "answers.jsonl"
    provider = ScriptedProvider("Hello")
    good, invalid = batch.map(provider, batch.read(path), ledger=ledger, ordered=True)
    assert isinstance(invalid.error, ProviderError)
    assert message in str(invalid.error)
    assert len(str(invalid.error)) < 500
    assert good.text == "Hello"
    assert ledger.read_bytes().count(b"\n") == 2


def test_a_row_that_cannot_be_json_fails_alone() -> None:
    """A program can pass anything, such as a huge number or a list that contains itself."""
    circular: list[Any] = []
    circular.append(circular)
    for value in (10**5000, circular, {1: "x", "y": 2}, float("nan")):
        body = {"messages": "x", "option": value}
        with tempfile.TemporaryDirectory() as folder:
            ledger = Path(folder, "answers.jsonl")
            results = list(
                batch.map(ScriptedProvider("Hello"), [{"body": body}, "good"], ledger=ledger)
            )
            assert sorted(each.custom_id for each in results) == ["row-1", "row-2"]
            assert ledger.read_bytes().count(b"\n") == 2


@pytest.mark.parametrize(
    ("row", "sent"),
    [
        ({"role": "nurse", "prompt": "Hi", "custom_id": "a"}, "Hi"),
        ({"role": "nurse", "messages": [{"role": "user", "content": "Hi"}]}, "Hi"),
        ({"role": "nurse", "body": {"messages": "Hi"}}, "Hi"),
        ({"role": "user", "content": "Hi"}, "Hi"),
    ],
)
def test_role_beside_a_prompt_is_data(row: dict[str, Any], sent: str) -> None:
    """A message has its text in ``content``; other rows may have a column of this name."""
    provider = ScriptedProvider("Hello")
    (result,) = batch.map(provider, [row])
    assert (result.text, result.custom_id) == ("Hello", row.get("custom_id", "row-1"))
    (request,) = provider.requests
    assert request.json()["messages"] == [{"role": "user", "content": sent}]


@pytest.mark.parametrize(
    "text",
    ['prompt\none\n"two\nthree\nfour\n', 'prompt\none\n"two\n"three" x\n'],
    ids=["end", "later"],
)
@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_a_quote_that_is_not_closed_is_refused(tmp_path: Path, suffix: str, text: str) -> None:
    """It would take the rows that follow into its cell."""
    path = tmp_path / f"a{suffix}"
    path.write_text(text)
    with pytest.raises(InvalidRequestError, match="the row that begins on line 3 of"):
        list(batch.read(path))


def test_blanks_around_the_names_of_columns_are_ignored(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("prompt, custom_id \nHi,a\n")
    assert list(batch.read(path)) == [{"prompt": "Hi", "custom_id": "a"}]


def test_one_conversation_is_no_list_of_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    messages = [{"role": "system", "content": "x"}, {"role": "user", "content": "y"}]
    path.write_text(json.dumps(messages))
    with pytest.raises(InvalidRequestError, match="its own brackets"):
        list(batch.read(path))
    path.write_text(json.dumps([messages]))
    assert list(batch.read(path)) == [messages]


@pytest.mark.parametrize("named_first", [True, False])
def test_a_name_that_another_row_has_by_its_position_is_there_twice(
    tmp_path: Path, named_first: bool
) -> None:
    named: dict[str, Any] = {"prompt": "two", "custom_id": f"row-{2 if named_first else 1}"}
    rows = [named, "one"] if named_first else ["one", named]
    results = list(
        batch.map(ScriptedProvider("Hi"), rows, ledger=tmp_path / "out.jsonl", ordered=True)
    )
    assert "is in the input twice" in str(results[1].error)
    kept = [{"prompt": "a", "custom_id": "row-7"}, {"prompt": "b", "custom_id": "row-1"}]
    results = list(batch.map(ScriptedProvider("Hi"), kept, ledger=tmp_path / "other.jsonl"))
    assert {each.error for each in results} == {None}


def test_empty_cell_of_a_csv_is_not_asked(tmp_path: Path) -> None:
    """pandas would read it as NaN; nor is a blank text of a list."""
    path = tmp_path / "a.csv"
    path.write_text("id,prompt\n1,Hi\n2,\n3, \n4\n")
    provider = ScriptedProvider("Hello")
    errors = [str(each.error) for each in batch.map(provider, batch.read(path), ordered=True)]
    assert errors[0] == "None"
    assert ["has no prompt" in error for error in errors] == [False, True, True, True]
    (blank,) = batch.map(provider, [" "])
    assert "row 1 has no prompt" in str(blank.error)
