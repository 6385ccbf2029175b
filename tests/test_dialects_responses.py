"""Tests of reading requests of the Responses API, and of what its answers look like."""

from __future__ import annotations

import json
from typing import Any

import pytest
from gateway_kit import events

from providers_sync.dialects import RESPONSES, AnswerInfo, ChatRequest, Ending, RequestError
from providers_sync.types import ReasoningDelta, Refusal, ToolCall, Usage

INFO = AnswerInfo("1", 1700000000, "echo")
CALL = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "add", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "3"}
CHAT_CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}


def read(**fields: Any) -> ChatRequest:
    return RESPONSES.read({"model": "m", "input": "Hi", **fields})


@pytest.mark.parametrize(
    ("given", "messages"),
    [
        ("Hi", [{"role": "user", "content": "Hi"}]),
        ([{"role": "developer", "content": "x"}], [{"role": "developer", "content": "x"}]),
        ([{"type": None, "role": "user", "content": "x"}], [{"role": "user", "content": "x"}]),
        (
            [{"role": "user", "content": [{"type": "input_text", "text": t} for t in "ab"]}],
            [{"role": "user", "content": "ab"}],
        ),
        (
            [CALL, {**CALL, "call_id": "c2"}, OUTPUT],
            [
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [CHAT_CALL, {**CHAT_CALL, "id": "c2"}],
                },
                {"role": "tool", "tool_call_id": "c1", "content": "3"},
            ],
        ),
        (
            [
                {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]},
                {"type": "message", "role": "assistant", "content": "Yes"},
                CALL,
                {"role": "assistant", "content": "No"},
            ],
            [
                {
                    "role": "assistant",
                    "reasoning_content": "Hm.",
                    "content": "Yes",
                    "tool_calls": [CHAT_CALL],
                },
                {"role": "assistant", "content": "No"},
            ],
        ),
        (
            [{"type": "reasoning", "summary": [], "encrypted_content": "x"}],
            [{"role": "assistant", "reasoning_content": "", "content": ""}],
        ),
    ],
)
def test_read_input(given: Any, messages: Any) -> None:
    """Items become messages in the form of chat completions."""
    assert read(input=given).messages == messages


def test_read_many_items_in_linear_time() -> None:
    """Items of one message are collected; to copy it for each of them would take minutes."""
    count = 15_000
    thought = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "x" * 2000}]}
    (message,) = read(input=[thought] * count).messages
    assert len(message["reasoning_content"]) == 2000 * count


def test_read_options() -> None:
    """Options get the names of chat completions; those that are not known are passed on."""
    schema = {"type": "object", "properties": {}}
    request = read(
        stream=True,
        max_output_tokens=5,
        top_k=3,
        store=True,
        background=False,
        context_management=[],
        truncation="disabled",
        include=["reasoning.encrypted_content"],
        reasoning={"effort": "low"},
        text={
            "format": {"type": "json_schema", "name": "n", "schema": schema, "strict": True},
            "verbosity": "low",
        },
        tools=[{"type": "function", "name": "f", "parameters": schema, "description": "d"}],
        tool_choice={"type": "function", "name": "f"},
        parallel_tool_calls=False,
    )
    assert request.stream
    assert request.options == {
        "max_tokens": 5,
        "top_k": 3,
        "reasoning_effort": "low",
        "verbosity": "low",
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "n", "schema": schema, "strict": True},
        },
        "tools": [
            {
                "type": "function",
                "function": {"name": "f", "parameters": schema, "description": "d"},
            }
        ],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "parallel_tool_calls": False,
    }


