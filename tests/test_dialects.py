"""Tests of reading request bodies in OpenAI's and the historical protocols."""

from __future__ import annotations

import json
from typing import Any

import pytest

from providers_sync.dialects import (
    AI365VIP_DIALECT,
    CODELINKAVA,
    DIALECTS,
    GEMINI,
    OLLAMA,
    OPENAI,
    VITALENTUM,
    ChatRequest,
    Dialect,
    RequestError,
    error_body,
)

LIKE_OPENAI = [dialect for dialect in DIALECTS if dialect not in (GEMINI, OLLAMA)]
"""Those whose errors say ``{"error": {"type": …}}``: take out a protocol that has another form."""
"""Errors of the others have forms of their own."""
ADD = {"type": "function", "function": {"name": "add", "parameters": {}}}
TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello, Vitalentum!"},
    {"role": "assistant", "content": "Hi"},
    {"role": "user", "content": 'Привет 😀 "q"\nline2'},
]

# The bodies that the historical clients sent for TURNS.
SENT_VITALENTUM = {
    "conversation": '{"history": [{"speaker": "bot", "text": "Be brief."}, '
    '{"speaker": "human", "text": "Hello, Vitalentum!"}, {"speaker": "bot", "text": "Hi"}, '
    '{"speaker": "human", "text": "\\u041f\\u0440\\u0438\\u0432\\u0435\\u0442 '
    '\\ud83d\\ude00 \\"q\\"\\nline2"}]}',
    "temperature": 0.7,
}
SENT_CODELINKAVA = {"messages": TURNS, "temperature": 0.6, "stream": True}
SENT_AI365VIP = {
    "model": {"id": "gpt-3.5-turbo", "name": "GPT-3.5", "maxLength": 3000, "tokenLimit": 2048},
    "messages": [
        {
            "role": "user",
            "content": "System: Be brief.\nUser: Hello, Vitalentum!\nAssistant: Hi\n"
            'User: Привет 😀 "q"\nline2\nAssistant:',
        }
    ],
    "key": "",
    "prompt": "You are a helpful assistant.",
    "temperature": 1,
}


def test_read_captured_vitalentum() -> None:
    """Speakers become roles; the client sent the system message as the bot's."""
    turns = [{"role": "assistant", "content": "Be brief."}, *TURNS[1:]]
    assert VITALENTUM.read(SENT_VITALENTUM) == ChatRequest(turns, {"temperature": 0.7})


def test_read_captured_codelinkava() -> None:
    """Messages are unchanged, and ``stream`` is not an option."""
    assert CODELINKAVA.read(SENT_CODELINKAVA) == ChatRequest(TURNS, {"temperature": 0.6})


def test_read_captured_ai365vip() -> None:
    """The prompt becomes the system message; the user message is not split."""
    request = AI365VIP_DIALECT.read(SENT_AI365VIP)
    assert request.messages == [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": SENT_AI365VIP["messages"][0]["content"]},
    ]
    assert (request.model, request.options) == ("gpt-3.5-turbo", {"temperature": 1})


def test_read_ai365vip_without_prompt() -> None:
    """Without a prompt there is no system message."""
    request = AI365VIP_DIALECT.read({**SENT_AI365VIP, "prompt": ""})
    assert [message["role"] for message in request.messages] == ["user"]


def test_read_openai_body() -> None:
    """The other fields are options unless ``null``; streaming is off by default."""
    body = {"model": "m", "messages": TURNS, "temperature": 0, "top_p": None}
    assert OPENAI.read(body) == ChatRequest(TURNS, {"temperature": 0}, "m", stream=False)
    streamed = OPENAI.read({**body, "stream": True, "stream_options": {"include_usage": True}})
    assert (streamed.stream, streamed.include_usage) == (True, True)
    assert streamed.options == {"temperature": 0}


