"""The protocols from the server's side: what a body means, and how an answer is written."""

from __future__ import annotations

import json
from typing import Any

import pytest

from providers_sync.dialects import (
    AI365VIP,
    CODELINKAVA,
    DIALECTS,
    OPENAI,
    VITALENTUM,
    ChatRequest,
    Dialect,
    RequestError,
    whole_answer,
)
from providers_sync.types import Usage

ABOUT: dict[str, Any] = {"id": "chatcmpl-1", "created": 1700000000, "model": "echo"}
TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello, Vitalentum!"},
    {"role": "assistant", "content": "Hi"},
    {"role": "user", "content": 'Привет 😀 "q"\nline2'},
]

# What the historical clients really sent for TURNS.
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


def events(body: bytes) -> list[Any]:
    """Read an event stream the plain way: one ``data:`` line an event."""
    lines = [event.removeprefix("data: ") for event in body.decode().split("\n\n")[:-1]]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def test_read_captured_vitalentum() -> None:
    """Speakers become roles; the system message has become the bot's on the wire."""
    turns = [{"role": "assistant", "content": "Be brief."}, *TURNS[1:]]
    assert VITALENTUM.read(SENT_VITALENTUM) == ChatRequest(turns, {"temperature": 0.7})


def test_read_captured_codelinkava() -> None:
    """Messages stay as they are, and ``stream`` is no option."""
    assert CODELINKAVA.read(SENT_CODELINKAVA) == ChatRequest(TURNS, {"temperature": 0.6})


def test_read_captured_ai365vip() -> None:
    """The prompt comes first as the system message; the user message is not taken apart."""
    asked = AI365VIP.read(SENT_AI365VIP)
    assert asked.messages == [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": SENT_AI365VIP["messages"][0]["content"]},
    ]
    assert (asked.model, asked.options) == ("gpt-3.5-turbo", {"temperature": 1})


def test_read_ai365vip_without_prompt() -> None:
    """No prompt, no system message."""
    asked = AI365VIP.read({**SENT_AI365VIP, "prompt": ""})
    assert [message["role"] for message in asked.messages] == ["user"]


def test_read_openai_body() -> None:
    """Options are what is left; ``null`` means not given; not streamed unless asked."""
    body = {"model": "m", "messages": TURNS, "temperature": 0, "top_p": None}
    assert OPENAI.read(body) == ChatRequest(TURNS, {"temperature": 0}, "m", stream=False)
    streamed = OPENAI.read({**body, "stream": True, "stream_options": {"include_usage": True}})
    assert (streamed.stream, streamed.include_usage) == (True, True)
    assert streamed.options == {"temperature": 0}


def test_read_openai_content_kinds() -> None:
    """Content may be parts, and null beside tool calls."""
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
    ]
    assert OPENAI.read({"model": "m", "messages": messages}).messages == messages


def vitalentum(conversation: Any) -> dict[str, Any]:
    return {"conversation": json.dumps(conversation)}


def openai(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": TURNS, **fields}


@pytest.mark.parametrize(
    ("dialect", "body", "message"),
    [
        *((dialect, [], "the body must be a JSON object, not a list") for dialect in DIALECTS),
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
        (AI365VIP, {"model": "gpt-4o", "messages": TURNS}, "model must be a JSON object"),
        (AI365VIP, {"model": {}, "messages": TURNS}, "model.id must be the name"),
        (AI365VIP, {**SENT_AI365VIP, "prompt": 1}, "prompt must be text, not a number"),
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
        (OPENAI, openai(max_tokens=0), "max_tokens must be a whole number above 0"),
        (OPENAI, openai(max_tokens=1.5), "max_tokens must be a whole number above 0"),
    ],
)
def test_read_wrong_body(dialect: Dialect, body: Any, message: str) -> None:
    """The error names the item, and is a 400 in OpenAI's shape."""
    with pytest.raises(RequestError, match=message) as caught:
        dialect.read(body)
    assert caught.value.status == 400
    assert caught.value.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("dialect", [VITALENTUM, CODELINKAVA, OPENAI], ids=lambda d: d.name)
def test_write_events(dialect: Dialect) -> None:
    """Text stands in ``choices[0].delta.content``; a finish reason and ``[DONE]`` end it."""
    writer = dialect.writer(**ABOUT)
    assert writer.content_type == "text/event-stream; charset=utf-8"
    body = writer.start() + writer.text("Да\n") + writer.text("😀") + writer.end("stop", Usage(1))
    start, one, two, finish, done = events(body)
    assert start["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [e["choices"][0]["delta"]["content"] for e in (one, two)] == ["Да\n", "😀"]
    assert finish["choices"][0] == {"index": 0, "delta": {}, "finish_reason": "stop"}
    assert {e["object"] for e in (start, one, two, finish)} == {"chat.completion.chunk"}
    assert done == "[DONE]"


def test_write_events_with_usage() -> None:
    """Asked for, the counts come in a chunk without choices, after the finish reason."""
    writer = OPENAI.writer(**ABOUT, include_usage=True)
    finish, usage, done = events(writer.end("length", Usage(3, 4, 7)))
    assert finish["choices"][0]["finish_reason"] == "length"
    assert usage["choices"] == []
    assert usage["usage"] == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    assert done == "[DONE]"


def test_write_error_event() -> None:
    """An error in a stream that has begun is an event of its own."""
    error = RequestError("no more", status=500, type="server_error", code="oops")
    (event,) = events(OPENAI.writer(**ABOUT).error(error) or b"")
    assert event == {"error": {"message": "no more", "type": "server_error", "code": "oops"}}


def test_write_plain_text() -> None:
    """AI365VIP's answer is the text and nothing else; an error has no place in it."""
    writer = AI365VIP.writer(**ABOUT)
    body = writer.start() + writer.text("Да\n") + writer.text("😀") + writer.end("stop", None)
    assert (writer.content_type, body.decode()) == ("text/plain; charset=utf-8", "Да\n😀")
    assert writer.error(RequestError("no more")) is None


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: d.name)
def test_write_lone_surrogate(dialect: Dialect) -> None:
    """Half a surrogate pair, legal in JSON, cannot break the answer's encoding."""
    assert "a?b" in dialect.writer(**ABOUT).text("a\ud83db").decode()


def test_write_whole_answer() -> None:
    """One JSON object with message, finish reason and usage."""
    body = json.loads(whole_answer("Hi", "stop", Usage(1, 2, 3), **ABOUT))
    assert body["choices"] == [
        {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
    ]
    assert body["usage"]["total_tokens"] == 3
    assert (body["object"], body["model"]) == ("chat.completion", "echo")
