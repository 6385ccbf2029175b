"""Tests of reading request bodies and of writing answers in Ollama's protocol."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from gateway_kit import events

from providers_sync.dialects import (
    OLLAMA,
    AnswerInfo,
    ChatRequest,
    Ending,
    RequestError,
    error_body,
)
from providers_sync.types import ReasoningDelta, Refusal, ToolCall, Usage

HI = [{"role": "user", "content": "Hi"}]
ADD = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
INFO = AnswerInfo("1", 1700000000, "echo")


def read(**fields: Any) -> ChatRequest:
    return OLLAMA.read({"model": "m", "messages": HI, **fields})


def call(name: str, **fields: Any) -> dict[str, Any]:
    return {"function": {"name": name, "arguments": {"a": 1}}, **fields}


def assistant(*calls: Any, **fields: Any) -> dict[str, Any]:
    return {"role": "assistant", "tool_calls": list(calls), **fields}


def result(content: str, **fields: Any) -> dict[str, Any]:
    return {"role": "tool", "content": content, **fields}


# --- reading


@pytest.mark.parametrize(
    ("model", "stream", "expected"),
    [("m", None, ("m", True)), ("m:latest", True, ("m", True)), ("m:8b", False, ("m:8b", False))],
)
def test_read_model_and_stream(model: str, stream: Any, expected: Any) -> None:
    """An answer is streamed unless the client says no; the tag ``latest`` says nothing."""
    request = read(model=model, stream=stream)
    assert (request.model, request.stream) == expected


def test_read_options() -> None:
    """The limit gets OpenAI's name, others stay; what sets up a machine is left to the engine."""
    request = read(
        options={
            **{"temperature": 0.5, "top_k": 3, "min_p": 0.1, "seed": 1, "repeat_penalty": 1.1},
            **{"stop": ["x"], "num_predict": 9, "mirostat": 1, "top_p": None},
            **{"num_ctx": 4096, "num_gpu": 1, "num_thread": 8, "use_mmap": True},
        },
        **{"keep_alive": "5m", "truncate": True, "shift": True, "logprobs": False},
        tools=[ADD],
        from_tomorrow=[1],
    )
    assert request.options == {
        **{"temperature": 0.5, "top_k": 3, "min_p": 0.1, "seed": 1, "repeat_penalty": 1.1},
        **{"stop": ["x"], "max_tokens": 9, "mirostat": 1},
        **{"tools": [ADD], "from_tomorrow": [1]},
    }
    for unlimited in (-1, -2, None):
        assert read(options={"num_predict": unlimited}).options == {}


@pytest.mark.parametrize(
    ("think", "effort"), [(True, "medium"), (False, "none"), ("low", "low"), ("max", "max")]
)
def test_read_think(think: Any, effort: str) -> None:
    """How much to think gets OpenAI's name."""
    assert read(think=think).options == {"reasoning_effort": effort}
    assert read(think=None).options == {}


