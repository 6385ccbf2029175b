"""Properties of the framing and of the text: any split, any junk, any surrogates, look-alikes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers_sync.decoding import decode_anthropic, decode_openai
from providers_sync.transport.framing import _ChunkDecoder
from providers_sync.types import ReasoningDelta, Refusal, ToolCall

many = settings(max_examples=250, deadline=None)
fewer = settings(max_examples=100, deadline=None)
cuts = st.lists(st.integers(0, 10_000), max_size=30)


def pieces(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """Return ``data`` cut at these places, without empty pieces."""
    at = [0, *sorted({place % (len(data) + 1) for place in cuts}), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(at) if a < b]


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


# --- the chunked coding


@many
@given(st.lists(st.binary(min_size=1, max_size=40), max_size=8), cuts, st.floats(0, 1))
def test_any_split_of_the_chunked_coding_gives_the_payload(
    parts: list[bytes], at: list[int], where: float
) -> None:
    """Nothing is added, nothing lost, and only the last byte ends it."""
    wire = b"".join(map(chunk, parts)) + b"0\r\n\r\n"
    chunks = _ChunkDecoder()
    got = b"".join(chunks.feed(piece) for piece in pieces(wire, at))
    assert got == b"".join(parts)
    assert chunks.ended
    assert chunks.rest == b""
    chunks = _ChunkDecoder()
    got = b"".join(chunks.feed(piece) for piece in pieces(wire[: round(where * len(wire))], at))
    assert b"".join(parts).startswith(got)
    assert chunks.ended == (round(where * len(wire)) == len(wire))


@many
@given(st.lists(st.binary(min_size=1, max_size=40), max_size=8), st.binary(max_size=20), cuts)
def test_any_junk_in_the_chunked_coding_is_harmless(
    parts: list[bytes], junk: bytes, at: list[int]
) -> None:
    """It ends, breaks or waits; what came before the junk is handed out first."""
    wire = b"".join(map(chunk, parts))
    chunks = _ChunkDecoder()
    got = b"".join(chunks.feed(piece) for piece in pieces(wire + junk, at))
    assert got.startswith(b"".join(parts))


# --- surrogates


def joined(units: list[int]) -> str:
    """Return UTF-16 code units as text: pairs joined, lone halves replaced."""
    text, held = "", 0
    for unit in units:
        if held and 0xDC00 <= unit < 0xE000:
            text, held = text + chr(0x10000 + ((held - 0xD800) << 10) + unit - 0xDC00), 0
            continue
        text += "\ufffd" if held else ""
        held = unit if 0xD800 <= unit < 0xDC00 else 0
        if not held:
            text += "\ufffd" if 0xDC00 <= unit < 0xE000 else chr(unit)
    return text + ("\ufffd" if held else "")


units = st.lists(
    st.one_of(
        st.integers(0xD800, 0xDFFF),
        st.sampled_from([0xD83D, 0xDE00, 0x41, 0x0A, 0x22, 0xE9, 0x2028]),
        st.integers(1, 0xFFFF),
    ),
    max_size=20,
)


FORMS: dict[str, tuple[Any, str, type]] = {
    "OpenAI's text": (decode_openai, '{"choices": [{"delta": {"content": "?"}}]}', str),
    "OpenAI's reasoning": (
        decode_openai, '{"choices": [{"delta": {"reasoning": "?"}}]}', ReasoningDelta
    ),
    "OpenAI's refusal": (decode_openai, '{"choices": [{"delta": {"refusal": "?"}}]}', Refusal),
    "OpenAI's tool call": (
        decode_openai,
        '{"choices": [{"delta": {"tool_calls": [{"function": {"arguments": "?"}}]}}]}',
        ToolCall,
    ),
    "Anthropic's text": (decode_anthropic, '{"type": "text_delta", "text": "?"}', str),
    "Anthropic's thoughts": (
        decode_anthropic, '{"type": "thinking_delta", "thinking": "?"}', ReasoningDelta
    ),
    "Anthropic's tool call": (
        decode_anthropic, '{"type": "input_json_delta", "partial_json": "?"}', ToolCall
    ),
}  # fmt: skip
GROWN = '{"type": "content_block_delta", "index": 0, "delta": %s}'
ENDS = {
    decode_openai: b"data: [DONE]\n\n",
    decode_anthropic: b'data: {"type": "message_stop"}\n\n',
}


def text_of(delta: Any) -> str:
    if isinstance(delta, str):
        return delta
    text: str = delta.raw if isinstance(delta, ToolCall) else delta.text
    return text


@pytest.mark.parametrize("form", FORMS)
@fewer
@given(units, cuts)
def test_surrogates_split_over_deltas_are_joined_or_replaced(
    form: str, said: list[int], at: list[int]
) -> None:
    """Every chunk prints, and together they are what the server meant."""
    decode, event, kind = FORMS[form]
    if decode is decode_anthropic:
        event = GROWN % event
    places = [0, *sorted({place % (len(said) + 1) for place in at}), len(said)]
    stream = b""
    for a, b in itertools.pairwise(places):
        escaped = "".join(f"\\u{unit:04x}" for unit in said[a:b])
        stream += f"data: {event.replace('?', escaped)}\n\n".encode()
    deltas = decode(iter([stream + ENDS[decode]]), "text/event-stream")
    chunks = [text_of(delta) for delta in deltas if isinstance(delta, kind)]
    for each in chunks:
        assert each.encode() or kind is ToolCall
    assert "".join(chunks) == joined(said)


# --- the short way through events that look alike


def slowly(values: list[Any]) -> tuple[str, str]:
    """Return text and reasoning of events, each read in full."""
    text = reasoning = ""
    for value in values:
        delta = value["choices"][0]["delta"]
        text += delta.get("content") or ""
        reasoning += delta.get("reasoning_content") or ""
    return text, reasoning


small = st.one_of(
    st.sampled_from(["", "a", "content", '"content"', '"content": "x"', "\\", '\\"', "}]}", "\0"]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
)


@st.composite
def alike(draw: Callable[..., Any]) -> list[Any]:
    """Events of a few forms, in any order, with misleading words in their other fields."""
    forms = draw(
        st.lists(
            st.tuples(
                st.dictionaries(st.sampled_from(["id", "content", "x"]), small, max_size=2),
                st.dictionaries(st.sampled_from(["role", "name", "y"]), small, max_size=2),
                st.sampled_from(["content", "reasoning_content"]),
                st.booleans(),
            ),
            min_size=1,
            max_size=3,
        )
    )
    values = []
    for _ in range(draw(st.integers(0, 12))):
        outer, inner, key, last = draw(st.sampled_from(forms))
        delta = {key: draw(small), **inner} if last else {**inner, key: draw(small)}
        choice = {"delta": delta, "content": draw(st.sampled_from(["", "z"]))}
        values.append({**outer, "choices": [choice]})
    return values


@many
@given(alike(), st.booleans(), cuts)
def test_events_that_look_alike_are_read_as_if_each_were_new(
    values: list[Any], tight: bool, at: list[int]
) -> None:
    """The decoder may take a short way; the text is the same."""
    separators = (",", ":") if tight else None
    stream = "".join(f"data: {json.dumps(v, separators=separators)}\n\n" for v in values)
    deltas = list(
        decode_openai(iter(pieces(f"{stream}data: [DONE]\n\n".encode(), at)), "text/event-stream")
    )
    text = "".join(delta for delta in deltas if isinstance(delta, str))
    reasoning = "".join(delta.text for delta in deltas if isinstance(delta, ReasoningDelta))
    assert (text, reasoning) == slowly(values)


def test_the_oracle_itself_joins_pairs() -> None:
    """A wrong oracle would prove nothing."""
    assert joined([0xD83D, 0xDE00, 0xDE00, 0x61, 0xD83D]) == "\U0001f600\ufffda\ufffd"