def test_read_openai_content_kinds() -> None:
    """Content may be a list of parts, and null if there are tool calls."""
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x"}}]},
        {"role": "assistant", "content": None, "tool_calls": [tool_call()]},
        {"role": "tool", "tool_call_id": "1", "content": "2"},
    ]
    assert OPENAI.read({"model": "m", "messages": messages}).messages == messages


def test_read_openai_refusal() -> None:
    """A refusal can be sent back as the service writes it; its content becomes empty."""
    refusal = {"role": "assistant", "content": None, "refusal": "No."}
    (message,) = OPENAI.read({"model": "m", "messages": [refusal]}).messages
    assert message == {**refusal, "content": ""}


def test_read_openai_options() -> None:
    """Tools, schemas and unknown fields reach the engine unchanged."""
    options = {
        "tools": [ADD],
        "tool_choice": {"type": "function", "function": {"name": "add"}},
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}},
        "stop": "x",
        "n": 1,
        "seed": 7,
        "logprobs": False,
        "modalities": ["text"],
        "from_tomorrow": [1],
    }
    assert OPENAI.read(openai(**options)).options == options


def tool_call(**function: Any) -> dict[str, Any]:
    """Return a tool call as it appears in a message."""
    return {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}", **function}}


def vitalentum(conversation: Any) -> dict[str, Any]:
    return {"conversation": json.dumps(conversation)}


