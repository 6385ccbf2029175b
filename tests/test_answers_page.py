"""docs/answers.md: its programs run, and its table lists every event and field."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest

import providers_sync
from providers_sync import Anthropic, Event, OpenAICompatible, Run
from providers_sync.testing import reasoning, serve, text, tool_call

PAGE = (Path(__file__).parent.parent / "docs/answers.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)


@pytest.mark.parametrize("program", PROGRAMS)
def test_program_runs(
    program: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each gets an answer, from a server here in place of the vendor's."""
    is_anthropic = "Anthropic(" in program
    script = [reasoning("Hm."), text("Yes."), tool_call("look", {"x": 1}, id="c")]
    protocol: Any = "anthropic" if is_anthropic else "openai"
    with serve(script, protocol=protocol) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
        preset = OpenAICompatible.preset

        def here(name: str, model: str) -> OpenAICompatible:
            return preset(name, model, base_url=server.url, api_key="k")

        monkeypatch.setattr(OpenAICompatible, "preset", here)
        exec(compile(program, "program", "exec"), {})
    printed = capsys.readouterr().out
    assert "Yes." in printed
    assert is_anthropic or "(Hm.)" in printed
    assert is_anthropic or "look({'x': 1})" in printed


def test_table_lists_every_event_and_field() -> None:
    """And each attribute that it names exists."""
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", PAGE, re.M))
    assert set(rows) == {kind.__name__ for kind in get_args(Event)}
    for kind in get_args(Event):
        names = re.findall(r"`(\w+)`", rows[kind.__name__])
        assert {field.name for field in fields(kind)} <= set(names), kind
        [attribute] = re.findall(r"`stream\.(\w+)`", rows[kind.__name__])
        assert hasattr(Run, attribute) or attribute in provider_stream_fields()


def provider_stream_fields() -> set[str]:
    """Return the attributes of a finished stream."""
    with serve(["Hi"]) as server:
        stream = OpenAICompatible("m", base_url=server.url).stream("Hello")
        stream.read()
    return set(vars(stream))


def test_page_names_public_classes_only() -> None:
    """``Anthropic`` and the like can be imported from the package."""
    imported = re.findall(r"^from providers_sync import (.*)$", PAGE, re.M)
    names = {name.strip() for line in imported for name in line.split(",")}
    assert names <= set(providers_sync.__all__)
    assert Anthropic.__name__ in names
