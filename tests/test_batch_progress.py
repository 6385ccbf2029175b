"""The progress of ``providers-sync batch``: a line, a bar, and how far reading is."""

from __future__ import annotations

import io
import sys

import pytest

from providers_sync.batch import progress_display
from providers_sync.batch.progress_display import ProgressLine, progress
from providers_sync.batch.tally import Tally


class Terminal(io.StringIO):
    """A standard error that is a terminal."""

    def isatty(self) -> bool:
        """Return true."""
        return True


def tally(done: int, total: int) -> Tally:
    """Return a tally that started a minute ago."""
    result = Tally(total, answered=done)
    result.started -= 60
    return result


def test_the_line_in_a_terminal_is_rewritten() -> None:
    """Count, rate, failures and the time left, on one line until the end."""
    out = Terminal()
    line = ProgressLine(out)
    line._shown_at -= 1
    line.show(tally(120, 480))
    line.show(tally(121, 480))  # too soon for another update
    line.show(tally(480, 480))
    first, last = out.getvalue().lstrip("\r").split("\r")
    assert first.rstrip() == "120/480 25 % · 2.0 rows/s · 0 failed · 3:00 left"
    assert last.startswith("480/480 100 %")
    assert last.endswith("\n")


@pytest.mark.parametrize("done", [2, 4])
def test_the_line_in_a_terminal_ends_once(done: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the batch ends early, so that what is printed next has its own line."""
    monkeypatch.setitem(sys.modules, "rich.console", None)
    out = Terminal()
    with pytest.raises(KeyError), progress(4, out) as line:  # noqa: PT012 (it is shown before)
        line.show(tally(done, 4))
        raise KeyError
    assert out.getvalue().startswith(f"\r{done}/4")
    assert out.getvalue().index("\n") == len(out.getvalue()) - 1


def test_the_line_in_a_log_is_repeated_now_and_then() -> None:
    """One line every ten seconds, without carriage returns."""
    out = io.StringIO()
    line = ProgressLine(out)
    line.show(tally(1, 4))
    line._shown_at -= 11
    line.show(tally(2, 4))
    line.show(tally(4, 4))
    assert [each.split()[0] for each in out.getvalue().splitlines()] == ["2/4", "4/4"]
    assert "\r" not in out.getvalue()


def test_rich_draws_the_bar_where_it_is_installed() -> None:
    """It has the same text next to it."""
    pytest.importorskip("rich", reason="rich is not installed")
    out = Terminal()
    with progress(4, out) as bar:
        assert not isinstance(bar, ProgressLine)
        bar.show(tally(4, 4))
    assert "4/4" in out.getvalue()
    assert "0 failed" in out.getvalue()


@pytest.mark.parametrize(("seconds", "shown"), [(5, "0:05"), (65, "1:05"), (3725, "1:02:05")])
def test_time_left_reads_like_a_clock(seconds: int, shown: str) -> None:
    """Hours are shown only if there are any."""
    tally = Tally(total=2, answered=1)
    tally.started -= seconds
    assert tally.time_left() == shown


@pytest.mark.parametrize(
    ("is_terminal", "shown"),
    [
        (True, "\rchecking: 11 rows\rchecking: 12 rows\r" + " " * 17 + "\r"),
        (False, "checking: 11 rows\n"),
    ],
)
def test_reading_shows_how_far_it_is(
    is_terminal: bool, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After two seconds in a terminal, where the line is removed; every ten seconds in a log."""
    now = [0.0]
    monkeypatch.setattr(progress_display, "monotonic", lambda: now[0])
    out = Terminal() if is_terminal else io.StringIO()
    with progress_display.count_rows("checking", out) as show:
        for count, seconds in ((1, 0.1), (2, 1.9), (11, 10.5), (12, 11.0)):
            now[0] = seconds
            show(count)
    assert out.getvalue() == shown


def test_short_reading_shows_nothing() -> None:
    out = Terminal()
    with progress_display.count_rows("checking", out) as show:
        show(1)
    assert out.getvalue() == ""
