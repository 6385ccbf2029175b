"""Properties of decoding, for any bytes, split and cut anywhere, against oracles of our own."""

from __future__ import annotations

import codecs
import contextlib
import itertools
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers_sync import (
    AI365VIP,
    OpenAICompatible,
    Outcome,
    StreamCut,
    StreamError,
    StreamTruncated,
)
from providers_sync.decoding import decode_openai, decode_text
from providers_sync.decoding.sse import events
from providers_sync.testing import Request, answer, cut, raw, serve
from providers_sync.types import Finish

many = settings(max_examples=250, deadline=None)


def pieces(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """Return ``data`` cut at these places, without empty pieces."""
    at = [0, *sorted({place % (len(data) + 1) for place in cuts}), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(at) if a < b]


cuts = st.lists(st.integers(0, 10_000), max_size=30)


# --- events: the WHATWG rules, read anew


def oracle(stream: bytes) -> list[tuple[str, str]]:
    """Return the (type, data) of each event: HTML Standard, 9.2.6, "Interpreting an event stream".

    "Streams must be decoded using the UTF-8 decode algorithm", which drops one leading BOM. "Lines
    must be separated by either CRLF, LF or CR."
    """
    text = stream.decode("utf-8", "replace").removeprefix("\ufeff")
    *lines, _ = re.split("\r\n|\n|\r", text)  # "any pending data must be discarded"
    found = []
    kind = data = ""
    for line in lines:
        if line == "":
            if data:
                found.append((kind or "message", data.removesuffix("\n")))
            kind = data = ""
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            kind = value
        elif field == "data":
            data += value + "\n"
        # id and retry are for reconnecting; "" is a comment; "otherwise: the field is ignored"
    return found


def heard(chunks: list[bytes]) -> list[tuple[str, str]]:
    """Return what our decoder makes of it; half a character at the end is its own complaint."""
    found = []
    try:
        for event in events(chunks):
            found.append((event.event, event.data))
    except StreamCut:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        decoder.decode(b"".join(chunks))
        assert decoder.getstate()[0]
    return found


ENDS = [b"\n", b"\n\n", b"\r", b"\r\r", b"\r\n", b"\r\n\r\n", b"\n\r"]
FIELDS = [b"data", b"event", b"id", b"retry", b"error", b":", b": ", b" ", b"x", b"{}", b"[DONE]"]
LINES = [b"data: ", b"data:x\n\n", b"data: y\r\r", b"data: z\r\n\r\n", b":comment\n", b"data\n"]
BYTES = [codecs.BOM_UTF8, b"\0", b"\xff", b"\xc3", b"\xe2\x82", b"\xf0\x9f", b"\xed\xa0\x80"]
TEXT = [char.encode() for char in "é€\U0001f600\u2028\x85"]
words = st.sampled_from([*ENDS, *FIELDS, *LINES, *BYTES, *TEXT])
streams = st.one_of(
    st.lists(words, max_size=40).map(b"".join),
    st.lists(st.one_of(words, st.binary(max_size=3)), max_size=40).map(b"".join),
    st.binary(max_size=60),
)


@many
@given(streams, cuts)
def test_any_stream_split_anywhere_gives_the_standards_events(data: bytes, at: list[int]) -> None:
    """The events are those of the WHATWG rules, whatever the bytes and the pieces."""
    assert heard(pieces(data, at)) == oracle(data)


@many
@given(streams)
def test_any_stream_byte_by_byte_gives_the_standards_events(data: bytes) -> None:
    """The hardest way to split."""
    assert heard([data[i : i + 1] for i in range(len(data))]) == oracle(data)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from([b"\n", b"\r", b"\r\n"]), min_size=1, max_size=8), cuts)
def test_examples_of_the_standard_hold_for_any_line_ends(ends: list[bytes], at: list[int]) -> None:
    """HTML Standard, 9.2.6: the examples at its end."""
    examples = [
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
        (["data", "", "data", "data", "", "data:"], [("message", ""), ("message", "\n")]),
        (["data:test", "", "data: test", ""], [("message", "test"), ("message", "test")]),
    ]
    for lines, expected in examples:
        data = b""
        for number, line in enumerate(lines):
            end = ends[number % len(ends)]
            # CR and then LF are one line end: an empty line between them needs another one.
            data += line.encode() + (b"\r\n" if end == b"\n" and data.endswith(b"\r") else end)
        assert heard(pieces(data, at)) == expected


# --- answers: cut anywhere


def content(text: str) -> str:
    return json.dumps({"choices": [{"delta": {"content": text}}]}, ensure_ascii=False)


FINISH = json.dumps({"choices": [{"delta": {}, "finish_reason": "stop"}]})
texts = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), max_size=6)


