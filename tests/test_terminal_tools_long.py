"""``ask`` and ``chat`` with tools: ``--tool``, ``--mcp``, ``--yes``, and the question."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
import threading
from pathlib import Path

import pytest
from test_terminal_piped import run
from test_terminal_tmux import DIM, Terminal, terminal
from tools_kit import folder

from providers_sync.testing import Server, answer, serve, text, tool_call, wait

__all__ = ["folder", "terminal"]  # the fixtures
WAIT_S = 10.0
ADD = tool_call("add", {"a": 1, "b": 2})
ROUNDS = [answer(text("Let me see."), ADD), answer(text("It is 3."))]
SERVER = shlex.join([sys.executable, str(Path(__file__).parent / "mcp_server.py")])
needs_tmux = pytest.mark.skipif(not shutil.which("tmux"), reason="tmux is not installed")


def told(server: Server, request: int = 1) -> str:
    """Return what the model was told about its last call."""
    content: str = server.requests[request].json()["messages"][-1]["content"]
    return content


# --- without a terminal


def test_yes_calls_the_function_without_a_question(folder: Path) -> None:
    """Standard output is the model's text; each call is on standard error, once."""
    with serve(ROUNDS) as server:
        stdout, stderr = run("ask", "1 + 2?", "--tool", "mine:add", "--yes", url=server.url)
        assert told(server) == "3"
    assert stdout == b"Let me see.It is 3.\n"
    assert stderr == 'providers-sync: add({"a": 1, "b": 2}): 3\n'


def test_piped_chat_with_yes(folder: Path) -> None:
    """Its history has the call and the result."""
    with serve([*ROUNDS, answer(text("Bye."))]) as server:
        arguments = ("chat", "--tool", "mine:add", "--yes")
        stdout, stderr = run(*arguments, url=server.url, stdin=b"1 + 2?\nThanks\n")
        roles = [message["role"] for message in server.requests[2].json()["messages"]]
    assert stdout == b"Let me see.It is 3.\nBye.\n"
    assert stderr == 'providers-sync: add({"a": 1, "b": 2}): 3\n'
    assert roles == ["user", "assistant", "tool", "assistant", "user"]


@pytest.mark.parametrize("command", [["ask", "Hi"], ["chat"]])
@pytest.mark.parametrize("name", ["add", "strict"])
def test_without_a_terminal_yes_is_needed(folder: Path, command: list[str], name: str) -> None:
    """The error comes before anything is sent."""
    with serve(ROUNDS) as server:
        tools = ("--tool", f"mine:{name}", "--tool", "mine:free")
        _, stderr = run(*command, *tools, url=server.url, stdin=b"Hi\n", code=1)
        assert server.requests == []
    assert f"you cannot be asked about calls of {name}: " in stderr
    assert "--yes" in stderr
    assert len(stderr.splitlines()) == 1


def test_function_without_approval_needs_no_yes(folder: Path) -> None:
    """``needs_approval = False``: nobody is asked."""
    with serve([answer(tool_call("free", {"a": 1, "b": 2})), answer(text("3"))]) as server:
        stdout, _ = run("ask", "Hi", "--tool", "mine:free", url=server.url)
    assert stdout == b"3\n"


def test_failed_call_is_one_clean_line(folder: Path) -> None:
    """What the function raises and what the model writes is made visible, and shortened."""
    call = tool_call("strict", '{"a": 1,\n"b": \t2}')
    long = tool_call("add", {"a": 1, "b": int("9" * 500)})
    with serve([answer(call), answer(long), answer(text("No."))]) as server:
        tools = ("--tool", "mine:strict", "--tool", "mine:add", "--yes")
        _, stderr = run("ask", "Hi", *tools, url=server.url)
    first, second = stderr.splitlines()
    assert first == 'providers-sync: strict({"a": 1, "b": 2}): error: ValueError: not ␛[2J today'
    assert second.startswith('providers-sync: add({"a": 1, "b": 999')
    assert len(second) < 250


def test_json_has_the_results(folder: Path) -> None:
    """They are events of their own; standard error is empty."""
    with serve(ROUNDS) as server:
        tools = ("--tool", "mine:add", "--yes")
        stdout, stderr = run("ask", "Hi", "--json", *tools, url=server.url)
    events = [json.loads(line) for line in stdout.splitlines()]
    [result] = [event for event in events if event["type"] == "tool_result"]
    assert result.pop("seconds") < WAIT_S
    assert result == {
        **{"type": "tool_result", "id": "call_1", "name": "add"},
        **{"content": "3", "is_error": False},
    }
    assert events[-1]["outcome"] == "complete"
    assert stderr == ""


