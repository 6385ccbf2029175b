"""Anthropic's protocol from the server's side: bodies read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from providers_sync.dialects import ANTHROPIC, ChatRequest, RequestError, error_body

HI = [{"role": "user", "content": "Hi"}]
ADD = {"name": "add", "description": "Adds", "input_schema": {"type": "object"}}


def asked(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "max_tokens": 9, "messages": HI, **fields}


def said(role: str, *blocks: Any) -> dict[str, Any]:
    """Return a request whose only turn has these blocks."""
    return asked(messages=[{"role": role, "content": list(blocks)}])


def read(**fields: Any) -> ChatRequest:
    return ANTHROPIC.read(asked(**fields))


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}


def result(**fields: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": "c1", **fields}


@pytest.mark.parametrize("system", ["Be brief.", [text("Be"), text("brief.")]])
def test_read_system(system: Any) -> None:
    """What stands beside the messages becomes the first of them."""
    first, second = read(system=system).messages
    assert first["role"] == "system"
    assert first["content"].split() == ["Be", "brief."]
    assert second == HI[0]
    assert read(system="").messages == HI


def test_read_options() -> None:
    """Stops, tools and schemas get OpenAI's names; the rest, unknown words too, stays."""
    schema = {"type": "object", "properties": {}}
    request = read(
        stop_sequences=["\n"],
        tools=[ADD, {"type": "custom", "name": "sub", "input_schema": schema}],
        tool_choice={"type": "tool", "name": "sub", "disable_parallel_tool_use": True},
        output_config={"effort": "low", "format": {"type": "json_schema", "schema": schema}},
        temperature=0.5,
        top_k=None,
        from_tomorrow=[1],
        stream=True,
    )
    functions = [
        {"name": "add", "parameters": {"type": "object"}, "description": "Adds"},
        {"name": "sub", "parameters": schema},
    ]
    assert (request.model, request.stream) == ("m", True)
    assert request.options == {
        "max_tokens": 9,
        "temperature": 0.5,
        "from_tomorrow": [1],
        "stop": ["\n"],
        "tools": [{"type": "function", "function": each} for each in functions],
        "tool_choice": {"type": "function", "function": {"name": "sub"}},
        "parallel_tool_calls": False,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "output", "schema": schema},
        },
    }


@pytest.mark.parametrize(
    ("kind", "word"), [("auto", "auto"), ("any", "required"), ("none", "none")]
)
def test_read_tool_choice(kind: str, word: str) -> None:
    """Anthropic's words have their like in OpenAI's protocol."""
    assert read(tools=[ADD], tool_choice={"type": kind}).options["tool_choice"] == word


def test_read_tool_turns() -> None:
    """A call is the assistant's; each result becomes a message, before what else is said."""
    turns = [
        *HI,
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "x"},
                {"type": "redacted_thinking", "data": "x"},
                text("Let me see."),
                {"type": "tool_use", "id": "c1", "name": "add", "input": {"a": "é"}},
            ],
        },
        {
            "role": "user",
            "content": [
                text("And?"),
                result(content="2"),
                result(content=[text("a"), text("b")], is_error=True),
                result(),
            ],
        },
    ]
    call = {"name": "add", "arguments": '{"a": "\\u00e9"}'}
    told = {"role": "tool", "tool_call_id": "c1"}
    assert read(messages=turns).messages == [
        *HI,
        {
            "role": "assistant",
            "content": "Let me see.",
            "tool_calls": [{"id": "c1", "type": "function", "function": call}],
            "reasoning_content": "Hm.",
        },
        {**told, "content": "2"},
        {**told, "content": "ab", "is_error": True},
        {**told, "content": ""},
        {"role": "user", "content": [text("And?")]},
    ]


def test_read_images() -> None:
    """An image is an address in OpenAI's form, in a turn and in a tool's result."""
    data = {"type": "base64", "media_type": "image/png", "data": "aGk="}
    image, linked = (
        {"type": "image", "source": source}
        for source in (data, {"type": "url", "url": "https://example.com/a.png"})
    )
    first, second = ANTHROPIC.read(said("user", image, result(content=[linked]))).messages
    assert first["content"][0]["image_url"]["url"] == "https://example.com/a.png"
    assert second["content"] == [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
    ]


