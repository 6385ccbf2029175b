"""Streams of servers that do not keep to their protocol, read as their users would want."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest
from decode_kit import decode, split

from providers_sync import (
    Anthropic,
    CancelToken,
    Chat,
    Extra,
    MalformedStream,
    OpenAICompatible,
    ProviderError,
    ReasoningDelta,
    ServerError,
    StreamCancelled,
    ToolCall,
    Usage,
)
from providers_sync.decoding import OpenAIDecoder
from providers_sync.decoding.anthropic import AnthropicDecoder
from providers_sync.finish_reasons import is_whole
from providers_sync.testing import answer, event, finish, pause, raw, repeat, serve, status, text
from providers_sync.types import Delta

EVENTS = "text/event-stream"


def sse(*values: Any) -> bytes:
    return b"".join(b"data: %b\n\n" % json.dumps(value).encode() for value in values)


def chunk(**delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta}]}


STOP = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
DONE = b"data: [DONE]\n\n"


def openai(data: bytes, kind: str = EVENTS) -> list[Delta]:
    return list(decode(OpenAIDecoder(kind), [data]))


def texts(deltas: list[Delta]) -> str:
    return "".join(delta for delta in deltas if isinstance(delta, str))


# --- OpenAI's protocol


def test_events_without_empty_lines_are_read_as_they_come() -> None:
    """Each ends where the next one begins; 1,500 of them are not one event of too many lines."""
    for prefix in (b"data: ", b"data:", b""):
        lines = [prefix + json.dumps(chunk(content=f"{n} ")).encode() + b"\n" for n in range(1500)]
        body = b"".join(lines) + prefix + json.dumps(STOP).encode() + b"\n"
        decoder = OpenAIDecoder(EVENTS)
        first = decoder.feed(body[: len(body) // 2])
        assert len(texts(first).split()) > 700
        rest = [*decoder.feed(body[len(body) // 2 :]), *decoder.end()]
        assert texts(first + rest) == "".join(f"{n} " for n in range(1500))
        assert texts(openai(body + b"\n")) == texts(first + rest)
        pieces = split(body[:3000], range(0, 3000, 7))
        assert texts([d for p in pieces for d in OpenAIDecoder(EVENTS).feed(p)]) == ""
        one = OpenAIDecoder(EVENTS)
        assert texts([d for p in pieces for d in one.feed(p)]).startswith("0 1 2 3 ")


def test_pretty_printed_error_behind_one_data_field_is_told() -> None:
    """The rest of it stands in lines that are no field."""
    body = (
        sse(chunk(content="Hel")) + b'data: {\n  "error": {\n    "message": "engine died"\n}}\n\n'
    )
    with pytest.raises(ServerError, match="engine died"):
        openai(body)


@pytest.mark.parametrize("body", [sse(chunk(content="Hello"), STOP) + DONE,
                                  b'{"choices": [{"message": {"content": "Hello"}}]}'])  # fmt: skip
def test_answer_with_the_type_of_a_page_is_read(body: bytes) -> None:
    """PHP gives what it sends this type, unless somebody sets another."""
    script = answer(raw(body), content_type="text/html; charset=UTF-8", end=False)
    with serve(script) as server:
        assert OpenAICompatible("m", base_url=server.url).complete("Hi").text == "Hello"


@pytest.mark.parametrize("page", [b"<center><h1>502 Bad Gateway</h1></center>", b"<!-- x --><p>No"])
def test_page_with_the_type_of_a_page_is_one(page: bytes) -> None:
    """Whatever it begins with."""
    script = answer(raw(page), content_type="text/html", end=False)
    with serve(script) as server, pytest.raises(MalformedStream, match="web page"):
        OpenAICompatible("m", base_url=server.url, retry=None).complete("Hi")


def test_page_that_comes_after_its_headers_is_refused_before_the_stream_opens() -> None:
    """So that a web view can still choose its status."""
    script = answer(pause(0.2), raw(b" <p>No such page</p>"), content_type="text/html", end=False)
    with serve(script) as server, pytest.raises(MalformedStream, match="web page"):
        OpenAICompatible("m", base_url=server.url, retry=None).stream("Hi")


def test_endless_white_space_with_the_type_of_a_page_is_not_kept() -> None:
    """What comes first is looked at, up to a limit."""
    script = answer(repeat(b" " * 65_536), content_type="text/html", end=False)
    with serve(script) as server, pytest.raises(ProviderError):
        OpenAICompatible("m", base_url=server.url, retry=None, timeouts=3).complete("Hi")


def test_slow_answer_with_the_type_of_a_page_opens_soon() -> None:
    """It is not waited for: 1 s is enough to see a page; ``cancel`` ends that wait too."""
    script = answer(pause(1.2), "Hello", content_type="text/html")
    with serve(script) as server:
        provider = OpenAICompatible("m", base_url=server.url)
        assert provider.complete("Hi").text == "Hello"
        cancel = CancelToken()
        timer = threading.Timer(0.1, cancel.cancel)
        timer.start()
        started = time.monotonic()
        with pytest.raises(StreamCancelled):
            provider.stream("Hi", cancel=cancel)
        assert time.monotonic() - started < 0.6
        timer.join()


@pytest.mark.parametrize(
    "event_",
    [
        {"id": "x", "choices": [], "code": 10013, "message": "content not allowed"},
        {"choices": None, "code": "429", "message": "content not allowed"},
        {"choices": [{"delta": {"error": {"message": "content not allowed"}}}]},
    ],
)
def test_error_beside_empty_choices_is_one(event_: dict[str, Any]) -> None:
    """Also in a delta."""
    with pytest.raises(ServerError, match="content not allowed"):
        openai(sse(chunk(content="Hel"), event_) + DONE)


def test_error_after_a_reason_that_says_error_has_its_words() -> None:
    """The reason alone says that the answer broke off, not why."""
    failed = {"choices": [{"index": 0, "delta": {}, "finish_reason": "error"}]}
    with pytest.raises(ServerError, match="upstream died"):
        openai(sse(chunk(content="Hel"), failed, {"error": {"message": "upstream died"}}))
    with pytest.raises(ServerError, match="finish reason error"):
        openai(sse(chunk(content="Hel"), failed) + DONE)


@pytest.mark.parametrize("name", ["exception", "stream_error"])
@pytest.mark.parametrize("data", ['{"detail": "engine died"}', "engine died"])
def test_event_whose_name_says_error_is_one(name: str, data: str) -> None:
    """FastAPI's servers and others name them so."""
    body = sse(chunk(content="Hel")) + f"event: {name}\ndata: {data}\n\n".encode() + DONE
    with pytest.raises(ServerError, match="engine died"):
        openai(body)


