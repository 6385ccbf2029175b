"""Anthropic's protocol: the requests sent, and the events decoded."""

from __future__ import annotations

import json
from typing import Any

import pytest

from providers_sync import (
    Anthropic,
    AuthenticationError,
    Extra,
    Finish,
    InvalidRequestError,
    ReasoningDelta,
    ServerError,
    StreamTruncated,
    TextDelta,
    ToolCall,
    Usage,
)
from providers_sync.testing import (
    answer,
    comment,
    done,
    event,
    finish,
    json_body,
    reasoning,
    serve,
    status,
    text,
    tool_call,
    usage,
)

PNG = b"\x89PNG\r\n\x1a\n0000"
CALL = {"id": "t1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}


def sent(messages: Any, **options: Any) -> dict[str, Any]:
    """Return the request body for these messages."""
    with serve("ok", protocol="anthropic") as server:
        Anthropic("claude", base_url=server.url, api_key="k").complete(messages, **options)
    body: dict[str, Any] = server.requests[0].json()
    return body


def test_request_follows_the_protocol() -> None:
    """Path, version, key, extracted system, and the documented default of ``max_tokens``."""
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "system", "content": "Really."},
    ]
    with serve("ok", protocol="anthropic") as server:
        Anthropic("claude", base_url=f"{server.url}/", api_key="k").complete(messages)
    [request] = server.requests
    assert request.path == "/v1/messages"
    assert (request.headers["x-api-key"], request.headers["anthropic-version"]) == (
        "k",
        "2023-06-01",
    )
    assert "Authorization" not in request.headers
    assert request.json() == {
        "model": "claude",
        "max_tokens": 16_000,
        "system": "Be brief.\n\nReally.",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
    }


def test_events_come_typed_and_in_order() -> None:
    """Reasoning, text, an assembled tool call, usage and the reason."""
    script = [
        comment("hello"),
        event({"type": "ping"}, "ping"),
        reasoning("Let me think."),
        text("The sum "),
        text("is:"),
        tool_call("add", {"a": 1, "b": [2]}, id="t1"),
        event({"type": "news", "of": "tomorrow"}, "news"),
        usage(7, 5),
        finish("tool_use"),
        done(),
    ]
    with serve(script, protocol="anthropic") as server:
        stream = Anthropic("claude", base_url=server.url, api_key="k").stream("Hi")
        events = list(stream.events())
    call = ToolCall("t1", "add", {"a": 1, "b": [2]}, '{"a": 1, "b": [2]}')
    assert [each for each in events if not isinstance(each, (Usage, Finish))] == [
        ReasoningDelta("Let me think."),
        TextDelta("The sum "),
        TextDelta("is:"),
        Extra("event.news", {"of": "tomorrow"}),
        call,
    ]
    assert events[-1] == Finish("tool_use")
    assert stream.usage is not None
    assert (stream.usage.input_tokens, stream.usage.output_tokens) == (7, 5)
    completion = stream.completion()
    assert (completion.text, completion.reasoning) == ("The sum is:", "Let me think.")
    assert completion.tool_calls == (call,)
    assert completion.finish_reason == "tool_use"


def test_documented_stream_is_decoded() -> None:
    """The events in the order of the API reference, with an empty tool input."""
    start = {"id": "m", "type": "message", "role": "assistant", "content": [], "model": "claude-x"}
    events = [
        {"type": "message_start", "message": {**start, "usage": {"input_tokens": 9}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Ok"}},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "content_block_start",
            "index": 1,
            "content_block": {"type": "tool_use", "id": "t", "name": "now", "input": {}},
        },
        {"type": "content_block_stop", "index": 1},
        {
            "type": "content_block_start",
            "index": 2,
            "content_block": {"type": "redacted_thinking", "data": "xx"},
        },
        {"type": "content_block_stop", "index": 2},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "tool_use"},
            "usage": {"output_tokens": 4},
        },
        {"type": "message_stop"},
    ]
    script = answer(*(event(each, each["type"]) for each in events), end=False)
    with serve(script, protocol="anthropic") as server:
        completion = Anthropic("claude", base_url=server.url, api_key="k").complete("Hi")
    assert (completion.text, completion.model) == ("Ok", "claude-x")
    assert completion.tool_calls == (ToolCall("t", "now", {}, ""),)
    assert completion.usage == Usage(9, 4, 13)


