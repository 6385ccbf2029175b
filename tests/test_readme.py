"""The README and docs/outcomes.md: programs print what is shown, tables are complete."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import providers_sync
from providers_sync.providers import openai
from providers_sync.testing import cut, serve, text, tool_call, usage

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
OUTCOMES = (Path(__file__).parent.parent / "docs/outcomes.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$(?:\n\n```text\n(.*?)^```$)?", README, re.M | re.S)
SCRIPTS = [
    [text("Vibrating "), text("muscles.")],
    [
        text("Cats purr when they are content, "),
        text("and also to calm themselves."),
        usage(14, 15),
    ],
    [text("Roses are red, "), cut()],
    [text('[{"name": "Soup", "minutes": 30}'), text(', {"name": "Salad", "minutes": 5}]')],
    [tool_call("weather", {"city": "Oslo"})],
    [text("Yes, "), text("it rains "), text("in Oslo."), text("\n")],
]
"""What a server of the tests answers to the requests of the README, one after another."""


def test_readme_programs_print_the_output_below_them(monkeypatch):
    """They run in the order of the page, in one program, as a reader would paste them."""
    with serve(SCRIPTS) as server:
        monkeypatch.setenv("VITALENTUM_BASE_URL", server.url)
        preset = openai.PRESETS["ollama"]._replace(base_url=f"{server.url}/v1")
        monkeypatch.setitem(openai.PRESETS, "ollama", preset)
        names: dict[str, object] = {}
        for program, output in BLOCKS:
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile(program, "README.md", "exec"), names)
            assert printed.getvalue() == (output or "Vibrating muscles.")
    assert len(server.requests) == len(SCRIPTS)
    assert len(BLOCKS) == README.count("```python\n")


def test_readme_is_short_enough_to_be_read():
    """A page that grows says less."""
    lines = len(README.splitlines())
    assert lines < 200, f"README.md has {lines} lines: shorten another part of it"


def test_outcomes_page_lists_every_outcome_in_order():
    """The table is the enum, line by line."""
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| [^|]+ \|$", OUTCOMES, re.M)
    outcomes = [str(outcome) for outcome in providers_sync.Outcome]
    assert [row for row in rows if row in outcomes] == outcomes


def test_outcomes_page_names_every_error():
    """Its table is complete."""
    errors = {
        name
        for name, value in vars(providers_sync).items()
        if isinstance(value, type) and issubclass(value, providers_sync.ProviderError)
    }
    assert not {name for name in errors if f"`{name}`" not in OUTCOMES}


def test_readme_names_every_provider_and_its_variables():
    """The table of providers is complete."""
    for kind in providers_sync.PROVIDERS.values():
        assert f"| `{kind.__name__}` |" in README, "the table of providers has no row for it"
        assert f"`{kind.base_url_variable}`" in README
        assert kind.api_key_variable is None or f"`{kind.api_key_variable}`" in README


def test_outcomes_page_shows_the_default_timeouts():
    """The numbers are those of ``Timeouts()``."""
    shown = re.search(r"Timeouts\((.*?)\)", OUTCOMES)
    timeouts = dict(pair.split("=") for pair in shown[1].split(", "))
    assert {name: float(value) for name, value in timeouts.items()} == vars(
        providers_sync.Timeouts()
    )
