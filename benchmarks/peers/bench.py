"""Run the clients and the server as child processes, in interleaved rounds.

Interleaving spreads other load on the machine evenly over the clients.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from . import environments

FOLDER = Path(__file__).parent
ROUND_S = 3.0
"""A client whose rounds of a case take longer than this in total gets fewer, but at least one."""
Measurements = dict[str, Any]


class Client(NamedTuple):
    """A client under test: a row of the tables."""

    function: str
    environment: str
    imports: str = ""
    path: str = ""


class Process:
    """A child process that answers each line of JSON with another."""

    def __init__(self, command: list[str], scratch: Path) -> None:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(scratch),
            "LLM_USER_PATH": str(scratch),
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else its import contacts GitHub
            "REQUESTS_CA_BUNDLE": str(scratch / "ca.pem"),
            "SSL_CERT_FILE": str(scratch / "ca.pem"),
        }
        self._child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(scratch / "errors.txt").open("a"),
            env=environment,
            text=True,
            bufsize=1,
        )

    def request(self, limit: float | None = None, **order: Any) -> Measurements:
        """Send an order and return its result; end the process after ``limit`` seconds."""
        assert self._child.stdin
        with contextlib.suppress(BrokenPipeError):
            self._child.stdin.write(json.dumps(order) + "\n")
        if limit is None:
            return self.read_line()
        started = time.monotonic()
        timer = threading.Timer(limit, self._child.kill)
        timer.start()
        try:
            measured = self.read_line()
        finally:
            timer.cancel()
            timer.join()
        if "error" in measured and time.monotonic() - started >= limit:
            return {"error": f"not finished after {limit:.0f} s"}
        return measured

    def read_line(self) -> Measurements:
        """Wait for a line and return its JSON."""
        assert self._child.stdout
        line = self._child.stdout.readline()
        return json.loads(line) if line else {"error": f"exit status {self._child.wait()}"}

    def close(self) -> None:
        """Close its standard input and wait for its end."""
        assert self._child.stdin
        assert self._child.stdout
        with contextlib.suppress(BrokenPipeError):
            self._child.stdin.close()
        self._child.wait(30)
        self._child.stdout.close()


class Bench:
    """What all parts share: the server, the missing clients, and the amount of work."""

    def __init__(self, scratch: Path, quick: bool, missing: dict[str, str]) -> None:
        self.scratch = scratch
        self.quick = quick
        self.missing = missing
        self.server = Process(
            [environments.python("tools"), str(FOLDER / "server.py"), str(scratch)], scratch
        )
        self.urls = self.server.read_line()

    @contextlib.contextmanager
    def client(self, client: Client) -> Iterator[Process]:
        """Start a client's process, and end it on exit."""
        name = client.environment
        command = [environments.python(name), str(FOLDER / "worker.py"), client.function]
        process = Process(command, self.scratch)
        try:
            yield process
        finally:
            process.close()

    def url(self, framing: str, size: int, scheme: str = "http") -> str:
        """Return a base URL for which the server sends such an answer."""
        return f"{self.urls[scheme]}/{framing}/{size}"

    def prepare(self, url: str) -> None:
        """Have the server make an answer, so that the first client need not wait for it."""
        parsed = urlsplit(f"{url}/completions")
        assert parsed.hostname
        connection = http.client.HTTPConnection(parsed.hostname, parsed.port)
        connection.request("POST", parsed.path)
        connection.getresponse()
        connection.close()

    def rounds(self, clients: dict[str, Client], rounds: int,
               once: Callable[[str, Client], Measurements], seconds: float = ROUND_S,
               ) -> dict[str, list[Measurements]]:  # fmt: skip
        """Call ``once`` for each client in turn, for several rounds or so many seconds."""
        results: dict[str, list[Measurements]] = {name: [] for name in clients}
        for number in range(1 if self.quick else rounds):
            for name, client in clients.items():
                before = results[name]
                if client.environment in self.missing:
                    results[name] = [{"error": "not installed"}]
                elif number == 0 or (
                    "error" not in before[-1] and sum(map(duration, before)) < seconds
                ):
                    before.append(once(name, client))
        return results


def duration(measured: Measurements) -> float:
    """Return the seconds that a round took."""
    return float(sum(measured["walls"]) if "walls" in measured else measured.get("wall", 0))


def summary(rounds: list[Measurements], **values: Callable[[Measurements], float]) -> Measurements:
    """Return the median of each value over the rounds, and its lowest and highest."""
    if "error" in rounds[-1]:
        return {"error": rounds[-1]["error"]}
    summarized: Measurements = {"rounds": len(rounds)}
    for name, value in values.items():
        samples = [value(each) for each in rounds]
        summarized[name] = statistics.median(samples)
        summarized[f"{name}_spread"] = [min(samples), max(samples)]
    return summarized


def checked(measured: Measurements, expected: int, what: str = "characters") -> Measurements:
    """Return the measurements, or an error if the client has not yielded the full answer."""
    if "error" not in measured and measured[what] != expected:
        return {"error": f"{measured[what]} {what} of {expected}"}
    return measured
