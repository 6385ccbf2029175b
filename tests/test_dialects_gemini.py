"""Tests of reading request bodies and of writing answers in Gemini's protocol."""

from __future__ import annotations

import json
from typing import Any

import pytest
from gateway_kit import events

from providers_sync.dialects import (
    GEMINI,
    AnswerInfo,
    ChatRequest,
    Ending,
    RequestError,
    error_body,
)
from providers_sync.types import ReasoningDelta, ToolCall, Usage

HI = [{"parts": [{"text": "Hi"}]}]
CONFIG = "generationConfig"


def read(path: str = "m:generateContent", **fields: Any) -> ChatRequest:
    return GEMINI.read({"contents": HI, **fields}, call=path)


def content(*parts: Any, role: str = "user") -> dict[str, Any]:
    return {"role": role, "parts": list(parts)}


def call(name: str, key: str | None = None, **arguments: Any) -> dict[str, Any]:
    return {"functionCall": {"id": key, "name": name, "args": arguments}}


def result(name: str, response: Any, key: str | None = None) -> dict[str, Any]:
    return {"functionResponse": {"id": key, "name": name, "response": response}}


# --- reading


@pytest.mark.parametrize(
    ("path", "model", "stream"),
    [
        ("m:generateContent", "m", False),
        ("org/m:streamGenerateContent", "org/m", True),
        ("qwen3:0.6b:streamGenerateContent", "qwen3:0.6b", True),
    ],
)
def test_read_path(path: str, model: str, stream: bool) -> None:
    """The path names the model, which may have slashes and colons, and the method."""
    request = read(path, model="models/other", safetySettings=[{"category": "x"}], store=True)
    assert (request.model, request.stream) == (model, stream)
    assert (request.messages, request.options) == ([{"role": "user", "content": "Hi"}], {})


def test_read_object_instead_of_list() -> None:
    """The service takes one object where it expects a list, and examples of its use do so."""
    one = {"parts": {"text": "Hi"}}
    request = read(contents=one, system_instruction={"parts": {"text": "Be brief."}})
    assert request.messages == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
    ]


def test_read_names_of_either_case() -> None:
    """Names may be in camelCase or in snake_case; ``null`` is as good as absent."""
    request = read(
        system_instruction={"parts": [{"text": "Be"}, {"text": ""}, {"text": "brief."}]},
        generation_config={
            "temperature": 0.5,
            "topP": 0.25,
            "top_k": 40.0,
            "max_output_tokens": 9,
            "stopSequences": ["x"],
            "seed": 7,
            "presencePenalty": 1,
            "frequency_penalty": 0.5,
            "candidateCount": 1,
            "responseModalities": ["TEXT"],
            "responseLogprobs": False,
            "speechConfig": None,
        },
        cached_content="",
        tools=None,
    )
    assert request.messages[0] == {"role": "system", "content": "Be\n\nbrief."}
    assert request.options == {
        **{"temperature": 0.5, "top_p": 0.25, "top_k": 40, "max_tokens": 9, "stop": ["x"]},
        **{"seed": 7, "presence_penalty": 1, "frequency_penalty": 0.5},
    }
    assert isinstance(request.options["top_k"], int)


