"""Anthropic's answers, cut anywhere: never complete, and no text lost or made up."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers_sync import Anthropic, Outcome, StreamCut, StreamError, StreamTruncated
from providers_sync.decoding import decode_anthropic
from providers_sync.testing import Request, answer, cut, raw, serve
from providers_sync.types import Finish

texts = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), max_size=6)


def event(kind: str, end: str = "\n", named: bool = True, **rest: Any) -> str:
    data = json.dumps({"type": kind, **rest}, ensure_ascii=False)
    return (f"event: {kind}{end}" if named else "") + f"data: {data}{end}{end}"


def good_answer(said: list[str], end: str = "\n", named: bool = True) -> bytes:
    """Return a whole answer: two blocks, the first of them empty, with pings between."""
    text = {"type": "text", "text": ""}
    parts = [("message_start", {"message": {"model": "m", "usage": {"input_tokens": 1}}})]
    parts += [("content_block_start", {"index": 0, "content_block": text}), ("ping", {})]
    parts += [("content_block_stop", {"index": 0})]
    for each in said:
        delta = {"type": "text_delta", "text": each}
        parts += [("content_block_delta", {"index": 1, "delta": delta}), ("ping", {})]
    parts += [("message_delta", {"delta": {"stop_reason": "end_turn"}}), ("message_stop", {})]
    return "".join(event(kind, end, named, **rest) for kind, rest in parts).encode()


@settings(max_examples=250, deadline=None)
@given(texts, st.sampled_from(["\n", "\r", "\r\n"]), st.booleans(), st.floats(0, 1), st.booleans())
def test_any_cut_before_message_stop_is_never_complete(
    said: list[str], end: str, named: bool, where: float, bytewise: bool
) -> None:
    """What came is a prefix of the whole; with the end marker it is the whole."""
    data = good_answer(said, end, named)
    place = round(where * len(data))
    size = 1 if bytewise else max(place, 1)
    chunks = [data[at : min(at + size, place)] for at in range(0, place, size)]
    text, marked, well = "", False, True
    try:
        for delta in decode_anthropic(iter(chunks), "text/event-stream"):
            marked = marked or isinstance(delta, Finish)
            text += delta if isinstance(delta, str) else ""
    except StreamError:
        well = False
    assert "".join(said).startswith(text)
    # The CR of the last CRLF already ends its line.
    assert marked == well == (place >= len(data) - (end == "\r\n"))
    if well:
        assert text == "".join(said)


@settings(max_examples=100, deadline=None)
@given(texts, st.floats(0, 1))
def test_any_cut_of_a_whole_answer_gives_no_text(said: list[str], where: float) -> None:
    """One JSON object means nothing before its last brace."""
    body = {"type": "message", "content": [{"type": "text", "text": each} for each in said]}
    data = json.dumps(body).encode()
    place = round(where * len(data))
    text = ""
    with contextlib.suppress(StreamError):
        for delta in decode_anthropic(iter([data[:place]]), "application/json"):
            text += delta if isinstance(delta, str) else ""
    assert text == ("".join(said) if place == len(data) else "")


WORDS = ["Hel", "lo, wörld \U0001f600"]
BODY = good_answer(WORDS)
FRAMINGS = {
    "chunked": (b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY), {"Transfer-Encoding": "chunked"}),
    "until the end": (BODY, {}),
}


@pytest.mark.parametrize("framing", FRAMINGS)
def test_any_cut_on_the_wire_is_never_complete(framing: str) -> None:
    """Every place where a real connection can break, with a clean FIN: nothing passes for whole."""
    data, headers = FRAMINGS[framing]
    marked_at = data.index(b"\n\n", data.index(b'"message_stop"')) + 2

    def play(request: Request) -> Any:
        place = request.number - 1
        return answer(raw(data[:place]), cut(), framing="close", headers=headers, end=False)

    with serve(play, protocol="anthropic") as server:
        provider = Anthropic("m", base_url=server.url, api_key="k", retry=1)
        for place in range(len(data)):
            stream = provider.stream("Hi")
            with contextlib.suppress(StreamCut, StreamTruncated):
                stream.read()
            assert (stream.outcome is Outcome.COMPLETE) == (place >= marked_at)
            assert "".join(WORDS).startswith(stream.text)
