"""Property tests of the decoders: any bytes, split and cut anywhere, against reference parsers."""

from __future__ import annotations

import codecs
import contextlib
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from decode_kit import decode, split
from hypothesis import example, given, settings
from hypothesis import strategies as st

from providers_sync import (
    AI365VIP,
    OpenAICompatible,
    Outcome,
    StreamCut,
    StreamError,
    StreamTruncated,
)
from providers_sync.decoding import OpenAIDecoder
from providers_sync.decoding.sse import BARE, EventParser
from providers_sync.decoding.text import TextDecoder
from providers_sync.testing import Request, answer, cut, raw, serve
from providers_sync.types import Finish

many = settings(max_examples=250, deadline=None)


cuts = st.lists(st.integers(0, 10_000), max_size=30)


# --- events, against a second implementation of the WHATWG rules

Events = list[tuple[str, str]]
FIELD_NAMES = ("data", "event", "id", "retry")


def reference_event(lines: list[str]) -> Events:
    """Return the event of the lines before an empty one, and those that are no field of it.

    The standard says of the latter: "otherwise: the field is ignored". They come as one event of
    no name, before the event if they begin the block, else after it.
    """
    event_type = data = ""
    bare = []
    for line in lines:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            event_type = value
        elif field == "data":
            data += value + "\n"
        elif field not in ("", "id", "retry"):  # a comment, or for reconnecting
            bare.append(line)
    events = [(event_type or "message", data.removesuffix("\n"))] if data else []
    words = [(BARE, "\n".join(bare))] if bare else []
    if lines[:1] == bare[:1]:
        return words + events
    if events and bare and _is_begun(events[0][1]):
        return [(events[0][0], "\n".join([events[0][1], *bare]))]
    return events + words


def _is_begun(data: str) -> bool:
    """Return whether JSON with only one ``data:`` before it may go on in other lines."""
    opened = sum(char in "{[" for char in data) > sum(char in "}]" for char in data)
    return data.startswith(("{", "[")) and opened


def reference_events(stream: bytes) -> tuple[Events, bool]:
    """Return the (type, data) of each event, and whether the stream ends inside a character.

    HTML Standard, 9.2.6, "Interpreting an event stream": "Streams must be decoded using the UTF-8
    decode algorithm", which drops one leading BOM. "Lines must be separated by either CRLF, LF or
    CR." Where the standard says "any pending data must be discarded", that data is the last event,
    without a last line that is only the start of a name, unless it ends inside a character.
    """
    text = stream.decode("utf-8", "replace").removeprefix("\ufeff")
    *lines, last = re.split("\r\n|\n|\r", text)
    events: Events = []
    block: list[str] = []
    for line in lines:
        if not line or _begins_another(block, line):
            events += reference_event(block)
            block = []
        block += [line] if line else []
    if _begins_another(block, last):
        events += reference_event(block)
        block = []
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(stream)
    if decoder.getstate()[0]:
        return events, True
    if not any(name.startswith(last) for name in FIELD_NAMES):
        block.append(last)
    return events + reference_event(block), False


def _begins_another(block: list[str], line: str) -> bool:
    """Return whether a line begins another event with JSON: some servers send no empty lines."""
    return (
        block != []
        and block[0].startswith(("data:", "{"))
        and block[-1].endswith("}")
        and re.match("(data: ?)?{", line) is not None
    )


def parsed(chunks: list[bytes]) -> tuple[Events, bool]:
    """Return the same from our parser."""
    parser = EventParser()
    events = [event for chunk in chunks for event in parser.feed(chunk)]
    try:
        events += parser.end()
    except StreamCut:
        return events, True
    finally:
        assert parser.error == ""
    return events, False


ENDS = [b"\n", b"\n\n", b"\r", b"\r\r", b"\r\n", b"\r\n\r\n", b"\n\r"]
FIELDS = [
    b"data",
    b"event",
    b"id",
    b"retry",
    b"error",
    b":",
    b": ",
    b" ",
    b"x",
    b"{}",
    b"{",
    b"[DONE]",
]
LINES = [
    b"[DONE]",
    b"data: ",
    b"data:x\n\n",
    b"data: y\r\r",
    b"data: z\r\n\r\n",
    b":comment\n",
    b"data\n",
]
BYTES = [codecs.BOM_UTF8, b"\0", b"\xff", b"\xc3", b"\xe2\x82", b"\xf0\x9f", b"\xed\xa0\x80"]
TEXT = [char.encode() for char in "é€\U0001f600\u2028\x85"]
tokens = st.sampled_from([*ENDS, *FIELDS, *LINES, *BYTES, *TEXT])
streams = st.one_of(
    st.lists(tokens, max_size=40).map(b"".join),
    st.lists(st.one_of(tokens, st.binary(max_size=3)), max_size=40).map(b"".join),
    st.binary(max_size=60),
)