def test_read_turns() -> None:
    """Calls get ids; responses without ids belong to the first open call of their name."""
    turns = [
        content({"text": "See "}, {"inline_data": {"mimeType": "image/png", "data": "-_8="}}),
        content(
            {"text": "Hm.", "thought": True, "thoughtSignature": "x"},
            {"text": "Let "},
            {"text": "me see."},
            call("f", a="é"),
            call("g", "own"),
            call("f"),
            role="model",
        ),
        content(
            {"text": "And?"},
            result("f", {"output": "1"}),
            result("f", {"x": 2}, "unknown"),
            result("g", {"error": "no"}, "own"),
            role="function",
        ),
        content(call("f"), role="model"),
        content(
            {
                "functionResponse": {
                    "name": "f",
                    "response": {"result": [3]},
                    "parts": [{"fileData": {"fileUri": "https://example.com/a.png"}}],
                }
            }
        ),
    ]
    one, two, three, four, five, six, seven, eight = read(contents=turns).messages
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,+/8="}}
    assert one == {"role": "user", "content": [{"type": "text", "text": "See "}, image]}
    calls = two.pop("tool_calls")
    expected = {"role": "assistant", "content": "Let me see.", "reasoning_content": "Hm."}
    assert two == expected
    assert [(each["id"], each["function"]["name"]) for each in calls] == [
        ("call_0", "f"),
        ("own", "g"),
        ("call_2", "f"),
    ]
    assert calls[0]["function"]["arguments"] == '{"a": "é"}'
    assert three == {"role": "tool", "tool_call_id": "call_0", "content": "1"}
    assert four == {"role": "tool", "tool_call_id": "call_2", "content": '{"x": 2}'}
    assert five == {"role": "tool", "tool_call_id": "own", "content": "no", "is_error": True}
    assert six == {"role": "user", "content": "And?"}
    assert (seven["content"], seven["tool_calls"][0]["id"]) == (None, "call_3")
    assert eight["tool_call_id"] == "call_3"
    image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    assert eight["content"] == [{"type": "text", "text": "[3]"}, image]


def test_read_calls_with_and_without_ids() -> None:
    """A call without an id gets one that is not the id of another call."""
    calls = content(call("f", "call_1"), call("g"), role="model")
    results = content(result("g", {"output": "b"}), result("f", {"output": "a"}, "call_1"))
    (asked, *answers) = read(contents=[calls, results]).messages
    ids = {each["function"]["name"]: each["id"] for each in asked["tool_calls"]}
    assert [(each["tool_call_id"], each["content"]) for each in answers] == [
        (ids["g"], "b"),
        (ids["f"], "a"),
    ]


def test_read_schema_of_google() -> None:
    """Types get lower-case names, ``nullable`` becomes a type, counts become numbers."""
    schema = {
        "type": "OBJECT",
        "description": "d",
        "properties": {
            "a": {"type": "STRING", "nullable": True, "enum": ["x"], "format": "enum"},
            "b": {"type": "ARRAY", "items": {"type": "INTEGER"}, "min_items": "1", "maxItems": 2},
            "c": {"any_of": [{"type": "NUMBER"}, {"type": "NULL"}], "nullable": True},
            "d": {"ref": "#/$defs/D"},
            "type": {"type": "TYPE_UNSPECIFIED", "title": None},
        },
        "required": ["a"],
        "propertyOrdering": ["b", "a"],
        "defs": {"D": {"type": "boolean"}},
        "additionalProperties": False,
    }
    json_schema = {
        "type": "object",
        "description": "d",
        "properties": {
            "a": {"type": ["string", "null"], "enum": ["x", None], "format": "enum"},
            "b": {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 2},
            "c": {"anyOf": [{"type": "number"}, {"type": "null"}, {"type": "null"}]},
            "d": {"$ref": "#/$defs/D"},
            "type": {},
        },
        "required": ["a"],
        "$defs": {"D": {"type": "boolean"}},
        "additionalProperties": False,
    }
    kind = {"responseMimeType": "application/json"}
    for form in ({"responseSchema": schema}, {"responseJsonSchema": json_schema}):
        options = read(generationConfig={**kind, **form}).options
        assert options["response_format"]["json_schema"]["schema"] == json_schema
    assert read(generationConfig=kind).options == {"response_format": {"type": "json_object"}}
    for form in ({"parameters": schema}, {"parametersJsonSchema": json_schema}):
        declared = {"name": "f", "description": "d", "response": {"type": "STRING"}, **form}
        (tool,) = read(tools=[{"function_declarations": [declared]}]).options["tools"]
        function = {"name": "f", "description": "d", "parameters": json_schema}
        assert tool == {"type": "function", "function": function}


