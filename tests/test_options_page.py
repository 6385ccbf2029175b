"""docs/options.md: its tables are those of the types, its programs run, its hint is true."""

from __future__ import annotations

import re
import warnings
from typing import Any

import options_page
import pytest

from providers_sync import OpenAICompatible
from providers_sync.testing import serve

PAGE = options_page.PAGE.read_text(encoding="utf-8")
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)
[SHOWN] = re.findall(r"^```text\n(.*)\n```$", PAGE, re.M)


def test_tables_are_those_of_the_types() -> None:
    """If it fails, run ``PYTHONPATH=tests:. python -m options_page``."""
    assert options_page.page(PAGE) == PAGE
    assert "| number | `temperature`, `top_p` |" in PAGE


def test_programs_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other, as a reader would run them."""
    names: dict[str, Any] = {"__name__": "__main__"}
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    with serve("They are content.") as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        for program in PROGRAMS:
            here = program.replace("http://127.0.0.1:8000/v1", server.url)
            code = "from __future__ import annotations\n" + here  # for Python 3.10
            exec(compile(code, "docs/options.md", "exec"), names)
    bodies = [request.json() for request in server.requests]
    assert [body.get("temperature") for body in bodies] == [0.2, None, 0, None]
    assert bodies[0]["max_tokens"] == 200
    assert bodies[2]["max_tokens"] == 500
    assert (bodies[3]["my_server"], bodies[3]["other"]) == ({"fast": True}, 1)


def test_hint_is_the_one_shown() -> None:
    """Word by word."""
    provider: Any = OpenAICompatible("m", base_url="http://127.0.0.1:9")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        provider.prepare("Hi", temprature=0.2)
    assert [str(warning.message) for warning in caught] == [SHOWN]
