"""One client in a process of its own: takes orders as lines of JSON, answers with figures.

``python worker.py CLIENT``, in that client's environment; CLIENT is a function of ``clients.py``.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import clients

Figures = dict[str, Any]


def memory(what: str) -> float:
    """Return MB of this process: ``VmRSS`` (now) or ``VmHWM`` (the most so far)."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{what}:")[2].split()[0]) / 1024


class Client:
    """A client made for one base URL, blocking or not."""

    def __init__(self, ask: clients.Ask) -> None:
        self._ask = ask
        self.is_async = inspect.isasyncgenfunction(ask)

    def read(self, seen: Callable[[str], object]) -> None:
        """Ask once; show each chunk."""
        if self.is_async:
            LOOP.run_until_complete(self.aread(seen))
        else:
            for text in self._ask():
                seen(text)

    async def aread(self, seen: Callable[[str], object]) -> None:
        """Ask once, without blocking."""
        async for text in self._ask():
            seen(text)

    def whole(self) -> str:
        """Ask once; return the whole text, in the client's own way where it has one."""
        answer = self._ask()
        return answer.read() if hasattr(answer, "read") else "".join(answer)


def stream(client: Client, times: int = 1) -> Figures:
    """Read answers one after another."""
    sizes: list[int] = []
    walls = []
    cpu = time.process_time()
    for _ in range(times):
        began = time.perf_counter()
        client.read(lambda text: sizes.append(len(text)))
        walls.append(time.perf_counter() - began)
    cpu = time.process_time() - cpu
    return {"cpu": cpu, "walls": walls, "chunks": len(sizes), "characters": sum(sizes)}


def whole(client: Client) -> Figures:
    """Read one answer as a whole."""
    cpu, began, before = time.process_time(), time.perf_counter(), memory("VmRSS")
    size = len(client.whole())
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    return {"cpu": cpu, "wall": wall, "characters": size, "before": before,
            "peak": memory("VmHWM")}  # fmt: skip


def at_once(client: Client, streams: int) -> Figures:
    """Read many answers at the same time; each chunk's text is the time it was sent at."""
    late: list[float] = []

    def seen(text: str) -> None:
        now = time.monotonic()
        late.extend(now - float(sent) for sent in text.split())

    async def gather() -> None:
        await asyncio.gather(*(client.aread(seen) for _ in range(streams)))

    def read() -> None:
        go.wait()
        client.read(seen)

    go = threading.Event()
    threads = [threading.Thread(target=read) for _ in range(0 if client.is_async else streams)]
    for thread in threads:
        thread.start()
    cpu, began = time.process_time(), time.perf_counter()
    if client.is_async:
        LOOP.run_until_complete(gather())
    go.set()
    for thread in threads:
        thread.join()
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    late.sort()
    return {
        "cpu": cpu,
        "wall": wall,
        "chunks": len(late),
        "peak": memory("VmHWM"),
        "late_median": late[len(late) // 2],
        "late_p99": late[len(late) * 99 // 100],
    }


def main() -> None:
    """Obey until the parent's pipe ends."""
    to_parent = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a client prints is not an answer
    make = getattr(clients, sys.argv[1])
    made: dict[str, Client] = {}
    for line in sys.stdin:
        order = json.loads(line)
        url, work = order.pop("url"), globals()[order.pop("do")]
        try:
            if url not in made:
                made[url] = Client(make(url))
            figures = work(made[url], **order)
        except BaseException as error:  # noqa: BLE001 (the table says so)
            figures = {"error": f"{type(error).__name__}: {error}"[:300]}
        print(json.dumps(figures), file=to_parent)
    to_parent.flush()
    os._exit(0)  # some clients leave threads that never end


LOOP = asyncio.new_event_loop()

if __name__ == "__main__":
    main()
