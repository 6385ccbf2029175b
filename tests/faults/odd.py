"""Rows for unusual but valid answers, whose complete text must arrive."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from providers_sync.testing import answer, done, drip, event, finish, repeat, text
from providers_sync.testing.base_encoders import Encoder
from providers_sync.testing.step_types import BodyStep

from .row import BOTH, CHUNKS, DONE_ONLY, EVENTS, GEMINI, MARKED, OLLAMA, OPENAI, PLAIN, SSE, Row

REASONS = (*DONE_ONLY, *GEMINI, *OLLAMA)
WORDS = ["Hel", "lo, ", "wörld ", "\U0001f600!"]
FULL = "".join(WORDS)


def choice(content: Any, **rest: Any) -> dict[str, Any]:
    return {"choices": [{"delta": {"content": content}, **rest}]}


@dataclass(frozen=True)
class Modified(BodyStep):
    """A complete answer in the protocol's encoding whose bytes are then modified."""

    change: Callable[[bytes], bytes]
    words: tuple[str, ...] = tuple(WORDS)

    def render(self, encoder: Encoder) -> bytes:
        return self.change(b"".join(map(encoder.text, self.words)) + encoder.ending())


def replaced(old: bytes, new: bytes) -> Modified:
    return Modified(lambda data: data.replace(old, new))


def mixed(data: bytes) -> bytes:
    """Give lines different ends; never CR before LF, which would be a single line end."""
    ends = itertools.cycle([b"\n", b"\r\n", b"\r", b"\r", b"\r\n"])
    return b"".join(line + next(ends) for line in data.split(b"\n")[:-1])


def in_chunks(data: bytes) -> bytes:
    """Return the same bytes in unusual HTTP chunks."""
    encoded, size = b"", 11
    for at in range(0, len(data), size):
        chunk = data[at : at + size]
        encoded += b'00%X ; name="value"\r\n%b\r\n' % (len(chunk), chunk)
    return encoded + b"000;last\r\nX-Trailer: 1\r\nX-Other: 2\r\n\r\n"


def raw_deflate(data: bytes) -> bytes:
    """Compress without zlib's header and checksum, as some servers understand ``deflate``."""
    return zlib.compress(data)[2:-4]


def chunked(body: Any) -> Any:
    return answer(body, framing="close", headers={"Transfer-Encoding": "chunked"})


ENDS = {
    "line ends LF": replaced(b"\n", b"\n"),
    "line ends CR": replaced(b"\n", b"\r"),
    "line ends CRLF": replaced(b"\n", b"\r\n"),
    "mixed line ends": Modified(mixed),
    "byte order mark": Modified(lambda data: b"\xef\xbb\xbf" + data),
}

NAMES = {
    "chunked": "in chunks", "one-chunk": "in one chunk", "length": "with Content-Length",
    "close": "delimited by connection close",
}  # fmt: skip
"""The descriptions of the framings."""

FRAMING = [
    *(Row(name, answer(body), text=FULL, kinds=SSE) for name, body in ENDS.items()),
    *(
        Row(f"{name}, byte by byte", drip(body, every=0), text=FULL, kinds=SSE)
        for name, body in ENDS.items()
    ),
    Row("data: without a space", replaced(b"data: ", b"data:"), text=FULL, kinds=SSE),
    Row(
        "id:, retry: and unknown fields", Modified(
            lambda data: b"id: 1\nretry: 5\n\nid\n\nretry: soon\nfoo: bar\nfoo\n\n"
            + data.replace(b"data: ", b"id: 7\ndata: ")
        ),
        text=FULL, kinds=SSE,
    ),
    Row(
        "named events", replaced(b"data: ", b"event: message\ndata: "), text=FULL,
        kinds=CHUNKS,
    ),
    Row(
        "JSON on several data lines", replaced(b',"', b',\ndata: "'), text=FULL, kinds=SSE,
    ),
    Row(
        "comments before every data line", replaced(b"data: ", b": hi\n:\ndata: "), text=FULL,
        kinds=SSE,
    ),
    Row("gzip", answer(*WORDS, gzip=True), text=FULL),
    *(
        Row(
            f"deflate {name} zlib's header",
            answer(Modified(change), headers={"Content-Encoding": "deflate"}, end=False), text=FULL,
        )
        for name, change in (("with", zlib.compress), ("without", raw_deflate))
    ),
    *(
        Row(f"events declared as {coding}", answer(*WORDS, headers={"Content-Encoding": coding}),
            text=FULL, kinds=EVENTS)
        for coding in ("gzip", "br")
    ),
    Row(
        "chunked encoding with blanks around its name",
        answer(Modified(in_chunks), framing="close", headers={"Transfer-Encoding": " chunked\t"}),
        text=FULL,
    ),
    Row(
        "chunks with extensions, uppercase sizes, leading zeros and trailers",
        chunked(Modified(in_chunks)), text=FULL,
    ),
    Row(
        "chunks with extensions, byte by byte", chunked(drip(Modified(in_chunks), every=0)),
        text=FULL,
    ),
    *(
        Row(f"body {name}", answer(*WORDS, framing=framing), text=FULL, kinds=EVENTS)
        for framing, name in NAMES.items() if framing != "chunked"
    ),
    *(
        Row(
            f"200 KB immediately after the headers, {name}",
            answer(repeat(text("x" * 300), times=700), framing=framing),
            text="x" * 210_000, schemes=BOTH, takes=0.5,
        )
        for framing, name in NAMES.items()
    ),
    Row(
        "content type with parameters and in mixed case",
        answer(*WORDS, content_type="Text/Event-Stream; charset=UTF-8"), text=FULL, kinds=SSE,
    ),
    Row("no content type", answer(*WORDS, content_type=None), text=FULL, kinds=EVENTS),
    Row("content type text/plain", answer(*WORDS, content_type="text/plain"), text=FULL,
        kinds=EVENTS),
]  # fmt: skip

