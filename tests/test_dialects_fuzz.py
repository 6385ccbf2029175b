"""Fuzz tests of almost valid bodies: each is answered, or refused with the field's name."""

from __future__ import annotations

import contextlib
import copy
import json
from typing import Any

import pytest
from gateway_kit import events
from hypothesis import given, settings
from hypothesis import strategies as st

from providers_sync.dialects import DIALECTS, AnswerInfo, Dialect, RequestError
from providers_sync.echo import EchoEngine
from providers_sync.engines import DisconnectWatcher, EngineAnswer
from providers_sync.errors import InvalidRequestError

SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "string"}, "b": {"$ref": "#/$defs/B"}},
    "$defs": {"B": {"anyOf": [{"type": "array", "items": {"enum": [1, 2]}}, {"const": 3}]}},
}
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
URL = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
OPENAI = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "call f {}"}, URL]},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "1", "content": "2"},
        {"role": "user", "content": "call f {}"},
    ],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}},
    "stop": ["x", "y"],
    "max_tokens": 9,
    "temperature": 0.5,
    "n": 1,
    "stream": True,
    "stream_options": {"include_usage": True},
}
SOURCE = {"type": "base64", "media_type": "image/png", "data": "aGk="}
ANTHROPIC = {
    "model": "m",
    "max_tokens": 9,
    "system": [{"type": "text", "text": "Be brief."}],
    "messages": [
        {
            "role": "user",
            "content": [{"type": "text", "text": "Hi"}, {"type": "image", "source": SOURCE}],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "x"},
                {"type": "tool_use", "id": "1", "name": "f", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "1",
                    "content": [{"type": "text", "text": "2"}],
                    "is_error": True,
                }
            ],
        },
        {"role": "user", "content": "think"},
    ],
    "tools": [{"name": "f", "description": "d", "input_schema": SCHEMA}],
    "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True},
    "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}},
    "stop_sequences": ["x"],
    "stream": True,
}
ITEMS = [
    {"role": "developer", "content": "Be brief."},
    {
        "role": "user",
        "content": [
            {"type": "input_text", "text": "call f {}"},
            {"type": "input_image", "image_url": "data:image/png;base64,aGk="},
        ],
    },
    {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]},
    {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "1", "output": "2"},
    {"type": "message", "role": "user", "content": "think"},
]
RESPONSES = {
    "model": "m",
    "instructions": "Be brief.",
    "input": ITEMS,
    "tools": [{"type": "function", "name": "f", "parameters": SCHEMA, "strict": True}],
    "tool_choice": {"type": "function", "name": "f"},
    "text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}},
    "reasoning": {"effort": "low"},
    "max_output_tokens": 9,
    "metadata": {"a": "b"},
    "stream": True,
}
GEMINI = {
    "systemInstruction": {"parts": [{"text": "Be brief."}]},
    "contents": [
        {
            "role": "user",
            "parts": [
                {"text": "Hi"},
                {"inlineData": {"mimeType": "image/png", "data": "aGk="}},
                {"file_data": {"mime_type": "image/png", "file_uri": "https://example.com/a.png"}},
            ],
        },
        {
            "role": "model",
            "parts": [
                {"text": "Hm.", "thought": True, "thoughtSignature": "x"},
                {"functionCall": {"name": "f", "args": {"a": 1}}},
                {"functionCall": {"id": "c1", "name": "f", "args": {}}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"id": "c1", "name": "f", "response": {"result": 1}}},
                {"functionResponse": {"name": "f", "response": {"error": "no"}}},
            ],
        },
        {"parts": [{"text": "call f {}"}]},
    ],
    "tools": [
        {
            "functionDeclarations": [
                {
                    "name": "f",
                    "description": "d",
                    "parameters": {
                        "type": "OBJECT",
                        "properties": {
                            "a": {"type": "STRING", "nullable": True, "enum": ["x"]},
                            "b": {"anyOf": [{"type": "ARRAY", "items": {"type": "INTEGER"}}]},
                        },
                        "required": ["a"],
                        "minProperties": "1",
                    },
                },
                {"name": "g", "parametersJsonSchema": SCHEMA},
            ]
        }
    ],
    "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}},
    "generationConfig": {
        "temperature": 0.5,
        "topP": 0.5,
        "topK": 3,
        "maxOutputTokens": 9,
        "stopSequences": ["x"],
        "candidateCount": 1,
        "responseMimeType": "application/json",
        "responseSchema": {"type": "OBJECT", "properties": {"a": {"type": "STRING"}}},
        "responseModalities": ["TEXT"],
        "thinkingConfig": {"thinkingBudget": 9, "includeThoughts": True},
    },
    "safetySettings": [],
}
OLLAMA_CALL = {"function": {"name": "f", "arguments": {"a": 1}}}
OLLAMA = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi", "images": ["iVBORw0KGgo="]},
        {
            "role": "assistant",
            "content": "",
            "thinking": "Hm.",
            "tool_calls": [OLLAMA_CALL, {"id": "c1", **OLLAMA_CALL}],
        },
        {"role": "tool", "content": "2", "tool_call_id": "c1"},
        {"role": "tool", "content": "3", "tool_name": "f"},
        {"role": "user", "content": "call f {}"},
    ],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}],
    "format": SCHEMA,
    "options": {"num_predict": 9, "temperature": 0.5, "stop": ["x"], "num_ctx": 9},
    "think": "low",
    "stream": True,
    "keep_alive": 0,
}
CONVERSATION = {"history": [{"speaker": "human", "text": "Hi"}, {"speaker": "bot", "text": "Yes"}]}
BODIES: dict[str, Any] = {
    "vitalentum": {"conversation": json.dumps(CONVERSATION), "temperature": 1},
    "codelinkava": OPENAI,
    "ai365vip": {
        **OPENAI,
        "model": {"id": "m"},
        "prompt": "Hm.",
        "tools": None,
        "tool_choice": None,
    },
    "openai": OPENAI,
    "anthropic": ANTHROPIC,
    "responses": RESPONSES,
    "gemini": GEMINI,
    "ollama": OLLAMA,
}
PATH_PARTS: dict[str, dict[str, str]] = {
    "gemini": {"call": "m:streamGenerateContent", "alt": "sse"}
}
ODD = st.sampled_from(
    [
        *(None, True, False, 0, 1, -1, 1.5, 10**20, "", "x", "user", "tool", "required"),
        *([], [1], ["x"], [None], [[]], {}, {"x": 1}, {"name": []}),
        *({"type": "text"}, {"type": "tool"}, {"type": ["x"]}),
        *({"properties": each} for each in (1, {"a": 1}, {"a": {"enum": "ab"}})),
        {"properties": {"a": {"type": [[]]}, "b": {"$ref": 1}, "c": {"anyOf": {"x": 1}}}},
    ]
)


