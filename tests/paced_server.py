"""A server in a process of its own, whose chunks say when they were sent.

The path of the base URL is ``/{hold}/{every}/{chunks}/{together}``: the headers come after ``hold``
seconds, and a chunk every ``every`` seconds once so many answers ``together`` have their headers.
Its text is the time, on the clock that all processes of the machine share.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"%.6f "}}]}\n\n'
END = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
MAX_DESCRIPTORS = 8192


def raise_limit() -> tuple[int, int]:
    """Allow this process more file descriptors, if it may; return the limits before."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(MAX_DESCRIPTORS, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    return soft, hard


def http_chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def read_path(reader: asyncio.StreamReader) -> str:
    head = await reader.readuntil(b"\r\n\r\n")
    size = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
    await reader.readexactly(size)
    return head.split()[1].decode()


waiting: list[asyncio.Event] = []
"""Of the answers that wait for others."""


async def meet(together: int) -> None:
    """Wait until so many answers wait."""
    waiting.append(asyncio.Event())
    if len(waiting) >= together:
        for each in waiting:
            each.set()
    mine = waiting[-1]
    if mine.is_set():
        waiting.clear()
    await mine.wait()


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the requests of one connection."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        while True:
            _, hold, every, chunks, together, *_ = (await read_path(reader)).split("/")
            await asyncio.sleep(float(hold))
            writer.write(HEAD)
            await meet(int(together))
            at = time.monotonic()
            for _ in range(int(chunks)):
                writer.write(http_chunk(EVENT % time.monotonic()))
                at += float(every)
                await asyncio.sleep(max(at - time.monotonic(), 0))
            writer.write(http_chunk(END) + b"0\r\n\r\n")
            await writer.drain()
    writer.close()


async def run() -> None:
    """Serve until standard input is closed; the first line of output is the port."""
    raise_limit()
    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    loop, ended = asyncio.get_running_loop(), asyncio.Event()

    def wait_for_end() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=wait_for_end, daemon=True).start()
    await ended.wait()


@contextlib.contextmanager
def paced_server() -> Iterator[str]:
    """Run the server; yield its URL, without the path."""
    command = [sys.executable, __file__]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdin
        assert server.stdout
        try:
            yield f"http://127.0.0.1:{int(server.stdout.readline())}"
        finally:
            server.stdin.close()


if __name__ == "__main__":
    asyncio.run(run())