def test_words_under_another_key_are_the_text() -> None:
    """Cloudflare's Workers AI names it ``response``."""
    deltas = openai(sse({"response": "Hel"}, {"response": "lo"}) + DONE)
    assert texts(deltas) == "Hello"


def test_unknown_text_of_deltas_is_not_taken_for_a_repetition() -> None:
    """Two equal pieces are two pieces."""
    deltas = openai(sse(chunk(thought="ha"), chunk(thought="ha"), chunk(content="x"), STOP))
    extras = [delta.value for delta in deltas if isinstance(delta, Extra)]
    assert extras == ["ha", "ha"]


def test_reasoning_that_differs_under_two_names_is_kept() -> None:
    """Mostly the two are equal."""
    deltas = openai(sse(chunk(reasoning_content="A", reasoning="A"), chunk(content="x"), STOP))
    assert not [delta for delta in deltas if isinstance(delta, Extra)]
    deltas = openai(sse(chunk(reasoning_content="A", reasoning="B"), chunk(content="x"), STOP))
    assert ReasoningDelta("A") in deltas
    assert Extra("choices[0].delta.reasoning", "B") in deltas


def test_message_at_the_end_says_what_the_deltas_have_not() -> None:
    """Blank text is no answer; calls are compared by their ids."""
    whole = {"choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}]}
    assert texts(openai(sse(chunk(content=" "), whole))) == " Hello"
    calls = [{"id": name, "function": {"name": "f", "arguments": "{}"}} for name in "ab"]
    end = {"choices": [{"message": {"tool_calls": calls}, "finish_reason": "tool_calls"}]}
    found = openai(sse(chunk(tool_calls=[{"index": 0, **calls[0]}]), end))
    assert [each.id for each in found if isinstance(each, ToolCall)] == ["a", "b"]
    older = {"choices": [{"delta": {"content": ""}, "text": "Hi", "finish_reason": "stop"}]}
    assert texts(openai(sse(older))) == "Hi"


def test_control_characters_in_json_are_text() -> None:
    """Some servers do not escape them."""
    body = b'data: {"choices": [{"delta": {"content": "a\x1b[0m\tb"}}]}\n\n' + sse(STOP)
    assert texts(openai(body)) == "a\x1b[0m\tb"


def test_list_of_chunks_is_an_answer() -> None:
    """As JSON in place of a stream."""
    body = json.dumps([chunk(content="Hel"), chunk(content="lo"), STOP]).encode()
    assert texts(openai(body, "application/json")) == "Hello"


def test_zeros_wipe_out_no_counts() -> None:
    """Some servers end with them; and a count of zero does not hide the same under another name."""
    counts = {"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11}
    details = {"prompt_tokens_details": {"cached_tokens": 0}, "prompt_cache_hit_tokens": 3}
    zeros = dict.fromkeys(counts, 0)
    deltas = openai(sse(chunk(content="x"), {**STOP, "usage": {**counts, **details}}))
    deltas += openai(sse(chunk(content="x"), STOP, {"choices": [], "usage": counts},
                         {"choices": [], "usage": zeros}))  # fmt: skip
    usages = [delta for delta in deltas if isinstance(delta, Usage)]
    assert [(u.input_tokens, u.output_tokens) for u in usages] == [(5, 6), (5, 6)]
    assert usages[0].cached_tokens == 3


@pytest.mark.parametrize("name", ["reasoning_opaque", "extra_content", "provider_specific_fields"])
def test_signature_beside_the_text_goes_back(name: str) -> None:
    """Copilot, Gemini and LiteLLM put it there."""
    script = answer(event(chunk(**{name: {"signature": "S"}})), text("One."), finish("stop"))
    with serve([script, answer("Two.")]) as server:
        chat = Chat(OpenAICompatible("m", base_url=server.url))
        chat.send("Hi").read()
        chat.send("More").read()
        assert server.requests[1].json()["messages"][1][name] == {"signature": "S"}


def test_signature_in_a_function_goes_back() -> None:
    """Beside its name and arguments."""
    function = {"name": "f", "arguments": "{}", "thought_signature": "S"}
    call = {"index": 0, "id": "a", "type": "function", "function": function}
    script = answer(event(chunk(tool_calls=[call])), finish("tool_calls"))
    with serve([script, answer("Two.")]) as server:
        provider = OpenAICompatible("m", base_url=server.url)
        message = provider.complete("Hi").message
        result = {"role": "tool", "tool_call_id": "a", "content": "1"}
        provider.complete([{"role": "user", "content": "Hi"}, message, result])
        [sent] = server.requests[1].json()["messages"][1]["tool_calls"]
    assert sent["function"] == function


# --- Anthropic's protocol


def block(index: int, start: dict[str, Any], *deltas: dict[str, Any], stop: bool = True) -> Any:
    events = [{"type": "content_block_start", "index": index, "content_block": start}]
    events += [{"type": "content_block_delta", "index": index, "delta": d} for d in deltas]
    return [*events, {"type": "content_block_stop", "index": index}] if stop else events


def end(reason: str = "end_turn", **usage: int) -> list[dict[str, Any]]:
    delta = {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": usage}
    return [delta, {"type": "message_stop"}]


TEXT = {"type": "text", "text": ""}
THINKING = {"type": "thinking", "thinking": "", "signature": ""}
SIGNED = block(
    0, THINKING, {"type": "thinking_delta", "thinking": "hm"},
    {"type": "signature_delta", "signature": "SIG"},
)  # fmt: skip
CALL = {"type": "tool_use", "id": "t1", "name": "rm", "input": {}}


def said(text_: str) -> dict[str, str]:
    return {"type": "text_delta", "text": text_}


def anthropic(*events: Any) -> list[Delta]:
    return list(decode(AnthropicDecoder(EVENTS), [sse(*events)]))


def second_turn(*events: Any, change: Any = None) -> list[dict[str, Any]]:
    """Return the messages of a second request, after an answer of these events."""
    script = answer(*map(event, events), end=False)
    with serve([script, answer("Two.")], protocol="anthropic") as server:
        provider = Anthropic("claude", base_url=server.url, api_key="k")
        message = provider.complete("Hi").message
        if change is not None:
            change(message)
        provider.complete([{"role": "user", "content": "Hi"}, message,
                           {"role": "user", "content": "More"}])  # fmt: skip
        messages: list[dict[str, Any]] = server.requests[1].json()["messages"]
        return messages


@pytest.mark.parametrize(
    "event_",
    [{"type": "status", "message": "searching"}, {"type": "checkpoint", "message": {"id": "m"}}],
)
def test_event_of_an_unknown_type_is_no_error(event_: dict[str, Any]) -> None:
    """Anthropic's policy on versions: there may be new types."""
    deltas = anthropic(*block(0, TEXT, said("x")), event_, *end())
    assert texts(deltas) == "x"
    assert any(isinstance(delta, Extra) and delta.path.startswith("event.") for delta in deltas)


def test_missing_fields_of_events_cost_nothing() -> None:
    """A ``message_delta`` without a delta; blocks without their indexes."""
    events = [{k: v for k, v in e.items() if k != "index"}
              for e in [*block(0, TEXT, said("Hel")), *block(1, TEXT, said("lo"))]]  # fmt: skip
    deltas = anthropic(
        *events, *end()[:1], {"type": "message_delta", "usage": {"output_tokens": 2}}
    )
    assert texts(deltas) == "Hello"


def test_text_and_thinking_in_one_block_are_kept_apart() -> None:
    """Gateways put the deltas of one into a block of the other."""
    deltas = anthropic(
        *block(0, TEXT, {"type": "thinking_delta", "thinking": "hm", "signature": "S"}, said("x")),
        *end(),
    )
    assert texts(deltas) == "x"
    sent = second_turn(*block(0, TEXT, {"type": "thinking_delta", "thinking": "hm",
                                        "signature": "S"}, said("x")), *end())  # fmt: skip
    assert sent[1]["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": "S"}, {"type": "text", "text": "x"},
    ]  # fmt: skip


def test_block_that_is_never_stopped_is_reported() -> None:
    """The next one has its index."""
    server_tool = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"q": 1}}
    deltas = anthropic(*block(0, server_tool, stop=False), *block(0, TEXT, said("x")), *end())
    assert Extra("content[0]", server_tool) in deltas