def test_call_without_a_result_is_told(folder: Path) -> None:
    """The run has ended before it was called."""
    calls = [answer(tool_call("add", {"a": number, "b": 0})) for number in range(10)]
    with serve(calls) as server:
        _, stderr = run("ask", "Hi", "--tool", "mine:add", "--yes", url=server.url, code=1)
    lines = stderr.splitlines()
    assert sum("): " in line for line in lines) == 10
    assert lines[-2] == 'providers-sync: add({"a": 9, "b": 0}): no result'
    assert "10 rounds" in lines[-1]


def test_yes_alone_is_refused() -> None:
    """It would seem to do something."""
    with serve(["Hi"]) as server:
        _, stderr = run("ask", "Hi", "--yes", url=server.url, code=1)
        assert server.requests == []
    assert stderr == "providers-sync: --yes needs --tool or --mcp\n"


# --- MCP


@pytest.mark.parametrize("command", [["ask", "Hi"], ["chat"]])
def test_tools_of_an_mcp_server(command: list[str]) -> None:
    """The server is started with its arguments, and called."""
    pytest.importorskip("mcp")
    with serve([answer(ADD), ROUNDS[1]]) as server:
        stdin = b"" if command[0] == "ask" else b"Hi\n"
        stdout, _ = run(*command, "--mcp", SERVER, "--yes", url=server.url, stdin=stdin)
        first, second = (request.json() for request in server.requests)
    assert stdout == b"It is 3.\n"
    assert "add" in [each["function"]["name"] for each in first["tools"]]
    assert second["messages"][-1]["content"] == "3"


def test_server_that_cannot_be_started() -> None:
    """Nothing is sent to the model; the error names the command."""
    pytest.importorskip("mcp")
    with serve(["Hi"]) as server:
        arguments = ("--mcp", "no-such-command -x", "--yes")
        _, stderr = run("ask", "Hi", *arguments, url=server.url, code=1)
        assert server.requests == []
    assert "no-such-command" in stderr
    assert len(stderr.splitlines()) == 1


# --- in a terminal


def start(terminal: Terminal, *arguments: str, url: str) -> None:
    terminal.start(*arguments, "--tool", "mine:add", "--tool", "mine:slow", url=url, size="160x24")


QUESTION = "[y/N, or what to tell the model instead]"


@needs_tmux
def test_call_is_shown_and_asked_about(folder: Path, terminal: Terminal) -> None:
    """With its arguments as they are, made visible; the result is a dim line below the answer."""
    call = tool_call("add", '{"a": 1, "a": 7, "b":\\n 2}'.replace("\\n", "\n"))
    with serve([answer(text("Let me *see*."), call), answer(text("It is 9."))]) as server:
        start(terminal, "ask", "Hi", url=server.url)
        seen = terminal.wait(QUESTION)
        assert seen.startswith(
            'Let me see.\nproviders-sync: the model wants to call add({"a": 7, "b": 2})\nCall it? '
        )
        assert not (folder / "called").exists()
        terminal.type("y", "Enter")
        seen = terminal.wait("exit code")
        assert told(server) == "9"
    assert seen.rstrip().endswith(
        f'Call it? {QUESTION} y\nproviders-sync: add({{"a": 1, "a": 7, "b": 2}}): 9\nIt is 9.\n'
        "exit code 0"
    )
    assert re.search(DIM + "add", terminal.seen("-e"))


@needs_tmux
def test_hostile_arguments_are_visible(folder: Path, terminal: Terminal) -> None:
    """Nothing that a model writes moves the cursor or hides itself, in the question or below it."""
    call = tool_call("say", {"words": "x\x1b[2J\r\n\u202ey\u200b"})
    with serve([answer(call), answer(text("Done."))]) as server:
        terminal.start("ask", "Hi", "--tool", "mine:say", url=server.url, size="160x24")
        seen = terminal.wait(QUESTION)
        shown = 'say({"words": "x\\u001b[2J\\r\\n<U+202E>y<U+200B>"})'
        assert seen.startswith(f"providers-sync: the model wants to call {shown}\nCall it? ")
        terminal.type("y", "Enter")
        seen = terminal.wait("exit code 0")
    assert "): x␛[2J <U+202E>y<U+200B>\n" in seen