def test_read_format() -> None:
    """``format`` is a schema, or asks for JSON; an empty text asks for nothing."""
    schema = {"type": "object", "properties": {}}
    wrapper = read(format=schema).options["response_format"]
    assert wrapper == {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    assert read(format="json").options == {"response_format": {"type": "json_object"}}
    assert read(format="").options == read(format=None).options == {}


def test_read_tool_turns() -> None:
    """Calls get ids; a result is that of the first open call of its tool, or of any."""
    messages = read(
        messages=[
            *HI,
            assistant(call("f"), call("g"), call("f", id="own"), thinking="Hm.", content=""),
            result("1", tool_name="f"),
            result("2", tool_name="f"),
            result("3"),
            assistant({"function": {"name": "f"}}, content="Again."),
            result("4", tool_call_id="unknown", tool_name="f"),
        ]
    ).messages
    _, first, one, two, three, second, four = messages
    assert (first["content"], first["reasoning_content"]) == (None, "Hm.")
    function = {"name": "f", "arguments": '{"a": 1}'}
    assert first["tool_calls"][0] == {"id": "call_0", "type": "function", "function": function}
    assert [each["id"] for each in first["tool_calls"]] == ["call_0", "call_1", "own"]
    assert [m["tool_call_id"] for m in (one, two, three)] == ["call_0", "own", "call_1"]
    assert one == {"role": "tool", "tool_call_id": "call_0", "content": "1"}
    assert (second["content"], second["tool_calls"][0]["id"]) == ("Again.", "call_3")
    assert second["tool_calls"][0]["function"]["arguments"] == "{}"
    assert four["tool_call_id"] == "call_3"


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"\x89PNG\r\n", "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\x01\x02\x03\x04WEBPVP8 ", "image/webp"),
        (b"RIFF\x01\x02\x03\x04WAVE", "image/png"),
        (b"BM", "image/bmp"),
        (b"?", "image/png"),
    ],
)
def test_read_images(start: bytes, kind: str) -> None:
    """The first bytes tell the type; the text comes first."""
    data = base64.b64encode(start + b"\xfb" * 99).decode()
    image = {"type": "image_url", "image_url": {"url": f"data:{kind};base64,{data}"}}
    turn = {"role": "user", "content": "See", "images": [data]}
    (message,) = read(messages=[turn]).messages
    assert message == {"role": "user", "content": [{"type": "text", "text": "See"}, image]}
    (alone,) = read(messages=[{"role": "user", "content": "", "images": [data]}]).messages
    assert alone["content"] == [image]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": ""}, "model must be the name of a model"),
        ({"messages": None}, "messages must be a list, not null"),
        ({"messages": []}, "this gateway does not load models"),
        ({"messages": ["Hi"]}, r"messages\[0\] must be a JSON object"),
        ({"messages": [{"role": "bot"}]}, r"messages\[0\].role must be one of system, user"),
        ({"messages": [{"role": ["user"]}]}, r"messages\[0\].role must be one of"),
        ({"messages": [{"role": "user", "content": []}]}, "content must be text, not a list"),
        ({"messages": [{"role": "user", "images": "x"}]}, "images must be a list"),
        ({"messages": [{"role": "user", "images": [1]}]}, r"images\[0\] must be text"),
        ({"messages": [{"role": "user", "images": ["!!!!"]}]}, r"images\[0\] must be an image"),
        (
            {"messages": [{"role": "user", "images": ["data:image/png;base64,aGk="]}]},
            r"messages\[0\].images\[0\] must be an image in base64",
        ),
        ({"messages": [assistant(1)]}, r"tool_calls\[0\] must be a JSON object"),
        ({"messages": [assistant({})]}, r"tool_calls\[0\].function must be a JSON object"),
        ({"messages": [assistant(call(""))]}, "function.name must be the name of a tool"),
        (
            {"messages": [assistant({"function": {"name": "f", "arguments": "{}"}})]},
            "function.arguments must be a JSON object, not text",
        ),
        ({"messages": [assistant(call("f", id=1))]}, r"tool_calls\[0\].id must be text"),
        ({"messages": [assistant(thinking=1)]}, "thinking must be text"),
        ({"messages": [result("1")]}, r"messages\[0\] does not match any call"),
        ({"messages": [assistant(call("f")), result("1", tool_name="g")]}, "of the tool 'g'"),
        ({"messages": [assistant(call("f")), result("1", tool_name=1)]}, "tool_name must be text"),
        (
            {"messages": [assistant(call("f")), result("1"), result("2")]},
            r"messages\[2\] does not match any call",
        ),
        ({"options": []}, "options must be a JSON object"),
        ({"options": {"num_predict": 0}}, "options.num_predict must be a whole number above 0"),
        ({"options": {"num_predict": "9"}}, "options.num_predict must be a whole number"),
        ({"options": {"num_predict": True}}, "options.num_predict must be a whole number"),
        ({"options": {"temperature": "x"}}, "temperature must be a number"),
        ({"options": {"stop": 1}}, "stop must be a list"),
        ({"format": "xml"}, 'format must be "json" or a JSON schema'),
        ({"format": 1}, "format must be"),
        ({"think": ""}, "think must be true, false or a level such as low, medium or high"),
        ({"think": ["low"]}, "think must be true"),
        ({"logprobs": True}, "logprobs is not supported by this gateway"),
        ({"top_logprobs": 2}, "top_logprobs is not supported by this gateway"),
        ({"stream": "no"}, "stream must be true or false"),
        ({"tools": [{}]}, r"tools\[0\].function must be a JSON object"),
    ],
)
def test_read_wrong_body(fields: dict[str, Any], message: str) -> None:
    """The error names the field, and is a 400 in Ollama's form."""
    with pytest.raises(RequestError, match=message) as caught:
        read(**fields)
    assert caught.value.status == 400
    assert json.loads(error_body(caught.value, "/api/chat")) == {"error": caught.value.message}


