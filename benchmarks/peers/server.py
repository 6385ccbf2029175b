"""A fast HTTP server of streamed answers: raw sockets, prebuilt answers, never the bottleneck.

The path selects the answer, ``/{framing}/{size}/…``: ``event`` (one HTTP chunk per event),
``coalesced`` (HTTP chunks of 16 KB), ``close`` (no length, the end of the connection ends the
answer), ``gzip`` (like ``event``, each event flushed), ``paced/{chunks}/{streams}`` (an event every
20 ms, whose text is the time of sending), ``long`` (``size`` MB of text) and ``records`` (``size``
characters of JSON, see ``records.py``). Three are faults after ``size`` events: ``truncated`` (the
body ends, without the end of the answer), ``reset`` (so does the connection) and ``silent``
(nothing more is sent). The rest of the path selects the protocol. Serves HTTP and
TLS; the first line of output has the URLs, and closing standard input ends the process.
"""

from __future__ import annotations

import contextlib
import functools
import heapq
import json
import os
import re
import socket
import ssl
import struct
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from records import pieces

PACE_S = 0.02
SETTLE_S = 0.1
INCOMPLETE_S = 2.0  # start after this even if not all streams have been requested
LONG_TEXT = "word " * 200  # 1000 characters per event
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
PLACEHOLDER = "@text@"


def event(value: Any, kind: str = "") -> bytes:
    """Return one server-sent event."""
    name = f"event: {kind}\n" if kind else ""
    return f"{name}data: {value if isinstance(value, str) else json.dumps(value)}\n\n".encode()