@needs_tmux
@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (["n", "Enter"], "the user declined this call"),
        (["Enter"], "the user declined this call"),
        (["C-d"], "the user declined this call"),
        (["not today", "Enter"], "the user declined this call: not today"),
    ],
)
def test_declined_call(folder: Path, terminal: Terminal, keys: list[str], words: str) -> None:
    """The function is not called, and the model is told the reason."""
    with serve(ROUNDS) as server:
        start(terminal, "ask", "Hi", url=server.url)
        terminal.wait(QUESTION)
        terminal.type(*keys)
        seen = terminal.wait("exit code 0")
        assert told(server) == words
    assert f"error: {words}\n" in seen
    assert not (folder / "called").exists()


@needs_tmux
def test_keys_typed_before_the_question_do_not_answer_it(folder: Path, terminal: Terminal) -> None:
    """They may have been meant for something else."""
    go_on = threading.Event()
    with serve([answer(text("Let me see."), wait(go_on), ADD), ROUNDS[1]]) as server:
        start(terminal, "ask", "Hi", url=server.url)
        terminal.wait("Let me see.")
        terminal.type("y", "Enter")
        terminal.wait("Let me see.")  # the keys have arrived: tmux works in order
        go_on.set()
        terminal.wait(QUESTION)
        terminal.type("n", "Enter")
        terminal.wait("exit code 0")
        assert told(server) == "the user declined this call"


@needs_tmux
def test_interrupt_at_the_question_stops_the_answer(folder: Path, terminal: Terminal) -> None:
    """``ask`` ends; nothing was called, and nothing more is sent."""
    with serve(ROUNDS) as server:
        start(terminal, "ask", "Hi", url=server.url)
        terminal.wait(QUESTION)
        terminal.type("C-c")
        seen = terminal.wait("exit code 130")
        assert len(server.requests) == 1
    assert seen.count("the model wants to call") == 1
    assert "providers-sync: stopped\n" in seen
    assert "Traceback" not in seen
    assert not (folder / "called").exists()


@needs_tmux
def test_interrupt_while_a_function_runs(folder: Path, terminal: Terminal) -> None:
    """The terminal shows which one runs; Ctrl-C does not wait for it."""
    with serve([answer(tool_call("slow", {}))]) as server:
        start(terminal, "ask", "Hi", "--yes", url=server.url)
        terminal.wait(lambda seen: re.search("[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏] slow", seen))
        assert (folder / "called").exists()
        terminal.type("C-c")
        seen = terminal.wait("exit code 130")
    assert seen.startswith(
        "providers-sync: slow({}): no result\nproviders-sync: stopped\nexit code 130"
    )


@needs_tmux
def test_chat_asks_and_goes_on(folder: Path, terminal: Terminal) -> None:
    """Also after Ctrl-C at the question."""
    with serve([*ROUNDS, ROUNDS[0], answer(text("Next."))]) as server:
        start(terminal, "chat", url=server.url)
        terminal.wait("> ")
        terminal.type("1 + 2?", "Enter")
        terminal.wait(QUESTION)
        terminal.type("y", "Enter")
        terminal.wait(lambda seen: "It is 3." in seen and seen.rstrip().endswith(">"))
        terminal.type("Again?", "Enter")
        terminal.wait(lambda seen: seen.count(QUESTION) == 2)
        terminal.type("C-c")
        terminal.wait(lambda seen: "stopped" in seen and seen.rstrip().endswith(">"))
        terminal.type("Next?", "Enter")
        terminal.wait(lambda seen: "Next." in seen and seen.rstrip().endswith(">"))
        terminal.type("C-p")  # the history has no answers to questions
        terminal.wait(lambda seen: seen.rstrip().endswith("> Next?"))
        terminal.type("C-p")
        terminal.wait(lambda seen: seen.rstrip().endswith("> Again?"))
        terminal.type("C-c")
        terminal.wait("Ctrl-D or /quit exits")
        terminal.type("C-d")
        terminal.wait("anyway? [y/N]")
        terminal.type("C-d")
        seen = terminal.wait("exit code 0")
        assert told(server) == "3"
        roles = [message["role"] for message in server.requests[3].json()["messages"]]
    assert roles == ["user", "assistant", "tool", "assistant", "user"]
    assert "Traceback" not in seen