def test_second_answer_in_the_middle_of_one_is_malformed() -> None:
    """A gateway that starts over must not join two answers."""
    start = [{"type": "message_start", "message": {"id": name, "content": []}} for name in "ab"]
    events = [start[0], *block(0, TEXT, said("Hel")), start[1], *block(0, TEXT, said("Hello"))]
    with pytest.raises(MalformedStream, match="another answer"):
        anthropic(*events, *end())
    assert texts(anthropic(start[0], start[0], *block(0, TEXT, said("x")), *end())) == "x"


def test_zeros_at_the_end_wipe_out_no_input() -> None:
    """Some gateways know the input at the start only."""
    start = {"message": {"id": "m", "usage": {"input_tokens": 25, "cache_read_input_tokens": 100}}}
    deltas = anthropic(
        {"type": "message_start", **start}, *block(0, TEXT, said("x")),
        *end(input_tokens=0, cache_read_input_tokens=0, output_tokens=9),
    )  # fmt: skip
    usage = [delta for delta in deltas if isinstance(delta, Usage)][-1]
    assert (usage.input_tokens, usage.cached_tokens, usage.total_tokens) == (125, 100, 134)


def test_answer_of_thoughts_only_is_left_out_of_the_next_request() -> None:
    """The protocol refuses a turn that is empty, or ends with thoughts."""
    for events in (SIGNED, block(0, TEXT), [*SIGNED, *block(1, TEXT, said("\n"))]):
        sent = second_turn(*events, *end("max_tokens"))
        assert sent == [{"role": "user", "content": "Hi"}, {"role": "user", "content": "More"}]


