"""Gemini's protocol: the requests sent, and the events decoded."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from decode_kit import decode, split

from providers_sync import (
    APIStatusError,
    APITimeoutError,
    Citation,
    Extra,
    Finish,
    Gemini,
    InvalidRequestError,
    MalformedStream,
    Media,
    RateLimitError,
    ReasoningDelta,
    ServerError,
    StreamCut,
    StreamTruncated,
    ToolCall,
    Usage,
)
from providers_sync.decoding.gemini import GeminiDecoder
from providers_sync.encoding.gemini import is_since_3
from providers_sync.providers import model_lists
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
        for key in ("AIzaKey", "AQ.Key"):
            Gemini("m", base_url=server.url + path, api_key=key).complete("Hi")
    headers = [request.headers for request in server.requests]
    assert [each.get("Authorization") for each in headers] == [
        "Bearer ya29.first", "Bearer ya29.second", None, None
    ]  # fmt: skip
    assert [each.get("x-goog-api-key") for each in headers] == [None, None, "AIzaKey", "AQ.Key"]
    assert server.requests[0].path == f"{path}/models/m:streamGenerateContent?alt=sse"


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("tunedModels/mine", "/tunedModels/mine:streamGenerateContent?alt=sse"),
        ("endpoints/12", "/endpoints/12:streamGenerateContent?alt=sse"),
        ("gemini-x@001", "/models/gemini-x@001:streamGenerateContent?alt=sse"),
        ("ü:b", "/models/%C3%BC%3Ab:streamGenerateContent?alt=sse"),
        ("a b/../c?x", "/models/a%20b%2F..%2Fc%3Fx:streamGenerateContent?alt=sse"),
    ],
)
def test_model_is_in_the_path(model: str, path: str) -> None:
    """What has a meaning in an address is escaped."""
    assert Gemini("m").endpoint(model) == path


def test_access_token_is_one_at_googles_own_address_too() -> None:
    """Google's OAuth gives it a prefix."""
    assert Gemini("m").authorization("ya29.x") == {"Authorization": "Bearer ya29.x"}
    assert Gemini("m").authorization("AQ.x") == {"x-goog-api-key": "AQ.x"}


def test_key_is_in_no_address_and_no_error() -> None:
    """Even if the server repeats it."""
    refused = status(400, "API key not valid: s3cret-key")
    with serve(refused, protocol="gemini") as server, pytest.raises(APIStatusError) as caught:
        Gemini("m", base_url=server.url, api_key="s3cret-key").complete("Hi")
    assert "s3cret" not in f"{caught.value} {caught.value.body} {server.requests[0].path}"


