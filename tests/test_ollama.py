"""Ollama's chat protocol: the requests sent, and the lines decoded."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from decode_kit import decode, split

from providers_sync import (
    APIStatusError,
    Extra,
    Finish,
    InvalidRequestError,
    MalformedStream,
    Media,
    Ollama,
    ReasoningDelta,
    ServerError,
    StreamTruncated,
    ToolCall,
    Usage,
)
from providers_sync.decoding.ollama import OllamaDecoder
from providers_sync.encoding.ollama import to_turns
from providers_sync.providers.settings import api_key_of
from providers_sync.testing import answer, error, json_body, raw, serve, status
from providers_sync.types import ProtocolMessage, ServedModel, ToolCallStarted

PNG = b"\x89PNG\r\n\x1a\n0000"
PNG_64 = base64.b64encode(PNG).decode()
CALL = {"id": "t1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
TOOL = {"type": "function", "function": {"name": "add", "parameters": SCHEMA}}


def sent(messages: Any, **options: Any) -> dict[str, Any]:
    """Return the request body for these messages."""
    with serve("ok", protocol="ollama") as server:
        Ollama("qwen3", base_url=server.url).complete(messages, **options)
    body: dict[str, Any] = server.requests[0].json()
    return body


def line(content: str = "", **fields: Any) -> bytes:
    message = {"role": "assistant", "content": content, **fields.pop("message", {})}
    return json.dumps({"model": "qwen3", "message": message, **fields}).encode() + b"\n"


DONE = line(done=True, done_reason="stop", prompt_eval_count=5, eval_count=3)


def decoded(data: bytes, size: int = 1 << 20, content_type: str = "application/x-ndjson") -> Any:
    """Return the deltas of a stream, without internal ones."""
    internal = (ServedModel, ToolCallStarted, ProtocolMessage)
    deltas = decode(OllamaDecoder(content_type), split(data, range(0, len(data), size)))
    return [delta for delta in deltas if not isinstance(delta, internal)]


# --- requests


def test_request_follows_the_protocol() -> None:
    """Path and messages; there is no key by default."""
    with serve("ok", protocol="ollama") as server:
        Ollama("qwen3", base_url=f"{server.url}/").complete("Hi", system="Be brief.")
    [request] = server.requests
    assert request.path == "/api/chat"
    assert "Authorization" not in request.headers
    assert request.json() == {
        "model": "qwen3",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
        ],
        "stream": True,
    }


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("box", "http://box:11434"),
        ("box:8000", "http://box:8000"),
        (":8000", "http://127.0.0.1:8000"),
        ("http://box", "http://box:80"),
        ("https://box/prefix/", "https://box:443/prefix"),
        ("0.0.0.0:8000", "http://127.0.0.1:8000"),
        ("[::]", "http://[::1]:11434"),
        ("[fe80::1]:80", "http://[fe80::1]:80"),
        ("fe80::1", "http://[fe80::1]:11434"),
        ("https://[::1]/p", "https://[::1]:443/p"),
        ("box:8000//a/", "http://box:8000/a"),
        ("HTTPS://Box", "HTTPS://box:11434"),
        (' "box" ', "http://box:11434"),
        ("", "http://127.0.0.1:11434"),
    ],
)
def test_ollama_host_is_the_address(monkeypatch: pytest.MonkeyPatch, host: str, url: str) -> None:
    """It is read as Ollama's own client reads it; other settings win."""
    monkeypatch.setenv("OLLAMA_HOST", host)
    assert Ollama("m").base_url == url
    assert Ollama("m", base_url="http://other").base_url == "http://other"
    monkeypatch.setenv("OLLAMA_BASE_URL", "http://another")
    assert Ollama("m").base_url == "http://another"