def paths(value: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path to every value inside a body."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    children = [(*prefix, key) for key, _ in inner]
    deeper = [
        paths(each, path) for path in children if isinstance(each := value[path[-1]], (dict, list))
    ]
    return children + [path for found in deeper for path in found]


@st.composite
def mutated(draw: st.DrawFn, body: Any) -> Any:
    """Return a body with up to three values changed or removed."""
    body = copy.deepcopy(body)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(paths(body) or [()]))
        if not path:
            break
        parent = body
        for key in path[:-1]:
            parent = parent[key]
        if draw(st.booleans()):
            parent[path[-1]] = copy.deepcopy(draw(ODD))
        else:
            del parent[path[-1]]
    return body


def check_answer(dialect: Dialect, body: Any, watcher: DisconnectWatcher) -> None:
    """Read a body, answer it and write the answer, streamed and complete."""
    request = dialect.read(body, **PATH_PARTS.get(dialect.name, {}))
    answer = EngineAnswer(EchoEngine(), request, watcher, lambda: False)
    try:
        deltas = list(answer)
    finally:
        answer.close()
    streaming, complete = (dialect.writer(AnswerInfo("1", 0, "echo", request)) for _ in range(2))
    streamed = streaming.start(answer.usage) + b"".join(map(streaming.delta, deltas))
    streamed += streaming.end(answer.ending)
    if dialect.name != "ai365vip":
        assert events(streamed)
        assert json.loads(complete.complete(deltas, answer.ending))


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: d.name)
def test_almost_valid_bodies(dialect: Dialect) -> None:
    """A body is refused, or it is answered and the answer is JSON."""
    watcher = DisconnectWatcher()

    @given(mutated(BODIES[dialect.name]))
    @settings(max_examples=100, deadline=None, derandomize=True, database=None)
    def check(body: Any) -> None:
        with contextlib.suppress(RequestError, InvalidRequestError):
            check_answer(dialect, body, watcher)

    try:
        check()
        check_answer(dialect, BODIES[dialect.name], watcher)
    finally:
        watcher.close()
