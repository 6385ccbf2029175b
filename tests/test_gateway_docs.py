"""docs/gateway.md: its program runs, and its table lists every protocol with its address."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from gateway_kit import PATHS

from providers_sync import PROVIDERS
from providers_sync.gateway import SERVED, Gateway

PAGE = (Path(__file__).parent.parent / "docs/gateway.md").read_text(encoding="utf-8")


def test_the_program_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """Each of the official clients gets an answer."""
    (program,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)
    exec(compile(program, "program", "exec"), {})
    assert capsys.readouterr().out == "You said: Hello\n" * 5


def test_the_table_has_every_protocol(echo: Gateway) -> None:
    """Its base URLs are the gateway's, and with the paths they are what clients post to."""
    rows = re.findall(r"^\| `(\w+)` \| (?:`(\S+)`|none) \| (.*) \|$", PAGE, re.M)
    found = {name: (base, re.findall(r"`POST (\S+)`", paths)) for name, base, paths in rows}
    served = [PROVIDERS[name].__name__ for name in SERVED]
    assert list(found) == served, "the table of docs/gateway.md has other rows, or another order"
    for name in SERVED:
        base, paths = found[PROVIDERS[name].__name__]
        assert echo.url() + base == echo.url(name)
        posted = PATHS[name].removeprefix(base)
        assert posted in paths or posted.split(":")[0].startswith("/models/")
