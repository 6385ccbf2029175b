"""Tests of the sources of the token for ``providers-sync serve``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from gateway_kit import WAIT_S

from providers_sync.errors import InvalidRequestError
from providers_sync.gateway import find_token, serve

ROOT = Path(__file__).parent.parent


def test_token_from_each_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line takes precedence over the file, and the file over the variable."""
    path = tmp_path / "token"
    path.write_text("  from-file \r\nand more\n", encoding="utf-8")
    monkeypatch.delenv("PROVIDERS_SYNC_TOKEN", raising=False)
    assert find_token() is None
    monkeypatch.setenv("PROVIDERS_SYNC_TOKEN", "from-variable\n")
    assert find_token() == "from-variable"
    assert find_token(None, str(path)) == "from-file"
    assert find_token("given", str(path)) == "given"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "token cannot be read: .*No such file"),
        (b"", "token is empty; it must hold the token"),
        (b"\nsecond line", "token is empty"),
        (b"\xff\xfe", "token cannot be read: .*utf-8"),
    ],
)
def test_token_file_without_a_token(tmp_path: Path, content: bytes | None, message: str) -> None:
    """A missing or empty file is an error: the gateway would stay open."""
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidRequestError, match=message):
        find_token(None, str(path))


def test_token_variable_that_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty variable is an error, too: whatever should have set it has failed."""
    monkeypatch.setenv("PROVIDERS_SYNC_TOKEN", " ")
    with pytest.raises(InvalidRequestError, match="PROVIDERS_SYNC_TOKEN is empty"):
        find_token()


def test_token_that_is_not_utf8() -> None:
    """A variable may hold any bytes; the same bytes in a request are accepted."""
    with serve(token=b"cl\xe9".decode("utf-8", "surrogateescape")) as gateway:
        headers = {"x-api-key": b"cl\xe9"}
        assert requests.get(gateway.url(), headers=headers, timeout=WAIT_S).status_code == 200
        assert requests.get(gateway.url(), timeout=WAIT_S).status_code == 401


@pytest.mark.parametrize("source", ["file", "variable"])
def test_serve_with_a_hidden_token(tmp_path: Path, source: str) -> None:
    """The command requires it from its clients, and does not print it."""
    path = tmp_path / "token"
    path.write_text("s3cret\n", encoding="utf-8")
    command = [sys.executable, "-m", "providers_sync", "serve", "--engine", "echo", "--port", "0"]
    if source == "file":
        command += ["--token-file", str(path)]
    secret = {"PROVIDERS_SYNC_TOKEN": "s3cret" if source == "variable" else "another"}
    with subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, **secret}, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            first = process.stdout.readline()
            url = first.split(" at ")[1].split()[0]
            assert requests.get(url, timeout=WAIT_S).status_code == 401
            key = {"Authorization": "Bearer s3cret"}
            assert requests.get(url, headers=key, timeout=WAIT_S).status_code == 200
            assert "s3cret" not in first
        finally:
            process.kill()