def test_blank_text_is_left_out() -> None:
    """Beside a call, with and without thoughts."""
    use = block(2, CALL, {"type": "input_json_delta", "partial_json": '{"p": "/"}'})
    called = {"type": "tool_use", "id": "t1", "name": "rm", "input": {"p": "/"}}
    thinking = {"type": "thinking", "thinking": "hm", "signature": "SIG"}
    sent = second_turn(*SIGNED, *block(1, TEXT, said("\n\n")), *use, *end("tool_use"))
    assert sent[1]["content"] == [thinking, called]
    sent = second_turn(*block(1, TEXT, said("\n\n")), *use, *end("tool_use"))
    assert sent[1]["content"] == [called]


@pytest.mark.parametrize(
    ("partial", "expected"), [('{"a": "b', {"input": '{"a": "b'}), ("", {}), (None, {})]
)
def test_input_of_a_call_goes_back_as_an_object(partial: str | None, expected: Any) -> None:
    """The protocol accepts nothing else."""
    start = {**CALL, "input": None}
    deltas = [] if partial is None else [{"type": "input_json_delta", "partial_json": partial}]
    sent = second_turn(*SIGNED, *block(1, start, *deltas), *end("max_tokens"))
    assert sent[1]["content"][-1]["input"] == expected


def test_call_that_the_program_has_changed_goes_back_changed() -> None:
    """The block that the model signed is left out then."""
    use = block(1, CALL, {"type": "input_json_delta", "partial_json": '{"path": "/"}'})

    def change(message: dict[str, Any]) -> None:
        message["tool_calls"][0]["function"]["arguments"] = '{"path": "/safe"}'

    [called] = second_turn(*SIGNED, *use, *end("tool_use"), change=change)[1]["content"]
    assert called["input"] == {"path": "/safe"}