def test_read_body_that_is_no_object() -> None:
    """It is refused."""
    with pytest.raises(RequestError, match="the body must be a JSON object, not a list"):
        OLLAMA.read([])


# --- writing

DELTAS = [
    ReasoningDelta("H"),
    ReasoningDelta("m."),
    "Да\n",
    "😀",
    ToolCall("c1", "f", {"a": 1}, '{"a": 1}'),
    ToolCall("c2", "g", {}, ""),
]
CALLS = [
    {"id": "c1", "function": {"index": 0, "name": "f", "arguments": {"a": 1}}},
    {"id": "c2", "function": {"index": 1, "name": "g", "arguments": {}}},
]
HEAD = {"model": "echo", "created_at": "2023-11-14T22:13:20Z"}
DURATIONS = ("total_duration", "load_duration", "prompt_eval_duration", "eval_duration")


def check_end(line: dict[str, Any], message: dict[str, Any], *, streamed: bool) -> None:
    """Check the last line of an answer of ``Usage(9, 5)`` that ended with a call."""
    total, load, prompt, answer = (line.pop(name) for name in DURATIONS)
    assert load == 0
    assert total > 0
    assert (prompt > 0) is streamed
    assert prompt + answer == pytest.approx(total, abs=2)
    counts = {"prompt_eval_count": 9, "eval_count": 5}
    assert line == {**HEAD, "message": message, "done": True, "done_reason": "stop", **counts}


def test_write_stream() -> None:
    """One line for each delta, and a last one with the counts."""
    writer = OLLAMA.writer(INFO)
    assert writer.content_type == "application/x-ndjson"
    body = writer.start(Usage()) + b"".join(map(writer.delta, DELTAS))
    *lines, last = events(body + writer.end(Ending("tool_calls", Usage(9, 5))))
    fields = [
        *({"thinking": "H"}, {"thinking": "m."}, {"content": "Да\n"}, {"content": "😀"}),
        *({"tool_calls": [each]} for each in CALLS),
    ]
    empty = {"role": "assistant", "content": ""}
    assert lines == [{**HEAD, "message": {**empty, **each}, "done": False} for each in fields]
    check_end(last, empty, streamed=True)


def test_write_complete_answer() -> None:
    """The body is one line with everything."""
    body = OLLAMA.writer(INFO).complete(DELTAS, Ending("tool_calls", Usage(9, 5)))
    message = {"role": "assistant", "content": "Да\n😀", "thinking": "Hm.", "tool_calls": CALLS}
    check_end(json.loads(body), message, streamed=False)
    plain = json.loads(OLLAMA.writer(INFO).complete(["Hi"], Ending("length")))
    assert plain["message"] == {"role": "assistant", "content": "Hi"}
    assert plain["done_reason"] == "length"
    assert "eval_count" not in plain


def test_write_refusal() -> None:
    """The protocol represents a refusal only as text; the reason is ours."""
    body = json.loads(OLLAMA.writer(INFO).complete([Refusal("No.")], Ending()))
    assert (body["message"]["content"], body["done_reason"]) == ("No.", "refusal")


def test_write_error() -> None:
    """An error is a text, in a body and as a line."""
    error = RequestError("no", status=503)
    for path in ("/api", "/api/chat", "/api/nothing"):
        assert json.loads(error_body(error, path)) == {"error": "no"}
    assert events(OLLAMA.writer(INFO).error(error) or b"") == [{"error": "no"}]
    assert "code" in json.loads(error_body(error, "/apis"))["error"]
