"""What ``--tool`` and ``--mcp`` load, and what they refuse."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tools_kit import folder

from providers_sync import InvalidRequestError, Tool
from providers_sync.terminal import tools

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
