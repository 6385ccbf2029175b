"""``call_options``: what ``-o``, ``-a`` and ``--schema`` say, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from providers_sync import InvalidRequestError
from providers_sync.call_options import attachment_part, parse_options, parse_schema

GIF = b"GIF89a" + bytes(20)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("x=0.2", 0.2),
        ("x=true", True),
        ("x=null", None),
        ('x=["a", "b"]', ["a", "b"]),
        ('x={"a": 1}', {"a": 1}),
        ("x=END", "END"),
        ('x="5"', "5"),
        ("x=a=b", "a=b"),
        ("x=", ""),
        ("x=NaN", "NaN"),
        ("x=-Infinity", "-Infinity"),
        ("x=" + "[" * 100_000, "[" * 100_000),
    ],
)
def test_value_of_an_option(text: str, value: object) -> None:
    assert parse_options([text]) == {"x": value}


def test_names_of_options() -> None:
    assert parse_options(["top-p=1", " seed =2", "seed=3"]) == {"top_p": 1, "seed": 3}
    assert parse_options([], 5) == {"max_tokens": 5}
    assert parse_options([]) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("temperature", "-o needs NAME=VALUE, such as temperature=0.2, not 'temperature'"),
        ("=1", "-o needs NAME=VALUE"),
        ("a b=1", "-o needs NAME=VALUE"),
        ("model=x", "-o model: use --model"),
        ("into={}", "-o into: use --schema"),
        ("messages=[]", "-o messages: this is not a request option"),
    ],
)
def test_wrong_option(text: str, message: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        parse_options([text])
    assert str(caught.value).startswith(message)


def test_max_tokens_below_one() -> None:
    with pytest.raises(InvalidRequestError, match="--max-tokens must be 1 or more, not 0"):
        parse_options([], 0)


def test_attachment_is_read_by_its_content(tmp_path: Path) -> None:
    image = tmp_path / "picture.txt"
    image.write_bytes(GIF)
    assert attachment_part(str(image)) == {"type": "file", "file": image}


def test_attachment_by_its_address() -> None:
    url = "https://example.org/a.png"
    assert attachment_part(url) == {"type": "file", "file": url}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.png", "the attachment missing.png cannot be read: .*No such file"),
        ("notes.txt", "the attachment notes.txt is not a PNG, JPEG"),
        ("https://example.org/a", "the type of the attachment https://example.org/a is unknown"),
    ],
)
def test_wrong_attachment(
    name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("some words")
    with pytest.raises(InvalidRequestError, match=message):
        attachment_part(name)


def test_fields_of_a_schema() -> None:
    assert parse_schema("name, age int, tall bool, speed: in km/h,") == {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "age": {"type": "integer"},
            "tall": {"type": "boolean"},
            "speed": {"type": "string", "description": "in km/h"},
        },
        "required": ["name", "age", "tall", "speed"],
        "additionalProperties": False,
    }


def test_schema_in_json_and_in_a_file(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"a/b": {"type": "string"}}}
    file = tmp_path / "schema.json"
    file.write_text("\ufeff" + json.dumps(schema), encoding="utf-8")
    assert parse_schema(json.dumps(schema)) == schema
    assert parse_schema(str(file)) == schema


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "--schema needs a file, a JSON schema, or fields: name, age int"),
        ("age integr", "--schema has a field 'age integr'; a field is a name, then one of"),
        ("a b c", "--schema has a field 'a b c'"),
        ("age: int", "--schema has a field 'age: int'"),
        ("bio: one sentence, no jokes at all", "a description without a comma"),
        ("name, name int", "--schema has two fields with the same name"),
        ('{"type": 5}', "--schema is not a valid JSON schema"),
        ('{"type": }', "--schema is not JSON"),
        ('{"maximum": NaN}', "--schema is not JSON: NaN is not a JSON number"),
        ("missing.json", "the schema missing.json cannot be read: No such file"),
        ("list.json", "list.json is not a JSON schema: it must be an object"),
        ("binary.json", "the schema binary.json cannot be read"),
    ],
)
def test_wrong_schema(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("list.json").write_text("[]")
    Path("binary.json").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidRequestError, match=message):
        parse_schema(text)
