"""Property tests: answers of the Responses API, Gemini and Ollama, written and cut in any way."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from decode_kit import decode, split
from hypothesis import given, settings
from hypothesis import strategies as st

from providers_sync import Outcome, StreamCut, StreamError, StreamTruncated
from providers_sync.decoding.gemini import GeminiDecoder
from providers_sync.decoding.ollama import OllamaDecoder
from providers_sync.decoding.responses import ResponsesDecoder
from providers_sync.providers import get_provider
from providers_sync.testing import Request, answer, cut, raw, serve
from providers_sync.types import Finish, ReasoningDelta, ToolCall

many = settings(max_examples=250, deadline=None)
fewer = settings(max_examples=60, deadline=None)
cuts = st.lists(st.integers(0, 10_000), max_size=30)
DECODERS: dict[str, Any] = {
    "responses": ResponsesDecoder,
    "gemini": GeminiDecoder,
    "ollama": OllamaDecoder,
}
protocols = pytest.mark.parametrize("protocol", DECODERS)

# --- what a model says

LINE_ENDS = st.sampled_from(["\n", "\r\n"])
FORMS = st.sampled_from(["all", "deltas", "items", "response"])
COUNTS = st.integers(1, 3)
Draw = Callable[..., Any]
words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
values = st.one_of(words, st.just(""), st.integers(-9, 9), st.booleans(), st.none())
arguments = st.dictionaries(st.sampled_from(["a", "city", "two words", "é"]), values, max_size=3)


@dataclass
class Piece:
    """Something that is said: a text, or a call."""

    kind: str
    text: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)


texts = st.builds(Piece, st.sampled_from(["text", "text", "reasoning"]), words)
calls = st.builds(Piece, st.just("call"), st.just(""), arguments)
answers = st.lists(st.one_of(texts, texts, calls), max_size=7)


@dataclass
class Event:
    """An event, and what is new in it."""

    value: dict[str, Any]
    text: str = ""
    reasoning: str = ""


def said(pieces: list[Piece], kind: str) -> str:
    return "".join(piece.text for piece in pieces if piece.kind == kind)


def calls_of(pieces: list[Piece]) -> list[tuple[str, str, Any]]:
    found = [piece for piece in pieces if piece.kind == "call"]
    return [(f"t{n}", f"f{n % 2}", piece.arguments) for n, piece in enumerate(found)]


# --- the Responses API


def response_event(kind: str, index: int, **fields: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}", "output_index": index, "item_id": f"i{index}", **fields}


def write_responses(draw: Draw, pieces: list[Piece]) -> list[Event]:
    """Write an answer with all events, with deltas only, with items only, or as a response only."""
    how = draw(FORMS)
    groups: list[list[Piece]] = []
    for piece in pieces:
        if groups and groups[-1][0].kind == piece.kind != "call":
            groups[-1].append(piece)
        else:
            groups.append([piece])
    events = [Event({"type": "response.created", "response": {"id": "r", "model": "m"}})]
    output, names = [], iter(calls_of(pieces))
    for index, group in enumerate(groups):
        kind = group[0].kind
        if kind == "call":
            item, deltas = write_call(index, *next(names), draw)
        else:
            item, deltas = write_text(index, group, draw)
        output.append(item)
        text, reasoning = said(group, "text"), said(group, "reasoning")
        if how == "items":
            done = {"type": "response.output_item.done", "output_index": index, "item": item}
            events.append(Event(done, text, reasoning))
        if how in ("all", "deltas"):
            if how == "all" or kind == "call":
                events.append(Event(response_event("output_item.added", index, item=begun(item))))
            events += deltas[: None if how == "all" else -1]
        if how == "all":
            events.append(Event(response_event("output_item.done", index, item=item)))
        if draw(st.booleans()):
            events.append(Event({"type": "keepalive", "sequence_number": 7}))
    response = {"id": "r", "model": "m", "status": "completed"}
    if how != "deltas" or draw(st.booleans()):
        response["output"] = output
    end = Event({"type": "response.completed", "response": response})
    if how == "response":
        end.text, end.reasoning = said(pieces, "text"), said(pieces, "reasoning")
    return [*events, end]


def begun(item: dict[str, Any]) -> dict[str, Any]:
    """Return an item as it begins."""
    empty = {"arguments": "", "content": [], "summary": []}
    return {key: empty.get(key, value) for key, value in item.items()}


def write_text(index: int, group: list[Piece], draw: Draw) -> tuple[dict[str, Any], list[Event]]:
    """Return an item of text or reasoning, its deltas, and last the event with all of it."""
    is_text, whole = group[0].kind == "text", "".join(piece.text for piece in group)
    if is_text:
        name, where = "output_text", {"content_index": 0}
        part = {"type": name, "text": whole, "annotations": []}
        item = {"type": "message", "id": f"i{index}", "role": "assistant", "content": [part]}
    else:
        summary = draw(st.booleans())
        name = "reasoning_summary_text" if summary else "reasoning_text"
        where = {"summary_index" if summary else "content_index": 0}
        part = {"type": "summary_text" if summary else "reasoning_text", "text": whole}
        item = {"type": "reasoning", "id": f"i{index}", "summary": [part] if summary else []}
        item |= {} if summary else {"content": [part]}
    deltas = []
    for piece in group:
        delta = response_event(f"{name}.delta", index, delta=piece.text, **where)
        deltas.append(Event(delta, *((piece.text, "") if is_text else ("", piece.text))))
    return item, [*deltas, Event(response_event(f"{name}.done", index, text=whole, **where))]


def write_call(
    index: int, call_id: str, name: str, given: Any, draw: Draw
) -> tuple[dict[str, Any], list[Event]]:
    """Return the item of a call, its deltas, and last the event with all of its arguments."""
    written = json.dumps(given, ensure_ascii=draw(st.booleans()))
    item = {"type": "function_call", "id": f"i{index}", "call_id": call_id, "name": name}
    kind = "function_call_arguments"
    at = draw(st.integers(0, len(written)))
    deltas = [
        Event(response_event(f"{kind}.delta", index, delta=each))
        for each in (written[:at], written[at:])
    ]
    done = Event(response_event(f"{kind}.done", index, arguments=written))
    return {**item, "arguments": written}, [*deltas, done]


# --- Gemini


def write_gemini(draw: Draw, pieces: list[Piece]) -> list[Event]:
    """Write one part or more an event; calls come whole or in parts."""
    names, events, parts = iter(calls_of(pieces)), [], list[Event]()
    for piece in pieces:
        if piece.kind == "call":
            parts += [Event(part) for part in write_gemini_call(draw, *next(names))]
        elif piece.kind == "text":
            parts.append(Event({"text": piece.text}, piece.text))
        else:
            parts.append(Event({"text": piece.text, "thought": True}, "", piece.text))
        if draw(st.booleans()):
            parts[-1].value["thoughtSignature"] = "S"
    while parts:
        count = draw(COUNTS)
        some, parts = parts[:count], parts[count:]
        content = {"role": "model", "parts": [part.value for part in some]}
        text, reasoning = "".join(p.text for p in some), "".join(p.reasoning for p in some)
        events.append(Event({"candidates": [{"content": content}]}, text, reasoning))
        if draw(st.booleans()):
            events[-1].value["usageMetadata"] = {"promptTokenCount": 3}
    last = events[-1] if events and draw(st.booleans()) else Event({"candidates": [{}]})
    if not events or last is not events[-1]:
        events.append(last)
    last.value["candidates"][0]["finishReason"] = "STOP"
    return events


def write_gemini_call(draw: Draw, call_id: str, name: str, given: Any) -> list[dict[str, Any]]:
    if draw(st.booleans()):
        return [{"functionCall": {"id": call_id, "name": name, "args": given}}]
    pieces: list[dict[str, Any]] = []
    for key, value in given.items():
        path = f"$.{key}" if draw(st.booleans()) and " " not in key else f"$['{key}']"
        if isinstance(value, str):
            at = draw(st.integers(0, len(value)))
            for each in (value[:at], value[at:]):
                pieces.append({"jsonPath": path, "stringValue": each})
        elif value is None:
            pieces.append({"jsonPath": path, "nullValue": "NULL_VALUE"})
        else:
            kind = "boolValue" if isinstance(value, bool) else "numberValue"
            pieces.append({"jsonPath": path, kind: value})
    calls: list[dict[str, Any]] = [{"id": call_id, "name": name, "willContinue": True}]
    calls += [{"partialArgs": [piece], "willContinue": True} for piece in pieces]
    return [{"functionCall": call} for call in [*calls, {}]]


# --- Ollama


def write_ollama(draw: Draw, pieces: list[Piece]) -> list[Event]:
    """Write one line a piece; now and then the next one stands in the same line."""
    names, events = iter(calls_of(pieces)), list[Event]()
    for piece in pieces:
        key = {"text": "content", "reasoning": "thinking", "call": "tool_calls"}[piece.kind]
        last = events[-1].value["message"] if events else {}
        if not events or key in last or last.get("content") or draw(st.booleans()):
            events.append(Event({"model": "m", "message": {"role": "assistant"}, "done": False}))
        message = events[-1].value["message"]
        if piece.kind == "call":
            call_id, name, given = next(names)
            call = {"id": call_id, "function": {"name": name, "arguments": given}}
            message["tool_calls"] = [call]
        else:
            message[key] = piece.text
            events[-1].text += piece.text if piece.kind == "text" else ""
            events[-1].reasoning += piece.text if piece.kind == "reasoning" else ""
    end = {"model": "m", "message": {"role": "assistant", "content": ""}, "done": True}
    return [*events, Event({**end, "done_reason": "stop", "eval_count": 3})]


WRITERS: dict[str, Callable[[Draw, list[Piece]], list[Event]]] = {
    "responses": write_responses,
    "gemini": write_gemini,
    "ollama": write_ollama,
}
REASONS = {"responses": "completed", "gemini": "STOP", "ollama": "stop"}


def body_of(protocol: str, events: list[Event], draw: Draw) -> tuple[bytes, list[int]]:
    """Return the bytes, and where each event is whole."""
    escape, end = draw(st.booleans()), draw(LINE_ENDS)
    body, ends = "", []
    for event in events:
        if protocol == "ollama":
            body += json.dumps(event.value, ensure_ascii=escape)
        else:
            named = protocol == "responses" and draw(st.booleans())
            body += f"event: {event.value['type']}{end}" if named else ""
            body += f"data: {json.dumps(event.value, ensure_ascii=escape)}"
        ends.append(len(body.encode()))
        body += end if protocol == "ollama" else 2 * end
    return body.encode(), ends


@dataclass
class Decoded:
    """What a decoder made of a body."""

    text: str = ""
    reasoning: str = ""
    calls: list[tuple[str, str, Any]] = field(default_factory=list)
    reason: str | None = None
    error: StreamError | None = None


def decoded(protocol: str, pieces: list[bytes], content_type: str = "") -> Decoded:
    """Return what a body says; ``Finish`` comes once and last."""
    result = Decoded()
    own = "application/x-ndjson" if protocol == "ollama" else "text/event-stream"
    try:
        for delta in decode(DECODERS[protocol](content_type or own), pieces):
            assert result.reason is None
            if isinstance(delta, str):
                assert delta
                result.text += delta
            elif isinstance(delta, ReasoningDelta):
                result.reasoning += delta.text
            elif isinstance(delta, ToolCall):
                assert delta.arguments == json.loads(delta.raw)
                result.calls.append((delta.id, delta.name, delta.arguments))
            elif isinstance(delta, Finish):
                result.reason = delta.reason
    except StreamError as error:
        result.error = error
    return result


# --- the properties


@protocols
@many
@given(pieces=answers, positions=cuts, bytewise=st.booleans(), data=st.data())
def test_an_answer_is_read_however_it_is_written_and_split(
    protocol: str, pieces: list[Piece], positions: list[int], bytewise: bool, data: Any
) -> None:
    """Text, reasoning and calls are those that were said, each once."""
    events = WRITERS[protocol](data.draw, pieces)
    body, _ = body_of(protocol, events, data.draw)
    result = decoded(protocol, split(body, range(len(body)) if bytewise else positions))
    assert result.error is None
    assert (result.text, result.reasoning) == (said(pieces, "text"), said(pieces, "reasoning"))
    assert result.calls == calls_of(pieces)
    assert result.reason == REASONS[protocol]


@protocols
@many
@given(pieces=answers, positions=cuts, fraction=st.floats(0, 1), data=st.data())
def test_any_cut_before_the_end_marker_is_never_complete(
    protocol: str, pieces: list[Piece], positions: list[int], fraction: float, data: Any
) -> None:
    """The text is that of the whole events; calls are handed out only with the end."""
    events = WRITERS[protocol](data.draw, pieces)
    body, ends = body_of(protocol, events, data.draw)
    cut_at = round(fraction * len(body))
    result = decoded(protocol, split(body[:cut_at], positions))
    whole = events[: sum(end <= cut_at for end in ends)]
    assert result.text == "".join(event.text for event in whole)
    assert result.reasoning == "".join(event.reasoning for event in whole)
    if len(whole) == len(events):
        assert (result.error, result.reason) == (None, REASONS[protocol])
        assert result.calls == calls_of(pieces)
    else:
        assert isinstance(result.error, (StreamTruncated, StreamCut))
        assert (result.reason, result.calls) == (None, [])


@many
@given(pieces=answers, positions=cuts, fraction=st.floats(0, 1), data=st.data())
def test_a_list_of_geminis_events_is_read_like_a_stream(
    pieces: list[Piece], positions: list[int], fraction: float, data: Any
) -> None:
    """What ``streamGenerateContent`` sends without ``alt=sse``; cut, it has the whole events."""
    events = write_gemini(data.draw, pieces)
    written = [json.dumps(event.value).encode() for event in events]
    separator = b",\r\n" if data.draw(st.booleans()) else b","
    body = b"[" + separator.join(written) + b"\n]"
    cut_at = round(fraction * len(body))
    ends = list(itertools.accumulate((len(each) + len(separator) for each in written), initial=1))
    whole = events[: sum(end - len(separator) <= cut_at for end in ends[1:])]
    result = decoded("gemini", split(body[:cut_at], positions), "application/json")
    assert result.text == "".join(event.text for event in whole)
    assert (result.error is None) == (len(whole) == len(events))
    assert result.error is not None or result.calls == calls_of(pieces)


def whole_answer(protocol: str, texts: list[str]) -> bytes:
    """Return an answer in one JSON document."""
    if protocol == "responses":
        parts = [{"type": "output_text", "text": each} for each in texts]
        output = [{"type": "message", "content": parts}]
        return json.dumps({"object": "response", "status": "completed", "output": output}).encode()
    if protocol == "gemini":
        content = {"parts": [{"text": each} for each in texts]}
        return json.dumps({"candidates": [{"content": content, "finishReason": "STOP"}]}).encode()
    message = {"role": "assistant", "content": "".join(texts)}
    return json.dumps({"message": message, "done": True, "done_reason": "stop"}, indent=1).encode()


@protocols
@fewer
@given(st.lists(words, max_size=3), st.floats(0, 1), cuts)
def test_any_cut_of_a_json_answer_gives_no_text(
    protocol: str, texts: list[str], fraction: float, positions: list[int]
) -> None:
    """A JSON object cannot be decoded before its last brace."""
    body = whole_answer(protocol, texts)
    cut_at = round(fraction * len(body))
    result = decoded(protocol, split(body[:cut_at], positions), "application/json")
    assert (result.error is None) == (cut_at == len(body))
    assert result.text == ("".join(texts) if cut_at == len(body) else "")


@protocols
@pytest.mark.parametrize("framing", ["chunked", "until the end"])
def test_any_cut_on_the_wire_is_never_complete(protocol: str, framing: str) -> None:
    """The connection ends with a FIN after any byte: no truncated answer counts as complete."""
    pieces = [Piece("reasoning", "Hm."), Piece("text", "Hel"), Piece("text", "lo, \U0001f600")]

    def draw(strategy: Any) -> Any:
        """Draw always the same."""
        return (
            "\n" if strategy is LINE_ENDS else "deltas" if strategy is FORMS else strategy is COUNTS
        )

    body, ends = body_of(protocol, WRITERS[protocol](draw, pieces), draw)
    data, headers, whole = body, {}, ends[-1]
    if framing == "chunked":
        head = b"%x\r\n" % len(body)
        data, headers = head + body + b"\r\n0\r\n\r\n", {"Transfer-Encoding": "chunked"}
        whole += len(head) + (1 if protocol == "ollama" else 2)

    def play(request: Request) -> Any:
        part = data[: request.number - 1]
        return answer(raw(part), cut(), framing="close", headers=headers, end=False)

    with serve(play, protocol=protocol) as server:
        provider = get_provider(protocol, "m", base_url=server.url, api_key="k", retry=1)
        for cut_at in range(len(data)):
            stream = provider.stream("Hi")
            with contextlib.suppress(StreamCut, StreamTruncated):
                stream.read()
            assert (stream.outcome is Outcome.COMPLETE) == (cut_at >= whole), cut_at
            assert "Hello, \U0001f600".startswith(stream.text)
