"""``--log LEVEL``: the log on standard error, and never inside what a terminal shows."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_terminal_tmux import Terminal
from test_terminal_tmux import pytestmark as needs_tmux

from providers_sync import call_log
from providers_sync.cli import main
from providers_sync.terminal.input import Keyboard
from providers_sync.terminal.log_lines import shown_log
from providers_sync.testing import answer, serve, signal, status, wait

KEY = "sk-0123456789abcdef"
SCRIPT = [status(503, headers={"Retry-After": "0"}), answer("Hel", "lo")]
TIME = r"\d\d:\d\d:\d\d\.\d{3}"


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path)
    yield terminal
    terminal.stop()


def run(url: str, *arguments: str) -> int:
    return main([*arguments, "--base-url", url, "--model", "m"])


@pytest.mark.parametrize(
    ("arguments", "levels"),
    [
        (["--log", "debug", "ask", "Hi"], ["DEBUG", "INFO", "DEBUG", "DEBUG"]),
        (["ask", "Hi", "--log", "DEBUG"], ["DEBUG", "INFO", "DEBUG", "DEBUG"]),
        (["--log", "debug", "ask", "Hi", "--log", "info"], ["INFO"]),
        (["ask", "Hi", "--log", "info", "--json"], ["INFO"]),
        (["--log", "warning", "ask", "Hi"], []),
        (["ask", "Hi"], []),
    ],
)
def test_log_is_shown_from_the_level_on(
    arguments: list[str],
    levels: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before or after the command, the last one wins; standard output stays the answer's."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    logger = logging.getLogger("providers_sync")
    with serve(SCRIPT) as server:
        assert run(server.url, *arguments) == 0
    shown = capsys.readouterr()
    lines = shown.err.splitlines()
    assert [re.fullmatch(rf"{TIME} (\w+) .*", line)[1] for line in lines] == levels  # type: ignore[index]
    assert "Hel" in shown.out
    assert "providers" not in shown.out
    assert KEY not in shown.err
    assert (logger.handlers, logger.level) == ([], logging.NOTSET)


def test_outcome_of_a_failure_is_shown_before_its_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Each line is complete when the command ends."""
    with serve(status(404), keep=0) as server:
        assert run(server.url, "--log", "debug", "ask", "Hi") == 1
    *_, outcome, error = capsys.readouterr().err.splitlines()
    assert "outcome failed, status 404" in outcome
    assert outcome.endswith("error APIStatusError, status 404")
    assert error.startswith("providers-sync: ")


@pytest.mark.parametrize("arguments", [["--log", "loud", "ask"], ["ask", "--log", "loud"]])
def test_unknown_level_is_a_usage_error(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """It names the levels."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert all(level in error for level in ("loud", "debug", "info", "warning"))
    assert error.count("\n") == 1


@needs_tmux
def test_lines_wait_while_an_answer_is_on_the_last_line(terminal: Terminal) -> None:
    """The rendered answer stays whole; lines before it come at once, also beside a spinner."""
    asked, waits, shown = threading.Event(), threading.Event(), threading.Event()
    begin, end = "# Title\n\nSome *tex", "t*, the end.\n\n- a\n- b\n"
    rest = answer(signal(asked), wait(waits), begin, wait(shown), end)
    with serve([SCRIPT[0], rest], keep=0) as server:
        terminal.start("ask", "Hi", "--log", "debug", url=server.url, size="250x24")
        assert asked.wait(20)
        terminal.wait("attempt 2")
        waits.set()
        terminal.wait("Some")
        shown.set()
        seen = terminal.wait("exit code 0")
    lines = [re.sub(TIME, "T", line).rstrip() for line in seen.splitlines() if line.strip()]
    name = f"POST {server.url}/chat/completions for OpenAICompatible m"
    assert lines[:1] + lines[2:7] == [
        f"T DEBUG sending {name}, attempt 1",
        f"T DEBUG sending {name}, attempt 2",
        "Title",
        "Some text, the end.",
        " • a",
        " • b",
    ]
    assert lines[1].startswith(f"T INFO retrying {name} in 0.")
    assert lines[7].startswith(f"T DEBUG {name}: outcome complete, status 200")
    assert lines[8] == "exit code 0"


@needs_tmux
def test_lines_wait_while_a_message_is_typed(terminal: Terminal) -> None:
    """The outcome of an answer may be logged after its end."""
    with serve(answer("Yes."), keep=0) as server:
        terminal.start("chat", "--log", "debug", url=server.url, size="250x24")
        terminal.wait("> ")
        for number in (1, 2):
            terminal.type("Hello", "Enter")
            shown = ["> Hello", "Yes."] * number + [">"]
            terminal.wait(lambda seen, shown=shown: conversation(seen) == shown)  # type: ignore[misc]
        assert terminal.seen().count("outcome complete") == 2


class TTY(io.StringIO):
    """A terminal, as far as its programs ask."""

    def isatty(self) -> bool:
        return True


def test_line_that_comes_while_somebody_types_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or it would be written into the input."""
    stderr, seen = TTY(), []

    class Stdin(TTY):
        def readline(self, size: int = -1) -> str:
            call_log.write("not_recorded", error="the disk is full")
            seen.append(stderr.getvalue().count("disk"))
            return "yes\n"

    monkeypatch.setattr("sys.stderr", stderr)
    monkeypatch.setattr("sys.stdin", Stdin())
    monkeypatch.setattr("sys.stdout", io.StringIO())
    with shown_log("info"):
        assert Keyboard().read() == "yes"
        assert stderr.getvalue().count("disk") == 1
        monkeypatch.setattr("providers_sync.terminal.input.with_echo", contextlib.nullcontext)
        assert Keyboard().confirm("Sure?")
        assert stderr.getvalue().count("disk") == 2
    assert seen == [0, 1]
    assert "\r\x1b[K" in stderr.getvalue()


def conversation(seen: str) -> list[str]:
    """Return the lines of the screen that are no log lines."""
    return [line.rstrip() for line in seen.splitlines() if line.startswith((">", "Yes"))]
