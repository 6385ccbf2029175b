"""Odd but valid: what servers do and the rules allow, so that the whole text must come."""

from __future__ import annotations

import json
from typing import Any

from providers_sync.testing import answer, done, drip, event, finish, raw, repeat, text

from .row import EVENTS, OPENAI, PLAIN, Row

WORDS = ["Hel", "lo, ", "wörld ", "\U0001f600!"]
SAID = "".join(WORDS)


def choice(content: Any, **rest: Any) -> dict[str, Any]:
    return {"choices": [{"delta": {"content": content}, **rest}]}


def lines(end: str = "\n", head: str = "data: ", words: list[str] = WORDS) -> bytes:
    """A whole stream with this line end and field head."""
    events = [json.dumps(choice(word), ensure_ascii=False) for word in words] + ["[DONE]"]
    return "".join(f"{head}{each}{end}{end}" for each in events).encode()


def mixed() -> bytes:
    """Every line with another end."""
    ends = iter(["\r\n", "\r", "\r", "\n", "\r", "\r\n", "\n", "\r\n", "\n"] * 4)
    out = ""
    for word in WORDS:
        out += f": hi{next(ends)}data: {json.dumps(choice(word))}{next(ends)}{next(ends)}"
    return f"{out}data: [DONE]\r\n\n".encode()


def sent(data: bytes) -> Any:
    return answer(data, end=False)


def byte_by_byte(data: bytes) -> Any:
    return answer(drip(data, every=0), end=False)


def chunked(data: bytes, **dripped: Any) -> Any:
    """The same bytes in HTTP chunks that look unusual."""
    out, size = b"", 11
    for at in range(0, len(data), size):
        piece = data[at : at + size]
        out += b'00%X ; name="value"\r\n%b\r\n' % (len(piece), piece)
    out += b"000;last\r\nX-Trailer: 1\r\nX-Other: 2\r\n\r\n"
    headers = {"Transfer-Encoding": "chunked"}
    body = drip(out, **dripped) if dripped else out
    return answer(body, framing="close", headers=headers, end=False)


ENDS = {"LF": lines("\n"), "CR": lines("\r"), "CRLF": lines("\r\n"), "mixed line ends": mixed()}

FRAMING = [
    *(Row(name, sent(data), text=SAID, kinds=EVENTS) for name, data in ENDS.items()),
    *(
        Row(f"{name}, byte by byte", byte_by_byte(data), text=SAID, kinds=EVENTS)
        for name, data in ENDS.items()
    ),
    Row("byte order mark", sent(b"\xef\xbb\xbf" + lines()), text=SAID, kinds=EVENTS),
    Row(
        "byte order mark, byte by byte", byte_by_byte(b"\xef\xbb\xbf" + lines()), text=SAID,
        kinds=EVENTS,
    ),
    Row("data: without a space", sent(lines(head="data:")), text=SAID, kinds=EVENTS),
    Row(
        "id: and retry: and unknown fields", sent(
            b"id: 1\nretry: 5\n\nid\n\nretry: soon\nfoo: bar\nfoo\n\n" + lines(head="id: 7\ndata: ")
        ),
        text=SAID, kinds=EVENTS,
    ),
    Row(
        "events with a name", sent(lines(head="event: message\ndata: ")), text=SAID, kinds=EVENTS,
    ),
    Row(
        "JSON over several data lines", sent(
            b'data: {"choices": [\ndata: {"delta":\ndata: {"content": "Hello"}}]}\n\n'
            b"data: [DONE]\n\n"
        ),
        text="Hello", kinds=EVENTS,
    ),
    Row("comments everywhere", sent(lines(head=": hi\n:\ndata: ")), text=SAID, kinds=EVENTS),
    Row("gzip", answer(*WORDS, gzip=True), text=SAID, kinds=EVENTS),
    Row(
        "gzip of plain text", answer(*WORDS, gzip=True), text=SAID,
        kinds=PLAIN,
    ),
    Row("chunks with extensions, capitals, zeros and trailers", chunked(lines()), text=SAID,
        kinds=EVENTS),
    Row(
        "chunks with extensions, byte by byte", chunked(lines(), every=0), text=SAID, kinds=EVENTS,
    ),
    Row(
        "chunks of plain text with extensions, byte by byte", chunked(SAID.encode(), every=0),
        text=SAID, kinds=PLAIN,
    ),
    *(
        Row(f"body framed by {framing}", answer(*WORDS, framing=framing), text=SAID, kinds=EVENTS)
        for framing in ("one-chunk", "length", "close")
    ),
    Row(
        "content type with parameters and in capitals",
        answer(*WORDS, content_type="Text/Event-Stream; charset=UTF-8"), text=SAID, kinds=EVENTS,
    ),
    Row("no content type", answer(*WORDS, content_type=None), text=SAID, kinds=EVENTS),
    Row("text/plain", answer(*WORDS, content_type="text/plain"), text=SAID, kinds=EVENTS),
]  # fmt: skip

