"""Gemini's protocol: the requests sent, and the events decoded."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from decode_kit import decode, split

from providers_sync import (
    Citation,
    Extra,
    Finish,
    Gemini,
    InvalidRequestError,
    MalformedStream,
    Media,
    ReasoningDelta,
    ServerError,
    StreamTruncated,
    ToolCall,
    Usage,
)
from providers_sync.decoding.gemini import GeminiDecoder
from providers_sync.testing import (
    Request,
    answer,
    event,
    finish,
    json_body,
    raw,
    serve,
    status,
)
from providers_sync.types import ProtocolMessage, ServedModel, ToolCallStarted

PNG = b"\x89PNG\r\n\x1a\n0000"
PDF = b"%PDF-1.7 0000"
WAV = b"RIFF\0\0\0\0WAVE"
PNG_64, PDF_64, WAV_64 = (base64.b64encode(data).decode() for data in (PNG, PDF, WAV))
CALL = {"id": "t1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
TOOL = {"type": "function", "function": {"name": "add", "parameters": SCHEMA}}
DECLARED = {"name": "add", "parametersJsonSchema": SCHEMA}


def sent(messages: Any, model: str = "gemini-2.5-flash", **options: Any) -> dict[str, Any]:
    """Return the request body for these messages."""
    with serve("ok", protocol="gemini") as server:
        Gemini(model, base_url=server.url, api_key="k").complete(messages, **options)
    body: dict[str, Any] = server.requests[0].json()
    return body


def candidate(*parts: dict[str, Any], **fields: Any) -> dict[str, Any]:
    content = {"content": {"role": "model", "parts": [*parts]}} if parts else {}
    return {"candidates": [{**content, **fields}]}


STOP = candidate(finishReason="STOP")


def decoded(*values: dict[str, Any]) -> list[Any]:
    """Return the deltas of a stream, without internal ones."""
    data = b"".join(b"data: %b\r\n\r\n" % json.dumps(each).encode() for each in values)
    internal = (ServedModel, ToolCallStarted, ProtocolMessage)
    deltas = decode(GeminiDecoder("text/event-stream"), [data])
    return [delta for delta in deltas if not isinstance(delta, internal)]


# --- requests


def test_request_follows_the_protocol() -> None:
    """Path, key and system instruction."""
    with serve("ok", protocol="gemini") as server:
        provider = Gemini("models/gemini-2.5-flash", base_url=f"{server.url}/v1beta/", api_key="k")
        provider.complete("Hi", system="Be brief.")
    [request] = server.requests
    assert request.path == "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse"
    assert request.headers["x-goog-api-key"] == "k"
    assert "Authorization" not in request.headers
    assert request.json() == {
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "contents": [{"role": "user", "parts": [{"text": "Hi"}]}],
    }


def test_vertex_gets_an_access_token() -> None:
    """A new one for each request; an API key stays one."""
    tokens = iter(["ya29.first", "ya29.second"])
    path = "/v1/projects/p/locations/l/publishers/google"
    with serve("ok", protocol="gemini") as server:
        provider = Gemini("m", base_url=server.url + path, api_key=lambda: next(tokens))
        provider.complete("Hi")
        provider.complete("Hi")
        Gemini("m", base_url=server.url + path, api_key="AIzaKey").complete("Hi")
    headers = [request.headers for request in server.requests]
    assert [each.get("Authorization") for each in headers] == [
        "Bearer ya29.first", "Bearer ya29.second", None
    ]  # fmt: skip
    assert [each.get("x-goog-api-key") for each in headers] == [None, None, "AIzaKey"]
    assert server.requests[0].path == f"{path}/models/m:streamGenerateContent?alt=sse"


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("tunedModels/mine", "/tunedModels/mine:streamGenerateContent?alt=sse"),
        ("a b/../c?x", "/models/a%20b%2F..%2Fc%3Fx:streamGenerateContent?alt=sse"),
    ],
)
def test_model_is_in_the_path(model: str, path: str) -> None:
    """What has a meaning in an address is escaped."""
    assert Gemini("m").endpoint(model) == path


def test_messages_become_contents() -> None:
    """Results of several calls go into one; an object stays one."""
    other = {**CALL, "id": "t2", "function": {"name": "get", "arguments": ""}}
    body = sent(
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Well.", "tool_calls": [CALL, other]},
            {"role": "tool", "tool_call_id": "t1", "content": '{"sum": 2}'},
            {"role": "tool", "tool_call_id": "t2", "content": "broken", "is_error": True},
            {"role": "assistant", "content": ""},
            {"role": "system", "content": "Now."},
        ]
    )
    assert body["systemInstruction"] == {"parts": [{"text": "Be brief."}, {"text": "Now."}]}
    assert body["contents"] == [
        {"role": "user", "parts": [{"text": "Hi"}]},
        {
            "role": "model",
            "parts": [
                {"text": "Well."},
                {"functionCall": {"name": "add", "args": {"a": 1}}},
                {"functionCall": {"name": "get", "args": {}}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"name": "add", "response": {"sum": 2}}},
                {"functionResponse": {"name": "get", "response": {"error": "broken"}}},
            ],
        },
    ]


def test_calls_of_another_model_need_a_stand_in_for_their_signature() -> None:
    """Gemini 3 refuses calls without one."""
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "tool_calls": [CALL, CALL]},
    ]
    parts = sent(messages, "gemini-3-pro")["contents"][1]["parts"]
    assert [part.get("thoughtSignature") for part in parts] == [
        "skip_thought_signature_validator", None
    ]  # fmt: skip


def test_files_are_translated() -> None:
    """Images, PDF and sound; in a tool's result too."""
    content = [
        {"type": "text", "text": "Look"},
        {"type": "file", "file": PNG},
        {"type": "file", "file": PDF},
        {"type": "input_audio", "input_audio": {"data": WAV_64, "format": "wav"}},
        {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
        {"type": "file", "file": "https://x/y"},
    ]
    result = {"role": "tool", "tool_call_id": "t1", "content": [{"type": "image", "image": PNG}]}
    turns = [
        {"role": "user", "content": content},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        result,
    ]
    first, _, last = sent(turns)["contents"]
    assert first["parts"] == [
        {"text": "Look"},
        {"inlineData": {"mimeType": "image/png", "data": PNG_64}},
        {"inlineData": {"mimeType": "application/pdf", "data": PDF_64}},
        {"inlineData": {"mimeType": "audio/wav", "data": WAV_64}},
        {"fileData": {"mimeType": "image/png", "fileUri": "https://x/y.png"}},
        {"fileData": {"fileUri": "https://x/y"}},
    ]
    assert last["parts"][0]["functionResponse"] == {
        "name": "add",
        "response": {"output": ""},
        "parts": [{"inlineData": {"mimeType": "image/png", "data": PNG_64}}],
    }


def test_options_are_translated() -> None:
    """OpenAI's names and forms, and Gemini's own beside them."""
    form = {"name": "answer", "schema": SCHEMA}
    body = sent(
        "Hi",
        temperature=0.5,
        top_p=0.9,
        max_tokens=5,
        stop="x",
        seed=1,
        presence_penalty=0.1,
        logprobs=True,
        top_logprobs=2,
        reasoning_effort="low",
        response_format={"type": "json_schema", "json_schema": form},
        tools=[TOOL, {"google_search": {}}],
        tool_choice={"type": "function", "function": {"name": "add"}},
        generationConfig={"topK": 3, "thinkingConfig": {"includeThoughts": False}},
        safetySettings=[{"category": "c", "threshold": "t"}],
        stream_options={"include_usage": True},
        parallel_tool_calls=True,
        n=1,
    )
    del body["contents"]
    assert body == {
        "generationConfig": {
            "temperature": 0.5, "topP": 0.9, "topK": 3, "maxOutputTokens": 5, "seed": 1,
            "stopSequences": ["x"], "presencePenalty": 0.1, "responseLogprobs": True, "logprobs": 2,
            "thinkingConfig": {"thinkingBudget": 1024, "includeThoughts": False},
            "responseMimeType": "application/json", "responseJsonSchema": SCHEMA,
        },
        "tools": [{"google_search": {}}, {"functionDeclarations": [DECLARED]}],
        "toolConfig": {
            "functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["add"]}
        },
        "safetySettings": [{"category": "c", "threshold": "t"}],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("model", "effort", "thinking"),
    [
        ("gemini-2.5-pro", "high", {"thinkingBudget": 24576, "includeThoughts": True}),
        ("gemini-2.5-pro", "none", {"thinkingBudget": 0, "includeThoughts": False}),
        ("gemini-3-pro", "high", {"thinkingLevel": "high", "includeThoughts": True}),
        ("gemini-3-flash", "none", {"thinkingBudget": 0, "includeThoughts": False}),
    ],
)
def test_reasoning_effort(model: str, effort: str, thinking: dict[str, Any]) -> None:
    """Gemini 3 has levels; models before it have a budget."""
    config = sent("Hi", model, reasoning_effort=effort)["generationConfig"]
    assert config == {"thinkingConfig": thinking}


@pytest.mark.parametrize("choice", ["auto", "none", "required"])
def test_tool_choice(choice: str) -> None:
    """The modes have other names."""
    body = sent("Hi", tools=[TOOL], tool_choice=choice)
    mode = {"auto": "AUTO", "none": "NONE", "required": "ANY"}[choice]
    assert body["toolConfig"] == {"functionCallingConfig": {"mode": mode}}


@pytest.mark.parametrize(
    ("messages", "options", "message"),
    [
        ("Hi", {"n": 2}, "n must be 1"),
        ("Hi", {"logit_bias": {}}, "logit_bias= cannot be honoured by Gemini's protocol"),
        ("Hi", {"parallel_tool_calls": False}, "parallel_tool_calls=False cannot"),
        ("Hi", {"stream": False}, "stream=False cannot"),
        ("Hi", {"reasoning_effort": "x"}, "reasoning_effort must be one of"),
        ("Hi", {"tools": [{"type": "web_search"}]}, r"tools\[0\] is of type 'web_search'"),
        ("Hi", {"tool_choice": {"type": "custom"}}, "use toolConfig="),
        ([{"role": "user", "content": [{"type": "hologram"}]}], {},
         r"messages\[0\]\['content'\]\[0\] is of type 'hologram', which Gemini's protocol"),
        ([{"role": "tool", "tool_call_id": "t9", "content": "2"}], {},
         r"messages\[0\]\['tool_call_id'\] is that of no call"),
    ],
)  # fmt: skip
def test_what_cannot_be_honoured_is_an_error(
    messages: Any, options: dict[str, Any], message: str
) -> None:
    """Before anything is sent, with the remedy."""
    with pytest.raises(InvalidRequestError, match=message):
        Gemini("m", base_url="http://127.0.0.1:9").prepare(messages, **options)


# --- answers


def test_events_come_typed_and_in_order() -> None:
    """Thoughts, text, usage that includes thoughts, the reason."""
    counts = {"promptTokenCount": 5, "candidatesTokenCount": 2, "thoughtsTokenCount": 3,
              "cachedContentTokenCount": 4, "totalTokenCount": 10}  # fmt: skip
    values = [
        {**candidate({"text": "Hm.", "thought": True}), "modelVersion": "gemini-x"},
        candidate({"text": "Hel"}),
        {**candidate({"text": "lo"}), "usageMetadata": {"promptTokenCount": 5}},
        {**STOP, "usageMetadata": counts},
    ]
    assert decoded(*values) == [
        ReasoningDelta("Hm."), "Hel", "lo", Usage(5), Usage(5, 5, 10, 4, None, 3), Finish("STOP")
    ]  # fmt: skip


@pytest.mark.parametrize(
    "reason", ["MAX_TOKENS", "SAFETY", "RECITATION", "MALFORMED_FUNCTION_CALL", "IMAGE_SAFETY"]
)
def test_reasons_are_told(reason: str) -> None:
    """The end is proven, but the model did not end it."""
    last = candidate(finishReason=reason, finishMessage="why", safetyRatings=[{"blocked": True}])
    with serve(["Hel", event(last)], protocol="gemini") as server:
        completion = Gemini("m", base_url=server.url).complete("Hi")
    assert (completion.text, completion.outcome) == ("Hel", "complete")
    assert (completion.finish_reason, completion.is_whole) == (reason, False)
    assert set(completion.extras) >= {Extra("candidates[0].finishMessage", "why")}


def test_blocked_prompt_is_told() -> None:
    """There is no candidate: the reason is that of the prompt."""
    feedback = {"blockReason": "PROHIBITED_CONTENT", "safetyRatings": [{"category": "c"}]}
    with serve(event({"promptFeedback": feedback}), protocol="gemini") as server:
        completion = Gemini("m", base_url=server.url).complete("Hi")
    assert (completion.text, completion.finish_reason) == ("", "PROHIBITED_CONTENT")
    assert not completion.is_whole


def test_answer_without_a_reason_is_truncated() -> None:
    """Its text is kept; a reason that is none does not end it."""
    for last in (candidate({"text": "lo"}), candidate(finishReason="FINISH_REASON_UNSPECIFIED")):
        with (
            serve(answer("Hel", event(last), end=False), protocol="gemini") as server,
            pytest.raises(StreamTruncated, match="a finishReason") as caught,
        ):
            Gemini("m", base_url=server.url, retry=None).complete("Hi")
        assert caught.value.partial.startswith("Hel")


def test_text_after_the_reason_still_counts() -> None:
    """Older models repeat the reason in every event."""
    values = [candidate({"text": text}, finishReason="STOP") for text in ("Hel", "lo")]
    assert decoded(*values) == ["Hel", "lo", Finish("STOP")]


def test_errors_inside_the_stream_raise() -> None:
    """With the status that they name."""
    error = {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}
    for shown in (error, [error]):
        with serve(["Hel", event(shown)], protocol="gemini") as server:
            stream = Gemini("m", base_url=server.url).stream("Hi")
            with pytest.raises(ServerError, match="overloaded") as caught:
                stream.read()
        assert (caught.value.partial, caught.value.status_code) == ("Hel", 503)


def test_calls_come_whole_or_in_parts() -> None:
    """Parts without a name continue the open call, until one without ``willContinue``."""

    def part(**call: Any) -> dict[str, Any]:
        return candidate({"functionCall": call})

    values = [
        part(name="whole", args={"a": 1}, id="t1"),
        part(name="grows", willContinue=True),
        part(partialArgs=[{"jsonPath": "$.city", "stringValue": "Par", "willContinue": True}],
             willContinue=True),
        part(partialArgs=[{"jsonPath": "$.city", "stringValue": "is"},
                          {"jsonPath": "$.list[0].n", "numberValue": 1.5},
                          {"jsonPath": "$.list[1]['two words']", "boolValue": False},
                          {"jsonPath": "$.none", "nullValue": "NULL_VALUE"}], willContinue=True),
        part(),
        part(name="empty"),
    ]  # fmt: skip
    expected = {"city": "Paris", "list": [{"n": 1.5}, {"two words": False}], "none": None}
    whole, grown, empty = (delta for delta in decoded(*values, STOP)[:-1])
    assert whole == ToolCall("t1", "whole", {"a": 1}, '{"a": 1}')
    assert (grown.name, grown.arguments, json.loads(grown.raw)) == ("grows", expected, expected)
    assert (empty.arguments, empty.raw) == ({}, "{}")
    assert grown.id != empty.id


def test_call_that_is_left_open_has_no_arguments() -> None:
    """They may be incomplete."""
    opened = {"name": "f", "args": {"a": 1}, "willContinue": True}
    [call, _] = decoded(candidate({"functionCall": opened}), STOP)
    assert (call.arguments, call.raw) == (None, '{"a": 1}')


@pytest.mark.parametrize(
    "piece",
    [
        {"jsonPath": "$.a[1000000000]", "stringValue": "x"},
        {"jsonPath": "$", "stringValue": "x"},
        {"jsonPath": "$[0]", "stringValue": "x"},
        {"jsonPath": "$.a.b", "stringValue": "x"},
        {"jsonPath": "$.text.x", "stringValue": "x"},
        {"jsonPath": "$" + ".a" * 1000, "stringValue": "x"},
        {"jsonPath": 5},
        {},
    ],
)
def test_hostile_places_of_arguments_are_malformed(piece: dict[str, Any]) -> None:
    """They cost neither memory nor an exception of Python's."""
    first = {"jsonPath": "$.text", "stringValue": "x"}
    then = {"jsonPath": "$.a[0]", "stringValue": "x"}
    call = {"name": "f", "partialArgs": [first, then, piece], "willContinue": True}
    with pytest.raises(MalformedStream):
        decoded(candidate({"functionCall": call}), STOP)


def test_call_without_a_name_is_malformed() -> None:
    """It is never handed out."""
    with pytest.raises(MalformedStream, match="without naming it"):
        decoded(candidate({"functionCall": {"args": {"a": 1}}}), STOP)


def test_grounding_is_citations_once() -> None:
    """Each passage with its sources; what was searched for is an extra."""
    grounding = {
        "groundingChunks": [
            {"web": {"uri": "https://a", "title": "A"}},
            {"retrievedContext": {"uri": "https://b", "title": "B", "text": "words"}},
        ],
        "groundingSupports": [
            {"segment": {"startIndex": 0, "endIndex": 5, "text": "Hello"},
             "groundingChunkIndices": [0, 7, True]}
        ],
        "webSearchQueries": ["hello"],
    }  # fmt: skip
    recited = {"citationSources": [{"uri": "https://c", "startIndex": 1, "endIndex": 2}]}
    values = [
        candidate({"text": "Hello"}, groundingMetadata=grounding),
        candidate(groundingMetadata=grounding, citationMetadata=recited, finishReason="STOP"),
    ]
    assert decoded(*values) == [
        "Hello",
        Citation("https://a", "A", None, 0, 5),
        Citation("https://b", "B", "words"),
        Extra("candidates[0].groundingMetadata.webSearchQueries", ["hello"]),
        Citation("https://c", None, None, 1, 2),
        Finish("STOP"),
    ]


def test_media_code_and_unknown_parts() -> None:
    """Images of the answer are media; what the server ran is an extra."""
    code = {"language": "PYTHON", "code": "1 + 1"}
    values = [
        candidate({"inlineData": {"mimeType": "image/png", "data": PNG_64}}),
        candidate({"inlineData": {"mimeType": "image/png", "data": "?"}}),
        candidate({"fileData": {"mimeType": "video/mp4", "fileUri": "https://x"}}),
        candidate({"thought": True, "inlineData": {"mimeType": "image/png", "data": PNG_64}}),
        candidate({"executableCode": code}),
        candidate({"text": "", "thoughtSignature": "S"}),
        {"candidates": [{"index": 1, "content": {"parts": [{"text": "other"}]}}]},
        STOP,
    ]
    inline = "candidates[0].content.parts.inlineData"
    assert decoded(*values) == [
        Media("image", "image/png", PNG),
        Extra(inline, {"mimeType": "image/png", "data": "?"}),
        Media("video", "video/mp4", url="https://x"),
        Extra(inline, {"mimeType": "image/png", "data": PNG_64}),
        Extra("candidates[0].content.parts.executableCode", code),
        Extra("candidates[0].content.parts.thoughtSignature", "S"),
        Extra("candidates[1]", values[6]["candidates"][0]),
        Finish("STOP"),
    ]


LIST = [candidate({"text": 'a"]}\\'}), candidate({"text": "é\n"}), STOP]


@pytest.mark.parametrize("separators", [(",", ":"), (",\r\n", ": ")])
@pytest.mark.parametrize("content_type", ["application/json", ""])
def test_list_is_read_like_events(content_type: str, separators: tuple[str, str]) -> None:
    """Proxies that drop ``alt=sse`` send one, which grows; split at every byte."""
    data = json.dumps(LIST, separators=separators, ensure_ascii=False).encode()
    for size in (1, 2, 3, 7, len(data)):
        pieces = split(data, range(0, len(data), size))
        deltas = list(decode(GeminiDecoder(content_type), pieces))
        assert [delta for delta in deltas if isinstance(delta, str)] == ['a"]}\\', "é\n"]
        assert deltas[-1] == Finish("STOP")


def test_list_that_is_cut_keeps_its_text() -> None:
    """What came before is handed out as it comes."""
    data = json.dumps(LIST).encode()[:-80]
    script = answer(raw(data), content_type="application/json", end=False)
    with serve(script, protocol="gemini") as server, pytest.raises(StreamTruncated) as caught:
        Gemini("m", base_url=server.url, retry=None).complete("Hi")
    assert caught.value.partial == 'a"]}\\'


def test_whole_answer_in_json() -> None:
    """That of ``generateContent``, too."""
    script = json_body({**candidate({"text": "Hello"}, finishReason="STOP")})
    with serve(script, protocol="gemini") as server:
        completion = Gemini("m", base_url=server.url).complete("Hi")
    assert (completion.text, completion.outcome) == ("Hello", "complete")


def test_dialogue_with_thought_signatures() -> None:
    """A server that refuses a second turn without the signatures of the first."""
    call = {"functionCall": {"name": "add", "args": {"a": 1}, "id": "f1"}, "thoughtSignature": "S1"}
    text = {"text": "", "thoughtSignature": "S2"}

    def script(request: Request) -> Any:
        contents = request.json()["contents"]
        if len(contents) == 1:
            return [
                event(candidate({"text": "Hm.", "thought": True})),
                event(candidate({"text": "Let "})),
                event(candidate({"text": "me see."})),
                event(candidate(call)),
                event(candidate(text)),
            ]
        parts = [{"text": "Hm.", "thought": True}, {"text": "Let me see."}, call, text]
        if contents[1] != {"role": "model", "parts": parts}:
            return status(400, "Function call is missing a thought_signature")
        result = contents[2]["parts"][0]["functionResponse"]
        assert (result["name"], result["id"]) == ("add", "f1")
        return ["It is ", result["response"]["output"]]

    with serve(script, protocol="gemini") as server:
        provider = Gemini("gemini-3-pro", base_url=server.url)
        messages: list[Any] = [{"role": "user", "content": "1 + 1?"}]
        first = provider.complete(messages)
        messages += [json.loads(json.dumps(first.message))]
        messages += [{"role": "tool", "tool_call_id": first.tool_calls[0].id, "content": "2"}]
        assert provider.complete(messages).text == "It is 2"


def test_changed_message_goes_back_without_its_signatures() -> None:
    """They sign what the model has said."""
    script = [event(candidate({"text": "Hello", "thoughtSignature": "S"}))]
    with serve([answer(*script), answer("ok")], protocol="gemini") as server:
        provider = Gemini("gemini-3-pro", base_url=server.url)
        message = provider.complete("Hi").message
        assert message["providers_sync"]["fields"]["parts"][0]["thoughtSignature"] == "S"
        provider.complete([{"role": "user", "content": "Hi"}, {**message, "content": "Bye"}])
    assert server.requests[1].json()["contents"][1]["parts"] == [{"text": "Bye"}]


def test_models_are_listed() -> None:
    """Without the prefix that the list has."""
    with serve(json_body({"models": [{"name": "models/gemini-x"}]})) as server:
        assert Gemini(base_url=server.url, api_key="k").list_models() == ["gemini-x"]
    assert server.requests[0].path == "/models?pageSize=1000"


def test_finish_is_the_last_event() -> None:
    """Usage may come after the reason."""
    script = ["Hello", finish(), event({"usageMetadata": {"promptTokenCount": 1}})]
    with serve(script, protocol="gemini") as server:
        stream = Gemini("m", base_url=server.url).stream("Hi")
        assert list(stream.events())[-1] == Finish("STOP")
