"""docs/messages.md: its programs run on every protocol, and its tables are true."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from providers_sync import (
    PROVIDERS,
    Anthropic,
    Gemini,
    InvalidRequestError,
    Ollama,
    OpenAICompatible,
    OpenAIResponses,
)
from providers_sync.testing import Request, serve, text, tool_call

PAGE = (Path(__file__).parent.parent / "docs/messages.md").read_text(encoding="utf-8")
FIRST, *PROGRAMS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)
KINDS: list[Any] = [OpenAICompatible, OpenAIResponses, Anthropic, Gemini, Ollama]
PNG, PDF, WAV = b"\x89PNG\r\n\x1a\n", b"%PDF-1.7\n", b"RIFF0000WAVEfmt "
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
NAMED = {"type": "function", "function": {"name": "f"}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}}}


def table_with(column: str) -> dict[str, dict[str, str]]:
    """Return the rows of the page's table that has this column: class, column, cell."""
    lines = PAGE.splitlines()
    [at] = [n for n, line in enumerate(lines) if line.startswith("| |") and f"{column} |" in line]
    columns = [cell.strip() for cell in lines[at].split("|")[2:-1]]
    rows: dict[str, dict[str, str]] = {}
    for line in lines[at + 2 :]:
        if not line.startswith("|"):
            break
        name, *cells = (cell.strip() for cell in line.split("|")[1:-1])
        rows[name.strip("`")] = dict(zip(columns, cells, strict=True))
    assert set(rows) == {kind.__name__ for kind in KINDS}
    return rows


def is_taken(kind: Any, messages: Any = "Hi", **options: Any) -> bool:
    """Return whether a request can be made of this; nothing is sent."""
    try:
        kind("m", base_url="http://127.0.0.1:9").prepare(messages, **options)
    except InvalidRequestError:
        return False
    return True


def message_with(value: Any) -> list[Any]:
    return [{"role": "user", "content": [{"type": "file", "file": value}]}]


# --- the programs


def an_answer(request: Request) -> list[Any]:
    """Return a call of the tool, and text once it has a result or where there is none."""
    asks = b"weather" in request.body and b"sunny" not in request.body
    return [tool_call("weather", {"city": "Paris"}, id="c")] if asks else [text("Yes.")]


@pytest.mark.parametrize("kind", KINDS)
def test_programs_run(kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other, as a reader would run them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "report.pdf").write_bytes(PDF)
    with serve(an_answer) as server, kind("m", base_url=server.url, api_key="k") as provider:
        names: dict[str, Any] = {}
        exec(FIRST, names)
        names["provider"] = provider
        for program in PROGRAMS:
            refuses = ("report.pdf" in program and kind is Ollama) or (
                "gs://" in program and kind not in (Gemini, OpenAICompatible)
            )
            if refuses:  # the page says so
                with pytest.raises(InvalidRequestError, match=r"not support|Gemini's own form"):
                    exec(program, names)
                continue
            exec(program, names)
        assert names["answer"].text == "Yes."
        assert [turn["role"] for turn in names["messages"]] == ["user", "assistant", "tool"]
    sent = [request.body for request in server.requests]
    asking = [program for program in PROGRAMS if "provider." in program]
    refused = {Ollama: 2, Anthropic: 1, OpenAIResponses: 1}.get(kind, 0)
    assert len(sent) == len(asking) + 1 - refused
    assert b"Be brief." in sent[0]
    assert sum(b"sunny in Paris" in body for body in sent) == 1


# --- the tables


FILES: dict[str, Any] = {
    "image": PNG,
    "image by URL": "https://example.org/a.png",
    "PDF": PDF,
    "PDF by URL": "https://example.org/a.pdf",
}


@pytest.mark.parametrize("kind", KINDS)
def test_table_of_files_is_true(kind: Any) -> None:
    """A dash is an error before anything is sent."""
    row = table_with("PDF by URL")[kind.__name__]
    for column, value in FILES.items():
        assert is_taken(kind, message_with(value)) is (row[column] == "yes"), column
    sounds = {"–": (), "WAV, MP3": ("wav",), "yes": ("wav", "flac")}[row["sound"]]
    assert is_taken(kind, message_with(WAV)) is ("wav" in sounds)
    assert is_taken(kind, message_with(b"fLaC0")) is ("flac" in sounds)


def test_historical_providers_take_text_only() -> None:
    """As the page says."""
    for name in ("vitalentum", "codelinkava", "ai365vip"):
        make = partial(historical, name)
        assert is_taken(make)
        assert not is_taken(make, message_with(PNG))


def historical(name: str, _: str, **settings: Any) -> Any:
    return PROVIDERS[name](**settings)


CHOICES: dict[str, list[dict[str, Any]]] = {
    "`auto`, `none`": [{"tool_choice": "auto"}, {"tool_choice": "none"}],
    "`required`, a function's name": [{"tool_choice": "required"}, {"tool_choice": NAMED}],
    "`parallel_tool_calls=False`": [{"parallel_tool_calls": False}],
}
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "`max_tokens`": [{"max_tokens": 5}, {"max_completion_tokens": 5}],
    "`stop`": [{"stop": "x"}, {"stop": ["x", "y"]}],
    "`seed`": [{"seed": 1}],
    "penalties": [{"presence_penalty": 0.5}, {"frequency_penalty": 0.5}],
    "`logprobs`": [{"logprobs": True}, {"logprobs": True, "top_logprobs": 2}],
    "`reasoning_effort`": [{"reasoning_effort": "low"}],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("column", "columns", "shared"),
    [("`auto`, `none`", CHOICES, {"tools": [TOOL]}), ("`seed`", OPTIONS, {})],
)
def test_tables_of_options_are_true(
    kind: Any, column: str, columns: dict[str, Any], shared: dict[str, Any]
) -> None:
    """Each column, with every form that it stands for."""
    row = table_with(column)[kind.__name__]
    assert row.keys() == columns.keys()
    for name, forms in columns.items():
        for options in forms:
            assert is_taken(kind, **shared, **options) is (row[name] == "yes"), options


def test_formats_are_honoured_as_the_page_says() -> None:
    """A schema by all of them, JSON alone by all but one."""
    for kind in KINDS:
        assert is_taken(kind, response_format=SCHEMA)
        assert is_taken(kind, response_format={"type": "json_object"}) is (kind is not Anthropic)
        assert is_taken(kind, temperature=0.5, top_p=0.5)
        assert not is_taken(kind, n=2)


def test_models_are_listed_where_the_page_says() -> None:
    """With all providers but the historical ones."""
    without = {name for name, kind in PROVIDERS.items() if not hasattr(kind, "list_models")}
    assert without == {"vitalentum", "codelinkava", "ai365vip"}
