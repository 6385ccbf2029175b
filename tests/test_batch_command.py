"""``providers-sync batch``: mistakes in the input, options of the request, limits and tables."""

from __future__ import annotations

import csv
import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

import pandas
import pytest

from providers_sync.cli import main
from providers_sync.testing import Request, Script, Server, serve, status, text, usage


def echo(request: Request) -> Any:
    """Answer with the prompt."""
    return [text(request.json()["messages"][-1]["content"]), usage(1, 2)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, empty."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(server: Server, source: str, *more: str) -> int:
    """Run the command with the ledger ``out.jsonl``; return its exit code."""
    url = ["--provider", "openai", "--model", "m", "--base-url", server.url]
    try:
        return main(["batch", source, "out.jsonl", *url, *more])
    except SystemExit as usage:
        return int(usage.code or 0)


def bodies(script: Script, source: str, *more: str) -> list[dict[str, Any]]:
    """Run the command successfully; return the bodies of its requests."""
    with serve(script) as server:
        assert run(server, source, *more) == 0
        return [request.json() for request in server.requests]


MISTAKES = [
    {"custom_id": "a", "prompt": "one"},
    {"custom_id": "a", "prompt": "two"},
    {"prompt": " "},
    {"prompt": None},
    {"prompt": 5},
    {"custom_id": 7.5, "prompt": "x"},
    {"body": {"messages": "x", "self": 1}},
    {"body": {"messages": [{"role": "user"}]}},
    {"body": {"messages": "x", "model": [1]}},
    "good",
]


def test_mistakes_are_listed_before_anything_is_sent(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of one kind in one line, five kinds at most; exit code 2, and no ledger."""
    Path("in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in MISTAKES))
    with serve(echo) as server:
        assert run(server, "in.jsonl") == 2
        assert server.requests == []
    lines = capsys.readouterr().err.splitlines()
    assert lines[:3] == [
        "providers-sync: 8 of 10 rows cannot be sent:",
        "  row 2: custom_id 'a' is already used in row 1: it must be unique",
        "  row 3 has no prompt (it is empty): leave it out; and 1 more like it",
    ]
    assert lines[3].startswith("  row 5: messages must be a string")
    assert lines[4].startswith("  row 6: custom_id must be text")
    assert lines[5].startswith("  row 7 has 'self' in its 'body'")
    assert lines[6:] == [
        "  and 2 more",
        "providers-sync: nothing was sent: correct the input, or send the rest with --skip-invalid",
    ]
    assert not Path("out.jsonl").exists()


def test_skip_invalid_sends_the_rest(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The mistakes are listed too, and recorded as failed."""
    Path("in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in MISTAKES))
    with serve(echo) as server:
        assert run(server, "in.jsonl", "--skip-invalid") == 1
        assert len(server.requests) == 2
    shown = capsys.readouterr()
    assert "providers-sync: 8 of 10 rows cannot be sent:\n" in shown.err
    assert "nothing was sent" not in shown.err
    assert "answered         2\n" in shown.out
    assert "failed           8\n" in shown.out


@pytest.mark.parametrize("template", [[], ["--template", "{prompt}"]], ids=["prompt", "template"])
def test_skip_invalid_sends_the_rest_where_the_first_row_is_invalid(
    folder: Path, template: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("in.jsonl").write_text('{"q": "x"}\n"Hello"\n"World"\n')
    with serve(echo) as server:
        assert run(server, "in.jsonl", "--skip-invalid", *template) == 1
        assert len(server.requests) == 2
    shown = capsys.readouterr()
    assert "providers-sync: 1 of 3 rows cannot be sent:\n  row 1 " in shown.err
    assert "answered         2\nfrom the ledger  0\nfailed           1\n" in shown.out


def test_skip_invalid_sends_nothing_where_no_row_is_valid(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is the wrong input: the ledger stays as it is."""
    Path("in.jsonl").write_text('{"q": "x"}\n' * 2)
    with serve(echo) as server:
        assert run(server, "in.jsonl", "--skip-invalid") == 2
    assert capsys.readouterr().err.endswith("nothing was sent: correct the input\n")
    assert not Path("out.jsonl").exists()


def test_long_names_are_shortened(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the mistakes, in the errors of the rows and in the summary."""
    name = "n" * 300_000
    row = json.dumps({"custom_id": name, "prompt": "Hi"}) + "\n"
    changed = json.dumps({"custom_id": name, "prompt": "Ho"}) + "\n"
    other = json.dumps({"custom_id": "o" * 300_000, "prompt": "Hi"}) + "\n"
    with serve(lambda each: status(400) if each.number > 1 else echo(each)) as server:
        for rows in (row, row + row, changed, other):
            Path("in.jsonl").write_text(rows)
            run(server, "in.jsonl", "--skip-invalid")
    shown = capsys.readouterr()
    assert len(shown.out) + len(shown.err) < 5000
    assert f"custom_id '{'n' * 40}' is already used in row 1" in shown.err
    assert f"custom_id '{'n' * 40}' is in the input twice" in shown.out
    assert f"a different input under '{'n' * 40}'" in shown.out
    assert f"for example {'o' * 40}: 400 " in shown.out


def test_what_the_provider_refuses_is_found_before_anything_is_sent(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model that it does not have, which only preparing the request tells."""
    Path("in.jsonl").write_text('{"body": {"model": "none", "messages": "Hi"}}\n' * 2)
    with serve(echo) as server:
        url = ["--provider", "vitalentum", "--base-url", server.url]
        assert main(["batch", "in.jsonl", "out.jsonl", *url]) == 2
        assert server.requests == []
    (_, line, _) = capsys.readouterr().err.splitlines()
    assert line.startswith("  row 1: ")
    assert "none" in line
    assert line.endswith("; and 1 more like it")


def test_options_system_and_template_are_sent(folder: Path) -> None:
    """A row's own options win."""
    Path("in.csv").write_text('word,to\nHello,French\n"Good, night",German\n')
    options = ["-o", "temperature=0.5", "--max-tokens", "9", "--system", "Be brief."]
    found = bodies(echo, "in.csv", "--template", "{to}: {word}", *options)
    assert [(body["temperature"], body["max_tokens"]) for body in found] == [(0.5, 9)] * 2
    assert found[0]["messages"][0] == {"role": "system", "content": "Be brief."}
    prompts = {body["messages"][1]["content"] for body in found}
    assert prompts == {"French: Hello", "German: Good, night"}
    Path("in.jsonl").write_text('{"custom_id": "x", "body": {"messages": "x", "temperature": 1}}\n')
    (body,) = bodies(echo, "in.jsonl", *options)
    assert (body["temperature"], body["max_tokens"]) == (1, 9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-o", "base_url=http://x"], "-o base_url: this is not a request option"),
        (["-o", "temperature"], "-o needs NAME=VALUE"),
        (["--template", "Hello"], "does not name a column"),
        (["--budget", "0"], "budget must be a number above 0"),
        (["--budget", "inf"], "budget must be a number above 0"),
        (["--budget", "nan"], "budget must be a number above 0"),
        (["--budget", "2.5"], "for an amount of money, add the prices"),
        (["--price", "1,2"], "--price needs --budget"),
        (["--concurrency", "0"], "concurrency must be"),
        (["--table", "out.xlsx"], "a table must be a .csv, .tsv or .parquet file, not out.xlsx"),
        (["--table", "none/out.csv"], "cannot write none/out.csv"),
        (["--table", "./in.csv"], "is already the input or the ledger"),
    ],
)
def test_wrong_options_are_refused_before_the_input_is_read(
    folder: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with serve(echo) as server:
        assert run(server, "in.csv", *options) == 2  # in.csv does not even exist
        assert server.requests == []
    assert message in capsys.readouterr().err


def test_price_that_is_not_two_numbers_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["batch", "in.txt", "out.jsonl", "--price", "3"])
    assert "two numbers, such as 0.15,0.60, not 3" in capsys.readouterr().err


def test_a_wrong_key_ends_the_command_at_once(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line says why, and the summary how many rows there are."""
    Path("in.txt").write_text("row\n" * 100)
    with serve(status(401, "Wrong key")) as server:
        assert run(server, "in.txt", "--concurrency", "1") == 1
        assert len(server.requests) == 1
    shown = capsys.readouterr()
    assert "rows             1 of 100\n" in shown.out
    assert "no row can be answered, so no more rows were sent: 401" in shown.err.splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "used"),
    [
        (["--budget", "9"], "9 of 9 tokens"),
        (["--budget", "0.05", "--price", "10000,5000"], "0.06 of 0.05"),
    ],
)
def test_the_budget_ends_the_command_and_a_rerun_sends_the_rest(
    folder: Path, options: list[str], used: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("in.txt").write_text("row\n" * 10)
    with serve(echo) as server:
        assert run(server, "in.txt", "--concurrency", "1", *options) == 1
        assert len(server.requests) == 3
        shown = capsys.readouterr()
        assert "rows             3 of 10\n" in shown.out
        assert f"the budget is used up ({used}), so no more rows were sent" in shown.err
        assert run(server, "in.txt") == 0
        assert len(server.requests) == 10


# --- tables


def table_of(name: str) -> list[dict[str, Any]]:
    """Return the rows of a table."""
    if name.endswith(".parquet"):
        return pandas.read_parquet(name).to_dict("records")
    with open(name, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t" if name.endswith(".tsv") else ","))


@pytest.mark.parametrize("name", ["out.csv", "out.TSV", "out.parquet"])
def test_table_has_the_columns_of_the_input_and_the_answers(folder: Path, name: str) -> None:
    """In the order of the input; it is written again by a rerun, and readable by the owner only."""
    name = name.lower() if name.endswith("TSV") else name
    Path("in.csv").write_text('custom_id,text\nb,"=1+1, ""ä"""\na,two\n', encoding="utf-8")

    def script(request: Request) -> Any:
        return status(400, "No") if b"two" in request.body else echo(request)

    with serve(script) as server:
        assert run(server, "in.csv", "--template", "{text}", "--table", name) == 1
    found = table_of(name)
    assert list(found[0])[:3] == ["custom_id", "input.text", "outcome"]
    assert [row["custom_id"] for row in found] == ["b", "a"]
    assert [row["input.text"] for row in found] == ['=1+1, "ä"', "two"]
    assert [row["outcome"] for row in found] == ["complete", "failed"]
    assert (found[0]["text"], str(found[0]["output_tokens"])) == ('=1+1, "ä"', "2")
    assert "400" in found[1]["error"]
    assert stat.S_IMODE(Path(name).stat().st_mode) == 0o600
    with serve(echo) as server:
        assert run(server, "in.csv", "--template", "{text}", "--table", name) == 0
        assert len(server.requests) == 1
    assert [row["text"] for row in table_of(name)] == ['=1+1, "ä"', "two"]


def test_schema_makes_columns(folder: Path) -> None:
    """The fields of each answer, and no column for its text."""
    Path("in.txt").write_text("one\n")
    (body,) = bodies('{"name": "Ada", "age": 36}', "in.txt", "--schema", "name, age int",
                     "--table", "out.csv")  # fmt: skip
    assert set(body["response_format"]["json_schema"]["schema"]["properties"]) == {"name", "age"}
    (row,) = table_of("out.csv")
    assert (row["name"], row["age"], "text" in row) == ("Ada", "36", False)


def test_parquet_takes_cells_of_any_kind(folder: Path) -> None:
    """Mixed types, large numbers, lone surrogates, and columns without a value."""
    rows: list[Any] = [
        {
            "prompt": "a",
            "x": 1,
            "g": 2**53 + 1,
            "n": None,
            "\ud800": True,
            "b": True,
            "f": 2**53,
            "i": 1,
        },
        {"prompt": "b", "x": "one\ud800", "g": 0.5, "n": None, "y": 10**30, "b": False, "f": 1e300},
    ]
    Path("in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    bodies(echo, "in.jsonl", "--table", "out.parquet")
    first, second = table_of("out.parquet")
    assert (first["x"], second["x"], second["y"]) == ("1", "one?", str(10**30))
    assert (first["b"], first["input_tokens"]) == (True, 1)
    assert (first["g"], second["g"]) == (str(2**53 + 1), "0.5")
    assert (first["f"], second["f"], first["i"]) == (2.0**53, 1e300, 1)
    assert pandas.read_parquet("out.parquet")["i"].isna().tolist() == [False, True]


def test_table_of_an_ended_batch_has_what_is_there(folder: Path) -> None:
    Path("in.txt").write_text("row\n" * 10)
    with serve(echo) as server:
        arguments = ["--concurrency", "1", "--budget", "9", "--table", "out.csv"]
        assert run(server, "in.txt", *arguments) == 1
    assert [row["custom_id"] for row in table_of("out.csv")] == ["row-1", "row-2", "row-3"]


def test_table_of_no_rows_has_its_columns(folder: Path) -> None:
    Path("in.txt").write_text("")
    bodies(echo, "in.txt", "--table", "out.csv")
    assert Path("out.csv").read_text().startswith("custom_id,outcome,")
    bodies(echo, "in.txt", "--table", "out.parquet")
    assert list(pandas.read_parquet("out.parquet"))[:2] == ["custom_id", "outcome"]


@pytest.mark.parametrize("package", ["pandas", "pyarrow"])
def test_parquet_without_its_packages_is_refused_first(
    folder: Path,
    package: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with serve(echo) as server:
        assert run(server, "in.txt", "--table", "out.parquet") == 2
        assert server.requests == []
    assert "needs pandas and pyarrow: pip install pandas pyarrow" in capsys.readouterr().err


def test_a_pipe_as_input_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file is read twice."""
    os.mkfifo("in.txt")
    with serve(echo) as server:
        assert run(server, "in.txt") == 2
    assert "in.txt is not a regular file, and it must be read twice" in capsys.readouterr().err


@pytest.mark.parametrize("output", ["none/out.jsonl", "ledger.txt"], ids=["folder", "text"])
def test_a_ledger_that_cannot_be_used_is_a_wrong_option(
    folder: Path, output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is nothing to resume."""
    Path("in.txt").write_text("Hi\n")
    Path("ledger.txt").write_text("no ledger\n")
    with serve(echo) as server:
        url = ["--provider", "openai", "--model", "m", "--base-url", server.url]
        assert main(["batch", "in.txt", output, *url]) == 2
        assert server.requests == []
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("providers-sync: ")
    assert output in error
    assert "resume" not in error


def test_a_wrong_address_is_a_wrong_option(folder: Path) -> None:
    Path("in.txt").write_text("Hi\n")
    with pytest.raises(SystemExit) as caught:
        main(["batch", "in.txt", "out.jsonl", "--provider", "openai", "--base-url", "nowhere"])
    assert caught.value.code == 2
