"""Compare many streams at once with the naive loop: CPU, memory and the delays of chunks.

    python benchmarks/many_streams.py                    # 200 and 800 streams, three rounds each
    python benchmarks/many_streams.py 200 --rounds 5

The naive loop is requests + sseclient, one thread each. Every answer has 50 chunks, 20 ms apart,
and starts when it is requested; the text of a chunk is the time at which it was sent. The server
and every round of a client run in a process of their own, in turn; the table has the medians.
Exits with 1 if a limit is exceeded. Linux only, as memory is read from ``/proc``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

CHUNKS, EVERY_S = 50, 0.02
FIRST = 10
"""``late`` delays are those of the chunks after this one."""
LIMITS = {
    200: {"cpu": (1.6, "×"), "memory": (1.2, "×"), "median": (2.0, "ms"), "p99": (60.0, "ms")},
    800: {"cpu": (1.1, "×"), "memory": (1.4, "×"), "median": (60.0, "ms"), "p99": (500.0, "ms")},
}
"""The most of each measurement: as a multiple of the naive loop's, or in milliseconds.

One thread reads all our streams, so their chunks come later than those of a thread each. Measured
on two slow cores: 1.25 to 1.4 and 36 ms for 200 streams, 0.76 to 0.92 and 305 ms for 800.
"""
UNITS = {"cpu": "s", "memory": "MB", "median": "ms", "p99": "ms", "late_p99": "ms"}
Measurements = dict[str, float]

# --- the server

DELTA = {
    "id": "chatcmpl-0123456789abcdefghijkl",
    "object": "chat.completion.chunk",
    "created": 1700000000,
    "model": "m",
    "choices": [{"index": 0, "delta": {"content": "@"}, "finish_reason": None}],
}
EVENT = b"data: %s\n\n" % json.dumps(DELTA).encode().replace(b"@", b"%.6f")
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'


def chunked(data: bytes) -> bytes:
    """Return one HTTP chunk."""
    return b"%x\r\n%s\r\n" % (len(data), data)


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the requests of one connection; the first part of the path is the number of chunks."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            size = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]
            await reader.readexactly(int(size))
            writer.write(HEAD)
            at = time.monotonic()
            for _ in range(int(head.split(b"/")[1])):
                writer.write(chunked(EVENT % time.monotonic()))
                at += EVERY_S
                await asyncio.sleep(max(at - time.monotonic(), 0))
            writer.write(chunked(END) + chunked(b""))
    except (OSError, asyncio.IncompleteReadError):
        writer.close()


async def serve() -> None:
    """Print the port, then serve until killed."""
    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


# --- the clients

Read = Callable[[int], Iterator[str]]
"""Requests an answer of so many chunks and yields their texts."""


def ours(url: str) -> Read:
    """Return what reads with this library."""
    from providers_sync import OpenAICompatible

    providers = {n: OpenAICompatible("m", base_url=f"{url}/{n}") for n in (1, CHUNKS)}
    return lambda chunks: iter(providers[chunks].stream("Hi"))


def naive(url: str) -> Read:
    """Return what reads the obvious way."""
    import requests
    import sseclient

    session = requests.Session()
    session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=1000))
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": True}

    def read(chunks: int) -> Iterator[str]:
        response: Any = session.post(f"{url}/{chunks}/chat/completions", json=body, stream=True)
        for event in sseclient.SSEClient(response).events():
            if event.data == "[DONE]":
                return
            if text := json.loads(event.data)["choices"][0]["delta"].get("content"):
                yield text

    return read


CLIENTS = {"ours": ours, "naive": naive}


def work(client: str, url: str, streams: int) -> Measurements:
    """Read so many answers at once, each in a thread."""
    read = CLIENTS[client](url)
    list(read(1))  # imports, and what else comes first
    delays: list[list[float]] = []

    def read_one() -> None:
        delays.append([time.monotonic() - float(sent) for sent in read(CHUNKS)])

    threads = [threading.Thread(target=read_one) for _ in range(streams)]
    cpu = time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cpu = time.process_time() - cpu
    assert [len(each) for each in delays] == [CHUNKS] * streams
    every = sorted(delay * 1e3 for each in delays for delay in each)
    late = sorted(delay * 1e3 for each in delays for delay in each[FIRST:])
    status = Path("/proc/self/status").read_text()
    return {
        "cpu": cpu,
        "memory": int(status.partition("VmHWM:")[2].split()[0]) / 1024,
        "median": every[len(every) // 2],
        "p99": every[len(every) * 99 // 100],
        "late_p99": late[len(late) * 99 // 100],
    }


# --- the comparison


def measure(streams: int, rounds: int = 3) -> dict[str, Measurements]:
    """Return the medians of both clients: seconds, megabytes and milliseconds."""
    samples: dict[str, list[Measurements]] = {name: [] for name in CLIENTS}
    script = [sys.executable, __file__]
    with subprocess.Popen([*script, "serve"], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        try:
            url = f"http://127.0.0.1:{int(server.stdout.readline())}"
            for _ in range(rounds):
                for name in CLIENTS:
                    command = [*script, "work", name, url, str(streams)]
                    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
                    samples[name].append(json.loads(done.stdout))
        finally:
            server.kill()
    return {
        name: {key: statistics.median(each[key] for each in found) for key in UNITS}
        for name, found in samples.items()
    }


def exceeded(streams: int, measured: dict[str, Measurements]) -> list[str]:
    """Return the limits that our measurements exceed."""
    return [
        f"{streams} streams: {key} {value:.2f} {unit}, at most {limit:g}"
        for key, (limit, unit) in LIMITS.get(streams, {}).items()
        if (value := compared(measured, key, unit)) > limit
    ]


def compared(measured: dict[str, Measurements], key: str, unit: str) -> float:
    """Return our measurement, divided by the naive loop's if the unit is ``×``."""
    mine = measured["ours"][key]
    return mine / measured["naive"][key] if unit == "×" else mine


def report(streams: int, measured: dict[str, Measurements]) -> None:
    """Print one table."""
    print(f"{f'{streams} streams':<14} {'ours':>8} {'naive':>8} {'ratio':>6}  at most")
    for key, unit in UNITS.items():
        mine, other = (measured[name][key] for name in ("ours", "naive"))
        limit = " ".join(map(str, LIMITS.get(streams, {}).get(key, ())))
        print(f"{f'{key}, {unit}':<14} {mine:>8.2f} {other:>8.2f} {mine / other:>6.2f}  {limit}")


def raise_limit() -> None:
    """Allow this process and its children the sockets that they need, if it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 8192 if hard == resource.RLIM_INFINITY else min(8192, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


def main() -> int:
    """Measure and print; return 1 if a limit is exceeded."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("streams", nargs="*", type=int, default=[200, 800])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    raise_limit()
    print(f"load {os.getloadavg()[0]:.2f}, {len(os.sched_getaffinity(0))} processors")
    problems = []
    for streams in options.streams:
        measured = measure(streams, options.rounds)
        report(streams, measured)
        problems += exceeded(streams, measured)
    print(*problems or ["All limits are met."], sep="\n")
    return bool(problems)


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        asyncio.run(serve())
    elif sys.argv[1:2] == ["work"]:
        print(json.dumps(work(sys.argv[2], sys.argv[3], int(sys.argv[4]))))
    else:
        sys.exit(main())