def good_answer(said: list[str], end: str, ending: int) -> tuple[bytes, int]:
    """Return a whole stream and where its first end marker is complete."""
    parts = [*map(content, said)]
    marks = [[FINISH, "[DONE]"], [FINISH], ["[DONE]"]][ending]
    before = "".join(f"data: {part}{end}{end}" for part in parts).encode()
    return (
        before + "".join(f"data: {mark}{end}{end}" for mark in marks).encode(),
        len(before) + len(f"data: {marks[0]}{end}{end}") - (end == "\r\n"),
    )


def decoded(deltas: Iterator[Any]) -> tuple[str, bool, bool]:
    """Return the text, whether the end marker came, and whether it ended without an error."""
    text, marked = "", False
    try:
        for delta in deltas:
            marked = marked or isinstance(delta, Finish)
            text += delta if isinstance(delta, str) else ""
    except StreamError:
        return text, marked, False
    return text, marked, True


@many
@given(texts, st.sampled_from(["\n", "\r", "\r\n"]), st.integers(0, 2), cuts, st.floats(0, 1))
def test_any_cut_before_the_end_marker_is_never_complete(
    said: list[str], end: str, ending: int, at: list[int], where: float
) -> None:
    """What came is a prefix of the whole; with the marker it is the whole."""
    data, marked_at = good_answer(said, end, ending)
    place = round(where * len(data))
    text, marked, well = decoded(decode_openai(iter(pieces(data[:place], at)), "text/event-stream"))
    assert "".join(said).startswith(text)
    assert marked == well == (place >= marked_at)
    if marked:
        assert text == "".join(said)


@many
@given(texts, cuts, st.floats(0, 1))
def test_any_cut_of_plain_text_is_a_prefix_and_never_complete(
    said: list[str], at: list[int], where: float
) -> None:
    """There is no marker, so it never says that one came."""
    data = "".join(said).encode()
    prefix = data[: round(where * len(data))]
    text, marked, well = decoded(decode_text(iter(pieces(prefix, at)), "text/plain"))
    assert "".join(said).startswith(text)
    assert not marked
    whole = prefix.decode("utf-8", "ignore")
    assert text == whole
    assert well == (bool(prefix) and whole.encode() == prefix)


@many
@given(texts, cuts, st.floats(0, 1))
def test_any_cut_of_whole_json_gives_no_text(said: list[str], at: list[int], where: float) -> None:
    """One JSON object means nothing before its last brace."""
    message = {"content": "".join(said)}
    data = json.dumps({"choices": [{"message": message}]}).encode()
    place = round(where * len(data))
    text, marked, well = decoded(decode_openai(iter(pieces(data[:place], at)), "application/json"))
    assert marked == well == (place == len(data))
    assert text == ("".join(said) if well else "")


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def wires() -> dict[str, tuple[bytes, dict[str, str]]]:
    """Return an answer in each framing, as it goes over the wire."""
    said, _ = good_answer(["Hel", "lo, ", "wörld", "\U0001f600"], "\n", 0)
    plain = "Hello, wörld \U0001f600".encode()
    found = {}
    for name, data in {"events": said, "plain": plain}.items():
        cut_up = b"".join(chunk(piece) for piece in pieces(data, range(0, len(data), 9)))
        found[f"{name} chunked"] = (cut_up + b"0\r\n\r\n", {"Transfer-Encoding": "chunked"})
        found[f"{name} with a length"] = (data, {"Content-Length": str(len(data))})
        found[f"{name} until the end"] = (data, {})
    return found


WIRES = wires()


@pytest.mark.parametrize("name", WIRES)
def test_any_cut_on_the_wire_is_never_complete(name: str) -> None:
    """Every place where a real connection can break, with a clean FIN: nothing passes for whole."""
    data, headers = WIRES[name]
    is_plain = name.startswith("plain")
    kind = AI365VIP if is_plain else OpenAICompatible
    unproven = name == "plain until the end"  # here the end of the connection is a good one
    marked_at = len(data) if is_plain else data.index(b"\n\n", data.index(b'"stop"')) + 2

    def play(request: Request) -> Any:
        place = request.number - 1
        return answer(raw(data[:place]), cut(), framing="close", headers=headers, end=False)

    with serve(play) as server:
        provider = kind("gpt-4o", base_url=server.url, retry=1)
        whole = "Hello, wörld" + ("" if not is_plain else " ") + "\U0001f600"
        for place in range(len(data)):
            stream = provider.stream("Hi")
            with contextlib.suppress(StreamCut, StreamTruncated):
                stream.read()
            if place < marked_at:
                assert stream.outcome is not Outcome.COMPLETE
                assert unproven or stream.outcome is not Outcome.UNVERIFIED
            assert whole.startswith(stream.text)


def test_the_oracle_itself_reads_the_standards_first_example() -> None:
    """A wrong oracle would prove nothing."""
    assert oracle(b"\xef\xbb\xbf: c\ndata: a\r\ndata:b\r\revent: x\ndata\n\ndata: lost") == [
        ("message", "a\nb"),
        ("x", ""),
    ]
