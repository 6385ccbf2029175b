"""The ``%%chat`` magic in a real Jupyter kernel."""

from __future__ import annotations

from typing import Any

import pytest
from notebook_kit import ADD, TOOLS, Kernel, kernel, no_leaks

from providers_sync.testing import cut, serve, status, text

pytest.importorskip("ipykernel")

__all__ = ["kernel", "no_leaks"]
"""Fixtures."""

pytestmark = pytest.mark.filterwarnings("default:::jupyter_client", "default:::zmq")


def test_chat_magic_keeps_a_named_conversation(kernel: Kernel) -> None:
    """Settings stay, each name is a separate conversation, and the variable is a ``Chat``."""
    with serve(lambda request: [f"**{len(request.json()['messages'])}**"]) as server:
        options = f"--provider openai --model m --base-url {server.url}"
        assert kernel.run(f"%%chat {options}\nOne\ntwo").plain[0] == "**1**"
        assert kernel.run("%%chat\nThree").plain[0] == "**3**"
        assert kernel.run(f"%%chat other {options}\nOne").plain[0] == "**1**"
        assert kernel.run("%%chat --model big\nFour").plain[0] == "**5**"
        assert server.requests[0].json()["messages"][0]["content"] == "One\ntwo"
        assert server.requests[3].json()["model"] == "big"
        preset = options.replace("openai", "ollama")
        assert kernel.run(f"%%chat --new {preset}\nOne").plain[0] == "**1**"
        assert kernel.value("len(chat.history), len(other.history), len(chat.undo())") == (2, 2, 2)


def test_chat_magic_remembers_options(kernel: Kernel) -> None:
    """``-o`` sets them for all later cells; one that is refused is not kept."""
    with serve(["Yes."]) as server:
        options = f"--provider openai --model m --base-url {server.url}"
        kernel.run(f"%%chat --new {options} -o temperature=0.2 -o stop='[\"END\"]'\nOne")
        kernel.run("%%chat -o temperature=1 -o seed=7\nTwo")
        cell = kernel.start("%%chat -o api_version=3\nThree").end()
        assert [error["ename"] for error in cell.errors] == ["InvalidRequestError"]
        kernel.run("%%chat -o stop=null\nThree")
        kernel.run(f"%%chat --new {options}\nOne")
        names = ("temperature", "stop", "seed")
        sent = [[each.json().get(name) for name in names] for each in server.requests]
    assert sent == [[0.2, ["END"], None], [1, ["END"], 7], [1, None, 7], [None] * 3]


def test_chat_magic_does_not_keep_what_a_server_refuses(kernel: Kernel) -> None:
    """The next cell has the options and the functions of before, as they are defined now."""
    kernel.run("def f(a: int) -> str:\n    'v1'\n    return ''")

    def reply(request: Any) -> Any:
        code = {99: 400, 98: 422}.get(request.json().get("temperature"))
        return status(code, "too hot") if code else ["Yes."]

    with serve(reply) as server:
        options = f"--provider openai --model m --base-url {server.url}"
        kernel.run(f"%%chat --new {options} -o seed=7 --tool f\nOne")
        for line in (
            *("-o temperature=99 --tool slow", "-o temperature=98 --tool slow"),
            "-o timeout=abc --no-tools",
        ):
            kernel.run("def slow(a: int) -> str:\n    'slow'\n    return ''")
            assert kernel.start(f"%%chat {line}\nTwo").end().errors
        kernel.run("def f(a: int) -> str:\n    'v2'\n    return ''")
        kernel.run("%%chat\nThree")
        sent = server.requests[-1].json()
        (tool,) = sent["tools"]
        assert (sent["seed"], tool["function"]["description"]) == (7, "v2")
        assert "temperature" not in sent
        kernel.run("%%chat --no-tools\nFour")
        kernel.run("%%chat\nFive")
        assert [each.json().get("tools") for each in server.requests[-2:]] == [None] * 2


def test_chat_magic_takes_json_with_and_without_quotes(kernel: Kernel) -> None:
    """What is in the JSON is the same."""
    with serve(["Yes."]) as server:
        options = f"--provider openai --model m --base-url {server.url}"
        for value in (
            """x={"type":"json_object"} -o stop=["it's"]""",
            """x='{"type": "json_object"}' -o 'stop=["it'"'"'s"]'""",
            r'''"x={\"type\": \"json_object\"}" -o stop="it's"''',
        ):
            kernel.run(f"%%chat --new {options} -o {value}\nOne")
        sent = [(each.json()["x"], each.json()["stop"]) for each in server.requests]
    form = {"type": "json_object"}
    assert sent == [(form, ["it's"]), (form, ["it's"]), (form, "it's")]