def openai(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": TURNS, **fields}


def one_message(**fields: Any) -> dict[str, Any]:
    """Return a request with one message."""
    return openai(messages=[{"role": "assistant", "content": "Hi", **fields}])


@pytest.mark.parametrize(
    ("dialect", "body", "message"),
    [
        *((dialect, [], "the body must be a JSON object, not a list") for dialect in LIKE_OPENAI),
        (VITALENTUM, {}, "conversation must be a string"),
        (VITALENTUM, {"conversation": {}}, "conversation must be a string"),
        (VITALENTUM, {"conversation": "{"}, "conversation is not valid JSON"),
        (VITALENTUM, {"conversation": "[" * 100_000}, "conversation is not valid JSON"),
        (VITALENTUM, vitalentum([]), "conversation must be a JSON object"),
        (VITALENTUM, vitalentum({"history": []}), "conversation.history must be a list"),
        (VITALENTUM, vitalentum({"history": ["Hi"]}), r"history\[0\] must be a JSON object"),
        (
            VITALENTUM,
            vitalentum({"history": [{"speaker": "user", "text": "Hi"}]}),
            r"history\[0\].speaker must be human or bot",
        ),
        (
            VITALENTUM,
            vitalentum({"history": [{"speaker": "human", "text": 1}]}),
            r"history\[0\].text must be text, not a number",
        ),
        (CODELINKAVA, {"messages": "Hi"}, "messages must be a list"),
        (CODELINKAVA, {"messages": []}, "messages must be a list"),
        (AI365VIP_DIALECT, {"model": "gpt-4o", "messages": TURNS}, "model must be a JSON object"),
        (AI365VIP_DIALECT, {"model": {}, "messages": TURNS}, "model.id must be the name"),
        (AI365VIP_DIALECT, {**SENT_AI365VIP, "prompt": 1}, "prompt must be text, not a number"),
        (OPENAI, {"messages": TURNS}, "model must be the name"),
        (OPENAI, openai(messages=["Hi"]), r"messages\[0\] must be a JSON object, not text"),
        (OPENAI, openai(messages=[{"content": "Hi"}]), r"messages\[0\].role must be text"),
        (OPENAI, openai(messages=[{"role": "user"}]), r"messages\[0\].content must be text"),
        (
            OPENAI,
            openai(messages=[{"role": "user", "content": ["Hi"]}]),
            r"messages\[0\].content\[0\] must be a JSON object",
        ),
        (
            OPENAI,
            openai(messages=[{"role": "user", "content": [{"text": "Hi"}]}]),
            r"content\[0\].type must be text, not null",
        ),
        (
            OPENAI,
            openai(messages=[{"role": "user", "content": [{"type": "text"}]}]),
            r"content\[0\].text must be text, not null",
        ),
        (OPENAI, openai(stream="yes"), "stream must be true or false, not text"),
        (OPENAI, openai(stream_options=[]), "stream_options must be a JSON object"),
        (OPENAI, openai(temperature="hot"), "temperature must be a number, not text"),
        (OPENAI, openai(temperature=True), "temperature must be a number, not a boolean"),
        (AI365VIP_DIALECT, {**SENT_AI365VIP, "tools": [ADD]}, "tools cannot be used"),
        (OPENAI, one_message(tool_calls={}), r"messages\[0\].tool_calls must be a list"),
        (
            OPENAI,
            one_message(tool_calls=[{"id": "1"}]),
            r"tool_calls\[0\].function must be a JSON object",
        ),
        (
            OPENAI,
            one_message(tool_calls=[tool_call(name="")]),
            "function.name must be the name of a tool",
        ),
        (
            OPENAI,
            one_message(tool_calls=[tool_call(arguments={})]),
            "arguments must be text, not an object",
        ),
        (OPENAI, one_message(role="tool"), r"messages\[0\].tool_call_id must be text, not null"),
        (
            OPENAI,
            one_message(role="assistant", content="Hi", providers_sync={}),
            r"messages\[0\].providers_sync is not part of the protocol",
        ),
        (OPENAI, one_message(role="assistant", content="Hi", refusal=1), r"\.refusal must be text"),
        (OPENAI, one_message(content=[{"type": "refusal"}]), r"content\[0\]\.refusal must be text"),
        (
            OPENAI,
            one_message(content=[{"type": "image_url", "image_url": {}}]),
            "image_url.url must be text",
        ),
        (OPENAI, openai(n=2), "n must be 1"),
        (OPENAI, openai(stop=[1]), r"stop\[0\] must be text, not a number"),
        (OPENAI, openai(stop={}), "stop must be a list, not an object"),
        (OPENAI, openai(stop=["x"] * 65), "stop must have at most 64 sequences, not 65"),
        (OPENAI, openai(response_format="json"), "response_format must be a JSON object"),
        (
            OPENAI,
            openai(response_format={"type": "json_schema"}),
            "response_format.json_schema must be a JSON object, not null",
        ),
        (OPENAI, openai(tools={}), "tools must be a list"),
        (OPENAI, openai(tools=[{}]), r"tools\[0\].function must be a JSON object"),
        (OPENAI, openai(tools=[{"function": {}}]), r"tools\[0\].function.name must be the name"),
        (OPENAI, openai(tool_choice="required"), "no tools are given"),
        (OPENAI, openai(tools=[ADD], tool_choice="any"), "tool_choice must be none, auto"),
        (
            OPENAI,
            openai(tools=[ADD], tool_choice={"function": {"name": "sub"}}),
            "must be the name of one of the tools",
        ),
        (OPENAI, openai(max_tokens=0), "max_tokens must be a whole number above 0"),
        (OPENAI, openai(response_format={"type": "xml"}), "must be text, json_object or json_sch"),
        (OPENAI, openai(logprobs=True), "logprobs is not supported: .* no log probabilities"),
        (OPENAI, openai(functions=[{}]), "functions is not supported: use tools"),
        (OPENAI, openai(web_search_options={}), "web_search_options is not supported"),
        (OPENAI, openai(moderation={"model": "x"}), "moderation is not supported"),
        (OPENAI, openai(modalities=["audio"]), "modalities must be"),
        (OPENAI, openai(max_tokens=1.5), "max_tokens must be a whole number above 0"),
    ],
)
def test_read_wrong_body(dialect: Dialect, body: Any, message: str) -> None:
    """The error names the field, and is a 400 in OpenAI's form."""
    with pytest.raises(RequestError, match=message) as caught:
        dialect.read(body)
    assert caught.value.status == 400
    error = json.loads(error_body(caught.value, dialect.path))["error"]
    assert error["type"] == "invalid_request_error"