@pytest.mark.parametrize("host", ["box:port", "box:99999", "http://[::1"])
def test_wrong_ollama_host_is_named(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    """Not at the first call."""
    monkeypatch.setenv("OLLAMA_HOST", host)
    with pytest.raises(InvalidRequestError, match="OLLAMA_HOST"):
        Ollama("m")


def test_key_goes_to_the_own_address_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key from the environment goes to the address from the environment, and to no other."""
    monkeypatch.setenv("OLLAMA_API_KEY", "secret")
    with serve("ok", protocol="ollama") as server:
        Ollama("m", base_url=server.url).complete("Hi")
        Ollama("m", base_url=server.url, api_key="given").complete("Hi")
        for variable in ("OLLAMA_HOST", "OLLAMA_BASE_URL"):
            monkeypatch.setenv(variable, server.url)
            Ollama("m").complete("Hi")
            monkeypatch.delenv(variable)
    keys = [request.headers.get("Authorization") for request in server.requests]
    assert keys == [None, "Bearer given", "Bearer secret", "Bearer secret"]


def test_key_goes_to_the_vendors_cloud(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the key of that address; no other gets it."""
    monkeypatch.setenv("OLLAMA_API_KEY", "secret")
    assert api_key_of(Ollama("m", base_url="https://ollama.com/")) == "secret"
    for url in ("http://ollama.com", "https://ollama.com.example", "https://ollama.com/x"):
        assert api_key_of(Ollama("m", base_url=url)) is None
    assert api_key_of(Ollama("m")) == "secret"


def test_ollamas_own_messages_are_accepted() -> None:
    """Images beside the text, calls without ids, results that name their tool."""
    call = {"function": {"name": "add", "arguments": {"a": 1}}}
    messages = [
        {"role": "user", "content": "Look", "images": [PNG_64, PNG]},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_name": "add", "content": "2"},
    ]
    expected = [{**messages[0], "images": [PNG_64, PNG_64]}, *messages[1:]]
    assert sent(messages)["messages"] == expected


def test_messages_are_translated() -> None:
    """Parts are joined, images beside them; arguments are objects, results name their tool."""
    content = [{"type": "text", "text": "Lo"}, {"type": "image", "image": PNG},
               {"type": "text", "text": "ok"}]  # fmt: skip
    body = sent(
        [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": content},
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "t1", "content": "2"},
        ]
    )
    assert body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Look", "images": [PNG_64]},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "t1", "function": {"name": "add", "arguments": {"a": 1}}}],
        },
        {"role": "tool", "content": "2", "tool_call_id": "t1", "tool_name": "add"},
    ]


def test_options_are_translated() -> None:
    """Options of the model go into ``options``, all others beside it."""
    form = {"name": "answer", "schema": SCHEMA}
    body = sent(
        "Hi",
        temperature=0.5,
        max_tokens=5,
        stop=["x"],
        seed=1,
        num_ctx=8192,
        options={"num_gpu": 0},
        think=True,
        keep_alive="10m",
        response_format={"type": "json_schema", "json_schema": form},
        tools=[TOOL],
        tool_choice="auto",
        parallel_tool_calls=True,
        stream_options={"include_usage": True},
        n=1,
    )
    del body["model"], body["messages"], body["stream"]
    assert body == {
        "options": {"temperature": 0.5, "num_predict": 5, "stop": ["x"], "seed": 1,
                    "num_ctx": 8192, "num_gpu": 0},
        "think": True, "keep_alive": "10m", "format": SCHEMA, "tools": [TOOL],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "field", "value"),
    [
        ({"response_format": {"type": "json_object"}}, "format", "json"),
        ({"response_format": {"type": "text"}}, "format", None),
        ({"reasoning_effort": "none"}, "think", False),
        ({"reasoning_effort": "high"}, "think", "high"),
        ({"tools": [TOOL], "tool_choice": "none"}, "tools", None),
        ({"think": None, "temperature": None}, "options", None),
        ({"think": True, "reasoning_effort": "low"}, "think", "low"),
        ({"think": False}, "think", False),
        ({"think": "max"}, "think", "max"),
        ({"keep_alive": 0}, "keep_alive", 0),
        ({"format": "json"}, "format", "json"),
        ({"stop": "x"}, "options", {"stop": ["x"]}),
        ({"max_tokens": 5, "num_predict": 5}, "options", {"num_predict": 5}),
        ({"logprobs": True, "top_logprobs": 2}, "top_logprobs", 2),
        (
            {"tools": [{"function": {"name": "f"}}]},
            "tools",
            [{"type": "function", "function": {"name": "f"}}],
        ),
        ({"store": False, "n": None}, "store", None),
        ({"extra_body": {"new": 1}}, "new", 1),
    ],
)
def test_forms_of_options(options: dict[str, Any], field: str, value: Any) -> None:
    """Each in its place."""
    assert sent("Hi", **options).get(field) == value


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("Hi", {"n": 2}, "n must be 1"),
        ("Hi", {"logit_bias": {}}, "logit_bias= is not supported by Ollama's protocol"),
        ("Hi", {"numctx": 1}, r"numctx= is not an option of Ollama's protocol; .*options=\{…\}"),
        ("Hi", {"tools": [TOOL], "tool_choice": "required"}, "use 'auto' or 'none'"),
        ("Hi", {"tools": [TOOL], "parallel_tool_calls": False}, "parallel_tool_calls=False"),
        ("Hi", {"n": 0}, "n must be 1"),
        ("Hi", {"max_tokens": 5, "max_completion_tokens": 6}, "contradict each other"),
        ("Hi", {"num_ctx": 1, "options": {"num_ctx": 2}}, "contradict each other"),
        ("Hi", {"options": "num_ctx"}, "options must be a dict"),
        ("Hi", {"think": False, "reasoning_effort": "low"}, "contradict each other"),
        ("Hi", {"think": True, "reasoning_effort": "none"}, "contradict each other"),
        ("Hi", {"format": SCHEMA, "response_format": {"type": "json_object"}}, "contradict each"),
        ("Hi", {"stop": 5}, "stop must be text, or a list of texts"),
        ("Hi", {"top_logprobs": 2}, "needs logprobs=True"),
        ("Hi", {"tools": [{"type": "web_search"}]}, r"tools\[0\] is not a function"),
        ("Hi", {"tools": [{"type": "function", "name": "f"}]}, r"tools\[0\] is not a function"),
        (
            "Hi",
            {"tools": [{"function": {"name": "f", "strict": True}}]},
            "'strict'. is not supported",
        ),
        ([{"type": "file", "file": "data:text/plain;base64,aGk="}], {}, "which Ollama's"),
        ([{"type": "file", "file": b"%PDF-1.7"}], {}, r"\[0\] is of type 'file', which Ollama's"),
        (
            [{"type": "image", "image": "https://x/y.png"}],
            {},
            "does not accept the URL of an image",
        ),
    ],
)
def test_what_is_not_supported_is_an_error(
    content: Any, options: dict[str, Any], message: str
) -> None:
    """Before anything is sent, with the remedy."""
    provider = Ollama("m", base_url="http://127.0.0.1:9")
    with pytest.raises(InvalidRequestError, match=message):
        provider.prepare([{"role": "user", "content": content}], **options)


