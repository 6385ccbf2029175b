"""What docs/testing.md says about mocking tools, and docs/retries.md about tracing, is true."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.instrumentation.requests import RequestsInstrumentor

from providers_sync.testing import serve

DOCS = Path(__file__).parent.parent / "docs"


def programs(page: str, title: str) -> list[str]:
    """Return the programs of one section."""
    section = re.split("^## ", (DOCS / page).read_text("utf-8"), flags=re.M)
    (found,) = [each for each in section if each.startswith(title)]
    return re.findall(r"^```python\n(.*?)^```$", found, re.M | re.S)


@pytest.mark.parametrize("program", programs("testing.md", "With requests-mock"))
def test_documented_test_passes(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cassette is recorded once and replayed, and has no key."""
    monkeypatch.chdir(tmp_path)
    with serve() as server:
        names: dict[str, Any] = {}
        exec(program.replace("http://localhost:8000", server.url), names)
        (test,) = [value for name, value in names.items() if name.startswith("test_")]
        test()
        test()
        sent = [request.headers["Authorization"] for request in server.requests]
        assert sent == ["Bearer sk-test"] * ("vcr" in names)
    for cassette in tmp_path.iterdir():
        assert "sk-test" not in cassette.read_text("utf-8")


def test_documented_instrumentation_sends_a_traceparent() -> None:
    """And nothing stays patched."""
    (program,) = programs("retries.md", "Tracing")
    exec(program, {})
    assert RequestsInstrumentor().is_instrumented_by_opentelemetry
    RequestsInstrumentor().uninstrument()
