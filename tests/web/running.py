"""Helpers of the web tests: a scripted model's server, web servers as processes, a browser."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from providers_sync.testing import Answer, Request, serve, status
from providers_sync.testing.answers import to_answer

ROOT = Path(__file__).parent.parent.parent
FLASK = ROOT / "examples" / "flask_chat"
DJANGO = ROOT / "examples" / "django_chat"
START_S = 20.0
"""Maximum wait until a server listens; gunicorn takes a second on a busy machine."""
EXIT_S = 10.0
FLAGS = [
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--window-size=1100,800"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
CANCEL_S = 1.0
"""After a disconnect, the app must close its connection to the model's server within this time."""


class Turn:
    """The scripted answer to one question, and the request that the model's server received."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.received = threading.Event()
        self.request: Request | None = None


class Upstream:
    """The model's server: answers each question with the script that the test has set."""

    def __init__(self) -> None:
        self._turns: dict[str, Turn] = {}
        self.server = serve(self._respond)

    @property
    def url(self) -> str:
        return self.server.url

    def set_answer(self, question: str, *script: Any) -> Turn:
        """Set the steps, or the complete answer, for a question."""
        steps = script[0] if len(script) == 1 else list(script)
        # A connection that outlives its test would be reported as a leak.
        turn = self._turns[question] = Turn(replace(to_answer(steps), keep_alive=False))
        return turn

    def wait_closed(self, turn: Turn, within: float) -> float:
        """Wait until the app closes the turn's connection; return the seconds it took."""
        assert turn.received.wait(START_S)
        assert turn.request is not None
        return self.server.wait_closed(turn.request.connection, within)

    def _respond(self, request: Request) -> Any:
        turn = self._turns.get(request.json()["messages"][-1]["content"])
        if turn is None:
            return replace(
                status(400, "no test has set an answer for this question"), keep_alive=False
            )
        turn.request = request
        turn.received.set()
        return turn.answer


def events(body: Iterable[bytes]) -> list[tuple[str, Any]]:
    """Parse a body as a browser does: line by line, as ``text/event-stream`` requires."""
    found: list[tuple[str, Any]] = []
    name, data = "message", ""
    for line in b"".join(body).decode("utf-8").splitlines():  # stricter: also splits at U+2028
        field, _, value = line.partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            data += value
        elif not line and data:
            found.append((name, json.loads(data)))
            name, data = "message", ""
    return found


def needs(program: str) -> str:
    """Return the path of a program; skip the test if it is not installed."""
    found = shutil.which(program, path=os.environ["PATH"] + os.pathsep + "/usr/sbin")
    return found or pytest.skip(f"{program} is not installed (apt-get install {program})")


@contextlib.contextmanager
def browser(profile: Path) -> Iterator[Any]:
    """Run headless Chromium with an empty profile and without access to other hosts."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = needs("chromium")
    for flag in [*FLAGS, f"--user-data-dir={profile}"]:
        options.add_argument(flag)
    service = webdriver.ChromeService(needs("chromedriver"))
    # A connection kept alive would be reported as a leak of the test that reopens it.
    driver = webdriver.Chrome(options, service, keep_alive=False)
    try:
        yield driver
    finally:
        driver.quit()


def free_port() -> int:
    """Return a port of the loopback interface that is free at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextlib.contextmanager
def running(command: Sequence[object], port: int, cwd: Path, **environment: str) -> Iterator[str]:
    """Run a server until the ``with`` ends; yield its URL once it listens on ``port``."""
    base = {name: value for name, value in os.environ.items() if name[:5] != "CHAT_"}
    path = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    env = {**base, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **environment}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [str(part) for part in command], cwd=cwd, env=env, stdout=log, stderr=log
        )
        try:
            if not wait_until_listening(port, process):
                log.seek(0)
                pytest.fail(f"{command[0]} is not listening: {log.read().decode()[-2000:]}")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            try:
                process.wait(EXIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise


def wait_until_listening(port: int, process: subprocess.Popen[bytes]) -> bool:
    """Try to connect to a port until a server accepts; return whether one did."""
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        time.sleep(0.02)
    return False


def flask_app(upstream: str) -> contextlib.AbstractContextManager[str]:
    """Run the Flask example as a user does."""
    port = free_port()
    return running([sys.executable, "app.py"], port, FLASK, PORT=str(port), **env(upstream))


def django_app(upstream: str) -> contextlib.AbstractContextManager[str]:
    """Run the Django example as a user does."""
    port = free_port()
    command = [sys.executable, "app.py", "runserver", "--noreload", str(port)]
    return running(command, port, DJANGO, **env(upstream))


def short_timeouts_app(upstream: str) -> contextlib.AbstractContextManager[str]:
    """Run the Flask example with providers that have short timeouts."""
    port, unreachable = free_port(), f"http://127.0.0.1:{free_port()}"
    command = [sys.executable, Path(__file__).parent / "flask_test_app.py"]
    extra = {"PORT": str(port), "UNREACHABLE_URL": unreachable}
    return running(command, port, ROOT, **extra, **env(upstream))


def env(upstream: str) -> dict[str, str]:
    """Return the environment that makes an example use this model's server."""
    return {"CHAT_PROVIDER": "openai", "CHAT_MODEL": "m", "OPENAI_BASE_URL": upstream}