TEXT = [
    Row(
        "invalid UTF-8 in the text",
        Modified(lambda data: data.replace(b"?", b"\xff"), ("Hel?lo",)), text="Hel\ufffdlo",
    ),
    Row(
        "invalid UTF-8 in a comment", Modified(
            lambda data: b": \xff\xfe\n\n" + data.replace(b"data: ", b": \xc3\ndata: ")
        ),
        text=FULL, kinds=SSE,
    ),
    Row("multi-byte characters, byte by byte", [drip("wörld €\U0001f600", every=0)],
        text="wörld €\U0001f600", kinds=PLAIN),
    *(
        Row(f"{name} in the text", [f"a{char}b", f"{char}c"], text=f"a{char}b{char}c",
            kinds=EVENTS)
        for name, char in (("U+2028", "\u2028"), ("U+0085", "\x85"), ("NUL", "\0"),
                           ("U+FEFF", "\ufeff"), ("CRLF", "\r\n"))
    ),
    *(
        Row(f"{name} in plain text", [f"a{char}b", f"{char}c"],
            text=f"a{char}b{char}c", kinds=PLAIN)
        for name, char in (("U+2028", "\u2028"), ("U+0085", "\x85"), ("NUL", "\0"),
                           ("CRLF", "\r\n"))
    ),
    Row(
        "escaped surrogate pair split over two deltas", ["a\ud83d", "\ude00b"],
        text="a\U0001f600b", kinds=EVENTS,
    ),
    Row(
        "escaped surrogate pair split around an empty delta", ["a\ud83d", "", "\ude00b"],
        text="a\U0001f600b", kinds=EVENTS,
    ),
    Row("lone high surrogate", ["a\ud83d", "b"], text="a\ufffdb", kinds=EVENTS),
    Row("lone low surrogate", ["a\ude00", "b"], text="a\ufffdb", kinds=EVENTS),
    Row("lone surrogate at the end", ["a\ud83d", finish()], text="a\ufffd", kinds=EVENTS),
    Row(
        "lone surrogate before the end marker", answer("a\ud83d", done()), text="a\ufffd",
        kinds=EVENTS,
    ),
    Row(
        "escaped surrogate pair whose second half is in the event with the finish reason",
        ["a\ud83d", event(choice("\ude00b", finish_reason="stop"))], text="a\U0001f600b",
        kinds=CHUNKS,
    ),
    Row(
        "two high surrogates", ["\ud83d", "\ud83d\ude00"], text="\ufffd\U0001f600", kinds=EVENTS,
    ),
]  # fmt: skip

SHAPES = [
    Row("empty choices", [event({"choices": []}), *WORDS, event({"choices": []})], text=FULL,
        kinds=CHUNKS),
    Row("choices that are null", [event({"choices": None}), *WORDS], text=FULL, kinds=CHUNKS),
    Row("null content", [event(choice(None)), *WORDS, event(choice(None))], text=FULL,
        kinds=CHUNKS),
    Row("empty deltas", ["", *WORDS, ""], text=FULL, kinds=EVENTS),
    Row("null delta", [event({"choices": [{"delta": None}]}), *WORDS], text=FULL, kinds=CHUNKS),
    Row("no delta", [event({"choices": [{"index": 0}]}), *WORDS], text=FULL, kinds=CHUNKS),
    Row(
        "unknown fields", [event(choice("Hello", logprobs={}, x=[1]) | {"y": None, "z": {}})],
        text="Hello", kinds=CHUNKS,
    ),
    Row("error that is null", [event(choice("Hello") | {"error": None})], text="Hello",
        kinds=CHUNKS),
    Row(
        "event with usage only", [*WORDS, event({"usage": {"prompt_tokens": 1}})], text=FULL,
        kinds=CHUNKS,
    ),
    Row("event with empty data", [event(""), *WORDS], text=FULL, kinds=EVENTS),
    *(
        Row(f"finish reason {reason}", [*WORDS, finish(reason)], text=FULL, kinds=REASONS,
            attributes={"finish_reason": reason})
        for reason in ("length", "content_filter")
    ),
    Row(
        "text together with the finish reason",
        answer(event(choice("Hello", finish_reason="stop"))), text="Hello", kinds=CHUNKS,
        attributes={"finish_reason": "stop"},
    ),
    Row(
        "text after the finish reason", answer("Hel", finish(), "lo"), text="Hello", kinds=MARKED,
    ),
    Row(
        "3 MB in one event", [text("x" * 3_000_000)], text="x" * 3_000_000, kinds=EVENTS, takes=0.5,
    ),
    Row(
        "900 data lines in one event", replaced(b'"delta"', b"\ndata:" * 900 + b'\ndata: "delta"'),
        text=FULL, kinds=OPENAI,
    ),
    Row(
        "10,000 events at once", [repeat(text("x"), times=10_000)], text="x" * 10_000,
        kinds=EVENTS, takes=1,
    ),
    Row("good answer", answer(*WORDS), text=FULL),
]  # fmt: skip

ODD = [*FRAMING, *TEXT, *SHAPES]