def test_read_prefill() -> None:
    """An assistant turn at the end stays one; it may be empty."""
    turns = [*HI, {"role": "assistant", "content": "I "}]
    assert read(messages=turns).messages == turns
    thought = {"role": "assistant", "content": [{"type": "redacted_thinking", "data": "x"}]}
    assert read(messages=[*HI, thought]).messages[1] == {"role": "assistant", "content": ""}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ([], "the body must be a JSON object"),
        (asked(model=""), "model must be the name of a model"),
        ({"model": "m", "messages": HI}, "max_tokens: field required"),
        (asked(max_tokens=0), "max_tokens must be a whole number"),
        (asked(messages=[]), "at least one message"),
        (asked(messages=["Hi"]), r"messages\[0\] must be a JSON object"),
        (asked(messages=[{"role": "system", "content": "x"}]), r"messages\[0\].role must be user"),
        (asked(messages=[{"role": ["user"], "content": "x"}]), r"messages\[0\].role must be user"),
        (asked(messages=[{"role": "user"}]), r"messages\[0\].content must be text or a list"),
        (said("user"), r"messages\[0\].content must be text or a list"),
        (said("user", "Hi"), r"content\[0\] must be a JSON object, not text"),
        (said("user", {"type": "text"}), r"content\[0\].text must be text, not null"),
        (said("user", {"type": "document"}), r"content\[0\].type 'document' is not supported here"),
        (said("user", {"type": "tool_use"}), "'tool_use' is not supported here: give text, image"),
        (said("user", {"type": ["text"]}), "is not supported here"),
        (said("assistant", result()), "'tool_result' is not supported here"),
        (said("user", {"type": "image"}), r"content\[0\].source must be a JSON object"),
        (said("user", {"type": "image", "source": {}}), "source.type must be base64 or url"),
        (said("user", {"type": "tool_result"}), "tool_use_id must be text"),
        (said("user", result(content=1)), r"content\[0\].content must be text or a list"),
        (said("user", result(content=[result()])), r"content\[0\].content\[0\].type 'tool_result'"),
        (said("assistant", {"type": "tool_use", "id": "1", "name": "f"}), "input must be a JSON"),
        (said("assistant", {"type": "tool_use", "name": "f", "input": {}}), "id must be text"),
        (asked(system=1), "system must be text"),
        (asked(system=[{"type": "image"}]), r"system\[0\].type 'image' is not supported here"),
        (asked(stream="yes"), "stream must be true or false"),
        (asked(stop_sequences="x"), "stop_sequences must be a list"),
        (asked(stop_sequences=[1]), r"stop\[0\] must be text"),
        (asked(tools=[{"name": "f"}]), r"tools\[0\].input_schema must be a JSON object"),
        (asked(tools=[{"type": "web_search_1", "name": "f"}]), "'web_search_1' is not supported"),
        (asked(tools=[ADD], tool_choice="any"), "tool_choice must be a JSON object"),
        (asked(tools=[ADD], tool_choice={"type": "x"}), "tool_choice.type must be auto"),
        (asked(tools=[ADD], tool_choice={"type": "tool", "name": "x"}), "one of the tools"),
        (asked(tool_choice={"type": "any"}), "no tools are given"),
        (asked(output_config={"format": {}}), "output_config.format.schema must be a JSON object"),
        (asked(temperature="hot"), "temperature must be a number"),
    ],
)
def test_read_wrong_body(body: Any, message: str) -> None:
    """The error names the item, and is a 400 in Anthropic's shape."""
    with pytest.raises(RequestError, match=message) as caught:
        ANTHROPIC.read(body)
    told = json.loads(error_body(caught.value, ANTHROPIC.path))
    assert (told["type"], told["error"]["type"]) == ("error", "invalid_request_error")