TEXT = [
    Row(
        "invalid UTF-8 in the data", sent(
            b'data: {"choices": [{"delta": {"content": "Hel\xfflo"}}]}\n\ndata: [DONE]\n\n'
        ),
        text="Hel\ufffdlo", kinds=EVENTS,
    ),
    Row(
        "invalid UTF-8 in plain text", [raw(b"Hel\xfflo")],
        text="Hel\ufffdlo", kinds=PLAIN,
    ),
    Row(
        "invalid UTF-8 in a comment", sent(b": \xff\xfe\n\n" + lines(head=": é\ndata: ")),
        text=SAID, kinds=EVENTS,
    ),
    Row("characters split over bytes", [drip("wörld €\U0001f600", every=0)],
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
        "escaped surrogate pair split over two deltas",
        [event(choice("a\ud83d")), event(choice("\ude00b"))], text="a\U0001f600b", kinds=EVENTS,
    ),
    Row(
        "escaped surrogate pair split around an empty delta",
        [event(choice("a\ud83d")), event(choice("")), event(choice("\ude00b"))],
        text="a\U0001f600b", kinds=EVENTS,
    ),
    Row(
        "lone high surrogate", [event(choice("a\ud83d")), event(choice("b"))],
        text="a\ufffdb", kinds=EVENTS,
    ),
    Row(
        "lone low surrogate", [event(choice("a\ude00")), event(choice("b"))],
        text="a\ufffdb", kinds=EVENTS,
    ),
    Row(
        "lone surrogate at the end", [event(choice("a\ud83d")), finish()], text="a\ufffd",
        kinds=EVENTS,
    ),
    Row(
        "lone surrogate before [DONE]", answer(event(choice("a\ud83d")), done()), text="a\ufffd",
        kinds=EVENTS,
    ),
    Row(
        "two high surrogates", [event(choice("\ud83d")), event(choice("\ud83d\ude00"))],
        text="\ufffd\U0001f600", kinds=EVENTS,
    ),
]  # fmt: skip

SHAPES = [
    Row("empty choices", [event({"choices": []}), *WORDS, event({"choices": []})], text=SAID,
        kinds=EVENTS),
    Row("choices that are null", [event({"choices": None}), *WORDS], text=SAID, kinds=EVENTS),
    Row("null content", [event(choice(None)), *WORDS, event(choice(None))], text=SAID,
        kinds=EVENTS),
    Row("empty content", [event(choice("")), *WORDS, event(choice(""))], text=SAID, kinds=EVENTS),
    Row("null delta", [event({"choices": [{"delta": None}]}), *WORDS], text=SAID, kinds=EVENTS),
    Row("no delta", [event({"choices": [{"index": 0}]}), *WORDS], text=SAID, kinds=EVENTS),
    Row(
        "unknown fields", [event(choice("Hello", logprobs={}, x=[1]) | {"y": None, "z": {}})],
        text="Hello", kinds=EVENTS,
    ),
    Row("error that is null", [event(choice("Hello") | {"error": None})], text="Hello",
        kinds=EVENTS),
    Row(
        "usage only", [*WORDS, event({"usage": {"prompt_tokens": 1}})], text=SAID, kinds=EVENTS,
    ),
    Row("event with empty data", [event(""), *WORDS], text=SAID, kinds=EVENTS),
    *(
        Row(f"finish reason {reason}", [*WORDS, finish(reason)], text=SAID, kinds=EVENTS,
            attributes={"finish_reason": reason})
        for reason in ("length", "content_filter")
    ),
    Row(
        "text beside the finish reason", answer(event(choice("Hello", finish_reason="stop"))),
        text="Hello", kinds=EVENTS, attributes={"finish_reason": "stop"},
    ),
    Row(
        "text after the finish reason", answer("Hel", finish(), "lo"), text="Hello", kinds=EVENTS,
    ),
    Row(
        "3 MB in one event", [text("x" * 3_000_000)], text="x" * 3_000_000, kinds=EVENTS, takes=0.5,
    ),
    Row(
        "900 data lines in one event", sent(
            b'data: {"choices": [{"delta": {"content": "Hello"},\n'
            + b"data:\n" * 900 + b'data: "index": 0}]}\n\ndata: [DONE]\n\n'
        ),
        text="Hello", kinds=OPENAI,
    ),
    Row(
        "10,000 events at once", [repeat(text("x"), times=10_000)], text="x" * 10_000,
        kinds=EVENTS, takes=0.5,
    ),
    Row("good answer", answer(*WORDS), text=SAID, kinds=EVENTS),
    Row("good answer in plain text", answer(*WORDS), text=SAID, kinds=PLAIN),
]  # fmt: skip

ODD = [*FRAMING, *TEXT, *SHAPES]