@many
@given(streams, cuts)
@example(b"\n\n\ndata: {}\n{}\ndata: {}\nevent: x\n{}", [])
def test_any_stream_split_anywhere_gives_the_standards_events(
    data: bytes, positions: list[int]
) -> None:
    """The events follow the WHATWG rules for any bytes and chunks, and no other line is lost."""
    assert parsed(split(data, positions)) == reference_events(data)


@many
@given(streams)
@example(b"{}\n{}")
@example(b"\n\n\ndata: {}\n{}\ndata: {}\nevent: x\n{}")
@example(b"event: x\ndata: {}\n{}\n\n")
def test_any_stream_byte_by_byte_gives_the_standards_events(data: bytes) -> None:
    """Also if every chunk is a single byte."""
    assert parsed([data[i : i + 1] for i in range(len(data))]) == reference_events(data)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from([b"\n", b"\r", b"\r\n"]), min_size=1, max_size=8), cuts)
def test_examples_of_the_standard_hold_for_any_line_ends(
    ends: list[bytes], positions: list[int]
) -> None:
    """The examples at the end of HTML Standard, 9.2.6."""
    examples: list[tuple[list[str], Events]] = [
        (["data: YHOO", "data: +2", "data: 10", ""], [("message", "YHOO\n+2\n10")]),
        (
            [
                ": test stream",
                "",
                "data: first event",
                "id: 1",
                "",
                "data:second event",
                "id",
                "",
                "data:  third event",
                "",
            ],
            [("message", "first event"), ("message", "second event"), ("message", " third event")],
        ),
        (  # "The last block is discarded", but not by us
            ["data", "", "data", "data", "", "data:"],
            [("message", ""), ("message", "\n"), ("message", "")],
        ),
        (["data:test", "", "data: test", ""], [("message", "test"), ("message", "test")]),
    ]
    for lines, expected in examples:
        data = b""
        for number, line in enumerate(lines):
            end = ends[number % len(ends)]
            # CR followed by LF is one line end: an empty line after CR must end with CRLF.
            data += line.encode() + (b"\r\n" if end == b"\n" and data.endswith(b"\r") else end)
        assert parsed(split(data, positions)) == (expected, False)


# --- answers: cut anywhere


def content(text: str) -> str:
    return json.dumps({"choices": [{"delta": {"content": text}}]}, ensure_ascii=False)


FINISH = json.dumps({"choices": [{"delta": {}, "finish_reason": "stop"}]})
answer_texts = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), max_size=6)


def good_answer(texts: list[str], end: str, ending: int) -> tuple[bytes, list[int]]:
    """Return a complete stream, and where the data of each event is whole.

    The first event after those of the texts is the first end marker.
    """
    markers = [[FINISH, "[DONE]"], [FINISH], ["[DONE]"]][ending]
    stream, ends = b"", []
    for each in [*map(content, texts), *markers]:
        stream += f"data: {each}".encode()
        ends.append(len(stream))
        stream += f"{end}{end}".encode()
    return stream, ends


def decoded(deltas: Iterator[Any]) -> tuple[str, bool, bool]:
    """Return the text, whether ``Finish`` came last, and whether it ended without an error."""
    text, has_marker = "", False
    try:
        for delta in deltas:
            assert not has_marker
            has_marker = isinstance(delta, Finish)
            text += delta if isinstance(delta, str) else ""
    except StreamError:
        return text, has_marker, False
    return text, has_marker, True


@many
@given(
    answer_texts, st.sampled_from(["\n", "\r", "\r\n"]), st.integers(0, 2), cuts, st.floats(0, 1)
)
@example([], "\n", 0, [], 1.0)  # complete, by its reason
@example([], "\n", 2, [], 1.0)  # says nothing
def test_any_cut_before_the_end_marker_is_never_complete(
    texts: list[str], end: str, ending: int, positions: list[int], fraction: float
) -> None:
    """The text is that of the whole events; with an end marker it is the full text.

    An answer without text is complete only by its finish reason.
    """
    data, ends = good_answer(texts, end, ending)
    cut_at = round(fraction * len(data))
    chunks = split(data[:cut_at], positions)
    text, has_marker, succeeded = decoded(decode(OpenAIDecoder("text/event-stream"), chunks))
    whole_events = sum(position <= cut_at for position in ends)
    assert text == "".join(texts[:whole_events])
    says_something = bool(texts) or ending < 2
    assert has_marker == succeeded == (whole_events > len(texts) and says_something)


