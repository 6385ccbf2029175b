"""docs/otel.md: its program runs, and its tables list what spans and metrics say."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from otel_kit import Memory, events, openai, said

from providers_sync import Failover, otel
from providers_sync.providers.settings import ProviderSettings
from providers_sync.testing import cut, finish, serve, status, text, tool_call, usage

PAGE = (Path(__file__).parent.parent / "docs/otel.md").read_text(encoding="utf-8")


def test_program_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It prints the answer and its spans."""
    (program,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)
    set_providers: list[TracerProvider] = []
    printed = io.StringIO()
    monkeypatch.setattr(trace, "set_tracer_provider", set_providers.append)
    monkeypatch.setattr(trace, "get_tracer", lambda name: set_providers[0].get_tracer(name))
    monkeypatch.setattr(
        otel, "get_tracer", lambda name, version, _: set_providers[0].get_tracer(name)
    )
    monkeypatch.setattr(
        "opentelemetry.sdk.trace.export.ConsoleSpanExporter.__init__.__defaults__",
        (None, printed, lambda span: f"{span.name}\n"),
    )
    with serve(["Hel", "lo"]) as server:
        exec(program.replace("http://127.0.0.1:8000", server.url), {})
    otel.uninstrument()
    set_providers[0].shutdown()
    assert capsys.readouterr().out == "Hello"
    assert printed.getvalue().split("\n")[:3] == ["chat attempt", "chat qwen3", "question"]


def listed() -> set[str]:
    """Return every name in backquotes, and the short ones in full."""
    names = set(re.findall(r"`([\w.*]+)`", PAGE))
    for prefix in ("gen_ai.request", "gen_ai.usage", "providers_sync"):
        names |= {f"{prefix}.{name.lstrip('.')}" for name in re.findall(r"`(\.?[\w.]+)`", PAGE)}
    return names


def weather(city: str) -> str:
    """The weather in a city now."""
    raise KeyError(city)


def test_tables_list_every_attribute_event_and_metric() -> None:
    """Of calls that have as many of them as there are."""
    memory = Memory()
    memory.instrument(capture_content=True)
    options: dict[str, Any] = {
        **{"temperature": 0.5, "top_p": 0.5, "frequency_penalty": 0.5, "presence_penalty": 0.5},
        **{"max_tokens": 5, "top_k": 3, "seed": 1, "stop": "x"},
        **{"reasoning_effort": "low", "response_format": {"type": "json_object"}},
    }
    call = tool_call("weather", {"city": "Oslo"})
    script = [
        *(status(503, headers={"Retry-After": "0"}), [text("One two "), cut()], ["two three"]),
        *([call, usage(1, 2)], ["Rain.", finish("stop")]),
    ]
    with serve(script) as server, serve(status(429)) as bad:
        provider = openai(server.url)
        both = Failover([openai(bad.url), provider], continue_after_break=1)
        both.complete("Hi", system="Be brief.", retry=2, **options)
        provider.run("Weather?", tools=[weather]).read()
    memory.shutdown()
    names = {name for span in memory.spans() for name in said(span)}
    names |= {name for span in memory.spans() for event in events(span) for name in event[1]}
    names |= {event[0] for span in memory.spans() for event in events(span)}
    names |= set(memory.metrics())
    assert {"gen_ai.request.seed", "providers_sync.joins", "providers_sync.failover"} <= names
    assert names - listed() == set()


def test_no_provider_has_an_option_for_it() -> None:
    """As the page says."""
    assert not [name for name in vars(ProviderSettings) if "otel" in name or "trac" in name]
