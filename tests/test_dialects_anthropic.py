"""Tests of reading request bodies in Anthropic's protocol."""

from __future__ import annotations

import json
from typing import Any

import pytest

from providers_sync.dialects import ANTHROPIC, ChatRequest, RequestError, error_body

HI = [{"role": "user", "content": "Hi"}]
ADD = {"name": "add", "description": "Adds", "input_schema": {"type": "object"}}


def request_body(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "max_tokens": 9, "messages": HI, **fields}


def one_turn(role: str, *blocks: Any) -> dict[str, Any]:
    """Return a request whose only turn has these blocks."""
    return request_body(messages=[{"role": role, "content": list(blocks)}])


def read(**fields: Any) -> ChatRequest:
    return ANTHROPIC.read(request_body(**fields))


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}


def result(**fields: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": "c1", **fields}


@pytest.mark.parametrize("system", ["Be brief.", [text("Be"), text("brief.")]])
def test_read_system(system: Any) -> None:
    """The ``system`` field becomes the first message."""
    first, second = read(system=system).messages
    assert first["role"] == "system"
    assert first["content"].split() == ["Be", "brief."]
    assert second == HI[0]
    assert read(system="").messages == HI


def test_read_system_between_turns() -> None:
    """A system turn, which newer clients send among the others, keeps its place."""
    for content in ("Be brief.", [text("Be brief.")]):
        turns = [*HI, {"role": "system", "content": content}, *HI]
        assert read(messages=turns).messages == [
            *HI,
            {"role": "system", "content": "Be brief."},
            *HI,
        ]


def test_read_options() -> None:
    """Stops, tools and schemas get OpenAI's names; other fields, also unknown ones, stay."""
    schema = {"type": "object", "properties": {}}
    request = read(
        stop_sequences=["\n"],
        tools=[ADD, {"type": "custom", "name": "sub", "input_schema": schema, "strict": True}],
        tool_choice={"type": "tool", "name": "sub", "disable_parallel_tool_use": True},
        output_config={"effort": "low", "format": {"type": "json_schema", "schema": schema}},
        temperature=0.5,
        top_k=None,
        mcp_servers=[],
        from_tomorrow=[1],
        stream=True,
    )
    functions = [
        {"name": "add", "parameters": {"type": "object"}, "description": "Adds"},
        {"name": "sub", "parameters": schema, "strict": True},
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
        "reasoning_effort": "low",
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "output", "schema": schema},
        },
    }


@pytest.mark.parametrize(
    ("thinking", "effort"),
    [
        ({"type": "disabled"}, "none"),
        ({"type": "enabled", "budget_tokens": 1024}, "low"),
        ({"type": "enabled", "budget_tokens": 16000}, "high"),
        ({"type": "adaptive"}, None),
        ({"type": "between_tools"}, None),
        (None, None),
    ],
)
def test_read_thinking(thinking: Any, effort: str | None) -> None:
    """How much to reason gets OpenAI's name; an effort that is named goes first."""
    options = read(thinking=thinking).options
    assert (options.get("reasoning_effort"), "thinking" in options) == (effort, False)
    named = read(thinking=thinking, output_config={"effort": "max"}).options
    assert named["reasoning_effort"] == "max"


def test_read_format_of_beta() -> None:
    """Clients from before ``output_config`` send the format under its first name."""
    output_format = {"type": "json_schema", "schema": {"type": "object"}}
    expected = read(output_config={"format": output_format}).options
    assert expected["response_format"]
    assert read(output_format=output_format).options == expected


@pytest.mark.parametrize(
    ("kind", "expected"), [("auto", "auto"), ("any", "required"), ("none", "none")]
)
def test_read_tool_choice(kind: str, expected: str) -> None:
    """Anthropic's tool choices become OpenAI's."""
    assert read(tools=[ADD], tool_choice={"type": kind}).options["tool_choice"] == expected


def test_read_tool_turns() -> None:
    """A call belongs to the assistant; each result becomes a message before the user's text."""
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
    tool_message = {"role": "tool", "tool_call_id": "c1"}
    assert read(messages=turns).messages == [
        *HI,
        {
            "role": "assistant",
            "content": "Let me see.",
            "tool_calls": [{"id": "c1", "type": "function", "function": call}],
            "reasoning_content": "Hm.",
        },
        {**tool_message, "content": "2"},
        {**tool_message, "content": "ab", "is_error": True},
        {**tool_message, "content": ""},
        {"role": "user", "content": [text("And?")]},
    ]


def test_read_images() -> None:
    """An image becomes a URL in OpenAI's form, in a turn and in a tool result."""
    data = {"type": "base64", "media_type": "image/png", "data": "aGk="}
    image, linked = (
        {"type": "image", "source": source}
        for source in (data, {"type": "url", "url": "https://example.com/a.png"})
    )
    first, second = ANTHROPIC.read(one_turn("user", image, result(content=[linked]))).messages
    assert first["content"][0]["image_url"]["url"] == "https://example.com/a.png"
    assert second["content"] == [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
    ]


