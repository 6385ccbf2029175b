"""Compare the CPU time of our stream with a naive requests + sseclient loop.

    python benchmarks/against_naive.py                         # all cases
    python benchmarks/against_naive.py chunked "one request"   # some cases
    python benchmarks/against_naive.py --all-cores

``chunked`` (an HTTP chunk an event), ``coalesced`` and ``close`` are bursts; ``one request``
compares a short one with plain requests, and ``100 MB`` an answer with ten that are a tenth as
long, all ours. The server runs in its own process. Rounds of both are interleaved, and each
compares the two under the same load of the machine: the results are medians. Only ratios mean
anything.

Where the system allows it, everything runs on one core: our requests wake threads, and what it
costs to wake one on another core depends on what else the machine does. In a virtual machine with
two cores and Python 3.11, ``one request`` varied from 0.88 to 0.97 on one core, and from 1.0 to 1.4
with ``--all-cores``. The environment is filled up to 40 variables, as in a terminal: plain requests
read all of them each time. With 14, as in a container, ``one request`` is 1.05.
``many_streams.py`` compares many streams at once.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from statistics import median

import requests
import sseclient

CHUNKS = 5000
ROUNDS = 9
WARM_REQUESTS, WARM_ROUNDS = 50, 20
LONG_MB, LONG_ROUNDS = 100, 5
VARIABLES = 40
LIMITS = {"chunked": 0.75, "coalesced": 0.6, "close": 0.45, "one request": 1.05, "100 MB": 1.1}
"""Our maximum CPU time, as a multiple of the other."""
if sys.version_info[:2] != (3, 11):  # where plain requests are slow: they check for a ``Protocol``
    LIMITS["one request"] = 1.3
BODY = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
DELTA = {
    "id": "chatcmpl-0123456789abcdefghijkl",
    "object": "chat.completion.chunk",
    "created": 1700000000,
    "model": "m",
    "choices": [{"index": 0, "delta": {"content": " word"}, "finish_reason": None}],
}
EVENT = b"data: %s\n\n" % json.dumps(DELTA).encode()
LONG_EVENT = EVENT.replace(b" word", b"word " * 200)
END = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"


def chunked(data: bytes) -> bytes:
    """Return one HTTP chunk."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def answer(path: str) -> bytes:
    """Return the full response for ``/{framing}/{chunks}/chat/completions``."""
    _, framing, count, *_ = path.split("/")
    if framing == "long":  # of 1000 characters each
        body = LONG_EVENT * int(count) + END
        return HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body
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
    """Return the median CPU seconds of both, and the median of the rounds' ratios."""
    samples: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for call, times in zip((ours, theirs), samples, strict=True):
            started = time.process_time()
            call()
            times.append(time.process_time() - started)
    mine, other = samples
    return median(mine), median(other), median(a / b for a, b in zip(mine, other, strict=True))


def burst(root: str, framing: str) -> tuple[float, float, float]:
    """Return microseconds of CPU per chunk (ours, theirs), and the ratio."""
    from providers_sync import OpenAICompatible  # not needed by the server

    url = f"{root}/{framing}/{CHUNKS}"
    provider = OpenAICompatible("m", base_url=url)
    mine, other, times = ratio(lambda: sum(1 for _ in provider.stream("Hi")), lambda: naive(url))
    return mine / CHUNKS * 1e6, other / CHUNKS * 1e6, times


def one_request(root: str) -> tuple[float, float, float]:
    """Return microseconds of CPU per request (ours, plain requests), and the ratio."""
    from providers_sync import OpenAICompatible

    url = f"{root}/chunked/1"
    provider, endpoint = OpenAICompatible("m", base_url=url), f"{url}/chat/completions"
    with requests.Session() as session:
        mine, other, times = ratio(
            lambda: [list(provider.stream("Hi")) for _ in range(WARM_REQUESTS)],
            lambda: [
                session.post(endpoint, json=BODY, stream=True).content for _ in range(WARM_REQUESTS)
            ],
            rounds=WARM_ROUNDS,
        )
    return mine / WARM_REQUESTS * 1e6, other / WARM_REQUESTS * 1e6, times


def long_answer(root: str) -> tuple[float, float, float]:
    """Return microseconds of CPU for ``LONG_MB`` and for ten tenths of it, and the ratio."""
    from providers_sync import OpenAICompatible

    def read(megabytes: int) -> None:
        provider = OpenAICompatible("m", base_url=f"{root}/long/{megabytes * 1000}")
        assert len(provider.complete("Hi").text) == megabytes * 1_000_000

    read(1)
    long, short, times = ratio(
        lambda: read(LONG_MB), lambda: [read(LONG_MB // 10) for _ in range(10)], LONG_ROUNDS
    )
    return long * 1e6, short * 1e6, times


CASES: dict[str, Callable[[str], tuple[float, float, float]]] = {
    **{framing: partial(burst, framing=framing) for framing in ("chunked", "coalesced", "close")},
    "one request": one_request,
    "100 MB": long_answer,
}


def measure(cases: list[str]) -> dict[str, tuple[float, float, float]]:
    """Return microseconds of CPU (ours, theirs) and the ratio, for each case.

    This process is on one core then, with the server and all threads that it starts.
    """
    for number in range(len(os.environ), VARIABLES):
        os.environ[f"VARIABLE_{number}"] = "value"
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, [max(os.sched_getaffinity(0))])
    return measure_on_all_cores(cases)


def measure_on_all_cores(cases: list[str]) -> dict[str, tuple[float, float, float]]:
    """Do what ``measure`` does, on all cores that the process has."""
    command = [sys.executable, __file__, "serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout
        assert server.stdin
        root = f"http://127.0.0.1:{int(server.stdout.readline())}"
        results = {case: CASES[case](root) for case in cases}
        server.stdin.close()
    return results


def main() -> int:
    """Measure and print; return 1 if a limit is exceeded."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("cases", nargs="*", help=f"some of: {', '.join(CASES)}")
    parser.add_argument("--all-cores", action="store_true", help="do not stay on one core")
    options = parser.parse_args()
    if unknown := set(options.cases) - set(CASES):
        parser.error(f"unknown: {', '.join(unknown)}; the cases are {', '.join(CASES)}")
    print(f"{'CPU, µs each':<14} {'ours':>10} {'other':>10} {'ratio':>6} {'at most':>8}")
    run = measure_on_all_cores if options.all_cores else measure
    results = run(options.cases or list(CASES))
    for case, (mine, other, times) in results.items():
        print(f"{case:<14} {mine:>10.1f} {other:>10.1f} {times:>6.2f} {LIMITS[case]:>8g}")
    return any(times > LIMITS[case] for case, (*_, times) in results.items())


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        serve()
    else:
        sys.exit(main())
