"""Compare the CPU time of our stream with a naive requests + sseclient loop.

``python benchmarks/against_naive.py`` prints a table; its last line compares one short request with
plain requests. The server runs in its own process. The results are the least CPU time of
interleaved rounds, as other load on the machine only adds to it; only their ratios mean anything.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import requests
import sseclient

CHUNKS = 5000
ROUNDS = 5
WARM_REQUESTS, WARM_ROUNDS = 50, 20
BODY = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
DELTA = {
    "id": "chatcmpl-0123456789abcdefghijkl",
    "object": "chat.completion.chunk",
    "created": 1700000000,
    "model": "m",
    "choices": [{"index": 0, "delta": {"content": " word"}, "finish_reason": None}],
}
EVENT = b"data: %s\n\n" % json.dumps(DELTA).encode()
END = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"


def chunked(data: bytes) -> bytes:
    """Return one HTTP chunk."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def answer(path: str) -> bytes:
    """Return the full response for ``/{framing}/{chunks}/chat/completions``."""
    _, framing, count, *_ = path.split("/")
    body = EVENT * int(count) + END
    if framing == "close":
        return HEAD + b"Connection: close\r\n\r\n" + body
    if framing == "coalesced":
        parts = [body[start : start + 16384] for start in range(0, len(body), 16384)]
    else:
        parts = [EVENT] * int(count) + [END]
    chunks = b"".join(map(chunked, parts))
    return HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + chunked(b"")


def handle(sock: socket.socket) -> None:
    """Answer the requests of one connection."""
    with sock, sock.makefile("rb") as file:
        while line := file.readline():
            headers = dict(
                header.lower().split(b": ", 1) for header in iter(file.readline, b"\r\n")
            )
            file.read(int(headers[b"content-length"]))
            path = line.split()[1].decode()
            sock.sendall(answer(path))
            if path.startswith("/close"):
                return


def serve() -> None:
    """Print the port, then serve until standard input is closed."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    print(listener.getsockname()[1], flush=True)

    def accept() -> None:
        while True:
            threading.Thread(target=handle, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    sys.stdin.read()


def naive(url: str) -> int:
    """Read a stream the obvious way."""
    chunks = 0
    with requests.post(f"{url}/chat/completions", json=BODY, stream=True) as response:
        for event in sseclient.SSEClient(response).events():  # type: ignore[arg-type]
            if event.data == "[DONE]":
                break
            delta = json.loads(event.data)["choices"][0]["delta"]
            chunks += bool(delta.get("content"))
    return chunks


def ratio(
    ours: Callable[[], object], theirs: Callable[[], object], rounds: int = ROUNDS
) -> tuple[float, float, float]:
    """Return the least CPU seconds of both, and their ratio."""
    samples: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for call, times in zip((ours, theirs), samples, strict=True):
            started = time.process_time()
            call()
            times.append(time.process_time() - started)
    mine, other = map(min, samples)
    return mine, other, mine / other


def measure() -> dict[str, tuple[float, float, float]]:
    """Return microseconds of CPU (ours, theirs) and the ratio, for each case."""
    from providers_sync import OpenAICompatible  # not needed by the server

    command = [sys.executable, __file__, "serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout
        assert server.stdin
        root = f"http://127.0.0.1:{int(server.stdout.readline())}"
        results = {}
        for framing in ("chunked", "coalesced", "close"):
            url = f"{root}/{framing}/{CHUNKS}"
            provider = OpenAICompatible("m", base_url=url)
            mine, other, times = ratio(
                lambda p=provider: sum(1 for _ in p.stream("Hi")),  # type: ignore[misc]
                lambda u=url: naive(u),  # type: ignore[misc]
            )
            results[framing] = (mine / CHUNKS * 1e6, other / CHUNKS * 1e6, times)
        url = f"{root}/chunked/1"
        provider, session = OpenAICompatible("m", base_url=url), requests.Session()
        endpoint, post = f"{url}/chat/completions", session.post
        mine, other, times = ratio(
            lambda: [list(provider.stream("Hi")) for _ in range(WARM_REQUESTS)],
            lambda: [post(endpoint, json=BODY, stream=True).content for _ in range(WARM_REQUESTS)],
            rounds=WARM_ROUNDS,
        )
        results["one request"] = (mine / WARM_REQUESTS * 1e6, other / WARM_REQUESTS * 1e6, times)
        session.close()
        server.stdin.close()
    return results


def main() -> None:
    print(f"{'CPU, µs each':<14} {'ours':>8} {'naive':>8} {'ratio':>6}")
    for case, (mine, other, times) in measure().items():
        print(f"{case:<14} {mine:>8.1f} {other:>8.1f} {times:>6.2f}")


if __name__ == "__main__":
    serve() if sys.argv[1:] == ["serve"] else main()
