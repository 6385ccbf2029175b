"""Compare rows per second of ``batch.map`` and of as many threads with plain requests.

    python benchmarks/batch_throughput.py --rows 10000 --threads 64

``batch.map`` writes a ledger. Both use the same server, which runs in its own process and streams
eight words after ``--latency`` seconds; ``--gateway`` uses the echo gateway instead. The plain
threads each have a ``requests.Session`` and do what a script would: ``iter_lines``, ``json.loads``,
join the words. Up to three alternating rounds of each, until the result passes; the best round
counts, as other load only slows both. Fails below a ratio of 0.8, and above 150 MB.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import requests

from providers_sync import OpenAICompatible, batch

WORDS = ["You", "said", "something", "or", "other", "to", "me"]
MIN_RATIO = 0.8
MAX_MB = 150
ROUNDS = 3


def answer() -> bytes:
    """Return the response that the minimal server sends to every request."""
    choices: list[Any] = [({"content": f"{word} "}, None) for word in WORDS]
    chunks = [
        {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}
        for delta, reason in [*choices, ({}, "stop")]
    ]
    events = [*map(json.dumps, chunks), "[DONE]"]
    body = "".join(f"data: {event}\n\n" for event in events).encode()
    head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: {}\r\n\r\n"
    return head.format(len(body)).encode() + body


class MinimalServer(asyncio.Protocol):
    """A connection that answers every POST after ``latency`` seconds, and stays open."""

    latency = 0.0
    response = answer()

    def connection_made(self, transport: Any) -> None:
        """Store the transport."""
        self._transport = transport
        self._data = b""

    def data_received(self, data: bytes) -> None:
        """Schedule the answer to a request that has arrived completely."""
        self._data += data
        head, found, rest = self._data.partition(b"\r\n\r\n")
        if found:
            size = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            if len(rest) >= size:
                self._data = rest[size:]
                loop = asyncio.get_running_loop()
                loop.call_later(self.latency, self._transport.write, self.response)


async def run_minimal(latency: float) -> None:
    """Serve until killed; the first line of output is the base URL."""
    MinimalServer.latency = latency
    server = await asyncio.get_running_loop().create_server(
        MinimalServer, "127.0.0.1", 0, backlog=1000
    )
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await server.serve_forever()


def run_gateway() -> None:
    """Serve until killed; the first line of output is the base URL."""
    from providers_sync.gateway import serve  # needs the gateway's packages

    with serve(engine="echo") as gateway:
        print(gateway.url("openai"), flush=True)
        gateway.wait()


def bare(url: str, rows: int, threads: int) -> None:
    """Send the requests as a script without this package would."""
    local = threading.local()

    def send(number: int) -> str:
        if not hasattr(local, "session"):
            local.session = requests.Session()
        messages = [{"role": "user", "content": f"prompt {number}"}]
        body = {"model": "m", "messages": messages, "stream": True}
        words = []
        with local.session.post(f"{url}/chat/completions", json=body, stream=True) as response:
            for line in response.iter_lines():
                if line.startswith(b"data: {"):
                    for choice in json.loads(line[6:])["choices"]:
                        words.append(choice["delta"].get("content") or "")
        return "".join(words)

    with ThreadPoolExecutor(threads) as pool:
        assert all(pool.map(send, range(rows)))


def ours(url: str, rows: int, threads: int) -> None:
    """Send the same requests with a ledger, and check that each row is recorded once."""
    provider = OpenAICompatible("m", base_url=url)
    prompts = (f"prompt {number}" for number in range(rows))
    with tempfile.TemporaryDirectory() as folder:
        ledger = os.path.join(folder, "answers.jsonl")
        for result in batch.map(provider, prompts, concurrency=threads, ledger=ledger):
            assert result.error is None, result.error
        with open(ledger, "rb") as lines:
            assert len({json.loads(line)["custom_id"] for line in lines}) == rows


def speed(run: Callable[[str, int, int], None], url: str, rows: int, threads: int) -> float:
    """Return rows per second."""
    started = time.monotonic()
    run(url, rows, threads)
    return rows / (time.monotonic() - started)


def peak_memory() -> float:
    """Return the peak memory of this process, in MB."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage includes the parent's memory at the fork
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def compare(url: str, rows: int, threads: int, rounds: int) -> bool:
    """Print the results and return whether they pass."""
    theirs = mine = 0.0
    for _ in range(rounds):
        theirs = max(theirs, speed(bare, url, rows, threads))
        mine = max(mine, speed(ours, url, rows, threads))
        if mine / theirs >= MIN_RATIO:
            break
    memory = peak_memory()
    print(
        f"{rows} rows, {threads} threads: bare {theirs:.0f}/s, batch {mine:.0f}/s, "
        f"ratio {mine / theirs:.2f}, {memory:.0f} MB"
    )
    return mine / theirs >= MIN_RATIO and memory < MAX_MB


def main() -> int:
    """Parse the arguments, start the server, compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--latency", type=float, default=0.2, help="seconds")
    parser.add_argument("--gateway", action="store_true", help="use the echo gateway")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        run_gateway() if options.gateway else asyncio.run(run_minimal(options.latency))
    with subprocess.Popen(
        [sys.executable, *sys.argv, "--serve"], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout
        try:
            url = server.stdout.readline().strip()
            return not compare(url, options.rows, options.threads, options.rounds)
        finally:
            server.kill()


if __name__ == "__main__":
    sys.exit(main())