def test_chat_magic_calls_functions_of_the_notebook(kernel: Kernel) -> None:
    """``--tool`` names them; they stay, in the form that the notebook has last defined."""
    kernel.run(TOOLS)
    with serve([[ADD], ["It is 3."], [ADD], ["It is 4."]]) as server:
        options = f"--provider openai --model m --base-url {server.url}"
        cell = kernel.run(f"%%chat --new {options} --tool add --tool slow\nOne and two?")
        assert cell.plain[:2] == ['add({"a": 1, "b": 2}): 3', "It is 3."]
        kernel.run("def add(a: int, b: int) -> int:\n    'Add, and one.'\n    return a + b + 1")
        assert kernel.run("%%chat\nAgain?").plain[0] == 'add({"a": 1, "b": 2}): 4'
        before = kernel.value("id(chat), len(chat.history)")
        for line in ("--new --tool nobody", "--tool time"):
            assert "has no function" in kernel.run(f"%%chat {line}\nHi").printed
        assert kernel.value("id(chat), len(chat.history)") == before
        for request in server.requests:
            tools = [tool["function"]["name"] for tool in request.json()["tools"]]
            assert tools == ["add", "slow"]


def test_chat_magic_removes_functions_that_need_approval(kernel: Kernel) -> None:
    """What says how they are called goes with them, and is back with the next function."""
    kernel.run(TOOLS)
    with serve([["One."], ["Two."], [ADD], ["Three."]]) as server:
        kernel.run(f"chat = Chat(openai({server.url!r}), tools=[add], approve=ask, parallel=2)")
        assert kernel.run("%%chat --no-tools\nHi").plain[0] == "One."
        assert kernel.run("%%chat\nHi").plain[0] == "Two."
        assert not {"tools", "approve", "parallel"} & {*server.requests[-1].json()}
        cell = kernel.start("%%chat --tool add\nHi")
        assert cell.wait_input() == "add? "
        cell.type("y")
        assert cell.end().plain[1] == "Three."


def test_chat_magic_says_that_a_function_is_gone(kernel: Kernel) -> None:
    """Instead of asking without it."""
    kernel.run(f"{TOOLS}\ndef other(): pass")
    with serve(["Yes."]) as server:
        options = f"--provider openai --model m --base-url {server.url}"
        kernel.run(f"%%chat --new {options} --tool add --tool other\nHi")
        kernel.run("del other")
        printed = kernel.run("%%chat\nHi").printed
        assert "no longer has a function other; use --tool or --no-tools" in printed
        assert len(server.requests) == 1
        kernel.run("%%chat --no-tools\nHi")


@pytest.mark.parametrize(
    ("script", "shown"),
    [
        ([text("Half"), cut()], "StreamCut: the connection broke"),
        (status(401, "No such key"), "AuthenticationError: 401 Unauthorized from http"),
    ],
)
def test_chat_magic_reports_a_fault_in_one_line(kernel: Kernel, script: Any, shown: str) -> None:
    """The error is the library's own; its traceback contains no user code and is not shown."""
    with serve(script) as server:
        options = f"--provider openai --model m --base-url {server.url}"
        cell = kernel.start(f"%%chat early {options} --new\nOne").end()
    (error,) = cell.errors
    assert error["ename"] == shown.partition(":")[0]
    line, _hint = error["traceback"]
    assert line.startswith(shown)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("taken", "the variable taken is not a Chat"),
        ("my-cats", "my-cats is not a valid variable name"),
        ("it's", "unmatched quotation mark, or a backslash"),
        ('-o x={"a": 1}', "quote the whole argument: -o 'x={…'"),
        ("-o into=5", "use show(chat.send("),
        ("-o system=x", "Chat(provider, system=…)"),
        ("--provider nobody", "invalid choice: 'nobody'"),
        ("--provider openai", "needs a model"),
        ("--base-url x --provider openai --model m", "http://"),
        ("--provider openai --model m --base-url http://x -o temperature", "NAME=VALUE"),
        ("--provider openai --model m --base-url http://x -o model=b", "use --model"),
        ("--provider openai --model m --base-url http://x --tool nobody", "no function with this"),
    ],
)
def test_chat_magic_reports_incorrect_usage(kernel: Kernel, line: str, expected: str) -> None:
    """It prints one line, as IPython's own magics do."""
    kernel.run("taken = 3")
    cell = kernel.start(f"%%chat {line} --new\nHi" if "taken" not in line else f"%%chat {line}\nHi")
    output = cell.end().printed + str(cell.errors)
    assert expected in output
