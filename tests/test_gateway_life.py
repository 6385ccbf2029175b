"""Tests of the gateway's start and stop."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
from gateway_kit import PATHS, WAIT_S, Scripted, body_of, connect, post, text_of

from providers_sync.cli import main
from providers_sync.errors import InvalidRequestError
from providers_sync.gateway import Gateway, serve


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "parrot"}, "there is no engine 'parrot'"),
        ({"model": "m.gguf"}, "model is the path of the local engine's weights"),
        ({"context_size": 512}, r"context_size \(--context-size\) is for the local engine"),
        ({"token": ""}, "token must be a non-empty string"),
        ({"port": 70_000}, "port must be a number from 0 to 65535"),
    ],
)
def test_serve_wrong_setting(options: dict[str, Any], message: str) -> None:
    """Invalid settings raise in ``serve``."""
    with pytest.raises(InvalidRequestError, match=message):
        serve(**options)


def test_context_size_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    """``--context-size`` reaches the engine: the echo has no context."""
    assert main(["serve", "--engine", "echo", "--port", "0", "--context-size", "600"]) == 1
    assert "context_size (--context-size) is for the local engine" in capsys.readouterr().err


@pytest.mark.parametrize("port", ["-1", "65536", "http"])
def test_port_of_the_command(capsys: pytest.CaptureFixture[str], port: str) -> None:
    """A wrong ``--port`` is wrong usage, like every other wrong argument."""
    with pytest.raises(SystemExit) as caught:
        main(["serve", "--engine", "echo", f"--port={port}"])
    assert caught.value.code == 2
    assert capsys.readouterr().err == (
        f"providers-sync: argument --port: must be a number from 0 to 65535, not {port}; "
        "see providers-sync serve --help\n"
    )


def test_highest_port_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    """65535 is a port: the command goes on to look at the other arguments."""
    assert main(["serve", "--fault", "x", "--port", "65535"]) == 1
    assert "unknown fault 'x'" in capsys.readouterr().err


def test_serve_taken_port(echo: Gateway) -> None:
    """A port in use is named in the error."""
    with pytest.raises(InvalidRequestError, match=f"port {echo.port} "):
        serve(port=echo.port)


def test_url_names(echo: Gateway) -> None:
    """``url`` gives the address for each provider."""
    root = f"http://127.0.0.1:{echo.port}"
    assert echo.url() == root
    assert echo.url("vitalentum") == root + "/vitalentum"
    assert echo.url("ai365vip") == root + "/ai365vip"
    assert echo.url("openai") == echo.url("v1") == root + "/v1"
    assert echo.url("anthropic") == root + "/anthropic"
    with pytest.raises(InvalidRequestError, match="it serves v1, vitalentum, codelinkava"):
        echo.url("unknown")


def open_files() -> Sequence[str]:
    """Return the descriptors of this process, if the system lists them."""
    with contextlib.suppress(FileNotFoundError):
        return os.listdir("/proc/self/fd")
    return ()


def test_close_leaves_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """After ``close`` no thread, socket or engine is left; clients see an incomplete answer."""
    caplog.set_level(logging.INFO)
    threads, files = threading.active_count(), len(open_files())
    engine = Scripted()
    gateway = serve(engine)
    waiting = threading.Thread(target=gateway.wait, daemon=True)
    waiting.start()
    engine.script.put("Hi")
    with post(gateway, "ai365vip") as started:
        assert started.raw.read1() == b"Hi"
        engine.started.clear()
        silent = connect(gateway, "openai")
        assert engine.started.wait(WAIT_S)
        gateway.close()
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            list(started.iter_content(None))
    gateway.close()
    waiting.join(WAIT_S)
    silent.close()
    assert engine.closed == 1
    assert threading.active_count() == threads
    assert len(open_files()) == files
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", gateway.port))
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_close_while_requests_arrive() -> None:
    """``close`` returns at any moment, and no thread of the gateway fails or stays."""
    failed: list[Any] = []
    hook, threading.excepthook = threading.excepthook, failed.append
    try:
        with ThreadPoolExecutor(8) as pool:
            for _ in range(20):
                barrier = threading.Barrier(9)
                with serve() as gateway:
                    for _ in range(8):
                        pool.submit(_post_after, barrier, gateway)
                    barrier.wait(WAIT_S)
    finally:
        threading.excepthook = hook
    assert failed == []


def _post_after(barrier: threading.Barrier, gateway: Gateway) -> None:
    barrier.wait(WAIT_S)
    with contextlib.suppress(requests.RequestException), post(gateway, "openai") as response:
        response.content  # noqa: B018 - reads it


def test_close_then_same_port() -> None:
    """The port is free again at once."""
    with serve() as gateway:
        assert requests.get(gateway.url()).ok
    with serve(port=gateway.port) as again:
        assert requests.get(again.url()).ok


def test_app_on_another_server(echo: Gateway) -> None:
    """The application is plain WSGI: it does not need waitress."""
    from werkzeug.test import Client

    client = Client(echo.app)
    response = client.post(
        PATHS["openai"], json=body_of("openai"), headers={"Host": "localhost"}, buffered=True
    )
    assert text_of("openai", response.text) == "You said: Hi"


def test_import_without_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the gateway's extra the error names it."""
    import sys

    for module in ("providers_sync.gateway", "providers_sync.wsgi"):
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "werkzeug", None)
    with pytest.raises(ImportError, match=r"pip install 'providers-sync\[gateway\]'"):
        import providers_sync.gateway  # noqa: F401
