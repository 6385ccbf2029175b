"""docs/prices.md: its program runs, and the reasons that it lists are those that costs give."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from providers_sync import Chat, Completion, OpenAICompatible, Stream
from providers_sync.batch import Result
from providers_sync.prices import cost_of
from providers_sync.request_usage import RequestUsage
from providers_sync.testing import ScriptedProvider, event, usage
from providers_sync.types import Usage

PAGE = (Path(__file__).parent.parent / "docs/prices.md").read_text(encoding="utf-8")


def test_program_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Its costs are those of the package's table."""
    [program] = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)
    preset = OpenAICompatible.preset

    def scripted(name: str, model: str) -> ScriptedProvider:
        like = preset(name, model, api_key="k")
        said = {"choices": [{"index": 0, "delta": {"content": "They like it."}}]}
        return ScriptedProvider([event({"model": model, **said}), usage(10, 1025)], like=like)

    monkeypatch.setattr(OpenAICompatible, "preset", scripted)
    exec(compile(program, "program", "exec"), {})
    assert re.fullmatch(r"\$0\.00\d+\n0\.00\d+\n", capsys.readouterr().out)


def test_page_lists_every_reason() -> None:
    """In the words of the code."""
    reasons = re.findall(r"^\| `(.*?)` \|", PAGE, re.M)
    at: dict[str, Any] = {"at": 0.0, "is_final": True}
    gpt, local = "https://api.openai.com/v1", "http://127.0.0.1:8000/v1"
    asked = [
        RequestUsage(local, model="qwen3", usage=Usage(1, 1), **at),
        RequestUsage(gpt, model="gpt-5", usage=Usage(1, 1), surcharge="service_tier='flex'", **at),
        RequestUsage(local, model="qwen3", **at),
        RequestUsage(gpt, 0.0, model="gpt-5"),
        RequestUsage(gpt, model="gpt-5", usage=Usage(1, 1, cached_tokens=9), **at),
    ]
    found = [cost_of([each]).unknown for each in asked]
    assert [(reason,) for reason in reasons if " '" in reason] == found


def test_everything_that_the_page_names_has_a_cost() -> None:
    """As an attribute."""
    assert all(hasattr(kind, "cost") for kind in (Completion, Stream, Chat, Result))
