"""``ask`` and ``chat`` in a real terminal: tmux captures the screen that a user would see."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from gateway_kit import needs_model

from providers_sync.testing import answer, cut, finish, reasoning, serve, signal, stall, text, wait

ROOT = Path(__file__).parent.parent
WAIT_S = 20.0
DIM = r"\x1b\[(?:\d+;)*2m(?:\x1b\[\d+m)*providers-sync: "
DIM_STATS = DIM + "complete: "
WITHOUT_RICH = "import sys; sys.modules['rich'] = None; from providers_sync.cli import main; "

pytestmark = pytest.mark.skipif(not shutil.which("tmux"), reason="tmux is not installed")


class Terminal:
    """A tmux server with one window that runs one command."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._socket = ""
        self._started = 0

    def start(self, *arguments: str, url: str, size: str = "80x24", **env: str) -> None:
        """Run ``ask`` or ``chat`` with these arguments; its exit code is shown at the end."""
        options = ["--provider", "openai", "--model", "m", "--base-url", url]
        line = [*COMMAND, arguments[0], *options, *arguments[1:]]
        self.start_line(line, size=size, **env)

    def start_line(self, line: list[str], *, size: str = "80x24", **env: str) -> None:
        """Run any command line."""
        self._started += 1
        self._socket = str(self._folder / f"tmux{self._started}")
        base = {"PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", "XDG_STATE_HOME": str(self._folder)}
        inherited = {
            name: value for name, value in os.environ.items() if name not in ("TMUX", "NO_COLOR")
        }
        script = self._folder / "run"
        command = " ".join("'" + word.replace("'", "'\\''") + "'" for word in line)
        term = f"export TERM={env.pop('TERM')}\n" if "TERM" in env else ""
        script.write_text(f'trap : INT\n{term}{command}\necho "exit code $?"\nexec sleep 1000\n')
        columns, lines = size.split("x")
        self._tmux(
            *("-f", "/dev/null", "new-session", "-d", "-x", columns, "-y", lines),
            f"sh {script}",
            env={**inherited, **base, **env},
        )

    def type(self, *keys: str) -> None:
        """Press keys, given as tmux names (``Enter``, ``C-c``) or as text."""
        self._tmux("send-keys", *keys)

    def paste(self, pasted: str) -> None:
        """Paste as terminals do: bracketed, if the program has enabled bracketed paste."""
        self._tmux("load-buffer", "-", input=pasted)
        self._tmux("paste-buffer", "-p")

    def resize(self, columns: int, lines: int) -> None:
        """Change the size and wait until the program can see it: tmux delays it by 0.25 s."""
        self._tmux("resize-window", "-x", str(columns), "-y", str(lines))
        with open(self._tmux("display-message", "-p", "#{pane_tty}").strip(), "rb") as tty:
            deadline = time.monotonic() + WAIT_S
            while os.get_terminal_size(tty.fileno()) != (columns, lines):
                assert time.monotonic() < deadline
                time.sleep(0.01)

    def seen(self, *options: str) -> str:
        """Return everything that was shown, with wrapped lines joined."""
        return self._tmux("capture-pane", "-p", "-J", "-S", "-", *options)

    def wait(self, expected: str | Callable[[str], Any]) -> str:
        """Poll until the screen shows the expected text (tmux has no event); return the screen."""
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            seen = self.seen()
            if expected in seen if isinstance(expected, str) else expected(seen):
                return seen
            time.sleep(0.03)
        raise AssertionError(f"not seen: {expected}\n{self.seen()}")

    def stop(self) -> None:
        subprocess.run(["tmux", "-S", self._socket, "kill-server"], capture_output=True)

    def _tmux(self, *arguments: str, **settings: Any) -> str:
        done = subprocess.run(
            ["tmux", "-S", self._socket, *arguments], capture_output=True, text=True, **settings
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


COMMAND = [sys.executable, "-W", "error", "-m", "providers_sync"]


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    """A separate terminal for each test."""
    terminal = Terminal(tmp_path)
    yield terminal
    terminal.stop()


def document(lines: int = 15) -> str:
    """Return an answer longer than the screen; each part of it has its own number."""
    number = iter(range(1000))
    parts = ["# Title *(0)*\n\n"]
    next(number)
    for _ in range(lines):
        parts.append(
            f"- **item** ({next(number)}) with words that go on beyond the end of the line "
            f"and further ({next(number)})\n  - inner ({next(number)})\n"
        )
    parts.append(
        "\n```python\n" + "".join(f"x = ({next(number)})\n" for _ in range(lines * 2)) + "```\n"
    )
    parts.append("\n| a | b |\n|---|---|\n")
    parts += [f"| ({next(number)}) | ({next(number)}) |\n" for _ in range(lines)]
    parts.append("\n" + "".join(f"sentence ({next(number)}). " for _ in range(lines * 3)) + "\n\n")
    parts.append(f"> The end ({next(number)}).")
    return "".join(parts)


def numbers(shown: str) -> list[int]:
    """Return the numbers of the parts in the order in which they are shown."""
    return [int(number) for number in re.findall(r"\((\d+)\)", shown)]


def chunks(source: str, size: int = 7) -> list[Any]:
    return [text(source[at : at + size]) for at in range(0, len(source), size)]


# --- rendering


def test_answer_longer_than_the_screen_is_complete_and_not_repeated(terminal: Terminal) -> None:
    """Every part of the answer is shown once and in order; the Markdown is rendered."""
    source = document()
    with serve([*chunks(source)]) as server:
        terminal.start("ask", "Hi", "--stats", url=server.url)
        seen = terminal.wait("exit code 0")
    assert numbers(seen) == numbers(source)
    assert "**" not in seen
    assert "```" not in seen
    assert " • item (1)" in seen
    assert "complete: " in seen
    colors = terminal.seen("-e")
    assert "\x1b[1m" in colors
    assert re.search(DIM_STATS, colors)


def test_words_about_the_end_are_dim_in_a_chat(terminal: Terminal) -> None:
    """They come after the answer."""
    with serve(["**Hel**", finish("length")]) as server:
        terminal.start("chat", url=server.url)
        terminal.type("Hi", "Enter")
        seen = terminal.wait("limit on its length (finish reason length)")
        terminal.type("C-d")
        terminal.wait("anyway? [y/N]")
        terminal.type("C-d")
        terminal.wait("exit code 0")
    assert seen.index("Hel") < seen.index("providers-sync: the answer was cut off")
    assert re.search(DIM + "the answer was cut off", terminal.seen("-e"))


def test_text_is_shown_and_rendered_while_it_streams(terminal: Terminal) -> None:
    """The last block is live: half a sentence is shown before the rest arrives."""
    first, second = threading.Event(), threading.Event()
    script = [text("One **two"), wait(first), text("** three"), wait(second), text(" four")]
    with serve(script) as server:
        terminal.start("ask", "Hi", url=server.url)
        terminal.wait("One **two")
        first.set()
        terminal.wait("One two three")
        second.set()
        seen = terminal.wait("exit code 0")
    assert seen.split("\n")[0] == "One two three four"


def test_spinner_runs_until_the_first_text_and_leaves_nothing(terminal: Terminal) -> None:
    """It is shown while the model is reasoning; then the answer replaces it."""
    go_on = threading.Event()
    with serve([reasoning("Hm"), wait(go_on), text("Here.")]) as server:
        terminal.start("ask", "Hi", url=server.url)
        terminal.wait(lambda seen: re.match(r"[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏] thinking", seen))
        go_on.set()
        seen = terminal.wait("exit code 0")
    assert seen.startswith("Here.\nexit code 0")


@pytest.mark.model
def test_spinner_runs_while_the_local_model_loads(terminal: Terminal) -> None:
    """Loading takes a second or more; the spinner leaves nothing on the screen."""
    needs_model()
    terminal.start_line([*COMMAND, "ask", "--local", "Hi"])
    terminal.wait(lambda seen: re.match(r"[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏] loading the model", seen))
    assert "loading" not in terminal.wait("exit code 0")


def test_resize_during_the_answer_loses_no_text(terminal: Terminal) -> None:
    """Narrower, wider, lower, higher: each part of the answer is shown once, in order."""
    source = document(8)
    gates = [threading.Event() for _ in range(5)]
    cut_at = [len(source) * part // 6 for part in range(7)]
    script: list[Any] = []
    for index, gate in enumerate([*gates, None]):
        script += chunks(source[cut_at[index] : cut_at[index + 1]])
        script += [wait(gate)] if gate else []
    with serve(script) as server:
        terminal.start("ask", "Hi", url=server.url)
        sizes = [(50, 24), (120, 24), (40, 15), (90, 40), (60, 20)]
        for index, (gate, size) in enumerate(zip(gates, sizes, strict=True)):
            arrived = numbers(source[: cut_at[index + 1]])[-1]
            terminal.wait(lambda seen, last=arrived: last in numbers(seen))
            terminal.resize(*size)
            gate.set()
        seen = terminal.wait("exit code 0")
    assert numbers(seen) == numbers(source)


@pytest.mark.parametrize("limit", ["dumb", "no colour", "without rich", "plain", "ascii"])
def test_limited_terminals_show_the_complete_answer(terminal: Terminal, limit: str) -> None:
    """No unwanted colours, no unsupported cursor movement, and no text is lost."""
    source = document(5) + " Grüße\x1b[31m\x07"
    with serve(chunks(source)) as server:
        if limit == "dumb":
            terminal.start("ask", "Hi", url=server.url, TERM="dumb")
        elif limit == "no colour":
            terminal.start("ask", "Hi", "--stats", url=server.url, NO_COLOR="1")
        elif limit == "ascii":
            locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
            terminal.start("ask", "Hi", url=server.url, **locale)
        elif limit == "plain":
            terminal.start("ask", "Hi", "--plain", url=server.url)
        else:
            options = ["--provider", "openai", "--model", "m", "--base-url", server.url]
            main = f"{WITHOUT_RICH}sys.exit(main({['ask', 'Hi', *options]!r}))"
            terminal.start_line([sys.executable, "-c", main])
        seen = terminal.wait("exit code 0")
    assert numbers(seen) == numbers(source)
    assert "Traceback" not in seen
    assert ("**item**" in seen) == (limit != "no colour")
    assert ("Gr\\xfc\\xdfe" if limit == "ascii" else "Grüße␛[31m␇") in seen
    colors = terminal.seen("-e")
    assert not re.search(r"\x1b\[[\d;]*(3[0-7]|4[0-7]|38|48)[\d;]*m", colors)
    assert not re.search(DIM_STATS, colors)


# --- Ctrl-C


@pytest.mark.parametrize("phase", ["headers", "text", "middle"])
def test_interrupt_stops_the_answer_in_each_phase(terminal: Terminal, phase: str) -> None:
    """``ask`` exits with 130 and a message, keeps the text, and closes the connection at once."""
    scripts: dict[str, Any] = {
        "headers": answer(before=[stall()]),
        "text": [stall()],
        "middle": [text("# Half\n\n- an *ans"), stall()],
    }
    with serve(scripts[phase]) as server:
        terminal.start("ask", "Hi", url=server.url)
        terminal.wait("ans" if phase == "middle" else lambda seen: re.match("[⠋⠙⠹⠸⠼]", seen))
        server.wait_request()
        terminal.type("C-c")
        seen = terminal.wait("exit code")
        assert server.wait_closed() < 1
    assert "exit code 130" in seen
    assert "Traceback" not in seen
    expected = "Half\n\n • an *ans\n" if phase == "middle" else ""
    assert seen.startswith(expected + "providers-sync: stopped\nexit code 130")


def test_interrupt_keeps_the_session_of_a_chat(terminal: Terminal) -> None:
    """Stopped in each phase, the chat continues; a stopped answer can be resumed."""
    script = [
        answer(before=[stall()]),
        [stall()],
        [text("Half "), stall()],
        [text("complete")],
        [text("Next.")],
    ]
    with serve(script) as server:
        terminal.start("chat", url=server.url)
        terminal.wait("> ")
        for number in (1, 2, 3):
            terminal.type(f"Question {number}", "Enter")
            server.wait_request(number)
            if number == 3:
                terminal.wait("Half")
            terminal.type("C-c")
            terminal.wait(lambda seen, n=number: seen.count("stopped") == n)
        terminal.wait("/resume continues the answer")
        terminal.wait(lambda seen: seen.rstrip().endswith(">"))
        terminal.type("/resume", "Enter")
        terminal.wait(lambda seen: "complete" in seen and seen.rstrip().endswith(">"))
        terminal.type("C-c")
        terminal.wait("Ctrl-D or /quit exits")
        terminal.type("Again?", "Enter")
        terminal.wait(lambda seen: "Next." in seen and seen.rstrip().endswith(">"))
        terminal.type("C-d")
        terminal.wait("This conversation is not saved")
        terminal.type("y", "Enter")
        seen = terminal.wait("exit code 0")
        turns = [turn["content"] for turn in server.requests[4].json()["messages"]]
    assert turns == ["Question 3", "Half complete", "Again?"]
    assert "Next.\n\n> " in seen
    assert "Traceback" not in seen


def test_broken_answer_keeps_the_session_of_a_chat(terminal: Terminal) -> None:
    """The error takes one line; the text before it stays, and the next question is sent."""
    with serve([[text("Roses **are"), cut()], [text("Next.")]]) as server:
        terminal.start("chat", "--stats", url=server.url)
        terminal.wait("> ")
        terminal.type("One", "Enter")
        terminal.wait("/resume continues the answer")
        terminal.type("Two", "Enter")
        terminal.wait("complete: 1 chunk,")
        terminal.type("/quit", "Enter")
        terminal.wait("Leave anyway? [y/N]")
        terminal.type("y", "Enter")
        seen = terminal.wait("exit code 0")
    assert "Roses **are\n" in seen
    assert "the connection broke" in seen


def at_prompt(seen: str) -> bool:
    return seen.rstrip().endswith(">")


def test_unsaved_conversation_is_not_thrown_away_unasked(
    terminal: Terminal, tmp_path: Path
) -> None:
    """Ctrl-D, ``exit``, ``/new`` and ``/load`` ask; a saved or empty one needs no question."""
    saved = tmp_path / "chat.json"
    with serve(["ok."]) as server:
        terminal.start("chat", url=server.url)
        terminal.wait("> ")
        terminal.type("One", "Enter")
        terminal.wait(lambda seen: "ok." in seen and at_prompt(seen))
        asked = [("C-d",), ("exit", "Enter"), ("/new", "Enter")]
        for number, keys in enumerate(asked, 1):
            terminal.type(*keys)
            terminal.wait(lambda seen, n=number: seen.count("[y/N]") == n)
            terminal.type("C-d" if keys[0] == "/new" else "Enter")  # Ctrl-D agrees to leaving only
            terminal.wait(at_prompt)
        terminal.type("Two", "Enter")
        assert len(server.wait_request(2).json()["messages"]) == 3
        terminal.wait(lambda seen: seen.count("ok.") == 2 and at_prompt(seen))
        terminal.type(f"/save {saved}", "Enter")
        terminal.wait(lambda seen: "Saved to" in seen and at_prompt(seen))
        terminal.type("/new", "Enter")
        terminal.wait(lambda seen: "Started a new conversation." in seen and at_prompt(seen))
        terminal.type(f"/load {saved}", "Enter")
        terminal.wait(lambda seen: "Loaded from" in seen and at_prompt(seen))
        terminal.type("quit", "Enter")
        seen = terminal.wait("exit code 0")
    assert seen.count("[y/N]") == 3


def test_keys_pressed_before_the_question_are_no_answer(terminal: Terminal) -> None:
    """They do not throw the conversation away."""
    go_on = threading.Event()
    with serve([[text("Half "), wait(go_on), text("complete.")]]) as server:
        terminal.start("chat", url=server.url)
        terminal.wait("> ")
        terminal.type("One", "Enter")
        terminal.wait("Half")
        terminal.type("exit", "Enter", "y", "Enter")
        go_on.set()
        terminal.wait("anyway? [y/N]")
        terminal.type("n", "Enter")
        terminal.wait(lambda seen: "[y/N] n" in seen and at_prompt(seen))


def test_interrupt_of_a_command_keeps_the_chat(terminal: Terminal, tmp_path: Path) -> None:
    """Here of one that waits for a file."""
    os.mkfifo(tmp_path / "pipe")
    with serve(["ok."]) as server:
        terminal.start("chat", url=server.url)
        terminal.wait("> ")
        terminal.type("One", "Enter")
        terminal.wait(lambda seen: "ok." in seen and at_prompt(seen))
        terminal.type(f"/load {tmp_path / 'pipe'}", "Enter")
        terminal.wait(f"/load {tmp_path / 'pipe'}\n")
        terminal.type("C-c")
        terminal.wait(lambda seen: "stopped" in seen and at_prompt(seen))
        terminal.type("Two", "Enter")
        assert len(server.wait_request(2).json()["messages"]) == 3


def test_code_has_the_colours_of_the_terminal(terminal: Terminal) -> None:
    """No background, which would be dark in a light terminal; code of no language is coloured."""
    code = "```python\ndef f():\n    return 1\n```\n\n```\nplain\n```\n"
    with serve([code]) as server:
        terminal.start("ask", "Hi", url=server.url)
        terminal.wait("exit code 0")
        seen = terminal.seen("-e")
    assert "\x1b[35mdef" in seen
    assert re.search(r"\x1b\[36mplain", seen)
    assert not re.search(r"\x1b\[(?:[\d;]+;)?4[0-8]", seen)


def test_typed_answer_in_a_terminal(terminal: Terminal) -> None:
    """The spinner runs until the value is there; control characters are made visible."""
    go_on = threading.Event()
    value = '"name": "Ann \\u001b[2J"}'
    with serve([text("{"), wait(go_on), text(value)]) as server:
        terminal.start("ask", "Who?", "--schema", "name", url=server.url)
        terminal.wait(lambda seen: any(frame in seen for frame in "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"))
        go_on.set()
        seen = terminal.wait("exit code 0")
    assert '{\n  "name": "Ann ' in seen
    assert "⠋" not in seen


# --- the keyboard


def test_messages_of_several_lines_and_history(terminal: Terminal) -> None:
    """A backslash continues a line, arrow up recalls it, and a fenced block is one message."""
    done = threading.Event()
    with serve([[text("ok."), signal(done)]]) as server:
        terminal.start("chat", url=server.url)
        terminal.wait("> ")
        terminal.type("One \\", "Enter", "line", "Enter")
        server.wait_request(1)
        terminal.wait(lambda seen: seen.rstrip().endswith(">"))
        terminal.type('"""', "Enter", "two", "Enter", "lines", "Enter", '"""', "Enter")
        server.wait_request(2)
        terminal.wait(lambda seen: seen.count("ok.") == 2 and seen.rstrip().endswith(">"))
        terminal.type("Up", "Up", "Up", "Enter")  # past the closing fence and the second line
        server.wait_request(3)
        sent = [request.json()["messages"][-1]["content"] for request in server.requests]
        terminal.wait(lambda seen: seen.count("ok.") == 3 and seen.rstrip().endswith(">"))
        terminal.type("C-d")
        terminal.wait("anyway? [y/N]")
        terminal.type("C-d")
        terminal.wait("exit code 0")
    assert sent == ["One \nline", "two\nlines", "two"]


def test_pasted_lines_are_one_message(terminal: Terminal) -> None:
    """They wait for Enter; no line of them is taken for a command or the end of a fence."""
    with serve(["ok."]) as server:
        terminal.start("chat", url=server.url)
        for number, pasted in enumerate(["/usr/bin/cc:\n\n  error\n", '"""\nOne\n"""\n'], 1):
            terminal.wait(lambda seen: seen.rstrip().endswith(">"))
            terminal.paste(pasted)
            terminal.wait(pasted.split("\n")[1])
            terminal.type("Enter")
            server.wait_request(number)
            terminal.wait(lambda seen, n=number: seen.count("ok.") == n)
        sent = [request.json()["messages"][-1]["content"] for request in server.requests]
    assert sent == ["/usr/bin/cc:\n\n  error", "One"]


def test_history_is_kept_and_private(terminal: Terminal, tmp_path: Path) -> None:
    """Typed messages are available in the next session, from a file only its owner can read."""
    with serve(["ok."]) as server:
        terminal.start("chat", url=server.url)
        terminal.wait("> ")
        terminal.type("Remember me", "Enter")
        terminal.wait(lambda seen: "ok." in seen and seen.rstrip().endswith(">"))
        terminal.type("C-d")
        terminal.wait("anyway? [y/N]")
        terminal.type("C-d")
        terminal.wait("exit code 0")
        terminal.stop()
        terminal.start("chat", url=server.url)
        terminal.wait("> ")
        terminal.type("Up")
        terminal.wait("> Remember me")
    (history,) = tmp_path.glob("providers-sync/history")
    assert history.stat().st_mode & 0o077 == 0


def test_keys_pressed_during_an_answer_do_not_disturb_it(terminal: Terminal) -> None:
    """They are kept for the prompt and do not appear in the answer."""
    go_on = threading.Event()
    with serve([[text("Half "), wait(go_on), text("complete.")], ["Next."]]) as server:
        terminal.start("chat", url=server.url)
        terminal.wait("> ")
        terminal.type("One", "Enter")
        terminal.wait("Half")
        terminal.type("Two", "Enter")
        go_on.set()
        seen = terminal.wait("Next.")
        assert server.wait_request(2).json()["messages"][-1]["content"] == "Two"
    assert "Half complete." in seen
