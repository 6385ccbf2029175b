"""The README: its programs print what is shown below them, its tables are complete."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

import providers_sync
from providers_sync.providers import openai
from providers_sync.testing import serve, text, tool_call

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```$", README, re.M | re.S)
ON_A_MODEL = 'engine="local"'
"""The model's text differs between processors; ``examples/demo.py`` shows that this works."""
ON_A_SERVER = 'preset("ollama"'
"""A server of the tests takes Ollama's place and sends the text that the README shows."""
TYPED = ['[{"name": "Soup", "minutes": 30}', ', {"name": "Salad", "minutes": 5}]']
"""What it sends to the program with a typed answer."""
WITH_TOOLS = [
    [tool_call("weather", {"city": "Oslo"})],
    [text("Yes, "), text("it rains "), text("in Oslo."), text("\n")],
]
"""What it sends to the program with tools."""


@pytest.mark.parametrize(("program", "output"), PROGRAMS)
def test_readme_program_prints_the_output_below_it(program, output, monkeypatch):
    """Each program runs as it is; its output was pasted from a real run."""
    code = compile(program, "README.md", "exec")
    if ON_A_MODEL in program:
        pytest.skip("the text depends on the machine")
    printed = io.StringIO()
    with contextlib.ExitStack() as stack:
        if ON_A_SERVER in program:
            server = stack.enter_context(serve(answer_to(program, output)))
            preset = openai.PRESETS["ollama"]._replace(base_url=f"{server.url}/v1")
            monkeypatch.setitem(openai.PRESETS, "ollama", preset)
        stack.enter_context(contextlib.redirect_stdout(printed))
        exec(code, {})
    assert printed.getvalue() == output


def answer_to(program, output):
    """Return the script of the server for a program."""
    if "tools=" in program:
        return WITH_TOOLS
    return TYPED if "into=" in program else in_chunks(output)


def in_chunks(output):
    """Return the shown text in as many chunks as the output says."""
    said, chunks = output.partition("\n")[0], int(re.search(r"(\d+) chunks", output)[1])
    return [*said[: chunks - 1], said[chunks - 1 :]]


def test_readme_programs_all_show_their_output():
    """No program lacks it; one runs on a real model, one on a server that people use."""
    assert len(PROGRAMS) == README.count("```python\n") >= 2
    assert any(ON_A_MODEL in program for program, _ in PROGRAMS)
    assert any(ON_A_SERVER in program for program, _ in PROGRAMS)


def test_readme_table_lists_every_outcome_in_order():
    """The table is the enum, line by line."""
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| [^|]+ \|$", README, re.M)
    outcomes = [str(outcome) for outcome in providers_sync.Outcome]
    assert [row for row in rows if row in outcomes] == outcomes


def test_readme_names_every_provider_and_its_variables():
    """The table of providers is complete."""
    for kind in providers_sync.PROVIDERS.values():
        assert f"| `{kind.__name__}` |" in README
        assert f"`{kind.base_url_variable}`" in README
        assert kind.api_key_variable is None or f"`{kind.api_key_variable}`" in README


def test_readme_timeouts_are_the_defaults():
    """The numbers are those of ``Timeouts()``."""
    shown = re.search(r"Timeouts\((.*?)\)", README)
    timeouts = dict(pair.split("=") for pair in shown[1].split(", "))
    assert {name: float(value) for name, value in timeouts.items()} == vars(
        providers_sync.Timeouts()
    )