def part(**fields: Any) -> dict[str, Any]:
    return {"input": [{"role": "user", "content": [fields]}]}


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"model": None}, "model must be"),
        ({"input": None}, "input must be"),
        ({"input": []}, "input must be"),
        ({"input": [1]}, r"input\[0\] must be"),
        ({"input": [{"role": "tool", "content": "x"}]}, r"input\[0\].role"),
        ({"input": [{"role": "user", "content": 1}]}, r"input\[0\].content"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "stores nothing"),
        ({"input": [{"type": "web_search_call"}]}, "'web_search_call' is not supported"),
        ({"input": [{**CALL, "call_id": None}]}, r"input\[0\].call_id"),
        ({"input": [{**CALL, "arguments": {}}]}, r"input\[0\].arguments"),
        ({"input": [{**OUTPUT, "output": None}]}, r"input\[0\].output"),
        (part(type="input_image", file_id="x"), r"content\[0\].image_url is missing"),
        (part(type="input_file", file_url="x"), r"content\[0\].file_data is missing"),
        (part(type="image_url"), r"content\[0\].type 'image_url' is not supported"),
        ({"instructions": ["x"]}, "instructions must be text"),
        ({"previous_response_id": "x"}, "previous_response_id is not supported"),
        ({"background": True}, "background is not supported"),
        ({"max_tokens": 1}, "max_tokens is not supported: use max_output_tokens"),
        ({"max_output_tokens": 0}, "max_output_tokens must be a whole number above 0"),
        ({"truncation": "auto"}, "truncation must be disabled"),
        ({"include": ["message.output_text.logprobs"]}, r"include\[0\]"),
        ({"moderation": {"model": "x"}}, "moderation is not supported"),
        ({"top_logprobs": 2}, "log probabilities"),
        ({"tools": [{"type": "web_search"}]}, r"tools\[0\].type 'web_search'"),
        ({"tools": [{"type": "function"}]}, r"tools\[0\].name"),
        ({"tool_choice": {"type": "mcp"}}, "tool_choice.type 'mcp'"),
        ({"tool_choice": "required"}, "tool_choice requires a tool"),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format.schema must be"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type must be"),
        ({"reasoning": 1}, "reasoning must be"),
    ],
)
def test_refuse(fields: dict[str, Any], named: str) -> None:
    """What cannot be read or honoured is an error that names the field."""
    with pytest.raises(RequestError, match=named) as caught:
        read(**fields)
    assert caught.value.status == 400


DELTAS = [
    ReasoningDelta("H"),
    ReasoningDelta("m."),
    "a?b",
    Refusal("No."),
    ToolCall("c1", "add", {"a": 1}, '{"a": 1}'),
    "b",
]
ITEMS = [
    {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]},
    {
        "type": "message",
        "role": "assistant",
        "content": [
            {"type": "output_text", "text": "a?b", "annotations": [], "logprobs": []},
            {"type": "refusal", "refusal": "No."},
        ],
    },
    {"type": "function_call", "call_id": "c1", "name": "add", "arguments": '{"a": 1}'},
    {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "b", "annotations": [], "logprobs": []}],
    },
]


def test_write_items() -> None:
    """Streamed and whole, the items are the same; each event names its item, part and place."""
    whole = json.loads(RESPONSES.writer(INFO).complete(DELTAS, Ending("stop")))
    assert [
        {name: value for name, value in item.items() if name not in ("id", "status")}
        for item in whole["output"]
    ] == ITEMS
    assert {item["status"] for item in whole["output"]} == {"completed"}
    writer = RESPONSES.writer(INFO)
    body = writer.start(Usage()) + b"".join(map(writer.delta, DELTAS)) + writer.end(Ending("stop"))
    sent = events(body)
    assert sent[-1]["response"] == whole
    done = [event for event in sent if event["type"] == "response.output_item.done"]
    assert [event["item"] for event in done] == whole["output"]
    assert [event["output_index"] for event in done] == [0, 1, 2, 3]
    parts = [event for event in sent if event["type"] == "response.content_part.done"]
    assert [(e["output_index"], e["content_index"]) for e in parts] == [
        *((0, 0), (1, 0), (1, 1), (3, 0))
    ]
    arguments = [e["delta"] for e in sent if "call_arguments.delta" in e["type"]]
    assert "".join(arguments) == '{"a": 1}'


@pytest.mark.parametrize(
    ("reason", "status", "detail"),
    [
        ("stop", "completed", None),
        ("end_turn", "completed", None),
        ("tool_use", "completed", None),
        ("MAX_TOKENS", "incomplete", "max_output_tokens"),
        ("refusal", "incomplete", "content_filter"),
        ("pause_turn", "incomplete", "pause_turn"),
    ],
)
def test_write_status(reason: str, status: str, detail: str | None) -> None:
    """A response is complete only if the model ended it by itself."""
    whole = json.loads(RESPONSES.writer(INFO).complete(["Hi"], Ending(reason)))
    assert whole["status"] == status
    assert (whole["incomplete_details"] or {}).get("reason") == detail
    (*_, end) = events(RESPONSES.writer(INFO).end(Ending(reason)))
    assert end["type"] == f"response.{status}"


def test_write_without_counts() -> None:
    """An engine that counts nothing has no usage."""
    assert json.loads(RESPONSES.writer(INFO).complete(["Hi"], Ending()))["usage"] is None
