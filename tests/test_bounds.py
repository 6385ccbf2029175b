"""Tests for limits: the time and memory a server can make us use, and unprintable text."""

from __future__ import annotations

import json
import time
import tracemalloc
from collections.abc import Iterator
from typing import Any, Union

import pytest
from decode_kit import decode

from providers_sync import (
    AI365VIP,
    Anthropic,
    APIStatusError,
    Failover,
    MalformedStream,
    OpenAICompatible,
    Provider,
    ServerError,
    StreamTruncated,
    Timeouts,
    ToolCall,
    Usage,
)
from providers_sync.config import EVENT_BYTES, TOOL_CALLS
from providers_sync.decoding import OpenAIDecoder
from providers_sync.decoding.anthropic import AnthropicDecoder
from providers_sync.server_json import JSON_LEVELS, JSON_VALUES, check_json
from providers_sync.stream import Channel
from providers_sync.testing import ScriptedProvider, answer, done, event, repeat, serve, text
from providers_sync.types import ServedModel

HALF = "\ud83d"
EVENTS = "text/event-stream"
DECODERS = [OpenAIDecoder, AnthropicDecoder]
Decoder = Union[OpenAIDecoder, AnthropicDecoder]


def openai(delta: dict[str, Any], **more: Any) -> bytes:
    chunk = {"choices": [{"index": 0, "delta": delta}], **more}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def anthropic(*values: dict[str, Any]) -> list[bytes]:
    return [b"data: " + json.dumps(value).encode() + b"\n\n" for value in values]


COUNT = b'data: {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 1}}\n\n'
EMPTY = openai({"content": ""})
WORD = openai({"content": "x"})
STOP = {"type": "message_stop"}
FRAGMENT = openai({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "1"}}]})