def test_caller_of_a_call_goes_back_unless_it_is_the_usual_one() -> None:
    """Code that the model runs calls tools too ("Programmatic tool calling")."""
    for caller, goes_back in (({"type": "code_execution", "tool_id": "s"}, True),
                              ({"type": "direct"}, False)):  # fmt: skip
        [called] = second_turn(*block(0, {**CALL, "caller": caller}), *end("tool_use"))[1][
            "content"
        ]
        assert ("caller" in called) == goes_back


def test_all_of_a_compaction_goes_back() -> None:
    """Also what is encrypted ("Compaction")."""
    delta = {"type": "compaction_delta", "content": "sum", "encrypted_content": "ENC"}
    compaction = {"type": "compaction", "content": None}
    sent = second_turn(*block(0, compaction, delta), *block(1, TEXT, said("x")), *end())
    assert sent[1]["content"][0] == {**delta, "type": "compaction"}


def test_signature_that_stands_in_the_start_too_is_not_doubled() -> None:
    """Some gateways send it twice."""
    deltas = [{"type": "thinking_delta", "thinking": "hm"},
              {"type": "signature_delta", "signature": "SIG"}]  # fmt: skip
    thinking = block(0, {**THINKING, "signature": "SIG"}, *deltas)
    sent = second_turn(*thinking, *block(1, TEXT, said("x")), *end())
    assert sent[1]["content"][0]["signature"] == "SIG"


# --- chats


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (400, "a final `assistant` message must start with a thinking block"),
        (400, "Expected last role User or Tool (or Assistant with prefix True)"),
        (422, "Last message must have role `user`"),
    ],
)
def test_resume_asks_in_words_where_the_last_turn_must_be_the_users(code: int, words: str) -> None:
    """Anthropic with thinking on, Mistral, and others."""
    script = [[text("Hel"), raw(b"data: {\n\n")], status(code, words), answer("lo")]
    with serve(script) as server:
        chat = Chat(OpenAICompatible("m", base_url=server.url, retry=None))
        with pytest.raises(ProviderError):
            chat.send("Hi").read()
        assert chat.resume().read().endswith("lo")
        assert server.requests[2].json()["messages"][-1]["role"] == "user"


def test_budget_keeps_results_of_tools_with_their_call() -> None:
    """Also those in Anthropic's form, which are a user's message."""
    call = [{"type": "tool_use", "id": "1", "name": "f", "input": {}}]
    result = [{"type": "tool_result", "tool_use_id": "1", "content": "x" * 50}]
    history: list[dict[str, Any]] = [
        {"role": "user", "content": "x" * 50}, {"role": "assistant", "content": call},
        {"role": "user", "content": result}, {"role": "assistant", "content": "ok"},
    ]  # fmt: skip
    chat = Chat(Anthropic("claude", base_url="http://127.0.0.1:9"), budget=40)
    chat.history = history
    question = {"role": "user", "content": "next"}
    assert chat.to_send([question]) == [question]


@pytest.mark.parametrize("reason", ["FinishReason.STOP", "FINISH_REASON_STOP", "end_of_turn"])
def test_reasons_in_the_form_of_constants_are_known(reason: str) -> None:
    """Some servers print their own."""
    assert is_whole("complete", reason)
