"""The table of ``providers-sync batch`` where the batch is slow, ends early, or has no disk."""

from __future__ import annotations

import csv
import os
import stat
import threading
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from test_batch_command import echo, folder, run

from providers_sync.batch.result_table import ResultTable
from providers_sync.testing import Request, serve, status, text, usage

__all__ = ["folder"]


def test_a_slow_row_delays_no_other_and_has_its_place_in_the_table(folder: Path) -> None:
    """All others are answered before it: with ``ordered`` they could not all be sent."""
    rows = [f"r{number}" for number in range(100)]
    Path("in.txt").write_text("".join(f"{row}\n" for row in rows))
    others = threading.Semaphore(0)

    def script(request: Request) -> Any:
        if b'"r0"' in request.body:
            for _ in rows[1:]:
                assert others.acquire(timeout=20)
        others.release()
        return echo(request)

    with serve(script) as server:
        assert run(server, "in.txt", "--table", "t.csv", "--concurrency", "2") == 0
    with open("t.csv", newline="") as file:
        assert [row["text"] for row in csv.DictReader(file)] == rows


def test_a_rerun_that_ends_early_keeps_the_recorded_rows_in_the_table(folder: Path) -> None:
    Path("in.txt").write_text("one\ntwo\nthree\n")
    with serve(lambda each: status(400) if b"one" in each.body else echo(each)) as server:
        assert run(server, "in.txt", "--table", "t.csv") == 1
    with serve(status(401, "No")) as server:
        assert run(server, "in.txt", "--table", "t.csv") == 1
    with open("t.csv", newline="") as file:
        assert [row["text"] for row in csv.DictReader(file)] == ["", "two", "three"]


def test_any_line_end_in_an_answer_stays_in_its_cell(folder: Path) -> None:
    Path("in.txt").write_text("Hi\n")
    with serve([text("a\rb"), usage(1, 2)]) as server:
        assert run(server, "in.txt", "--table", "t.csv") == 0
    with open("t.csv", newline="") as file:
        assert [row["text"] for row in csv.DictReader(file, strict=True)] == ["a\rb"]
    assert b"\r\n" not in Path("t.csv").read_bytes()


def test_an_older_table_keeps_its_mode_and_stays_where_the_new_one_fails(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("in.txt").write_text("Hi\n")
    Path("t.csv").write_text("old\n")
    Path("t.csv").chmod(0o640)
    with serve(echo) as server:
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", Mock(side_effect=OSError(28, "No space left")))
            assert run(server, "in.txt", "--table", "t.csv") == 1
        assert "cannot write the table t.csv: No space left; the answers are in" in (
            capsys.readouterr().err
        )
        assert Path("t.csv").read_text() == "old\n"
        assert sorted(os.listdir()) == ["in.txt", "out.jsonl", "t.csv"]
        assert run(server, "in.txt", "--table", "t.csv") == 0
    assert "Hi" in Path("t.csv").read_text()
    assert stat.S_IMODE(os.stat("t.csv").st_mode) == 0o640


def test_both_errors_are_shown_where_the_table_of_an_ended_batch_fails(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last line says why the batch has ended."""
    Path("in.txt").write_text("one\ntwo\n")
    monkeypatch.setattr(os, "replace", Mock(side_effect=OSError(28, "No space left")))
    with serve(status(401, "Wrong key")) as server:
        assert run(server, "in.txt", "--table", "t.csv", "--concurrency", "1") == 1
    table, batch = capsys.readouterr().err.splitlines()[-2:]
    assert "cannot write the table t.csv: No space left" in table
    assert "no row can be answered, so no more rows were sent: 401" in batch


@pytest.mark.parametrize("error", [ValueError("odd"), KeyboardInterrupt()], ids=["error", "ctrl-c"])
def test_nothing_is_left_behind_where_writing_a_table_is_stopped(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    monkeypatch.setattr(os, "replace", Mock(side_effect=error))
    with pytest.raises(type(error)):
        ResultTable("t.csv", ()).write([])
    assert os.listdir() == []


def test_a_link_to_a_missing_folder_is_refused_first(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("in.txt").write_text("Hi\n")
    os.symlink("none/t.csv", "t.csv")
    with serve(echo) as server:
        assert run(server, "in.txt", "--table", "t.csv") == 2
        assert server.requests == []
    assert "cannot write t.csv: does its folder exist?" in capsys.readouterr().err


def test_a_table_that_is_no_file_is_refused_first(folder: Path) -> None:
    """As is a read-only one."""
    Path("in.txt").write_text("Hi\n")
    os.mkfifo("t.csv")
    with serve(echo) as server:
        assert run(server, "in.txt", "--table", "t.csv") == 2
        assert server.requests == []
