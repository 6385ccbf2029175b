"""The clients' processes, the server's, and rounds interleaved among the clients.

So what else the machine does hits all of them alike.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from . import environments

HERE = Path(__file__).parent
ROUND_S = 4.0
"""A client slower than this in all rounds of a case together gets fewer rounds, at least one."""
Figures = dict[str, Any]


class Client(NamedTuple):
    """A row of the tables."""

    function: str
    environment: str
    imports: str = ""
    path: str = ""


class Process:
    """A child that answers a line of JSON with another."""

    def __init__(self, command: list[str], scratch: Path) -> None:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(scratch),
            "LLM_USER_PATH": str(scratch),
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # its import asks GitHub otherwise
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

    def ask(self, **order: Any) -> Figures:
        """Give an order and wait for what it yields."""
        assert self._child.stdin
        with contextlib.suppress(BrokenPipeError):
            self._child.stdin.write(json.dumps(order) + "\n")
        return self.hear()

    def hear(self) -> Figures:
        """Wait for a line."""
        assert self._child.stdout
        line = self._child.stdout.readline()
        return json.loads(line) if line else {"error": f"exit status {self._child.wait()}"}

    def close(self) -> None:
        """Let it end."""
        assert self._child.stdin
        assert self._child.stdout
        with contextlib.suppress(BrokenPipeError):
            self._child.stdin.close()
        self._child.wait(30)
        self._child.stdout.close()


class Bench:
    """What all parts need: the server, the clients that can be had, how much to do."""

    def __init__(self, scratch: Path, quick: bool, missing: dict[str, str]) -> None:
        self.scratch = scratch
        self.quick = quick
        self.missing = missing
        self.server = Process(
            [environments.python("tools"), str(HERE / "server.py"), str(scratch)], scratch
        )
        self.urls = self.server.hear()

    @contextlib.contextmanager
    def client(self, client: Client) -> Iterator[Process]:
        """Run a client's process."""
        name = client.environment
        command = [environments.python(name), str(HERE / "worker.py"), client.function]
        process = Process(command, self.scratch)
        try:
            yield process
        finally:
            process.close()

    def url(self, framing: str, size: int, scheme: str = "http") -> str:
        """Return a base URL that has the server play this."""
        return f"{self.urls[scheme]}/{framing}/{size}"

    def rounds(self, clients: dict[str, Client], rounds: int,
               once: Callable[[str, Client], Figures]) -> dict[str, list[Figures]]:  # fmt: skip
        """Call ``once`` for each client in turn, again and again."""
        found: dict[str, list[Figures]] = {name: [] for name in clients}
        for number in range(1 if self.quick else rounds):
            for name, client in clients.items():
                before = found[name]
                if client.environment in self.missing:
                    found[name] = [{"error": "not installed"}]
                elif number == 0 or (
                    "error" not in before[-1] and sum(map(spent, before)) < ROUND_S
                ):
                    before.append(once(name, client))
        return found


def spent(figures: Figures) -> float:
    """Return the seconds that a round took."""
    return float(sum(figures["walls"]) if "walls" in figures else figures.get("wall", 0))


def summary(rounds: list[Figures], **values: Callable[[Figures], float]) -> Figures:
    """Return the median of each value over the rounds, and its lowest and highest."""
    if "error" in rounds[-1]:
        return {"error": rounds[-1]["error"]}
    made: Figures = {"rounds": len(rounds)}
    for name, value in values.items():
        all_of_it = [value(each) for each in rounds]
        made[name] = statistics.median(all_of_it)
        made[f"{name}_spread"] = [min(all_of_it), max(all_of_it)]
    return made


def checked(figures: Figures, expected: int, what: str = "characters") -> Figures:
    """Return the figures, or an error where a client has not yielded the whole answer."""
    if "error" not in figures and figures[what] != expected:
        return {"error": f"{figures[what]} {what} of {expected}"}
    return figures