TOOLS = [
    {"functionDeclarations": [{"name": "a"}, {"name": "b"}]},
    {"functionDeclarations": [{"name": "c"}]},
]
NAMED_B = {"type": "function", "function": {"name": "b"}}


@pytest.mark.parametrize(
    ("calling", "choice", "names"),
    [
        ({}, None, "abc"),
        ({"mode": "AUTO"}, "auto", "abc"),
        ({"mode": "MODE_UNSPECIFIED"}, "auto", "abc"),
        ({"mode": "NONE"}, "none", "abc"),
        ({"mode": "ANY"}, "required", "abc"),
        ({"mode": "ANY", "allowedFunctionNames": ["b", "b"]}, NAMED_B, "b"),
        ({"mode": "ANY", "allowedFunctionNames": ["c", "b", "c"]}, "required", "cb"),
        ({"mode": "VALIDATED", "allowed_function_names": ["b"]}, "auto", "b"),
    ],
)
def test_read_tool_config(calling: Any, choice: Any, names: str) -> None:
    """Only allowed functions are offered; a single one is required by its name."""
    options = read(tools=TOOLS, toolConfig={"functionCallingConfig": calling}).options
    assert options.get("tool_choice") == choice
    functions = [tool["function"] for tool in options["tools"]]
    assert "".join(function["name"] for function in functions) == names
    is_strict = calling.get("mode") == "VALIDATED"
    assert all(function.get("strict", False) is is_strict for function in functions)


