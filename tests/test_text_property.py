"""Property tests of surrogate pairs and of similar events."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest
from decode_kit import decode, split
from hypothesis import example, given, settings
from hypothesis import strategies as st

from providers_sync import MalformedStream, StreamTruncated
from providers_sync.decoding import OpenAIDecoder
from providers_sync.decoding.anthropic import AnthropicDecoder
from providers_sync.decoding.gemini import GeminiDecoder
from providers_sync.decoding.ollama import OllamaDecoder
from providers_sync.decoding.responses import ResponsesDecoder
from providers_sync.types import ReasoningDelta, Refusal, ToolCall

many = settings(max_examples=250, deadline=None)
fewer = settings(max_examples=100, deadline=None)
cuts = st.lists(st.integers(0, 10_000), max_size=30)


# --- surrogates


def reference_text(units: list[int]) -> str:
    """Return UTF-16 code units as text, with pairs joined and lone halves replaced."""
    text, high = "", 0
    for unit in units:
        if high and 0xDC00 <= unit < 0xE000:
            text, high = text + chr(0x10000 + ((high - 0xD800) << 10) + unit - 0xDC00), 0
            continue
        text += "\ufffd" if high else ""
        high = unit if 0xD800 <= unit < 0xDC00 else 0
        if not high:
            text += "\ufffd" if 0xDC00 <= unit < 0xE000 else chr(unit)
    return text + ("\ufffd" if high else "")


units = st.lists(
    st.one_of(
        st.integers(0xD800, 0xDFFF),
        st.sampled_from([0xD83D, 0xDE00, 0x41, 0x0A, 0x22, 0xE9, 0x2028]),
        st.integers(1, 0xFFFF),
    ),
    max_size=20,
)


FORMS: dict[str, tuple[Any, str, type]] = {
    "OpenAI's text": (OpenAIDecoder, '{"choices": [{"delta": {"content": "?"}}]}', str),
    "OpenAI's reasoning": (
        OpenAIDecoder, '{"choices": [{"delta": {"reasoning": "?"}}]}', ReasoningDelta
    ),
    "OpenAI's refusal": (OpenAIDecoder, '{"choices": [{"delta": {"refusal": "?"}}]}', Refusal),
    "OpenAI's tool call": (
        OpenAIDecoder,
        '{"choices": [{"delta": {"tool_calls": [{"function": {"arguments": "?"}}]}}]}',
        ToolCall,
    ),
    "Anthropic's text": (AnthropicDecoder, '{"type": "text_delta", "text": "?"}', str),
    "Anthropic's reasoning": (
        AnthropicDecoder, '{"type": "thinking_delta", "thinking": "?"}', ReasoningDelta
    ),
    "Anthropic's tool call": (
        AnthropicDecoder, '{"type": "input_json_delta", "partial_json": "?"}', ToolCall
    ),
    "Responses' text": (
        ResponsesDecoder, '{"type": "response.output_text.delta", "delta": "?"}', str
    ),
    "Responses' reasoning": (
        ResponsesDecoder,
        '{"type": "response.reasoning_summary_text.delta", "delta": "?"}',
        ReasoningDelta,
    ),
    "Responses' refusal": (
        ResponsesDecoder, '{"type": "response.refusal.delta", "delta": "?"}', Refusal
    ),
    "Responses' tool call": (
        ResponsesDecoder,
        '{"type": "response.function_call_arguments.delta", "output_index": 0, "delta": "?"}',
        ToolCall,
    ),
    "Gemini's text": (
        GeminiDecoder, '{"candidates": [{"content": {"parts": [{"text": "?"}]}}]}', str
    ),
    "Gemini's reasoning": (
        GeminiDecoder,
        '{"candidates": [{"content": {"parts": [{"text": "?", "thought": true}]}}]}',
        ReasoningDelta,
    ),
    "Ollama's text": (OllamaDecoder, '{"message": {"content": "?"}}', str),
    "Ollama's reasoning": (OllamaDecoder, '{"message": {"thinking": "?"}}', ReasoningDelta),
}  # fmt: skip
BEGINNINGS = {
    "OpenAI's tool call": '{"choices": [{"delta": {"tool_calls": [{"function": {"name": "f"}}]}}]}',
    "Anthropic's tool call": (
        '{"type": "content_block_start", "index": 0,'
        ' "content_block": {"type": "tool_use", "id": "c", "name": "f", "input": {}}}'
    ),
    "Responses' tool call": (
        '{"type": "response.output_item.added", "output_index": 0,'
        ' "item": {"type": "function_call", "call_id": "c", "name": "f", "arguments": ""}}'
    ),
}
CONTENT_BLOCK_DELTA = '{"type": "content_block_delta", "index": 0, "delta": %s}'
ENDS = {
    OpenAIDecoder: b"data: [DONE]\n\n",
    AnthropicDecoder: b'data: {"type": "message_stop"}\n\n',
    ResponsesDecoder: b'data: {"type": "response.completed", "response": {}}\n\n',
    GeminiDecoder: b'data: {"candidates": [{"finishReason": "STOP"}]}\n\n',
    OllamaDecoder: b'data: {"done": true, "done_reason": "stop"}\n\n',
}
WITH_A_REASON = (ResponsesDecoder, GeminiDecoder, OllamaDecoder)
"""Their end markers say how the answer ended, so that one without text is an answer, too."""


def text_of(delta: Any) -> str:
    if isinstance(delta, str):
        return delta
    text: str = delta.raw if isinstance(delta, ToolCall) else delta.text
    return text


@pytest.mark.parametrize("form", FORMS)
@fewer
@given(units, cuts)
@example([], [])
@example([0xD83D], [])
def test_surrogates_split_over_deltas_are_joined_or_replaced(
    form: str, code_units: list[int], positions: list[int]
) -> None:
    """Every chunk can be encoded, and together they are the text that the server sent.

    Without any text the answer says nothing, unless it calls a tool.
    """
    decoder, event, kind = FORMS[form]
    if decoder is AnthropicDecoder:
        event = CONTENT_BLOCK_DELTA % event
    length = len(code_units)
    bounds = [0, *sorted({position % (length + 1) for position in positions}), length]
    stream = f"data: {BEGINNINGS[form]}\n\n".encode() if form in BEGINNINGS else b""
    for a, b in itertools.pairwise(bounds):
        escaped = "".join(f"\\u{unit:04x}" for unit in code_units[a:b])
        stream += f"data: {event.replace('?', escaped)}\n\n".encode()
    deltas = decode(decoder("text/event-stream"), [stream + ENDS[decoder]])
    if not code_units and kind is not ToolCall and decoder not in WITH_A_REASON:
        with pytest.raises(StreamTruncated, match="answer is empty"):
            list(deltas)
        return
    chunks = [text_of(delta) for delta in deltas if isinstance(delta, kind)]
    assert chunks or not code_units
    for each in chunks:
        assert each.encode() or kind is ToolCall
    assert "".join(chunks) == reference_text(code_units)


@pytest.mark.parametrize("form", BEGINNINGS)
@fewer
@given(units.filter(bool))
def test_a_call_without_a_name_raises_and_is_never_handed_out(
    form: str, code_units: list[int]
) -> None:
    """Whatever its arguments are, the error has them."""
    decoder, event, kind = FORMS[form]
    if decoder is AnthropicDecoder:
        event = CONTENT_BLOCK_DELTA % event
    escaped = "".join(f"\\u{unit:04x}" for unit in code_units)
    stream = f"data: {event.replace('?', escaped)}\n\n".encode() + ENDS[decoder]
    deltas = []
    with pytest.raises(MalformedStream, match="without naming it") as caught:
        deltas += decode(decoder("text/event-stream"), [stream])
    assert reference_text(code_units).strip() in str(caught.value)
    assert not any(isinstance(delta, kind) for delta in deltas)


# --- events that differ only in their text


def reference_decode(values: list[Any]) -> tuple[str, str]:
    """Return text and reasoning of events."""
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
def similar_events(draw: Callable[..., Any]) -> list[Any]:
    """Return events of a few forms, in any order, with misleading text in their other fields."""
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
@given(similar_events(), st.booleans(), cuts)
def test_similar_events_are_decoded_as_if_each_were_the_first(
    values: list[Any], compact: bool, positions: list[int]
) -> None:
    """No event changes how the next ones are read; without text the answer says nothing."""
    separators = (",", ":") if compact else None
    stream = "".join(f"data: {json.dumps(v, separators=separators)}\n\n" for v in values)
    pieces = split(f"{stream}data: [DONE]\n\n".encode(), positions)
    expected = reference_decode(values)
    deltas = []
    with contextlib.nullcontext() if any(expected) else pytest.raises(StreamTruncated):
        deltas += decode(OpenAIDecoder("text/event-stream"), pieces)
    text = "".join(delta for delta in deltas if isinstance(delta, str))
    reasoning = "".join(delta.text for delta in deltas if isinstance(delta, ReasoningDelta))
    assert (text, reasoning) == expected


def test_the_reference_joins_pairs() -> None:
    """A wrong reference would prove nothing."""
    assert reference_text([0xD83D, 0xDE00, 0xDE00, 0x61, 0xD83D]) == "\U0001f600\ufffda\ufffd"