def test_broken_tool_arguments_are_kept_raw() -> None:
    """Arguments that are not a JSON object are kept as received."""
    with serve([tool_call("add", '{"a": ', id="t")], protocol="anthropic") as server:
        completion = Anthropic("claude", base_url=server.url, api_key="k").complete("Hi")
    assert completion.tool_calls == (ToolCall("t", "add", None, '{"a": '),)


def test_stop_reason_proves_the_end_and_a_block_takes_it_back() -> None:
    """Without ``message_stop``: what comes after a stop reason wants another one."""
    script = answer(text("Hi"), finish("end_turn"), end=False)
    with serve(script, protocol="anthropic") as server:
        completion = Anthropic("claude", base_url=server.url, api_key="k", retry=None).complete(
            "Hi"
        )
    assert (completion.text, completion.finish_reason) == ("Hi", "end_turn")
    script = answer(text("Hi"), finish("end_turn"), text(" you"), end=False)
    with serve(script, protocol="anthropic") as server, pytest.raises(StreamTruncated) as caught:
        Anthropic("claude", base_url=server.url, api_key="k", retry=None).complete("Hi")
    assert caught.value.partial == "Hi you"


def test_overload_is_retried_and_an_invalid_request_is_not() -> None:
    """``overloaded_error`` before the first event causes another attempt."""
    overload = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    broken = {"type": "error", "error": {"type": "invalid_request_error", "message": "Broken"}}
    with serve(
        [answer(event(overload, "error"), end=False), ["ok"]], protocol="anthropic"
    ) as server:
        provider = Anthropic("claude", base_url=server.url, api_key="k")
        assert provider.complete("Hi").text == "ok"
        assert len(server.requests) == 2
    with serve(answer(event(broken, "error"), end=False), protocol="anthropic") as server:
        provider = Anthropic("claude", base_url=server.url, api_key="k")
        with pytest.raises(ServerError, match="Broken") as caught:
            provider.complete("Hi")
        assert (caught.value.type, len(server.requests)) == ("invalid_request_error", 1)


def test_rejected_call_without_a_key_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """401 without a key names ``api_key=`` and the variable."""
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    with (
        serve(status(401), protocol="anthropic") as server,
        pytest.raises(AuthenticationError, match="ANTHROPIC_API_KEY"),
    ):
        Anthropic("claude", base_url=server.url).complete("Hi")


def test_answer_that_is_not_streamed_is_decoded() -> None:
    """A server may return one JSON body instead of a stream."""
    body = {
        "type": "message",
        "model": "claude-x",
        "content": [
            {"type": "thinking", "thinking": "Hm."},
            {"type": "text", "text": "Hello"},
            {"type": "tool_use", "id": "t", "name": "add", "input": {"a": 1}},
        ],
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 1, "output_tokens": 2},
    }
    with serve(json_body(body)) as server:
        completion = Anthropic("claude", base_url=server.url, api_key="k").complete("Hi")
    assert (completion.text, completion.reasoning, completion.outcome) == (
        "Hello",
        "Hm.",
        "complete",
    )
    assert completion.tool_calls == (ToolCall("t", "add", {"a": 1}, '{"a": 1}'),)
    assert completion.usage == Usage(1, 2, 3)


