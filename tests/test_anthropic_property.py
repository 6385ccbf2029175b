"""Property tests: Anthropic's answers, cut anywhere, are never complete and lose no text."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from decode_kit import decode
from hypothesis import example, given, settings
from hypothesis import strategies as st

from providers_sync import Anthropic, Outcome, StreamCut, StreamError, StreamTruncated
from providers_sync.decoding.anthropic import AnthropicDecoder
from providers_sync.testing import Request, answer, cut, raw, serve
from providers_sync.types import Finish

answer_texts = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), max_size=6)


def event(kind: str, end: str = "\n", named: bool = True, **rest: Any) -> str:
    data = json.dumps({"type": kind, **rest}, ensure_ascii=False)
    return (f"event: {kind}{end}" if named else "") + f"data: {data}"


def good_answer(
    texts: list[str], end: str = "\n", named: bool = True
) -> tuple[bytes, list[int], int]:
    """Return a complete answer: two blocks, the first of them empty, with pings between.

    Return also where each text's event is whole, and where that of the stop reason is.
    """
    empty_block = {"type": "text", "text": ""}
    parts = [("message_start", {"message": {"model": "m", "usage": {"input_tokens": 1}}})]
    parts += [("content_block_start", {"index": 0, "content_block": empty_block}), ("ping", {})]
    parts += [("content_block_stop", {"index": 0})]
    for each in texts:
        delta = {"type": "text_delta", "text": each}
        parts += [("content_block_delta", {"index": 1, "delta": delta}), ("ping", {})]
    parts += [("message_delta", {"delta": {"stop_reason": "end_turn"}}), ("message_stop", {})]
    stream, ends = b"", []
    for kind, rest in parts:
        stream += event(kind, end, named, **rest).encode()
        ends.append((kind, len(stream)))
        stream += f"{end}{end}".encode()
    text_ends = [position for kind, position in ends if kind == "content_block_delta"]
    return stream, text_ends, dict(ends)["message_delta"]


@settings(max_examples=250, deadline=None)
@given(
    answer_texts,
    st.sampled_from(["\n", "\r", "\r\n"]),
    st.booleans(),
    st.floats(0, 1),
    st.booleans(),
)
def test_any_cut_before_the_stop_reason_is_never_complete(
    texts: list[str], end: str, named: bool, fraction: float, bytewise: bool
) -> None:
    """The text is that of the whole events, and after the stop reason it is the full text."""
    data, text_ends, reason_end = good_answer(texts, end, named)
    cut_at = round(fraction * len(data))
    size = 1 if bytewise else max(cut_at, 1)
    chunks = [data[start : min(start + size, cut_at)] for start in range(0, cut_at, size)]
    text, has_marker, succeeded = "", False, True
    try:
        for delta in decode(AnthropicDecoder("text/event-stream"), chunks):
            assert not has_marker
            has_marker = isinstance(delta, Finish)
            text += delta if isinstance(delta, str) else ""
    except StreamError:
        succeeded = False
    assert text == "".join(texts[: sum(position <= cut_at for position in text_ends)])
    assert has_marker == succeeded == (cut_at >= reason_end)


@settings(max_examples=100, deadline=None)
@given(answer_texts, st.floats(0, 1))
@example([], 1.0)
@example(["a"], 1.0)
def test_any_cut_of_a_json_answer_gives_no_text(texts: list[str], fraction: float) -> None:
    """A JSON object cannot be decoded before its last brace; without text it is no answer."""
    body = {"type": "message", "content": [{"type": "text", "text": each} for each in texts]}
    data = json.dumps(body).encode()
    cut_at = round(fraction * len(data))
    text, has_marker = "", False
    with contextlib.suppress(StreamError):
        for delta in decode(AnthropicDecoder("application/json"), [data[:cut_at]]):
            has_marker = isinstance(delta, Finish)
            text += delta if isinstance(delta, str) else ""
    assert has_marker == (cut_at == len(data) and bool(texts))
    assert text == ("".join(texts) if cut_at == len(data) else "")


WORDS = ["Hel", "lo, wörld \U0001f600"]
BODY, _, REASON_END = good_answer(WORDS)
HEAD = b"%x\r\n" % len(BODY)
# Only a clean end lets the last event go without its empty line.
FRAMINGS = {
    "chunked": (
        HEAD + BODY + b"\r\n0\r\n\r\n",
        {"Transfer-Encoding": "chunked"},
        len(HEAD) + REASON_END + len("\n\n"),
    ),
    "until the end": (BODY, {}, REASON_END),
}


@pytest.mark.parametrize("framing", FRAMINGS)
def test_any_cut_on_the_wire_is_never_complete(framing: str) -> None:
    """The connection ends with a FIN after any byte: no truncated answer counts as complete."""
    data, headers, reason_end = FRAMINGS[framing]

    def play(request: Request) -> Any:
        cut_at = request.number - 1
        return answer(raw(data[:cut_at]), cut(), framing="close", headers=headers, end=False)

    with serve(play, protocol="anthropic") as server:
        provider = Anthropic("m", base_url=server.url, api_key="k", retry=1)
        for cut_at in range(len(data)):
            stream = provider.stream("Hi")
            with contextlib.suppress(StreamCut, StreamTruncated):
                stream.read()
            assert (stream.outcome is Outcome.COMPLETE) == (cut_at >= reason_end)
            assert "".join(WORDS).startswith(stream.text)