@pytest.mark.parametrize("image", ["/etc/passwd", "a.png", "https://x/y.png", "", b"%PDF-1.7", 5])
def test_wrong_images_beside_the_text_are_errors(image: object) -> None:
    """A string there is base64, and never names a file."""
    provider = Ollama("m", base_url="http://127.0.0.1:9")
    with pytest.raises(InvalidRequestError, match=r"messages\[0\]\['images'\]\[0\]"):
        provider.prepare([{"role": "user", "content": "Look", "images": [image]}])


# --- answers


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_lines_come_typed_and_in_order(size: int) -> None:
    """Thinking, text, a call, timings, usage and the reason; at any size of pieces."""
    call = {"function": {"index": 0, "name": "add", "arguments": {"a": 1}}}
    data = (
        line(message={"thinking": "Hm."})
        + line("Hé")
        + line("llo")
        + line(message={"tool_calls": [call]}, created_at="2026-01-01T00:00:00Z")
        + line(done=True, done_reason="stop", prompt_eval_count=5, eval_count=3, load_duration=9)
        + line("never read")
    )
    assert decoded(data, size) == [
        ReasoningDelta("Hm."),
        "Hé",
        "llo",
        Extra("load_duration", 9),
        Usage(5, 3, 8),
        ToolCall("call_20260101T000000Z_0", "add", {"a": 1}, '{"a": 1}'),
        Finish("stop"),
    ]


def test_answer_without_done_is_truncated() -> None:
    """Its text is kept."""
    with (
        serve(answer("Hello", end=False), protocol="ollama") as server,
        pytest.raises(StreamTruncated, match='"done": true') as caught,
    ):
        Ollama("m", base_url=server.url, retry=None).complete("Hi")
    assert caught.value.partial == "Hello"


def test_length_is_no_end_of_the_models() -> None:
    """The answer is complete, and not whole."""
    with serve(
        raw(line("Hel") + line(done=True, done_reason="length")), protocol="ollama"
    ) as server:
        completion = Ollama("m", base_url=server.url).complete("Hi")
    assert (completion.outcome, completion.finish_reason) == ("complete", "length")
    assert not completion.is_whole


def test_errors_inside_the_stream_raise() -> None:
    """After the text; the same as an error's status."""
    with serve(["Hel", error("model runner has stopped")], protocol="ollama") as server:
        stream = Ollama("m", base_url=server.url).stream("Hi")
        with pytest.raises(ServerError, match="model runner has stopped") as caught:
            stream.read()
    assert caught.value.partial == "Hel"
    with (
        serve(status(404, "model 'm' not found"), protocol="ollama") as server,
        pytest.raises(APIStatusError, match="model 'm' not found"),
    ):
        Ollama("m", base_url=server.url).complete("Hi")