def cpu_of(block: bytes, times: int) -> float:
    """Return the CPU seconds of an answer that begins with ``times`` copies of a block."""
    script = answer(repeat(block * 100, times=times // 100), text("Hello"))
    with serve(script) as server:
        provider = OpenAICompatible("m", base_url=server.url, timeouts=60)
        started = time.process_time()
        stream = provider.stream("Hi")
        assert stream.read().endswith("Hello")
    return time.process_time() - started


@pytest.mark.parametrize(
    "block", [COUNT, EMPTY, WORD, FRAGMENT], ids=["usage", "empty", "word", "call"]
)
def test_ten_times_the_events_take_ten_times_the_work(block: bytes) -> None:
    """For usage, empty text, text and tool calls."""
    small = min(cpu_of(block, 3000) for _ in range(3))
    large = min(cpu_of(block, 30_000) for _ in range(2))
    assert large < 20 * small


def test_usage_before_the_first_text_is_kept_once() -> None:
    """A server that keeps sending usage takes no memory; the newest one is kept."""
    first = event({"choices": [], "usage": {"prompt_tokens": 1}})
    script = [repeat(first, times=5000), COUNT, text("Hello")]
    provider = ScriptedProvider(script)
    events = list(provider.stream("Hi").events())
    assert [each for each in events if isinstance(each, Usage)] == [Usage(7, 1, 8)]


def repeated(block: bytes, times: int) -> Iterator[bytes]:
    for _ in range(times):
        yield block


@pytest.mark.parametrize("content_type", ["application/json", "text/event-stream", "", "text/x"])
@pytest.mark.parametrize("decoder", DECODERS)
def test_endless_white_space_is_refused(decoder: type[Decoder], content_type: str) -> None:
    """Above the limit, without a copy for every chunk, and in linear time."""
    started = time.process_time()
    pieces = repeated(b" " * 65536, 2 * EVENT_BYTES // 65536)
    with pytest.raises(MalformedStream, match="MiB"):
        list(decode(decoder(content_type), pieces))
    assert time.process_time() - started < 5


def test_white_space_of_plain_text_is_text() -> None:
    """Also without a content type, and if it is longer than what the format is detected from."""
    spaces = " " * 200_000
    with serve(answer(spaces + "x", content_type=None)) as server:
        assert AI365VIP(base_url=server.url).complete("Hi").text == spaces + "x"


def test_event_with_a_large_image_is_read() -> None:
    """One event with an image of 10 MB, in base64."""
    data = "A" * (14 * 1024 * 1024)
    assert ScriptedProvider([text(data)]).complete("Hi").text == data


CALLS: dict[type[Provider], list[Any]] = {
    OpenAICompatible: [
        event({"choices": [{"delta": {"tool_calls": [
            {"index": start * 100 + i, "id": "x", "function": {"name": "f", "arguments": "{}"}}
            for i in range(100)
        ]}}]})
        for start in range(TOOL_CALLS // 100 + 1)
    ],
    Anthropic: [
        each
        for i in range(TOOL_CALLS + 1)
        for each in (
            event({"type": "content_block_start", "index": i,
                   "content_block": {"type": "tool_use", "id": "x", "name": "f"}}),
            event({"type": "content_block_stop", "index": i}),
        )
    ],
}  # fmt: skip


@pytest.mark.parametrize("kind", CALLS, ids=lambda kind: kind.__name__)
def test_too_many_tool_calls_are_refused(kind: type[Provider]) -> None:
    """The error names the limit and keeps the text before it."""
    provider = ScriptedProvider([text("Hello"), *CALLS[kind]], like=kind("m", api_key="k"))
    with pytest.raises(
        MalformedStream, match=f"more than {TOOL_CALLS} (tool calls|content blocks)"
    ) as caught:
        provider.stream("Hi").read()
    assert caught.value.partial == "Hello"


@pytest.mark.parametrize(
    "number", [2**63, 10**4000, -1, True, "7", 1.5], ids=lambda n: f"{n!r:.20}"
)
def test_count_beyond_63_bits_is_none(number: Any) -> None:
    """Code that prints, adds or stores it may fail; valid counts are kept."""
    usage = {"prompt_tokens": number, "completion_tokens": 2, "total_tokens": 2**63 - 1}
    chat = ScriptedProvider([text("Hello"), event({"choices": [], "usage": usage})])
    assert chat.complete("Hi").usage == Usage(None, 2, 2**63 - 1)
    counts = {"input_tokens": number, "output_tokens": 2}
    script = anthropic({"type": "message_start", "message": {"usage": counts}}, STOP)
    messages = ScriptedProvider(answer(*script, end=False), like=Anthropic("m", api_key="k"))
    assert messages.complete("Hi").usage == Usage(None, 2)


def test_names_are_printable() -> None:
    """A lone surrogate in a model, a finish reason or a tool call becomes U+FFFD."""
    call = {"id": "1" + HALF, "function": {"name": "f" + HALF, "arguments": "{}"}}
    chat = ScriptedProvider([
        event({"model": "m" + HALF, "choices": [{"delta": {"tool_calls": [call]}}]}),
        text("x"),
        event({"choices": [{"delta": {}, "finish_reason": "stop" + HALF}]}),
        done(),
    ])  # fmt: skip
    block = {"type": "tool_use", "id": "1" + HALF, "name": "f" + HALF, "input": {}}
    script = anthropic(
        {"type": "message_start", "message": {"model": "m" + HALF}},
        {"type": "content_block_start", "index": 1, "content_block": block},
        {"type": "message_delta", "delta": {"stop_reason": "stop" + HALF}},
        STOP,
    )
    messages = ScriptedProvider(answer(*script, end=False), like=Anthropic("m", api_key="k"))
    for provider in (chat, messages):
        stream = provider.stream("Hi")
        stream.read()
        [called] = stream.tool_calls
        names = [stream.model, stream.finish_reason, called.id, called.name]
        assert names == ["m\ufffd", "stop\ufffd", "1\ufffd", "f\ufffd"]


@pytest.mark.parametrize("kind", [OpenAICompatible, Anthropic], ids=lambda kind: kind.__name__)
def test_arguments_of_a_call_are_printable(kind: type[Provider]) -> None:
    """Also if the surrogates are escaped in JSON; a complete pair becomes its character."""
    arguments = {"a" + HALF: ["\U0001f600", HALF], "b": "\\ud83d"}
    block = {"type": "tool_use", "id": "1", "name": "f", "input": arguments}
    function = {"name": "f", "arguments": json.dumps(arguments)}
    script = {
        OpenAICompatible: [openai({"tool_calls": [{"id": "1", "function": function}]})],
        Anthropic: anthropic(
            {"type": "content_block_start", "index": 0, "content_block": block}, STOP
        ),
    }[kind]
    script = [*script, b"data: [DONE]\n\n"] if kind is OpenAICompatible else script
    provider = ScriptedProvider(answer(*script, end=False), like=kind("m", api_key="k"))
    [call] = provider.complete("Hi").tool_calls
    assert call.arguments == {"a\ufffd": ["\U0001f600", "\ufffd"], "b": "\\ud83d"}


def test_error_texts_are_printable() -> None:
    """The errors of a status and those inside an answer."""
    value = {"error": {"message": "no" + HALF, "type": "t" + HALF, "code": "c" + HALF}}
    with pytest.raises(ServerError) as inside:
        ScriptedProvider([event(value)], retry=1).complete("Hi")
    body = json.dumps(value).encode()
    refused = answer(body, status=400, content_type="application/json", end=False)
    with pytest.raises(APIStatusError) as status:
        ScriptedProvider([refused]).complete("Hi")
    for error in (inside.value, status.value):
        assert "no" in str(error)
        (str(error) + repr(vars(error))).encode()


DENSE = b"[" + b"[]," * (JSON_VALUES // 2 + 1) + b"0]"


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize(
    "value",
    [b'{"choices": %s}', b'{"error": %s}', b'{"choices": [], "type": "x", "x": %s}', b"%s"],
    ids=["choices", "error", "unknown", "list"],
)
def test_json_of_too_many_values_is_refused(decoder: type[Decoder], value: bytes) -> None:
    """A value of two or three characters takes a hundred bytes of memory."""
    for body, kind in ((value, "application/json"), (b"data: " + value + b"\n\n", "")):
        with pytest.raises(MalformedStream, match=f"more than {JSON_VALUES} values"):
            list(decode(decoder(kind or EVENTS), [body % DENSE]))


def test_error_event_of_too_many_values_is_still_a_server_error() -> None:
    """Its text becomes the message."""
    with pytest.raises(ServerError, match="reports an error"):
        list(decode(OpenAIDecoder(EVENTS), [b"event: error\ndata: " + DENSE + b"\n\n"]))


def test_call_with_arguments_of_too_many_values_has_none() -> None:
    """``raw`` keeps their text."""
    half = "[]," * (JSON_VALUES // 4 + 1)
    function = [{"name": "f", "arguments": "["}, {"arguments": half}, {"arguments": half + "0]"}]
    many = b"".join(openai({"tool_calls": [{"index": 0, "function": each}]}) for each in function)
    *_, call, _ = decode(OpenAIDecoder(EVENTS), [many + b"data: [DONE]\n\n"])
    assert isinstance(call, ToolCall)
    assert call.arguments is None
    assert call.raw == f"[{half}{half}0]"


DEEP = b"[" * (3 * JSON_LEVELS)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("value", [b'{"choices": %s', b'{"error": %s', b"%s"])
def test_json_of_too_many_levels_is_refused_before_it_is_parsed(
    decoder: type[Decoder], value: bytes
) -> None:
    """The garbage collector may run while it is parsed, and finalizers need some stack."""
    with pytest.raises(MalformedStream, match=f"more than {JSON_LEVELS} levels"):
        list(decode(decoder(EVENTS), [b"data: " + value % DEEP + b"\n\n"]))


def test_brackets_in_a_string_are_no_levels() -> None:
    r"""Nor after ``\"`` or ``\\`` in it."""
    brackets = '["\\' + DEEP.decode()
    function = {"name": "f", "arguments": json.dumps({"a": brackets})}
    wire = openai({"tool_calls": [{"function": function}]}) + b"data: [DONE]\n\n"
    *_, call, _ = decode(OpenAIDecoder(EVENTS), [wire])
    assert isinstance(call, ToolCall)
    assert call.arguments == {"a": brackets}


@pytest.mark.parametrize(
    "text", ['"' * 20_000_000, '"' + '\\"' * 2_000_000, '"a"' * 5_000_000, "[]" * 900_000]
)
def test_levels_of_large_texts_are_counted_in_seconds(text: str) -> None:
    """Also if the text is no JSON."""
    started = time.process_time()
    check_json("[]" * (JSON_LEVELS + 1) + text)
    assert time.process_time() - started < 8


def test_large_event_of_many_lines_is_refused() -> None:
    """sseclient joins the lines in quadratic time."""
    line = b": " + b"x" * (EVENT_BYTES // 900) + b"\n"
    started = time.process_time()
    with pytest.raises(MalformedStream, match="too many lines"):
        list(decode(OpenAIDecoder(EVENTS), [line * 800 + b"data: x\n\n"]))
    assert time.process_time() - started < 5


def test_names_and_counts_before_the_first_text_are_kept_once() -> None:
    """Also if they alternate, with any decoder."""
    channel = Channel(Timeouts())
    for number in range(10):
        channel.deliver([ServedModel(f"m{number}"), Usage(number)], 10)
    channel.end(None)
    assert channel.buffer == [ServedModel("m9"), Usage(9)]


def test_name_of_anthropics_model_is_reported_once() -> None:
    """Also if a server sends several ``message_start`` events."""
    start = {"type": "message_start", "message": {"model": "m"}}
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}
    deltas = decode(AnthropicDecoder(EVENTS), anthropic(*[start] * 5, end, STOP))
    assert [each for each in deltas if isinstance(each, ServedModel)] == [ServedModel("m")]


def test_usage_events_take_no_memory_in_a_failover() -> None:
    """Before it has chosen a provider."""
    script = [*[COUNT * 1000] * 10, text("Hello")]
    with serve(answer(*script)) as server:
        provider = Failover([OpenAICompatible("m", base_url=server.url, timeouts=60)])
        provider.complete("Hi")
        tracemalloc.start()
        try:
            provider.complete("Hi")
            assert tracemalloc.get_traced_memory()[1] < 1.5 * 1024**2
        finally:
            tracemalloc.stop()


def test_sum_beyond_63_bits_is_none() -> None:
    """The sum has the same limit as each count."""
    counts = {"input_tokens": 2**63 - 1, "output_tokens": 1}
    script = anthropic({"type": "message_start", "message": {"usage": counts}}, STOP)
    [*_, usage, _] = decode(AnthropicDecoder(EVENTS), script)
    assert usage == Usage(2**63 - 1, 1, None)


@pytest.mark.parametrize("around", ["%s", '{"model": %s}', '{"error": {"type": %s}}'])
def test_deep_json_is_malformed_at_every_depth(around: str) -> None:
    """Also if it can just be parsed but is too deep for ``repr``."""
    for depth in range(700, 1010):
        data = around % ("[" * depth + "]" * depth)
        for decoder in DECODERS:
            with pytest.raises((MalformedStream, ServerError, StreamTruncated)):
                list(decode(decoder(EVENTS), [f"data: {data}\n\n".encode()]))


def test_type_of_an_error_is_short() -> None:
    """It appears in logs and tables."""
    with pytest.raises(ServerError) as caught:
        ScriptedProvider([event({"error": {"type": "x" * 100_000}})], retry=1).complete("Hi")
    assert len(caught.value.type or "") == 200


def test_names_of_models_are_printable() -> None:
    """A list of models that is nested too deeply is refused."""
    listing = json.dumps({"data": [{"id": "m" + HALF}, {"id": 7}]}).encode()
    bodies = [listing, b'{"data": %s}' % (b"[" * 100_000)]
    scripts = [answer(body, content_type="application/json", end=False) for body in bodies]
    with serve(scripts) as server:
        provider = OpenAICompatible(base_url=server.url, retry=1)
        assert provider.list_models() == ["m\ufffd", "7"]
        with pytest.raises(MalformedStream, match="list of models"):
            provider.list_models()
