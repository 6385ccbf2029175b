"""How a notebook shows the tool calls of a run, and asks for approval."""

from __future__ import annotations

import html
import json
import re
import time

import pytest
from notebook_kit import ADD, TOOLS, Kernel, kernel, no_leaks

from providers_sync import OpenAICompatible, ToolCall, notebook, notebook_output
from providers_sync.notebook_calls import call_line
from providers_sync.testing import answer, serve, text, tool_call

pytest.importorskip("ipykernel")

__all__ = ["kernel", "no_leaks"]
"""Fixtures."""

pytestmark = pytest.mark.filterwarnings("default:::jupyter_client", "default:::zmq")


def test_calls_of_a_run_are_lines_between_its_texts(kernel: Kernel) -> None:
    """In their order; each gets its result, and the last line counts them."""
    kernel.run(TOOLS)
    rounds = [[text("Let *me* see."), ADD], [ADD], ["It is 3."]]
    with serve(rounds) as server:
        cell = kernel.run(f"answer = show(openai({server.url!r}).run('x', tools=[add]))")
    line = 'add({"a": 1, "b": 2})'
    assert cell.plain[:4] == ["Let *me* see.", f"{line}: 3", f"{line}: 3", "It is 3."]
    assert cell.plain[4].startswith("complete · 2 chunks · 2 tool calls · ")
    assert len(cell.plain) == 5
    assert f"{line} …" in cell.states
    assert kernel.value("answer.text") == "Let *me* see.It is 3."


def test_a_call_takes_the_place_of_the_placeholder(kernel: Kernel) -> None:
    """A round without text leaves no empty output."""
    kernel.run(TOOLS)
    with serve([[ADD], ["It is 3."]]) as server:
        cell = kernel.run(f"answer = show(openai({server.url!r}).run('x', tools=[add]))")
    assert cell.plain[:2] == ['add({"a": 1, "b": 2}): 3', "It is 3."]


def test_hostile_calls_are_text(kernel: Kernel) -> None:
    """Arguments and results are escaped, made visible, and one short line each."""
    hostile = "<img src=x onerror=alert(1)>\x1b[2J\n\u202e$\\\\href{x}{y}$"
    kernel.run("def say(words: str) -> str:\n    return words * 100")
    with serve([[tool_call("say", {"words": hostile})], ["Done."]]) as server:
        cell = kernel.run(f"answer = show(openai({server.url!r}).run('x', tools=[say]))")
    line, markup = cell.plain[0], cell.outputs[0]["text/html"]
    assert "<img src=x onerror=alert(1)>␛[2J <U+202E>" in line
    assert len(line) < 200
    assert set(re.findall(r"<(\w+)", markup)) == {"details", "summary", "code", "div", "pre"}
    summary, arguments, result = re.findall("<(?:code|pre)>(.*?)</(?:code|pre)>", markup, re.S)
    assert html.unescape(summary) == line
    assert json.loads(html.unescape(arguments))["words"].startswith("<img src=x onerror=alert(1)>")
    assert html.unescape(result).count("␛[2J\n<U+202E>") == 100
    assert "\x1b" not in markup


def test_name_of_a_call_is_on_its_line() -> None:
    """It comes from the model, and may look like the line at the end."""
    line = call_line(ToolCall("1", "a\n\n— complete · 9 chunks\n" + "b" * 99, {}, "{}"))
    assert line == f"a — complete · 9 chunks {'b' * 36}…({{}})"


def test_a_call_unfolds_to_its_arguments_and_its_result(kernel: Kernel) -> None:
    """Whole, or with the number of characters that are left out; an error is called one."""
    kernel.run(
        "def read(name: str) -> str:\n"
        "    if name: raise ValueError('no such ' * 30)\n"
        "    return 'a' * 20_007"
    )
    calls = [tool_call("read", {"name": name}) for name in ("", "x")]
    with serve([calls, ["Done."]]) as server:
        cell = kernel.run(f"answer = show(openai({server.url!r}).run('x', tools=[read]))")
    whole, failed = (output["text/html"] for output in cell.outputs[:2])
    assert "<pre>{\n  &quot;name&quot;: &quot;&quot;\n}</pre>" in whole
    assert f"<pre>{'a' * 20_000}… (7 more characters)</pre>" in whole
    assert ">result</div>" in whole
    assert ">error</div>" in failed
    assert "no such " * 29 in failed
    assert len(cell.plain[1]) < 200


def test_stop_button_while_a_function_runs(kernel: Kernel) -> None:
    """It stops at once, and the function's token is cancelled."""
    kernel.run(TOOLS)
    with serve([[tool_call("slow", {"a": 1, "b": 2})]]) as server:
        kernel.run(f"run = openai({server.url!r}).run('x', tools=[slow])")
        cell = kernel.start("show(run)")
        while "begun" not in cell.printed:
            assert not cell._next()
        started = time.monotonic()
        kernel.interrupt()
        cell.end()
        assert time.monotonic() - started < 1
    assert [error["ename"] for error in cell.errors] == ["Stopped"]
    assert cell.plain[0] == 'slow({"a": 1, "b": 2}): no result'
    assert cell.plain[1] == ""
    assert cell.plain[2].startswith("cancelled · ")


