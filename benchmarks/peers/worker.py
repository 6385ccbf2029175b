"""Run one client in its own process: read orders as lines of JSON, print measurements.

``python worker.py CLIENT``, in that client's environment; CLIENT is a function of ``clients.py`` or
``typed_clients.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import clients
import typed_clients
from records import json_text

Measurements = dict[str, Any]
FIRST = 10
"""A stream has settled after so many chunks."""


def memory(what: str) -> float:
    """Return the memory of this process in MB: ``VmRSS`` (current) or ``VmHWM`` (peak)."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{what}:")[2].split()[0]) / 1024


class Client:
    """A client for one base URL, blocking or asynchronous."""

    def __init__(self, send: clients.Send) -> None:
        self._send = send
        self.is_async = inspect.isasyncgenfunction(send)

    def read(self, seen: Callable[[str], object]) -> None:
        """Send one request; call ``seen`` with each chunk."""
        if self.is_async:
            LOOP.run_until_complete(self.aread(seen))
        else:
            for text in self._send():
                seen(text)

    def answer(self) -> Any:
        """Send one request; return what the client returns."""
        return self._send()

    async def aread(self, seen: Callable[[str], object]) -> None:
        """Do the same asynchronously."""
        async for text in self._send():
            seen(text)

    def full_text(self) -> str:
        """Send one request; return the full text, by the client's own method if it has one."""
        answer = self._send()
        return answer.read() if hasattr(answer, "read") else "".join(answer)


def stream(client: Client, times: int = 1) -> Measurements:
    """Measure answers read one after another."""
    sizes: list[int] = []
    walls = []
    cpu = time.process_time()
    for _ in range(times):
        started = time.perf_counter()
        client.read(lambda text: sizes.append(len(text)))
        walls.append(time.perf_counter() - started)
    cpu = time.process_time() - cpu
    return {"cpu": cpu, "walls": walls, "chunks": len(sizes), "characters": sum(sizes)}


def full_text(client: Client) -> Measurements:
    """Measure one answer read as one string."""
    cpu, started, before = time.process_time(), time.perf_counter(), memory("VmRSS")
    size = len(client.full_text())
    wall, cpu = time.perf_counter() - started, time.process_time() - cpu
    return {"cpu": cpu, "wall": wall, "characters": size, "before": before,
            "peak": memory("VmHWM")}  # fmt: skip


def records(client: Client) -> Measurements:
    """Measure a typed answer, which grows with each value; check what it has become at the end."""
    values, last = 0, None
    cpu, started = time.process_time(), time.perf_counter()
    for value in client.answer():
        values, last = values + 1, value
    wall, cpu = time.perf_counter() - started, time.process_time() - cpu
    root = last.model_dump() if hasattr(last, "model_dump") else last
    items = root["items"] if isinstance(root, dict) else root
    plain = [each if isinstance(each, dict) else each.model_dump() for each in items]
    return {"cpu": cpu, "wall": wall, "values": values, "characters": len(json_text(plain)),
            "peak": memory("VmHWM")}  # fmt: skip


def ending(client: Client) -> Measurements:
    """Read one answer; return what it raised, and after how many seconds."""
    sizes: list[int] = []
    started = time.perf_counter()
    try:
        client.read(lambda text: sizes.append(len(text)))
        raised = ""
    except Exception as error:  # noqa: BLE001 (reported in the table)
        raised = type(error).__name__
    return {"raised": raised, "wall": time.perf_counter() - started, "chunks": len(sizes)}


def stop(client: Client, chunks: int, seconds: float) -> Measurements:
    """Read an answer in one thread until its server is silent, and stop it from another one.

    Return after how many seconds the reading thread is free, or no number if it is not.
    """
    waiting, answers = threading.Event(), queue.SimpleQueue[Any]()

    def read() -> None:
        answer = client.answer()
        answers.put(answer)
        with contextlib.suppress(Exception):
            for number, _ in enumerate(answer, 1):
                if number == chunks:
                    waiting.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    answer = answers.get(timeout=seconds)
    waiting.wait(seconds)
    time.sleep(0.2)  # until it waits for the next chunk
    method = getattr(answer, "cancel", None) or getattr(answer, "close", None)
    started, said = time.perf_counter(), "" if method else "no method"
    if method:
        try:
            method()
        except Exception as error:  # noqa: BLE001 (reported in the table)
            said = type(error).__name__
        reader.join(seconds)
    wall = time.perf_counter() - started
    return {"said": said} if reader.is_alive() else {"said": said, "wall": wall}


def at_once(client: Client, streams: int) -> Measurements:
    """Measure concurrent answers; each chunk's text is the time it was sent."""
    delays: list[list[float]] = [[] for _ in range(streams)]

    def noting(of_stream: list[float]) -> Callable[[str], None]:
        def seen(text: str) -> None:
            now = time.monotonic()
            of_stream.extend(now - float(sent) for sent in text.split())

        return seen

    async def gather() -> None:
        await asyncio.gather(*(client.aread(noting(each)) for each in delays))

    def read(of_stream: list[float]) -> None:
        go.wait()
        client.read(noting(of_stream))

    go = threading.Event()
    blocking = [] if client.is_async else delays
    threads = [threading.Thread(target=read, args=(each,)) for each in blocking]
    for thread in threads:
        thread.start()
    cpu, started = time.process_time(), time.perf_counter()
    if client.is_async:
        LOOP.run_until_complete(gather())
    go.set()
    for thread in threads:
        thread.join()
    wall, cpu = time.perf_counter() - started, time.process_time() - cpu
    every = sorted(delay for each in delays for delay in each)
    late = sorted(delay for each in delays for delay in each[FIRST:]) or every
    return {
        "cpu": cpu,
        "wall": wall,
        "chunks": len(every),
        "peak": memory("VmHWM"),
        "late_median": every[len(every) // 2],
        "late_p99": every[len(every) * 99 // 100],
        "settled_p99": late[len(late) * 99 // 100],
    }


def main() -> None:
    """Carry out orders until standard input is closed."""
    to_parent = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # keep a client's own output apart from the results
    make_send = getattr(clients, sys.argv[1], None) or getattr(typed_clients, sys.argv[1])
    by_url: dict[str, Client] = {}
    for line in sys.stdin:
        order = json.loads(line)
        url, work = order.pop("url"), globals()[order.pop("do")]
        try:
            if url not in by_url:
                by_url[url] = Client(make_send(url))
            measured = work(by_url[url], **order)
        except BaseException as error:  # noqa: BLE001 (reported in the table)
            measured = {"error": f"{type(error).__name__}: {error}"[:300]}
        print(json.dumps(measured), file=to_parent)
    to_parent.flush()
    os._exit(0)  # some clients leave threads that never end


LOOP = asyncio.new_event_loop()

if __name__ == "__main__":
    main()
