"""Tests of ``providers-sync batch``: files, progress, the summary, exit codes, Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from providers_sync import OpenAICompatible, Outcome
from providers_sync.batch import command
from providers_sync.batch.results import Reply, to_result
from providers_sync.batch.rows import to_row
from providers_sync.batch.tally import Tally
from providers_sync.cli import main
from providers_sync.testing import (
    Request,
    Server,
    finish,
    reasoning,
    refusal,
    serve,
    stall,
    status,
    text,
    usage,
)

ROOT = Path(__file__).parent.parent


def echo(request: Request) -> Any:
    """Answer with the prompt."""
    return [text(request.json()["messages"][-1]["content"]), usage(1, 2)]


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """A file of four prompts, and the path of the ledger."""
    source = tmp_path / "prompts.txt"
    source.write_text("one\ntwo\nthree\nfour\n")
    return str(source), str(tmp_path / "answers.jsonl")


def batch_arguments(server: Server, files: tuple[str, str], *more: str) -> list[str]:
    """Return the arguments for ``main``."""
    return [
        "batch",
        *files,
        "--provider",
        "openai",
        "--model",
        "m",
        "--base-url",
        server.url,
        *more,
    ]


def test_a_file_becomes_a_ledger_with_all_answers(
    files: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 0, one line per row, and a summary with the counts."""
    with serve(echo) as server:
        assert main(batch_arguments(server, files, "--concurrency", "2", "--rate", "6000")) == 0
    lines = [json.loads(line) for line in Path(files[1]).read_text().splitlines()]
    texts = {each["response"]["body"]["choices"][0]["message"]["content"] for each in lines}
    assert texts == {"one", "two", "three", "four"}
    shown = capsys.readouterr()
    assert "rows             4 of 4\nanswered         4\n" in shown.out
    assert "tokens           4 in, 8 out\n" in shown.out
    assert "4/4 100 % · " in shown.err


def test_a_row_without_an_answer_is_exit_code_1_until_it_has_one(
    files: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The same command again sends that row only."""

    def script(request: Request) -> Any:
        return status(400, "No") if b"two" in request.body else echo(request)

    with serve(script) as server:
        assert main(batch_arguments(server, files)) == 1
    shown = capsys.readouterr().out
    assert "failed           1\n" in shown
    assert "1 × APIStatusError, for example row-2: 400 " in shown
    with serve(echo) as server:
        assert main(batch_arguments(server, files)) == 0
        assert len(server.requests) == 1
    assert "answered         1\nfrom the ledger  3\n" in capsys.readouterr().out


ENDINGS: dict[str, list[Any]] = {
    "one": [text("Hel"), finish("length")],
    "two": [text("Hi"), finish("length")],
    "three": [reasoning("Hm"), finish("length")],
    "four": [refusal("No.")],
    "five": [finish("weird\x1b")],
    "six": [text("Fine.")],
    "seven": [finish("stop")],
}
LIMIT = "cut off by a limit on their length (finish reason length)"


def test_the_summary_counts_answers_that_are_not_whole_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By reason, the most frequent first; they are answers, also when read from the ledger."""
    source, target = tmp_path / "prompts.txt", tmp_path / "answers.jsonl"
    source.write_text("\n".join(ENDINGS))

    def script(request: Request) -> Any:
        return ENDINGS[request.json()["messages"][-1]["content"]]

    with serve(script) as server:
        arguments = batch_arguments(server, (str(source), str(target)))
        assert main(arguments) == 0
        first = capsys.readouterr().out.splitlines()
        assert main(arguments) == 0
        again = capsys.readouterr().out.splitlines()
        assert len(server.requests) == 7
    assert first[7] == f"2 answers were {LIMIT}"
    assert sorted(first[8:]) == sorted(again[8:])
    assert sorted(first[8:]) == [
        "1 answer is a refusal (finish reason stop)",
        "1 answer is empty (finish reason stop)",
        "1 answer is empty: it ended for an unknown reason (finish reason weird␛)",
        "1 answer is empty: it has only reasoning, and was cut off by a limit on its length "
        "(finish reason length)",
    ]


def test_the_summary_names_ten_kinds_of_endings_at_most() -> None:
    """A server that gives a new reason each time does not fill the screen."""
    tally = Tally(total=30)
    for number in range(30):
        message = {"role": "assistant", "content": "Hel"}
        answered = Reply(message, Outcome.COMPLETE, finish_reason=f"reason {number}")
        tally.add(to_result(to_row("Hi", number), answered))
    lines = tally.table().splitlines()
    assert [line[:21] for line in lines[7:17]] == ["1 answer ended for an"] * 10
    assert lines[17:] == ["20 more ended in other ways"]


def test_a_broken_line_is_found_before_anything_is_sent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The complete file is read once before the first request."""
    source = tmp_path / "prompts.jsonl"
    source.write_text('"one"\n{broken\n')
    with serve(echo) as server:
        assert main(batch_arguments(server, (str(source), str(tmp_path / "out")))) == 2
        assert server.requests == []
    assert "line 2 of " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_input_as_output_is_refused(
    files: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The file of prompts is unchanged."""
    with serve(echo) as server:
        assert main(batch_arguments(server, (files[0], files[0]))) == 2
    assert "cannot be used as a ledger: line 1 is not a line" in capsys.readouterr().err
    assert Path(files[0]).read_text() == "one\ntwo\nthree\nfour\n"


def test_ctrl_c_records_finished_rows_and_explains_how_to_resume(files: tuple[str, str]) -> None:
    """Exit code 130, no new request, and a rerun sends the rest."""

    def script(request: Request) -> Any:
        return echo(request) if request.number <= 2 else stall()

    with serve(script) as server:
        arguments = batch_arguments(server, files, "--concurrency", "1")
        running = subprocess.Popen(
            [sys.executable, "-m", "providers_sync", *arguments],
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        server.wait_request(3, timeout=20)
        running.send_signal(signal.SIGINT)
        shown, _ = running.communicate(timeout=10)
        assert running.returncode == 130
        assert len(server.requests) == 3
    assert f"Stopped. The finished rows are in {files[1]}: run the same command again" in shown
    assert "from the ledger  0\n" in shown
    assert "Traceback" not in shown
    assert len(Path(files[1]).read_text().splitlines()) == 2
    with serve(echo) as server:
        assert main(batch_arguments(server, files)) == 0
        assert len(server.requests) == 2


def test_control_characters_in_the_file_name_are_escaped(
    files: tuple[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message about a stopped batch prints them visibly, like all other output."""

    def stopped(*arguments: Any, **options: Any) -> Iterator[Any]:
        yield from ()
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "map", stopped)
    with pytest.raises(KeyboardInterrupt):
        command.run(OpenAICompatible("m"), files[0], "out\x1b[2J")
    assert "Stopped. The finished rows are in out␛[2J:" in capsys.readouterr().err
