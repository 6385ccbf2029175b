"""docs/connections.md: its programs run, and its table lists every setting."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import pytest

from providers_sync import OpenAICompatible
from providers_sync.providers.calls import NOT_PER_CALL
from providers_sync.testing import serve

PAGE = (Path(__file__).parent.parent / "docs/connections.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)


def vendors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in for the vendors' packages: a function that returns a token, and credentials."""
    identity: Any = ModuleType("azure.identity")
    identity.DefaultAzureCredential = object
    identity.get_bearer_token_provider = lambda credential, scope: lambda: "azure-token"
    google = mock.MagicMock()
    google.auth.default.return_value = mock.Mock(valid=False, token="google-token"), "project"
    names = ("google.auth", "google.auth.transport", "google.auth.transport.requests")
    modules = {"azure": ModuleType("azure"), "azure.identity": identity, "google": google}
    for name, module in {**modules, **dict.fromkeys(names, google)}.items():
        monkeypatch.setitem(sys.modules, name, module)


@pytest.mark.parametrize("program", PROGRAMS)
def test_program_runs(
    program: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, authority: Any
) -> None:
    """Each gets an answer, with its address replaced by that of a server here."""
    vendors(monkeypatch)
    issued = authority.issue_cert("me@x.test")
    issued.cert_chain_pems[0].write_to_path(str(tmp_path / "client.pem"))
    issued.private_key_pem.write_to_path(str(tmp_path / "client.key"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.chdir(tmp_path)
    with serve() as server:
        here = re.sub(r'(base_url=)"https?://[^/]*', rf'\1"{server.url}', program)
        assert here != program
        names: dict[str, Any] = {}
        exec(compile(here, "connections.md", "exec"), names)
        provider = names["provider"]
        assert isinstance(provider, OpenAICompatible)
        assert provider.complete("Hi").text == "Hello!"
        provider.close()
        if "session" in names:
            names["session"].close()
        key = server.requests[-1].headers.get("Authorization")
    assert key == next((f"Bearer {v}-token" for v in ("azure", "google") if v in program), None)


def test_table_lists_every_setting() -> None:
    """Those that belong to the provider and to no call, and headers."""
    assert set(re.findall(r"^\| `(\w+)=` \|", PAGE, re.M)) == {*NOT_PER_CALL, "headers"}
