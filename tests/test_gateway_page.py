"""The gateway's page at ``/`` and what ``providers-sync serve`` prints: all of it can be pasted."""

from __future__ import annotations

import html
import re
import subprocess
from typing import Any

import pytest
import requests
from gateway_kit import PATHS

from providers_sync import PROVIDERS
from providers_sync.echo import EchoEngine
from providers_sync.gateway import SERVED, Gateway, serve
from providers_sync.gateway_page import OFFICIAL, exports

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


def sections(gateway: Gateway) -> dict[str, str]:
    """Return the texts of the page under their headings."""
    page = requests.get(gateway.url(), headers=BROWSER)
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'")
    found = re.findall(r"<h2>(.*?)</h2><pre>(.*?)</pre>", page.text, re.S)
    return {html.unescape(title): html.unescape(text) for title, text in found}


def test_every_protocol_has_an_address(echo: Gateway) -> None:
    """A shell that runs the lines has each provider's variable; the page has the same lines."""
    lines = exports(echo.url())
    assert len(lines) == len({PROVIDERS[name].base_url_variable for name in SERVED})
    script = "\n".join([*lines, "env"])
    env = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout
    for name in SERVED:
        assert f"{PROVIDERS[name].base_url_variable}={echo.url(name)}\n" in env
    assert sections(echo)["Addresses, for a shell"].split("\n") == lines
    plain = requests.get(echo.url())
    assert plain.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert all(line in plain.text for line in lines)


def test_the_code_runs(echo: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    """Each provider on the page answers, and each official client gets an answer."""
    shown = sections(echo)
    exec(shown["With providers_sync"], {})
    assert capsys.readouterr().out == "You said: Hello\n" * len(SERVED)
    imports, messages, *asked = shown["With the vendors' own clients"].split("\n\n")
    names: dict[str, Any] = {}
    exec(f"{imports}\n{messages}", names)
    for code in asked:
        exec(code, names)
        names["client"].close()
    assert capsys.readouterr().out == "You said: Hello\n" * len(OFFICIAL)


def test_every_path_is_listed(echo: Gateway) -> None:
    """The page and its plain text name the paths of all protocols."""
    for text in (sections(echo)["Paths"], requests.get(echo.url()).text):
        for path in PATHS.values():
            assert re.sub(r"models/.*", "models/MODEL:METHOD", path) in text


class Hostile(EchoEngine):
    """An engine whose model has the name of a malicious file."""

    models = ("<script>alert(1)</script>\x1b[2J",)


def test_a_model_name_cannot_write_the_page() -> None:
    """It is text in the browser, and controls no terminal."""
    with serve(Hostile()) as gateway:
        page = requests.get(gateway.url(), headers=BROWSER).text
        plain = requests.get(gateway.url()).text
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "\x1b" not in page + plain