@pytest.mark.parametrize(
    ("thinking", "effort"),
    [
        ({"thinkingBudget": 0}, "none"),
        ({"thinkingBudget": 1024}, "low"),
        ({"thinkingBudget": 8192}, "medium"),
        ({"thinkingBudget": 8193}, "high"),
        ({"thinkingBudget": -1}, None),
        ({"thinkingLevel": "MINIMAL"}, "minimal"),
        ({"thinkingLevel": "THINKING_LEVEL_UNSPECIFIED"}, None),
        ({"includeThoughts": True}, None),
    ],
)
def test_read_thinking(thinking: Any, effort: str | None) -> None:
    """How much to think gets OpenAI's name."""
    assert (
        read(generationConfig={"thinkingConfig": thinking}).options.get("reasoning_effort")
        == effort
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"contents": None}, "contents must be a list, not null"),
        ({"contents": []}, "contents must be a list with at least one"),
        ({"contents": ["Hi"]}, r"contents\[0\] must be a JSON object"),
        ({"contents": [{"role": "assistant"}]}, r"contents\[0\].role must be user or model"),
        ({"contents": [{"parts": []}]}, r"contents\[0\].parts must be a list with at least one"),
        ({"contents": [content({})]}, r"contents\[0\].parts\[0\] must have exactly one of text"),
        ({"contents": [content({"text": "a", **call("f")})]}, "must have exactly one of text"),
        ({"contents": [content({"text": 1})]}, r"parts\[0\].text must be text, not a number"),
        ({"contents": [content({"text": "a", "thought": 1})]}, "thought must be true or false"),
        ({"contents": [content({"txt": "a"})]}, r'Unknown name "txt" at .contents\[0\].parts\[0\]'),
        (
            {"contents": [content({"executableCode": {"code": "1"}})]},
            r"parts\[0\].executableCode is not supported by this gateway",
        ),
        ({"contents": [content(call("f"))]}, r"parts\[0\].functionCall is not supported here"),
        (
            {"contents": [content({"inlineData": {"data": "aGk="}}, role="model")]},
            "inlineData is not supported here: use text, functionCall",
        ),
        (
            {"contents": [content({"inlineData": {"mimeType": "audio/wav", "data": "aGk="}})]},
            r"inlineData.mimeType must be an image type",
        ),
        (
            {"contents": [content({"inlineData": {"mimeType": "image/png"}})]},
            "inlineData.data must be",
        ),
        (
            {"contents": [content({"fileData": {"fileUri": "gs://b/a.png"}})]},
            "fileData.fileUri must begin with http",
        ),
        (
            {"contents": [content(call(""), role="model")]},
            "functionCall.name must be the name of a f",
        ),
        (
            {"contents": [content({"functionCall": {"name": "f", "args": "x"}}, role="model")]},
            "functionCall.args must be a JSON object",
        ),
        ({"contents": [content(result("f", {}))]}, "functionResponse does not match any call"),
        (
            {"contents": [content(call("f", "1"), role="model"), content(result("g", {}, "2"))]},
            "functionCall named 'g'",
        ),
        (
            {"contents": [content(call("f"), role="model"), content(result("f", "x"))]},
            "functionResponse.response must be a JSON object",
        ),
        (
            {
                "contents": [
                    content(call("f"), role="model"),
                    content({"functionResponse": {"name": "f", "parts": [{}]}}),
                ]
            },
            r"functionResponse.parts\[0\] must have exactly one of inlineData",
        ),
        ({"systemInstruction": "Be brief."}, "systemInstruction must be a JSON object"),
        ({"systemInstruction": content(call("f"))}, r"systemInstruction.parts\[0\].functionCall"),
        ({"topP": 1}, 'Unknown name "topP": the protocol has no such field'),
        ({"cached_content": "x"}, "cachedContent is not supported by this gateway: leave it out"),
        ({CONFIG: []}, "generationConfig must be a JSON object"),
        ({CONFIG: {"top_q": 1}}, 'Unknown name "top_q" at .generationConfig'),
        ({CONFIG: {"topP": "x"}}, "generationConfig.topP must be a number"),
        ({CONFIG: {"seed": True}}, "generationConfig.seed must be a number"),
        ({CONFIG: {"stopSequences": "x"}}, "generationConfig.stopSequences must be a list"),
        ({CONFIG: {"stopSequences": [1]}}, r"stopSequences\[0\] must be text"),
        ({CONFIG: {"maxOutputTokens": 0}}, "maxOutputTokens must be a whole number above 0"),
        ({CONFIG: {"candidateCount": 2}}, "generationConfig.candidateCount must be 1"),
        (
            {CONFIG: {"responseLogprobs": True}},
            "generationConfig.responseLogprobs is not supported",
        ),
        ({CONFIG: {"responseModalities": ["IMAGE"]}}, "responseModalities must be TEXT"),
        ({CONFIG: {"responseMimeType": "text/x.enum"}}, "responseMimeType must be text/plain or"),
        ({CONFIG: {"responseSchema": {}}}, "responseMimeType must be application/json"),
        (
            {CONFIG: {"responseSchema": {}, "responseJsonSchema": {}}},
            "must not have both responseSchema and responseJsonSchema",
        ),
        (
            {CONFIG: {"responseSchema": {"type": "TEXT"}}},
            "responseSchema.type must be one of STRING",
        ),
        ({CONFIG: {"responseSchema": {"type": ["x"]}}}, "responseSchema.type must be text"),
        ({CONFIG: {"responseSchema": {"minItems": "x"}}}, "minItems must be a whole number"),
        ({CONFIG: {"responseSchema": {"minItems": "9" * 5000}}}, "minItems must be a whole number"),
        ({CONFIG: {"responseSchema": {"oneOf": []}}}, "responseSchema.oneOf is not a keyword"),
        (
            {CONFIG: {"responseSchema": {"properties": {"a": 1}}}},
            "responseSchema.properties.a must be a JSON object",
        ),
        ({CONFIG: {"thinkingConfig": {"thinkingBudget": -2}}}, "thinkingBudget must be a whole"),
        ({CONFIG: {"thinkingConfig": {"thinkingLevel": "MUCH"}}}, "thinkingLevel must be one of"),
        ({CONFIG: {"thinkingConfig": {"includeThoughts": 1}}}, "includeThoughts must be true or"),
        ({"tools": {}}, "tools must be a list"),
        ({"tools": [{"googleSearch": {}}]}, r"tools\[0\].googleSearch is not supported"),
        ({"tools": [{"functionDeclarations": [{}]}]}, r"functionDeclarations\[0\].name must be"),
        (
            {"tools": [{"functionDeclarations": [{"name": "f", "behavior": "NON_BLOCKING"}]}]},
            r"tools\[0\].functionDeclarations\[0\].behavior is not supported",
        ),
        (
            {"tools": [*TOOLS, {"functionDeclarations": [{"name": "a"}]}]},
            r"tools\[2\].functionDeclarations\[0\].name is already the name of another",
        ),
        (
            {
                "tools": [
                    {
                        "functionDeclarations": [
                            {"name": "f", "parameters": {}, "parametersJsonSchema": {}}
                        ]
                    }
                ]
            },
            "must not have both parameters and parametersJsonSchema",
        ),
        ({"toolConfig": {"retrievalConfig": {"x": 1}}}, "toolConfig.retrievalConfig is not supp"),
        (
            {"toolConfig": {"functionCallingConfig": {"mode": "any"}}},
            "functionCallingConfig.mode must be one of AUTO, ANY",
        ),
        ({"toolConfig": {"functionCallingConfig": {"mode": "ANY"}}}, "no functions are declared"),
        (
            {
                "tools": TOOLS,
                "toolConfig": {"functionCallingConfig": {"allowedFunctionNames": ["a"]}},
            },
            "allowedFunctionNames must be empty unless",
        ),
        (
            {
                "tools": TOOLS,
                "toolConfig": {
                    "functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["a", "x"]}
                },
            },
            r"allowedFunctionNames\[1\] must be the name of a declared function",
        ),
    ],
)
def test_read_wrong_body(fields: dict[str, Any], message: str) -> None:
    """The error names the field, and is a 400 in the form of Google's services."""
    with pytest.raises(RequestError, match=message) as caught:
        read(**fields)
    error = json.loads(error_body(caught.value, "/gemini/v1/models/m:generateContent"))["error"]
    assert (error["code"], error["status"]) == (400, "INVALID_ARGUMENT")
    assert error["message"] == caught.value.message