def chat_chunk(delta: dict[str, str], reason: str | None = None) -> bytes:
    """Return a chunk as OpenAI sends it, of some 230 bytes."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
    head = {"id": "chatcmpl-0123456789abcdefghijkl", "object": "chat.completion.chunk"}
    return event({**head, "created": 1700000000, "model": "m", "choices": [choice]})


def message_event(kind: str, **rest: Any) -> bytes:
    """Return an event as Anthropic sends it."""
    return event({"type": kind, **rest}, kind)


MESSAGE = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": []}
MESSAGE |= {"stop_reason": None, "usage": {"input_tokens": 1, "output_tokens": 1}}
PROTOCOLS = {  # the events before the text, for each text, after the text
    "completions": (
        b"",
        chat_chunk({"content": PLACEHOLDER}),
        chat_chunk({}, "stop") + event("[DONE]"),
    ),
    "messages": (
        message_event("message_start", message=MESSAGE)
        + message_event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        message_event(
            "content_block_delta", index=0, delta={"type": "text_delta", "text": PLACEHOLDER}
        ),
        message_event("content_block_stop", index=0)
        + message_event("message_delta", delta={"stop_reason": "end_turn"})
        + message_event("message_stop"),
    ),
}  # fmt: skip


def chunked(data: bytes) -> bytes:
    """Return one HTTP chunk."""
    return b"%x\r\n%s\r\n" % (len(data), data)


@functools.lru_cache
def answer(framing: str, size: int, protocol: str) -> bytes:
    """Return a complete response."""
    first, each, last = PROTOCOLS[protocol]
    texts = (f"word{n % 97} " for n in range(size))
    events = [*(each.replace(PLACEHOLDER.encode(), text.encode()) for text in texts), last]
    events[0] = first + events[0]
    if framing == "close":
        return HEAD + b"Connection: close\r\n\r\n" + b"".join(events)
    head = HEAD + b"Transfer-Encoding: chunked\r\n"
    if framing == "gzip":
        compressor = zlib.compressobj(wbits=31)
        events = [
            compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH) for data in events
        ]
        events.append(compressor.flush())
        head += b"Content-Encoding: gzip\r\n"
    elif framing == "coalesced":
        body = b"".join(events)
        events = [body[start : start + 16384] for start in range(0, len(body), 16384)]
    return head + b"\r\n" + b"".join(map(chunked, events)) + chunked(b"")


def long_answer(megabytes: int, protocol: str) -> Iterator[bytes]:
    """Yield a response with ``megabytes`` MB of text, 16 events per HTTP chunk."""
    first, each, last = PROTOCOLS[protocol]
    yield HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + (chunked(first) if first else b"")
    # Varied texts: litellm treats repeated identical chunks as an error.
    texts = [LONG_TEXT.replace("word", f"wo{n:02}").encode() for n in range(16)]
    part = chunked(b"".join(each.replace(PLACEHOLDER.encode(), text) for text in texts))
    for _ in range(megabytes * 1_000_000 // len(LONG_TEXT) // 16):
        yield part
    yield chunked(last) + chunked(b"")


@functools.lru_cache(maxsize=2)
def records_answer(size: int, protocol: str) -> list[bytes]:
    """Return a response with records of ``size`` characters, one HTTP chunk an event, in parts."""
    first, each, last = PROTOCOLS[protocol]
    before, _, after = each.partition(PLACEHOLDER.encode())
    head = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    parts = [bytearray(head + chunked(first) if first else head)]
    for piece in pieces(size):
        if len(parts[-1]) > 65536:
            parts.append(bytearray())
        parts[-1] += chunked(before + json.dumps(piece)[1:-1].encode() + after)
    return [*map(bytes, parts), chunked(last) + chunked(b"")]


PARTS: dict[str, Callable[[int, str], Iterable[bytes]]] = {
    "long": long_answer,
    "records": records_answer,
}


def faulty(size: int, protocol: str) -> bytes:
    """Return the start of a response: so many events, and not the end of the answer."""
    first, each, _ = PROTOCOLS[protocol]
    texts = (each.replace(PLACEHOLDER.encode(), f"word{n} ".encode()) for n in range(size))
    events = [first, *texts] if first else texts
    return HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(map(chunked, events))


def send_fault(sock: socket.socket, fault: str, size: int, protocol: str) -> None:
    """Send an answer that ends with a fault."""
    sock.sendall(faulty(size, protocol) + (chunked(b"") if fault == "truncated" else b""))
    if fault == "silent":
        sock.recv(1)  # until the client closes the connection
    if fault == "reset":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


FAULTS = ("truncated", "reset", "silent")


class Pacer(threading.Thread):
    """A thread that sends the next event of every paced answer when it is due.

    Answers start together, once all are requested, at different offsets within the 20 ms, as those
    of independent servers would.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._waiting: list[tuple[socket.socket, int, str]] = []
        self._start_at = 0.0
        self._changed = threading.Condition()

    def add(self, sock: socket.socket, size: int, streams: int, protocol: str) -> None:
        """Take over the connection of one of ``streams`` answers."""
        first = PROTOCOLS[protocol][0]
        sock.sendall(HEAD + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n")
        if first:
            sock.sendall(chunked(first))
        with self._changed:
            self._waiting.append((sock, size, protocol))
            complete = len(self._waiting) == streams
            self._start_at = time.monotonic() + (SETTLE_S if complete else INCOMPLETE_S)
            self._changed.notify()

    def run(self) -> None:
        """Send one group of answers after another."""
        while True:
            with self._changed:
                while not self._waiting or (remaining := self._start_at - time.monotonic()) > 0:
                    self._changed.wait(remaining if self._waiting else None)
                group, self._waiting = self._waiting, []
            self._play(group)

    def _play(self, group: list[tuple[socket.socket, int, str]]) -> None:
        started = time.monotonic()
        due = [(started + PACE_S * n / len(group), n, 0) for n in range(len(group))]
        while due:
            at, number, sent = heapq.heappop(due)
            time.sleep(max(at - time.monotonic(), 0))
            sock, size, protocol = group[number]
            _, each, last = PROTOCOLS[protocol]
            with contextlib.suppress(OSError):  # the client has closed the connection
                if sent == size:
                    sock.sendall(chunked(last) + chunked(b""))
                    sock.close()
                    continue
                now = b"%.6f " % time.monotonic()
                sock.sendall(chunked(each.replace(PLACEHOLDER.encode(), now)))
                heapq.heappush(due, (at + PACE_S, number, sent + 1))


def requests(sock: socket.socket) -> Iterator[str]:
    """Yield the path of each request on a connection."""
    data = b""
    while True:
        while b"\r\n\r\n" not in data:
            more = sock.recv(65536)
            if not more:
                return
            data += more
        head, _, data = data.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: *(\d+)", head)
        size = int(length[1]) if length else 0
        while len(data) < size:
            data += sock.recv(65536)
        data = data[size:]
        yield head.split(b" ", 2)[1].decode()


def handle(sock: socket.socket, pacer: Pacer, context: ssl.SSLContext | None) -> None:
    """Answer the requests of one connection."""
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock = context.wrap_socket(sock, server_side=True) if context else sock
        for path in requests(sock):
            _, framing, size, *_, protocol = path.split("/")
            if framing == "paced":
                streams = int(path.split("/")[3])
                return pacer.add(sock, int(size), streams, protocol)
            if framing in FAULTS:
                return send_fault(sock, framing, int(size), protocol)
            if framing in PARTS:
                for part in PARTS[framing](int(size), protocol):
                    sock.sendall(part)
            else:
                sock.sendall(answer(framing, int(size), protocol))
            if framing == "close":
                break
        sock.close()
    except OSError:  # the client has closed the connection
        sock.close()


def listen(pacer: Pacer, context: ssl.SSLContext | None) -> int:
    """Serve on a port of 127.0.0.1 and return it."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1000)

    def accept() -> None:
        while True:
            arguments = (listener.accept()[0], pacer, context)
            threading.Thread(target=handle, args=arguments, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return int(listener.getsockname()[1])


def tls_context(folder: Path) -> ssl.SSLContext:
    """Return the server's TLS context; write its certificate authority to ``folder/ca.pem``."""
    import trustme

    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    return context


def main() -> None:
    """Serve until standard input is closed."""
    pacer = Pacer()
    pacer.start()
    plain, secure = listen(pacer, None), listen(pacer, tls_context(Path(sys.argv[1])))
    urls = {"http": f"http://127.0.0.1:{plain}", "https": f"https://127.0.0.1:{secure}"}
    print(json.dumps(urls), flush=True)
    sys.stdin.read()
    os._exit(0)  # without waiting for the threads that still serve


if __name__ == "__main__":
    main()