def test_many_calls_are_one_output(kernel: Kernel) -> None:
    """The first ones have their own; the answer is shown, with few messages, whatever the rest."""
    kernel.run("def find(n: int) -> str:\n    return f'<{n}>'")
    calls = [tool_call("find", {"n": n}) for n in range(1100)]
    rounds = [[text("Begin."), *calls], [text("So:"), tool_call("find", {"n": -1})]]
    with serve([*rounds, ["The answer."]]) as server:
        cell = kernel.run(f"answer = show(openai({server.url!r}).run('x', tools=[find]))")
    own = [f'find({{"n": {n}}}): <{n}>' for n in range(notebook_output.MAX_CALLS)]
    assert [output["text/plain"] for output in cell.outputs[1:-2]] == own
    others = cell.outputs[-2]
    number = 1101 - len(own)
    assert others["text/plain"].startswith(f"{number:,} more tool calls:\n")
    assert f'find({{"n": {len(own)}}}): <{len(own)}>\n' in others["text/plain"]
    assert others["text/plain"].splitlines()[-1].startswith("… and ")
    assert "…\n" not in others["text/plain"]
    assert len(others["text/html"]) < 310_000
    assert cell.plain[-2] == "So:\n\nThe answer."
    assert " · 1,101 tool calls · " in cell.plain[-1]
    assert len(cell.states) < 200


def test_stop_button_ends_the_line_of_each_call(kernel: Kernel) -> None:
    """Also of those that are shown together."""
    kernel.run(TOOLS)
    calls = [tool_call("slow", {"a": n, "b": 2}) for n in range(notebook_output.MAX_CALLS + 3)]
    with serve([calls]) as server:
        cell = kernel.start(f"show(openai({server.url!r}).run('x', tools=[slow], parallel=99))")
        cell.wait("3 more tool calls")
        kernel.interrupt()
        cell.end()
    assert all(": no result" in output["text/plain"] for output in cell.outputs[:-1])
    assert cell.outputs[-2]["text/plain"].count(": no result") == 3
    assert "…" not in str(cell.outputs)


@pytest.mark.parametrize(("typed", "result"), [("y", "3"), ("n", "error: the user declined")])
def test_approval_by_input(kernel: Kernel, typed: str, result: str) -> None:
    """``input()`` works in ``approve=``: it is called in the thread of the cell."""
    kernel.run(TOOLS)
    with serve([[ADD], ["Done."]]) as server:
        code = f"answer = show(openai({server.url!r}).run('x', tools=[add], approve=ask))"
        cell = kernel.start(code)
        assert cell.wait_input() == "add? "
        cell.type(typed)
        cell.end()
    assert cell.plain[0].startswith(f'add({{"a": 1, "b": 2}}): {result}')
    assert not cell.errors


@pytest.mark.parametrize("way", ["show", "%%chat"])
def test_stop_button_at_the_question(kernel: Kernel, way: str) -> None:
    """``input()`` ends at the first press, nothing is called, and the kernel goes on."""
    kernel.run(TOOLS)
    with serve([[ADD], ["Next."]]) as server:
        provider, tools = f"openai({server.url!r})", "tools=[add], approve=ask"
        if way == "show":
            cell = kernel.start(f"show({provider}.run('x', {tools}))")
        else:
            kernel.run(f"chat = Chat({provider}, {tools})")
            cell = kernel.start("%%chat\nx")
        cell.wait_input()
        started = time.monotonic()
        kernel.interrupt()
        cell.end()
        assert time.monotonic() - started < 1
        assert [error["ename"] for error in cell.errors] == ["Stopped"]
        assert cell.plain[0] == 'add({"a": 1, "b": 2}): no result'
        assert len(server.requests) == 1
        if way == "%%chat":
            assert kernel.run("%%chat\nNext?").plain[0] == "Next."


def test_run_in_a_script(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a notebook the lines are printed."""

    def add(a: int, b: int) -> int:
        return a + b

    with serve([answer(text("Let me see."), ADD), answer(text("It is 3."))]) as server:
        notebook.show(OpenAICompatible("m", base_url=server.url).run("x", tools=[add]))
    first, second, third, last = capsys.readouterr().out.splitlines()
    assert (first, second, third) == ("Let me see.", '— add({"a": 1, "b": 2}): 3', "It is 3.")
    assert last.startswith("— complete · 2 chunks · 1 tool call · ")


def test_output_in_a_script_has_no_empty_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """After text that ends its line, and where a call is still open at the end."""
    with serve([["Let me see.\n", ADD, "Bye."], [ADD]]) as server:
        provider = OpenAICompatible("m", base_url=server.url)
        for schema in [{"name": "add", "parameters": {"type": "object"}}] * 2:
            tool = {"type": "function", "function": schema}
            notebook.show(provider.stream("x", tools=[tool]))
    lines = capsys.readouterr().out.splitlines()
    line = '— add({"a": 1, "b": 2})'
    assert [each.partition(" · ")[0] for each in lines] == [
        *("Let me see.", "Bye.", line, "— complete", line, "— complete")
    ]