def test_read_wrong_address() -> None:
    """Other methods are not found; another form of the answer is refused."""
    for path in ("m:countTokens", "m", ""):
        with pytest.raises(RequestError, match="the gateway does not have the method") as caught:
            read(path)
        assert caught.value.status == 404
    with pytest.raises(RequestError, match="alt must be json or sse"):
        GEMINI.read({"contents": HI}, call="m:generateContent", alt="proto")
    with pytest.raises(RequestError, match="the body must be a JSON object, not a list"):
        GEMINI.read([], call="m:generateContent")


# --- writing

DELTAS = [
    ReasoningDelta("H"),
    ReasoningDelta("m."),
    "Да\n",
    "😀",
    ToolCall("c1", "f", {"a": 1}, '{"a": 1}'),
    ToolCall("c2", "f", {}, ""),
    "Bye",
]
CALLS = [
    {"functionCall": {"id": "c1", "name": "f", "args": {"a": 1}}},
    {"functionCall": {"id": "c2", "name": "f", "args": {}}},
]
ENDING = Ending("stop", Usage(9, 5, 14))
COUNTS = {"promptTokenCount": 9, "candidatesTokenCount": 5, "totalTokenCount": 14}


def info(**echoed: Any) -> AnswerInfo:
    return AnswerInfo("1", 0, "echo", ChatRequest([], echoed=echoed))


@pytest.mark.parametrize("alt", ["sse", None])
def test_write_stream(alt: str | None) -> None:
    """One chunk for each delta, and a last one; as events, or as the elements of an array."""
    writer = GEMINI.writer(info(alt=alt))
    body = writer.start(Usage()) + b"".join(map(writer.delta, DELTAS)) + writer.end(ENDING)
    kind = "text/event-stream" if alt else "application/json"
    assert writer.content_type == f"{kind}; charset=utf-8"
    *chunks, last = events(body) if alt else json.loads(body)
    head = {"modelVersion": "echo", "responseId": "1"}
    parts = [
        {"text": "H", "thought": True},
        {"text": "m.", "thought": True},
        *({"text": "Да\n"}, {"text": "😀"}, *CALLS, {"text": "Bye"}),
    ]
    candidates = [{"content": {"parts": [part], "role": "model"}, "index": 0} for part in parts]
    assert chunks == [{"candidates": [each], **head} for each in candidates]
    end = {"content": {"parts": [{"text": ""}], "role": "model"}, "index": 0}
    assert last == {
        "candidates": [{**end, "finishReason": "STOP"}],
        "usageMetadata": COUNTS,
        **head,
    }