@pytest.mark.parametrize(
    "data",
    [
        line("Hel").rstrip() + line("lo") + DONE,
        b"data: " + line("Hel") + b"\ndata: " + line("lo") + b"\ndata: " + DONE + b"data: [DONE]\n",
        b"\n" + line("Hel") + b"\r\n\n" + line("lo").replace(b"\n", b"\r\n") + DONE.rstrip(),
        json.dumps(json.loads(line("Hello", done=True, done_reason="stop", prompt_eval_count=5,
                                   eval_count=3)), indent=2).encode(),
    ],
)  # fmt: skip
@pytest.mark.parametrize("content_type", ["application/x-ndjson", "application/json", ""])
@pytest.mark.parametrize("size", [1, 10_000])
def test_other_framings_are_read(data: bytes, content_type: str, size: int) -> None:
    """Values on one line, events of a proxy, a value on several lines, no last line end."""
    deltas = decoded(data, size, content_type)
    assert "".join(delta for delta in deltas if isinstance(delta, str)) == "Hello"
    assert deltas[-2:] == [Usage(5, 3, 8), Finish("stop")]


def test_words_outside_the_protocol_are_told() -> None:
    """A proxy's error is in ours."""
    decoder = OllamaDecoder("application/x-ndjson")
    deltas = decoder.feed(line("Hel") + b"upstream timed out\n")
    assert deltas[-1] == Extra("line", "upstream timed out")
    with pytest.raises(StreamTruncated, match="the server said: upstream timed out"):
        decoder.end()


@pytest.mark.parametrize(
    "data",
    [
        b'{"message": {"content": oops}}\n',
        b"[1]\n",
        b'{"message": {"content": 5}}\n',
        b'{"message": {"tool_calls": [5]}}\n',
        b'{"message": "Hello"}\n',
        b"<html><body>Bad gateway</body></html>\n",
    ],
)
def test_wrong_lines_are_malformed(data: bytes) -> None:
    """The text before is kept."""
    content_type = "text/html" if data.startswith(b"<") else "application/x-ndjson"
    before = b"" if data.startswith(b"<") else line("Hello")
    with pytest.raises(MalformedStream):
        list(decode(OllamaDecoder(content_type), [before + data + DONE]))


def test_images_and_unknown_fields() -> None:
    """Images are media; fields that nobody knows are extras."""
    data = line(message={"images": [PNG_64, "?"], "news": 1}, logprobs=[{"token": "a"}]) + DONE
    assert decoded(data)[:4] == [
        Media("image", None, PNG),
        Extra("message.images", "?"),
        Extra("message.news", 1),
        Extra("logprobs", [{"token": "a"}]),
    ]


def test_thinking_goes_back() -> None:
    """With the call that it led to."""
    call = {"id": "t1", "function": {"name": "add", "arguments": {"a": 1}}}
    first = answer(raw(line(message={"thinking": "Hm.", "tool_calls": [call]}) + DONE), end=False)
    with serve([first, answer("2")], protocol="ollama") as server:
        provider = Ollama("qwen3", base_url=server.url)
        message = json.loads(json.dumps(provider.complete("1 + 1?").message))
        result = {"role": "tool", "tool_call_id": "t1", "content": "2"}
        provider.complete([{"role": "user", "content": "1 + 1?"}, message, result])
    assert server.requests[1].json()["messages"][1] == {
        "role": "assistant", "content": "", "thinking": "Hm.", "tool_calls": [call]
    }  # fmt: skip


def test_models_are_listed() -> None:
    """Those that the server has."""
    with serve(json_body({"models": [{"name": "qwen3:8b", "model": "qwen3:8b"}]})) as server:
        assert Ollama(base_url=server.url).list_models() == ["qwen3:8b"]
    assert server.requests[0].path == "/api/tags"


@pytest.mark.parametrize("host", ["http://me:secret@ho\u2100st", "[me:secret@::1]"])
def test_error_about_the_host_shows_no_password(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", host)
    with pytest.raises(InvalidRequestError, match="OLLAMA_HOST") as caught:
        Ollama("m")
    assert "secret" not in str(caught.value)


def test_id_of_a_call_that_is_no_text_becomes_text() -> None:
    call = {"id": 5, "function": {"name": "f", "arguments": {}}}
    messages = [
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": 5, "content": "1"},
    ]
    made, result = to_turns(messages)
    assert made["tool_calls"][0]["id"] == result["tool_call_id"] == "5"
    assert result["tool_name"] == "f"
    call["id"] = ["x"]
    Ollama("m").prepare(messages)
