"""The README's programs print what stands below them, and its commands exist."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

import providers_sync

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```$", README, re.M | re.S)
ON_A_MODEL = 'engine="local"'
"""The model's words differ from one processor to another; ``examples/demo.py`` shows it works."""


@pytest.mark.parametrize(("program", "output"), PROGRAMS)
def test_readme_program_prints_what_stands_below_it(program, output):
    """Each program runs offline as it is, and its output was pasted from a real run."""
    code = compile(program, "README.md", "exec")
    if ON_A_MODEL in program:
        pytest.skip("its words depend on the machine")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {})
    assert printed.getvalue() == output


def test_readme_programs_all_show_their_output():
    """None is without it, and one of them shows the real thing."""
    assert len(PROGRAMS) == README.count("```python\n") >= 2
    assert any(ON_A_MODEL in program for program, _ in PROGRAMS)


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


def test_readme_clocks_are_the_defaults():
    """The numbers are those of ``Timeouts()``."""
    shown = re.search(r"Timeouts\((.*?)\)", README)
    clocks = dict(pair.split("=") for pair in shown[1].split(", "))
    assert {name: float(value) for name, value in clocks.items()} == vars(providers_sync.Timeouts())