@pytest.mark.parametrize("deltas", [[], ["Hi"]])
def test_write_error_in_array(deltas: list[Any]) -> None:
    """An error is the last element; the array is complete JSON."""
    writer = GEMINI.writer(info())
    body = b"".join(map(writer.delta, deltas))
    body += writer.error(RequestError("no more", status=500)) or b""
    *chunks, last = json.loads(body)
    assert len(chunks) == len(deltas)
    assert last == {"error": {"code": 500, "message": "no more", "status": "INTERNAL"}}


def test_write_complete_answer() -> None:
    """Consecutive deltas of a kind form one part."""
    body = json.loads(GEMINI.writer(info()).complete(DELTAS, ENDING))
    (candidate,) = body["candidates"]
    assert candidate["content"]["parts"] == [
        {"text": "Hm.", "thought": True},
        *({"text": "Да\n😀"}, *CALLS, {"text": "Bye"}),
    ]
    assert (candidate["finishReason"], body["usageMetadata"]) == ("STOP", COUNTS)
    hidden = json.loads(GEMINI.writer(info(thoughts=False)).complete(DELTAS[:3], ENDING))
    assert hidden["candidates"][0]["content"]["parts"] == [{"text": "Да\n"}]
    empty = json.loads(GEMINI.writer(info()).complete([], ENDING))
    assert empty["candidates"][0]["content"]["parts"] == [{"text": ""}]


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        (
            Usage(100, 30, 131, 60, 15, 20),
            {
                **{"promptTokenCount": 100, "cachedContentTokenCount": 60},
                **{"candidatesTokenCount": 10, "thoughtsTokenCount": 20, "totalTokenCount": 131},
            },
        ),
        (Usage(3), {"promptTokenCount": 3, "totalTokenCount": 3}),
        (Usage(None, 5), {"candidatesTokenCount": 5}),
        (Usage(1, 2, 3, None, None, 4), {**COUNTS, "thoughtsTokenCount": 4}),
        (Usage(), {}),
    ],
)
def test_write_counts(usage: Usage, counts: dict[str, int]) -> None:
    """Thoughts are counted beside the answer; what is not known is left out."""
    if usage.reasoning_tokens == 4:  # more than the whole output
        counts = {**counts, "promptTokenCount": 1, "candidatesTokenCount": 0, "totalTokenCount": 3}
    (last,) = events(GEMINI.writer(info(alt="sse")).end(Ending(usage=usage)))
    assert last["usageMetadata"] == counts


@pytest.mark.parametrize(
    ("status", "state"),
    [
        (400, "INVALID_ARGUMENT"),
        (401, "UNAUTHENTICATED"),
        (403, "PERMISSION_DENIED"),
        (404, "NOT_FOUND"),
        (413, "INVALID_ARGUMENT"),
        (429, "RESOURCE_EXHAUSTED"),
        (500, "INTERNAL"),
        (503, "UNAVAILABLE"),
        (529, "UNAVAILABLE"),
    ],
)
def test_write_error(status: int, state: str) -> None:
    """The name of an error depends on its status, in a body and in an event."""
    error = RequestError("no", status=status)
    expected = {"error": {"code": status, "message": "no", "status": state}}
    for path in ("/gemini", "/gemini/v1beta/models", "/gemini/nothing"):
        assert json.loads(error_body(error, path)) == expected
    assert events(GEMINI.writer(info(alt="sse")).error(error) or b"") == [expected]