@many
@given(answer_texts, cuts, st.floats(0, 1))
def test_any_cut_of_plain_text_is_a_prefix_and_never_complete(
    texts: list[str], positions: list[int], fraction: float
) -> None:
    """Plain text has no end marker, so the decoder never reports one."""
    data = "".join(texts).encode()
    prefix = data[: round(fraction * len(data))]
    text, has_marker, succeeded = decoded(
        decode(TextDecoder("text/plain"), split(prefix, positions))
    )
    assert "".join(texts).startswith(text)
    assert not has_marker
    characters = prefix.decode("utf-8", "ignore")
    assert text == characters
    assert succeeded == (bool(prefix) and characters.encode() == prefix)


@many
@given(answer_texts, cuts, st.floats(0, 1))
@example(["a"], [], 1.0)
@example([], [], 1.0)
def test_any_cut_of_a_json_answer_gives_no_text(
    texts: list[str], positions: list[int], fraction: float
) -> None:
    """A JSON object cannot be decoded before its last brace; an empty text is no answer."""
    message = {"content": "".join(texts)}
    data = json.dumps({"choices": [{"message": message}]}).encode()
    cut_at = round(fraction * len(data))
    chunks = split(data[:cut_at], positions)
    text, has_marker, succeeded = decoded(decode(OpenAIDecoder("application/json"), chunks))
    assert has_marker == succeeded == (cut_at == len(data) and bool(texts))
    assert text == ("".join(texts) if succeeded else "")


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def framed_bodies() -> dict[str, tuple[bytes, dict[str, str], int]]:
    """Return an answer in each framing, with the headers of that framing, and where it is whole.

    Events are whole with the finish reason, and, but for a clean end, with the empty line after it.
    """
    texts = ["Hel", "lo, ", "wörld", "\U0001f600"]
    events, ends = good_answer(texts, "\n", 0)
    plain = "Hello, wörld \U0001f600".encode()
    reason_end = ends[len(texts)]
    bodies = {}
    for name, data, whole in [("events", events, reason_end + 2), ("plain", plain, len(plain))]:
        chunks = [*map(chunk, split(data, range(0, len(data), 9)))]
        in_chunks = b"".join(chunks) + b"0\r\n\r\n"
        chunked_whole = whole + 3 + (whole - 1) // 9 * 5 if name == "events" else len(in_chunks)
        bodies |= {
            f"{name} chunked": (in_chunks, {"Transfer-Encoding": "chunked"}, chunked_whole),
            f"{name} with a length": (data, {"Content-Length": str(len(data))}, whole),
            f"{name} until the end": (data, {}, reason_end if name == "events" else whole),
        }
    return bodies


BODIES = framed_bodies()


@pytest.mark.parametrize("name", BODIES)
def test_any_cut_on_the_wire_is_never_complete(name: str) -> None:
    """The connection ends with a FIN after any byte: no truncated answer counts as complete."""
    data, headers, whole = BODIES[name]
    is_plain = name.startswith("plain")
    provider_class = AI365VIP if is_plain else OpenAICompatible
    has_no_end = name == "plain until the end"  # here the end of the connection is the only end

    def play(request: Request) -> Any:
        cut_at = request.number - 1
        return answer(raw(data[:cut_at]), cut(), framing="close", headers=headers, end=False)

    with serve(play) as server:
        provider = provider_class("gpt-4o", base_url=server.url, retry=1)
        full_text = "Hello, wörld" + ("" if not is_plain else " ") + "\U0001f600"
        for cut_at in range(len(data)):
            stream = provider.stream("Hi")
            with contextlib.suppress(StreamCut, StreamTruncated):
                stream.read()
            assert (stream.outcome is Outcome.COMPLETE) == (cut_at >= whole)
            assert has_no_end or stream.outcome is not Outcome.UNVERIFIED
            assert full_text.startswith(stream.text)


def test_the_reference_parser_reads_an_example() -> None:
    """A wrong reference would prove nothing."""
    stream = (
        b"\xef\xbb\xbf: c\ndata: a\r\ndata:b\r\revent: x\ndata\n\nA\ndata:b\n\ndata:b\n{A\nB:\n\n"
    )
    events = [("message", "a\nb"), ("x", ""), (BARE, "A"), ("message", "b"), ("message", "b")]
    events.append((BARE, "{A\nB:"))
    assert reference_events(stream + b"data: c\nev") == ([*events, ("message", "c")], False)
    assert reference_events(stream + b"data: c\xc3") == (events, True)