def test_read_prefill() -> None:
    """An assistant turn at the end is kept, even if it has no text."""
    turns = [*HI, {"role": "assistant", "content": "I "}]
    assert read(messages=turns).messages == turns
    redacted = {"role": "assistant", "content": [{"type": "redacted_thinking", "data": "x"}]}
    assert read(messages=[*HI, redacted]).messages[1] == {"role": "assistant", "content": ""}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ([], "the body must be a JSON object"),
        (request_body(model=""), "model must be the name of a model"),
        ({"model": "m", "messages": HI}, "max_tokens: field required"),
        (request_body(max_tokens=0), "max_tokens must be a whole number"),
        (request_body(messages=[]), "at least one message"),
        (request_body(messages=["Hi"]), r"messages\[0\] must be a JSON object"),
        (
            request_body(messages=[{"role": "developer", "content": "x"}]),
            r"messages\[0\].role must be user",
        ),
        (
            request_body(messages=[{"role": "system", "content": None}]),
            r"messages\[0\].content must be text",
        ),
        (
            request_body(messages=[{"role": ["user"], "content": "x"}]),
            r"messages\[0\].role must be user",
        ),
        (
            request_body(messages=[{"role": "user"}]),
            r"messages\[0\].content must be text or a list",
        ),
        (one_turn("user"), r"messages\[0\].content must be text or a list"),
        (one_turn("user", "Hi"), r"content\[0\] must be a JSON object, not text"),
        (one_turn("user", {"type": "text"}), r"content\[0\].text must be text, not null"),
        (
            one_turn("user", {"type": "document"}),
            r"content\[0\].type 'document' is not supported here",
        ),
        (
            one_turn("user", {"type": "tool_use"}),
            "'tool_use' is not supported here: use text, image",
        ),
        (one_turn("user", {"type": ["text"]}), "is not supported here"),
        (one_turn("assistant", result()), "'tool_result' is not supported here"),
        (one_turn("user", {"type": "image"}), r"content\[0\].source must be a JSON object"),
        (one_turn("user", {"type": "image", "source": {}}), "source.type must be base64 or url"),
        (one_turn("user", {"type": "tool_result"}), "tool_use_id must be text"),
        (one_turn("user", result(content=1)), r"content\[0\].content must be text or a list"),
        (
            one_turn("user", result(content=[result()])),
            r"content\[0\].content\[0\].type 'tool_result'",
        ),
        (
            one_turn("assistant", {"type": "tool_use", "id": "1", "name": "f"}),
            "input must be a JSON",
        ),
        (one_turn("assistant", {"type": "tool_use", "name": "f", "input": {}}), "id must be text"),
        (request_body(system=1), "system must be text"),
        (request_body(thinking={"type": "x"}), "thinking.type must be"),
        (request_body(thinking={"type": "enabled"}), "thinking.budget_tokens must be"),
        (request_body(output_format={}), "output_format.schema must be"),
        (request_body(mcp_servers=[{}]), "mcp_servers is not supported"),
        (request_body(thread={"type": "create"}), "thread is not supported"),
        (request_body(compaction={"type": "enabled"}), "compaction is not supported"),
        (
            request_body(system=[{"type": "image"}]),
            r"system\[0\].type 'image' is not supported here",
        ),
        (request_body(stream="yes"), "stream must be true or false"),
        (request_body(stop_sequences="x"), "stop_sequences must be a list"),
        (request_body(stop_sequences=[1]), r"stop\[0\] must be text"),
        (request_body(tools=[{"name": "f"}]), r"tools\[0\].input_schema must be a JSON object"),
        (
            request_body(tools=[{"type": "web_search_1", "name": "f"}]),
            "'web_search_1' is not supported",
        ),
        (request_body(tools=[ADD], tool_choice="any"), "tool_choice must be a JSON object"),
        (request_body(tools=[ADD], tool_choice={"type": "x"}), "tool_choice.type must be auto"),
        (request_body(tools=[ADD], tool_choice={"type": "tool", "name": "x"}), "one of the tools"),
        (request_body(tool_choice={"type": "any"}), "no tools are given"),
        (
            request_body(output_config={"format": {}}),
            "output_config.format.schema must be a JSON object",
        ),
        (request_body(output_config={"task_budget": {}}), "output_config.task_budget is not supp"),
        (
            request_body(mcp_servers=[{}]),
            "mcp_servers is not supported: this gateway does not call",
        ),
        (request_body(stop=["x"]), "stop is not supported: use stop_sequences"),
        (request_body(temperature="hot"), "temperature must be a number"),
    ],
)
def test_read_wrong_body(body: Any, message: str) -> None:
    """The error names the field, and is a 400 in Anthropic's form."""
    with pytest.raises(RequestError, match=message) as caught:
        ANTHROPIC.read(body)
    answer = json.loads(error_body(caught.value, ANTHROPIC.path))
    assert (answer["type"], answer["error"]["type"]) == ("error", "invalid_request_error")