def test_wait_that_google_states_is_obeyed() -> None:
    """It stands in the error, which may be in a list; there is no header."""
    details = [
        {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": []},
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "3600.5s"},
    ]
    error = {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": details}}
    for body in (error, [error]):
        with serve(json_body(body, 429)) as server, pytest.raises(RateLimitError) as caught:
            Gemini("m", base_url=server.url).complete("Hi")
        assert (caught.value.retry_after, len(server.requests)) == (3600.5, 1)


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


@pytest.mark.parametrize(
    ("model", "needed"),
    [
        *(("gemini-3-flash", True), ("models/gemini-3.1-pro", True), ("gemini-4-pro", True)),
        *(("gemini-flash-latest", True), ("gemini-2.5-pro", False), ("gemini-pro", False)),
        *(("tunedModels/mine", False), ("my-gemini-3", False)),
    ],
)
def test_which_models_need_signatures(model: str, needed: bool) -> None:
    """Gemini 3 and what follows it, under any name of Google's."""
    assert is_since_3(model) is needed


def test_results_are_in_the_order_of_their_calls() -> None:
    """Without ids the server tells them apart by nothing else."""
    calls = [{**CALL, "id": f"t{number}"} for number in range(3)]
    turns: list[Any] = [{"role": "assistant", "tool_calls": calls}]
    turns += [{"role": "tool", "tool_call_id": f"t{n}", "content": f"{n}"} for n in (2, 0, 1)]
    *_, last = sent([{"role": "user", "content": "Hi"}, *turns])["contents"]
    responses = [part["functionResponse"] for part in last["parts"]]
    assert responses == [{"name": "add", "response": {"output": f"{n}"}} for n in range(3)]


@pytest.mark.parametrize(
    ("content", "response"),
    [
        ('{"sum": 2}', {"error": {"sum": 2}}),
        ('{"error": "x"}', {"error": "x"}),
        ("{}", {"error": "{}"}),
        ("[1]", {"error": "[1]"}),
    ],
)
def test_failed_result_says_so(content: str, response: dict[str, Any]) -> None:
    """Whatever the function has returned; a result of another history may have a name only."""
    result = {"role": "tool", "name": "add", "content": content, "is_error": True}
    [turn] = sent([result])["contents"]
    assert turn["parts"] == [{"functionResponse": {"name": "add", "response": response}}]


def test_message_may_have_geminis_own_parts() -> None:
    """For what OpenAI's form cannot say."""
    parts = [{"fileData": {"mimeType": "video/mp4", "fileUri": "gs://bucket/film.mp4"}}]
    message = {"role": "user", "content": "", "parts": parts}
    assert sent(message)["contents"] == [{"role": "user", "parts": parts}]


def test_empty_text_is_sent_if_there_is_nothing_else() -> None:
    """What it means is for the server to say."""
    assert sent("")["contents"] == [{"role": "user", "parts": [{"text": ""}]}]


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


def test_options_of_none_are_dropped() -> None:
    """Wherever they stand in the body."""
    given = {"topK": None, "seed": 1}
    body = sent("Hi", temperature=None, topP=None, stop=None, n=None, generationConfig=given)
    assert body["generationConfig"] == {"seed": 1}


def test_effort_and_own_thinking_options_are_merged() -> None:
    """In both places where they may stand."""
    for own in (
        {"thinkingConfig": {"includeThoughts": False}},
        {"generationConfig": {"thinkingConfig": {"includeThoughts": False}}},
    ):
        config = sent("Hi", "gemini-3-pro", reasoning_effort="low", **own)["generationConfig"]
        assert config == {"thinkingConfig": {"thinkingLevel": "low", "includeThoughts": False}}


@pytest.mark.parametrize(
    ("choice", "mode"), [(None, "VALIDATED"), ("auto", "VALIDATED"), ("required", "ANY")]
)
def test_strict_function_is_called_by_its_schema(choice: str | None, mode: str) -> None:
    """Two modes guarantee it; options of ``toolConfig`` stay."""
    own = {
        "functionCallingConfig": {"streamFunctionCallArguments": True},
        "retrievalConfig": {"languageCode": "de"},
    }
    strict = {"type": "function", "function": {**TOOL["function"], "strict": True}}
    body = sent("Hi", tools=[strict], tool_choice=choice, toolConfig=own)
    assert body["toolConfig"] == {
        "functionCallingConfig": {"mode": mode, "streamFunctionCallArguments": True},
        "retrievalConfig": {"languageCode": "de"},
    }


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
        ("Hi", {"logit_bias": {}}, "logit_bias= is not supported by Gemini's protocol"),
        ("Hi", {"parallel_tool_calls": False}, "parallel_tool_calls=False is not supported"),
        ("Hi", {"stream": False}, "stream=False is not supported"),
        ("Hi", {"reasoning_effort": "x"}, "reasoning_effort must be one of"),
        ("Hi", {"tools": [{"type": "web_search"}]}, r"tools\[0\] is of type 'web_search'"),
        ("Hi", {"tool_choice": {"type": "custom"}}, "use toolConfig="),
        ("Hi", {"stop": 5}, "stop must be text, or a list"),
        ("Hi", {"logprobs": 5}, "top_logprobs= sets how many"),
        ("Hi", {"reasoning_effort": ["low"]}, "reasoning_effort must be one of"),
        ("Hi", {"reasoning_effort": "low", "thinkingConfig": {"thinkingBudget": 1}}, "give either"),
        ("Hi", {"generationConfig": "x"}, "generationConfig must be a dict, not str"),
        ("Hi", {"max_tokens": 5, "generationConfig": {"maxOutputTokens": 6}}, "max_tokens= and"),
        ("Hi", {"stop": "x", "stopSequences": ["y"]}, "stop= and stopSequences= contradict"),
        ("Hi", {"seed": 1, "generationConfig": {"seed": 2}}, "seed= and generationConfig="),
        ("Hi", {"generationConfig": {"thinkingConfig": 1}}, "thinkingConfig must be a dict"),
        ("Hi", {"toolConfig": "x", "tool_choice": "auto"}, "toolConfig must be a dict"),
        ("Hi", {"toolConfig": {"functionCallingConfig": {"mode": "ANY"}}, "tool_choice": "auto"},
         "give either tool_choice= or the mode"),
        ("Hi", {"tools": [{"type": "function", "name": "add"}]}, r"tools\[0\] must have a dict"),
        ("Hi", {"service_tier": "flex"}, "use serviceTier="),
        ("Hi", {"contents": []}, "pass the messages as the first argument"),
        ("Hi", {"system": "x", "systemInstruction": {}}, "give either system messages or"),
        ([{"role": "system", "content": "x"}], {}, "messages has only system messages"),
        ([{"role": "user", "content": "x", "parts": [{"text": "y"}]}], {}, "leave one empty"),
        ([{"role": "user", "content": "", "parts": ["y"]}], {}, r"\['parts'\] must be a list"),
        ([{"role": "assistant", "content": "", "parts": [{"functionCall": 1}]}], {}, "not a dict"),
        ([{"role": "tool", "name": 5, "content": "2"}], {}, "add it as 'name'"),
        ([{"role": "assistant", "content": "", "tool_calls": [CALL],
           "parts": [{"functionCall": {"name": "add", "id": []}}]},
          {"role": "tool", "tool_call_id": "t2", "content": "2"}], {}, "does not match any call"),
        ([{"role": "user", "content": [{"type": "hologram"}]}], {},
         r"messages\[0\]\['content'\]\[0\] is of type 'hologram', which Gemini's protocol"),
        ([{"role": "tool", "tool_call_id": "t9", "content": "2"}], {},
         r"messages\[0\]\['tool_call_id'\] does not match any call"),
    ],
)  # fmt: skip
def test_what_is_not_supported_is_an_error(
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
    "reason",
    [
        *("MAX_TOKENS", "SAFETY", "RECITATION", "LANGUAGE", "OTHER", "BLOCKLIST", "SPII"),
        *("PROHIBITED_CONTENT", "MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "NO_IMAGE"),
        *("TOO_MANY_TOOL_CALLS", "MISSING_THOUGHT_SIGNATURE", "MALFORMED_RESPONSE"),
        *("IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION", "IMAGE_OTHER"),
        "A_REASON_OF_TOMORROW",
    ],
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
    assert completion.extras == (Extra("promptFeedback.safetyRatings", [{"category": "c"}]),)


def test_empty_answer_is_complete() -> None:
    """A reason says that it is."""
    with serve(answer(event(STOP), end=False), protocol="gemini") as server:
        completion = Gemini("m", base_url=server.url).complete("Hi")
    assert (completion.text, completion.outcome, completion.is_whole) == ("", "complete", True)


def test_answer_without_a_reason_is_truncated() -> None:
    """Its text is kept; a reason that is none does not end it."""
    for last in (candidate({"text": "lo"}), candidate(finishReason="FINISH_REASON_UNSPECIFIED")):
        with (
            serve(answer("Hel", event(last), end=False), protocol="gemini") as server,
            pytest.raises(StreamTruncated, match="a finishReason") as caught,
        ):
            Gemini("m", base_url=server.url, retry=None).complete("Hi")
        assert caught.value.partial.startswith("Hel")


def test_done_proves_nothing() -> None:
    """Proxies add it to whatever the server has sent."""
    data = b"data: %b\n\ndata: [DONE]\n\n" % json.dumps(candidate({"text": "Hel"})).encode()
    with serve(answer(raw(data), end=False), protocol="gemini") as server:
        stream = Gemini("m", base_url=server.url, retry=None).stream("Hi")
        with pytest.raises(StreamTruncated):
            stream.read()
    assert stream.text == "Hel"


def test_text_after_the_reason_still_counts() -> None:
    """Older models repeat the reason in every event."""
    values = [candidate({"text": text}, finishReason="STOP") for text in ("Hel", "lo")]
    assert decoded(*values) == ["Hel", "lo", Finish("STOP")]


def test_errors_inside_the_stream_raise() -> None:
    """With the status that they name."""
    error = {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}
    for shown in (error, [error], {**candidate({"text": ""}), **error}):
        with serve(["Hel", event(shown)], protocol="gemini") as server:
            stream = Gemini("m", base_url=server.url).stream("Hi")
            with pytest.raises(ServerError, match="overloaded") as caught:
                stream.read()
        assert (caught.value.partial, caught.value.status_code) == ("Hel", 503)


def test_text_beside_an_error_is_kept() -> None:
    """In the same event."""
    with serve(event({**candidate({"text": "Hi"}), "error": "x"}), protocol="gemini") as server:
        stream = Gemini("m", base_url=server.url, retry=None).stream("Hi")
        with pytest.raises(ServerError):
            stream.read()
    assert stream.text == "Hi"


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


def test_call_may_repeat_its_name_and_id() -> None:
    """Then the part goes on with the open call; the same name with another id does not."""
    part = {"name": "f", "id": "t1", "partialArgs": [{"jsonPath": "$.a", "stringValue": "x"}]}
    values = [
        candidate({"functionCall": {"name": "f", "id": "t1", "willContinue": True}}),
        candidate({"functionCall": {**part, "willContinue": True}}),
        candidate({"functionCall": part}),
        candidate({"functionCall": {**part, "id": "t2"}}),
    ]
    calls = [(each.id, each.arguments) for each in decoded(*values, STOP)[:-1]]
    assert calls == [("t1", {"a": "xx"}), ("t2", {"a": "x"})]


@pytest.mark.parametrize(
    ("path", "arguments"),
    [
        ("$['it\\'s']", {"it's": "x"}),
        ("$['a\"b']", {'a"b': "x"}),
        ('$["a\\"b"]', {'a"b': "x"}),
        ("$['\\u00e9\\\\']['']", {"é\\": {"": "x"}}),
        ("$['a]b'].c", {"a]b": {"c": "x"}}),
        ("$.price$.$ref", {"price$": {"$ref": "x"}}),
        ("$.a-b[1][0]", {"a-b": [None, ["x"]]}),
        ("a.b", {"a": {"b": "x"}}),
    ],
)
def test_places_of_arguments(path: str, arguments: dict[str, Any]) -> None:
    """RFC 9535 has names with escapes; ``$`` may be in a name."""
    piece = {"jsonPath": path, "stringValue": "x"}
    [call, _] = decoded(candidate({"functionCall": {"name": "f", "partialArgs": [piece]}}), STOP)
    assert call.arguments == arguments


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
        {"jsonPath": "$['\\x']", "stringValue": "x"},
        {"jsonPath": "$['a", "stringValue": "x"},
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


def test_sources_of_every_kind_are_citations() -> None:
    """Places, images, documents; the passages may come after them, and 0 is left out."""
    chunks = [
        {"maps": {"uri": "https://m", "title": "M", "placeId": "p"}},
        {"image": {"sourceUri": "https://s", "imageUri": "https://i", "title": "I"}},
        {"retrievedContext": {"documentName": "d", "ragChunk": {"text": "words"}}},
    ]
    named = {"segment": {"endIndex": 5}, "groundingChunkIndices": [0], "confidenceScores": [0.5]}
    unnamed = [{"segment": {"endIndex": 5}, "groundingChunkIndices": [3]}, {"segment": {}}]
    values = [
        candidate({"text": "Hello"}, groundingMetadata={"groundingChunks": chunks}),
        candidate(groundingMetadata={"groundingSupports": [named, *unnamed]}),
    ]
    deltas = decoded(*values, STOP)
    assert deltas == [
        "Hello",
        Citation("https://m", "M"),
        Citation("https://s", "I"),
        Citation(None, None, "words"),
        Citation("https://m", "M", None, 0, 5),
        Extra("candidates[0].groundingMetadata.groundingSupports", unnamed),
        Finish("STOP"),
    ]
    assert deltas[4].raw == {**chunks[0], **named}


def test_recited_source_at_the_beginning() -> None:
    """Vertex AI calls the list otherwise; a position of 0 is left out."""
    recited = {"citations": [{"uri": "https://c", "endIndex": 2, "license": "mit"}]}
    [citation, _] = decoded(candidate(citationMetadata=recited, finishReason="STOP"))
    assert citation == Citation("https://c", None, None, 0, 2)
    assert citation.raw["license"] == "mit"


def test_unknown_keys_are_extras_at_every_level() -> None:
    """Beside what is understood."""
    file = {"mimeType": "image/png", "data": PNG_64, "displayName": "d"}
    call = {"name": "f", "args": {}, "how": "x"}
    content = {"role": "model", "parts": [None, {"inlineData": file}, {"functionCall": call}],
               "mood": "x"}  # fmt: skip
    values = [
        {"candidates": [None, {"content": content, "tokenCount": 7, "avgLogprobs": -1}]},
        candidate({"fileData": {"mimeType": "a/b", "fileUri": "https://x"}, "inlineData": file}),
    ]
    deltas = decoded(*values, STOP)
    extras = {delta.path: delta.value for delta in deltas if isinstance(delta, Extra)}
    assert extras == {
        "candidates[0].content.parts.inlineData.displayName": "d",
        "candidates[0].content.parts.functionCall.how": "x",
        "candidates[0].content.mood": "x",
        "candidates[0].tokenCount": 7,
        "candidates[0].avgLogprobs": -1,
    }
    assert len([delta for delta in deltas if isinstance(delta, Media)]) == 3


@pytest.mark.parametrize("first", [{"index": 0}, {}])
def test_first_candidate_is_the_answer_wherever_it_stands(first: dict[str, Any]) -> None:
    """JSON of protocol buffers leaves out an index of 0."""
    other = {"index": 1, "content": {"parts": [{"text": "other"}]}, "finishReason": "STOP"}
    answered = {**first, "content": {"parts": [{"text": "Hi"}]}, "finishReason": "MAX_TOKENS"}
    for candidates in ([other, answered], [answered, other], [answered, {**other, "index": None}]):
        text, extra, end = decoded({"candidates": candidates})
        assert (text, end) == ("Hi", Finish("MAX_TOKENS"))
        assert (extra.path, extra.value["content"]) == ("candidates[1]", other["content"])


def test_tokens_of_its_own_tools_count_in_the_total() -> None:
    """The server's total has them; so has the sum of one that gives none."""
    counts = {"promptTokenCount": 1, "candidatesTokenCount": 2, "toolUsePromptTokenCount": 5}
    usage, _ = decoded({**STOP, "usageMetadata": counts})
    assert usage == Usage(1, 2, 8)
    assert usage.raw == counts


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


def test_list_that_is_cut_after_text_that_followed_a_reason() -> None:
    """As in a stream, a reason that was given up once proves nothing."""
    values = [candidate({"text": text}, finishReason="STOP") for text in ("Hel", "lo", "!")]
    deltas: list[Any] = []
    with pytest.raises(StreamCut):
        deltas.extend(
            decode(GeminiDecoder("application/json"), [json.dumps(values).encode()[:-30]])
        )
    assert deltas == ["Hel", "lo"]
    assert list(decode(GeminiDecoder(""), [json.dumps(values).encode()]))[-1] == Finish("STOP")


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


def test_dialogue_with_parallel_calls() -> None:
    """The first has the signature of both, and comes in parts; the results come in any order."""
    opened = {"functionCall": {"name": "add", "willContinue": True}, "thoughtSignature": "S"}
    grown = [{"jsonPath": "$.a", "stringValue": "é", "willContinue": True}]
    second = {"functionCall": {"name": "add", "args": {"a": "😀\ud83d\ude00"}}}

    def script(request: Request) -> Any:
        contents = request.json()["contents"]
        if len(contents) == 1:
            return [
                event(candidate({"text": ""})),
                event(candidate(opened)),
                event(candidate({"functionCall": {"partialArgs": grown, "willContinue": True}})),
                event(candidate({"functionCall": {}}, second)),
                event(candidate({"text": ""}, finishReason="STOP")),
            ]
        calls = [part.get("functionCall") for part in contents[1]["parts"]]
        signatures = [part.get("thoughtSignature") for part in contents[1]["parts"]]
        if signatures != ["S", None]:
            return status(400, "Function call `add` is missing a thought_signature")
        arguments = [{"a": "é"}, {"a": "😀😀"}]
        assert calls == [{"name": "add", "args": each} for each in arguments]
        results = [part["functionResponse"] for part in contents[2]["parts"]]
        assert all(result.keys() == {"name", "response"} for result in results)
        return [result["response"]["output"] for result in results]

    with serve(script, protocol="gemini") as server:
        provider = Gemini("gemini-3-flash", base_url=server.url)
        messages: list[Any] = [{"role": "user", "content": "?"}]
        first = provider.complete(messages)
        messages += [first.message]
        messages += [
            {"role": "tool", "tool_call_id": call.id, "content": f"{number}"}
            for number, call in reversed(list(enumerate(first.tool_calls)))
        ]
        assert provider.complete(json.loads(json.dumps(messages))).text == "01"
        assert provider.complete(messages).text == "01"


def test_signed_text_in_pieces_goes_back() -> None:
    """Also if a character was split between two of them; empty text without one does not."""
    pieces = [{"text": "a\ud83d"}, {"text": "\ude00"}, {"text": "", "thoughtSignature": "S"}]
    script = [event(candidate(piece)) for piece in [*pieces, {"text": ""}]]
    with serve([answer(*script), answer("ok")], protocol="gemini") as server:
        provider = Gemini("gemini-3-pro", base_url=server.url)
        message = provider.complete("Hi").message
        provider.complete([{"role": "user", "content": "Hi"}, message])
    assert server.requests[1].json()["contents"][1]["parts"] == [{"text": "a😀"}, pieces[2]]


def test_call_of_an_older_gemini_gets_a_stand_in_for_its_signature() -> None:
    """Its other parts go back as they came."""
    call = {"functionCall": {"name": "add", "args": {"a": 1}}}
    parts = [{"text": "Hm.", "thoughtSignature": "S"}, call]
    with serve([answer(event(candidate(*parts))), answer("ok")], protocol="gemini") as server:
        provider = Gemini(base_url=server.url)
        message = provider.complete("Hi", "gemini-2.5-pro").message
        provider.complete([{"role": "user", "content": "Hi"}, message], "gemini-3-pro")
    signed = {**call, "thoughtSignature": "skip_thought_signature_validator"}
    assert server.requests[1].json()["contents"][1]["parts"] == [parts[0], signed]


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


def test_all_pages_of_the_list_are_read() -> None:
    """The last one may be empty; Vertex AI calls the list otherwise."""
    pages = [
        {"models": [{"name": "models/a"}], "nextPageToken": "x/1"},
        {"publisherModels": [{"name": "publishers/google/models/b"}], "nextPageToken": "y"},
        {},
    ]
    with serve([json_body(page) for page in pages]) as server:
        assert Gemini(base_url=server.url, api_key="k").list_models() == ["a", "b"]
    assert [request.path for request in server.requests] == [
        f"/models?pageSize=1000{more}" for more in ("", "&pageToken=x%2F1", "&pageToken=y")
    ]


def test_list_of_models_ends() -> None:
    """A server that sends the same page again and again; one that sends no list; the timeout."""
    page = {"models": [{"name": "models/a"}], "nextPageToken": "x"}
    with serve(json_body(page)) as server:
        assert Gemini(base_url=server.url).list_models() == ["a"]
    with serve(lambda request: json_body({**page, "nextPageToken": str(request.number)})) as server:
        with pytest.raises(MalformedStream, match="more than 100 pages"):
            Gemini(base_url=server.url).list_models()
        with pytest.raises(APITimeoutError, match="total timeout"):
            Gemini(base_url=server.url).list_models(timeouts=0.005)
    with serve(json_body({"object": "list"})) as server, pytest.raises(MalformedStream):
        Gemini(base_url=server.url).list_models()


def test_list_of_models_ends_between_two_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where no page takes long."""
    moments = iter([0.0, 5.0])
    monkeypatch.setattr(model_lists, "monotonic", lambda: next(moments))
    with serve(json_body({"models": [], "nextPageToken": "x"})) as server:
        with pytest.raises(APITimeoutError, match="total timeout") as caught:
            Gemini(base_url=server.url).list_models(timeouts=5)
        assert len(server.requests) == 1
    assert caught.value.clock == "total"


def test_finish_is_the_last_event() -> None:
    """Usage may come after the reason."""
    script = ["Hello", finish(), event({"usageMetadata": {"promptTokenCount": 1}})]
    with serve(script, protocol="gemini") as server:
        stream = Gemini("m", base_url=server.url).stream("Hi")
        assert list(stream.events())[-1] == Finish("STOP")


def grounding(**metadata: Any) -> dict[str, Any]:
    return candidate(groundingMetadata=metadata)


def test_source_with_very_many_fields_is_malformed() -> None:
    """Each citation has the fields of its source: they would be copied for each passage."""
    chunk = {f"k{index}": 1 for index in range(17)}
    with pytest.raises(MalformedStream, match="more than 16 fields"):
        decoded(grounding(groundingChunks=[chunk]))
    with pytest.raises(MalformedStream, match="more than 16 fields"):
        decoded(grounding(groundingChunks=[{"web": {"uri": "u"}}], groundingSupports=[chunk]))


def test_source_named_again_and_again_in_a_passage_is_one_citation() -> None:
    support = {"segment": {"endIndex": 1}, "groundingChunkIndices": [0] * 100_000}
    chunks = [{"web": {"uri": "u", "title": "T"}}]
    assert decoded(grounding(groundingChunks=chunks, groundingSupports=[support]), STOP) == [
        Citation("u", "T", None, 0, 1),
        Finish("STOP"),
    ]


def test_counts_after_very_many_unknown_ones_are_read() -> None:
    """The known ones of before are kept, the others dropped."""
    many = {f"k{index}": 1 for index in range(1000)}
    usage, last, _ = decoded(
        {"usageMetadata": {"promptTokenCount": 5, **many}},
        {"usageMetadata": {"candidatesTokenCount": 2}},
        STOP,
    )
    assert (usage.total_tokens, last.total_tokens) == (None, 7)
    assert last.raw == {"promptTokenCount": 5, "candidatesTokenCount": 2}


def test_many_items_left_out_of_growing_arguments_are_malformed() -> None:
    """Each one takes memory, and a path can leave out dozens at each of its steps."""
    part = {"jsonPath": "$.a" + "[64]" * 16, "numberValue": 1}
    with pytest.raises(MalformedStream, match="lack the items"):
        decoded(candidate({"functionCall": {"name": "f", "partialArgs": [part]}}), STOP)


def test_parts_too_large_to_go_back_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever follows them: only a part of an answer must not go back."""
    monkeypatch.setattr("providers_sync.decoding.gemini_parts.MESSAGE_BYTES", 100)
    signed = {"text": "a", "thoughtSignature": "s"}
    call = {"functionCall": {"name": "f", "args": {}}, "thoughtSignature": "t"}
    values = [candidate({"text": "b" * 101}), candidate(signed), candidate(call), STOP]
    data = b"".join(b"data: %b\n\n" % json.dumps(value).encode() for value in values)
    deltas = list(decode(GeminiDecoder("text/event-stream"), [data]))
    assert not any(isinstance(delta, ProtocolMessage) for delta in deltas)
    assert "".join(delta for delta in deltas if isinstance(delta, str)) == "b" * 101 + "a"


@pytest.mark.parametrize("content", ['{"a": NaN}', '{"a": -Infinity}', '{"a": 1e999}'])
def test_result_that_cannot_be_sent_as_json_is_text(content: str) -> None:
    result = {"role": "tool", "tool_call_id": "t1", "content": content}
    messages = [{"role": "assistant", "content": None, "tool_calls": [CALL]}, result]
    response = sent(messages)["contents"][1]["parts"][0]["functionResponse"]["response"]
    assert response == {"output": content}


def test_role_of_its_own_form_is_the_assistant() -> None:
    [content] = sent([{"role": "model", "content": "Hi"}])["contents"]
    assert content == {"role": "model", "parts": [{"text": "Hi"}]}


def test_model_that_is_no_valid_text_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="not valid text"):
        Gemini("m\ud800", api_key="k").prepare("Hi")