def test_tools_and_results_are_translated() -> None:
    """Tools, calls and results in OpenAI's form are translated; Anthropic's form stays."""
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
    own = {"name": "sub", "input_schema": {"type": "object"}}
    body = sent(
        [
            {"role": "user", "content": "1+?"},
            {
                "role": "assistant",
                "content": "Let me see.",
                "tool_calls": [CALL, {**CALL, "id": "t2"}],
            },
            {"role": "tool", "tool_call_id": "t1", "content": "2"},
            {"role": "tool", "tool_call_id": "t2", "content": "3"},
            {"role": "user", "content": "And?"},
        ],
        tools=[tool, own],
        tool_choice="required",
        stop="END",
        max_tokens=5,
    )
    uses = [{"type": "tool_use", "id": i, "name": "add", "input": {"a": 1}} for i in ("t1", "t2")]
    results = [
        {"type": "tool_result", "tool_use_id": "t1", "content": "2"},
        {"type": "tool_result", "tool_use_id": "t2", "content": "3"},
    ]
    assert body["messages"] == [
        {"role": "user", "content": "1+?"},
        {"role": "assistant", "content": [{"type": "text", "text": "Let me see."}, *uses]},
        {"role": "user", "content": results},
        {"role": "user", "content": "And?"},
    ]
    assert body["tools"] == [{"name": "add", "input_schema": {"type": "object"}}, own]
    assert body["tool_choice"] == {"type": "any"}
    assert (body["stop_sequences"], body["max_tokens"]) == (["END"], 5)
    assert "stop" not in body


def test_tool_choice_and_schema_are_translated() -> None:
    """The choice of one tool, and a JSON schema for the answer."""
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    body = sent(
        "Hi",
        tool_choice={"type": "function", "function": {"name": "add"}},
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
        top_k=3,
    )
    assert body["tool_choice"] == {"type": "tool", "name": "add"}
    assert body["output_config"] == {"format": {"type": "json_schema", "schema": schema}}
    assert body["top_k"] == 3
    assert "response_format" not in body


def test_images_become_blocks(tmp_path: Any) -> None:
    """A URL, bytes, a path, and OpenAI's own form."""
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    parts = [
        {"type": "image", "image": "https://example.org/a.png"},
        {"type": "image", "image": PNG},
        {"type": "image", "image": path},
        {"type": "image_url", "image_url": {"url": "data:image/gif;base64,R0lG"}},
        {"type": "text", "text": "What is it?"},
    ]
    content = sent([{"role": "user", "content": parts}])["messages"][0]["content"]
    data = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgowMDAw"}
    assert [part.get("source") for part in content] == [
        {"type": "url", "url": "https://example.org/a.png"},
        data,
        data,
        {"type": "base64", "media_type": "image/gif", "data": "R0lG"},
        None,
    ]


@pytest.mark.parametrize("image", [5, b"no image", "/no/such/file.png"])
def test_bad_image_raises(image: object) -> None:
    """Nothing is sent for an image that cannot be read."""
    messages = [{"role": "user", "content": [{"type": "image", "image": image}]}]
    with pytest.raises(InvalidRequestError, match="image"):
        Anthropic("claude", base_url="http://127.0.0.1:9", api_key="k").stream(messages)


def test_bad_tool_call_in_messages_raises() -> None:
    """A call without a name raises before anything is sent."""
    bad = {"id": "1", "function": {"arguments": "{}"}}
    turn = {"role": "assistant", "content": None, "tool_calls": [bad]}
    with pytest.raises(InvalidRequestError, match="tool call"):
        Anthropic("claude", base_url="http://127.0.0.1:9", api_key="k").stream([turn])


def test_address_and_key_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """``ANTHROPIC_BASE_URL`` and ``ANTHROPIC_API_KEY`` are read in the constructor."""
    with serve("ok", protocol="anthropic") as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "from-environment")
        Anthropic("claude").complete("Hi")
    assert server.requests[0].headers["x-api-key"] == "from-environment"
    assert json.loads(server.requests[0].body)["model"] == "claude"
