"""Files of prompts: text, CSV, JSON lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from providers_sync import InvalidRequestError, batch

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
    ],
)  # fmt: skip
def test_files_are_read_row_by_row(tmp_path: Path, name: str, content: str, rows: Any) -> None:
    """The name's end decides what a line means."""
    path = tmp_path / name
    path.write_bytes(content.encode())
    assert list(batch.read(path)) == rows


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", b"question,answer\nx,y\n", "no column 'prompt'; it has question, answer"),
        ("a.csv", b"", "no column 'prompt'; it has none"),
        ("a.jsonl", b'"one"\n{"prompt": \n', "line 2 of .*a.jsonl is not JSON"),
        ("a.json", b"[\n1\n]", "line 1 of .*one value a line is wanted"),
        ("a.txt", b"one\n\xff\n", "not UTF-8"),
        ("none.txt", None, "cannot read .*none.txt: No such file"),
    ],
)
def test_a_file_that_cannot_be_read_says_where(
    tmp_path: Path, name: str, content: bytes | None, said: str
) -> None:
    """The path, the line, and what was wanted."""
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidRequestError, match=said):
        list(batch.read(path))


def test_reading_is_lazy(tmp_path: Path) -> None:
    """The first row comes before the file's broken end is seen."""
    path = tmp_path / "a.jsonl"
    path.write_text('"one"\nbroken')
    assert next(batch.read(path)) == "one"
