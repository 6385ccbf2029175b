"""What ``--tool`` and ``--mcp`` load, and what they refuse."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tools_kit import folder

from providers_sync import InvalidRequestError, Tool, ToolCall
from providers_sync.terminal import tools
from providers_sync.terminal.approval import Approval
from providers_sync.terminal.screens import Screen

__all__ = ["folder"]  # the fixture


def test_tools_of_mcp_servers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each server gets its words; all have ended when the tools are no longer needed."""
    events: list[Any] = []

    @contextlib.contextmanager
    def fake(*command: str) -> Iterator[list[Tool]]:
        events.append(command)
        yield [Tool(lambda: "", name=f"tool{len(events)}")]
        events.append("end")

    monkeypatch.setattr(tools, "mcp", fake)
    with tools.open_tools([], ["npx -y 'a package' .", "https://a.example/mcp"]) as found:
        assert [tool.name for tool in found] == ["tool1", "tool2"]
        assert events == [("npx", "-y", "a package", "."), ("https://a.example/mcp",)]
    assert events[2:] == ["end", "end"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mine", "--tool needs MODULE:FUNCTION, such as files:read, not 'mine'"),
        ("mine:", "--tool needs"),
        (":add", "--tool needs"),
        ("./mine.py:add", "--tool needs"),
        ("nowhere:add", "--tool nowhere:add: there is no module nowhere, neither in {folder} nor"),
        ("mine.sub:add", "there is no module mine.sub,"),
        ("mine:sub", "the module mine has no sub; it has add, free, slow, say, strict, Box"),
        ("mine:NUMBER", "--tool mine:NUMBER: "),
        ("sys:nothing", "the module sys has no nothing; it has "),
        (
            "broken:add",
            "--tool broken:add: its module cannot be imported: ModuleNotFoundError: No module "
            "named 'no_such_package'",
        ),
        ("ends:add", "its module cannot be imported: SystemExit: 3"),
    ],
)
def test_what_is_no_function_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, words: str
) -> None:
    """The error names the option and what is missing."""
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    with pytest.raises(InvalidRequestError) as caught:
        tools.load_function(name)
    for module in ("mine", "broken", "ends"):
        sys.modules.pop(module, None)
    assert words.format(folder=folder) in str(caught.value)


def test_files_of_the_current_directory_take_the_place_of_no_package(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The directory is looked into after all others, and only for a module that is in no other."""
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    (folder / "colorsys.py").write_text("raise SystemExit('it was run')\n")
    assert tools.load_function("colorsys:rgb_to_hsv").name == "rgb_to_hsv"
    assert str(folder) not in sys.path
    tools.load_function("mine:add")
    assert sys.path[-1] == str(folder)
    del sys.modules["mine"]


def test_method_and_two_of_one_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dotted path leads into a class; two tools of one name are refused at once."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    with tools.open_tools(["mine:Box.get"], []) as [tool]:
        assert tool.name == "get"
    with (
        pytest.raises(InvalidRequestError, match="the same name"),
        tools.open_tools(["mine:add"] * 2, []),
    ):
        pass
    del sys.modules["mine"]


@pytest.mark.parametrize(
    ("server", "words"),
    [("", "--mcp needs"), ("npx 'a", "--mcp npx 'a: No closing quotation")],
)
def test_what_is_no_server_is_refused(server: str, words: str) -> None:
    """Before anything is started."""
    with pytest.raises(InvalidRequestError) as caught, tools.open_tools([], [server]):
        pass
    assert words in str(caught.value)


# --- the question


class Recorder(Screen):
    """Notes what is printed before the pause, and before the answer goes on."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.printed: list[str] = []

    def pause(self) -> None:
        self.printed.append(self._capsys.readouterr().err)

    def resume(self, label: str = "") -> None:
        self.printed.append(self._capsys.readouterr().err + label)


@pytest.mark.parametrize(
    ("typed", "decision"),
    [
        ("y\n", True),
        (" YES \n", True),
        ("n\n", False),
        ("No\n", False),
        ("\n", False),
        ("", False),
        ("yes, but later\n", "yes, but later"),
        ("caf\udcc3\udca9\n", "café"),
    ],
)
def test_what_is_typed_decides(
    typed: str,
    decision: bool | str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The question stands between the pause of the screen and its going on."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    screen = Recorder(capsys)
    assert Approval(screen)(ToolCall("1", "add", {"a": 1}, '{"a":1}')) == decision
    before, question = screen.printed
    assert before == ""
    assert question.startswith('providers-sync: the model wants to call add({"a": 1})\nCall it? ')
    assert question.endswith("add")


def test_long_arguments_are_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The user knows that there is more than is shown."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    arguments = {"a": "x" * 20_000}
    screen = Recorder(capsys)
    Approval(screen)(ToolCall("1", "add", arguments, ""))
    first = screen.printed[1].splitlines()[0]
    assert first.endswith("xxx… and 10009 more characters, not shown)")
