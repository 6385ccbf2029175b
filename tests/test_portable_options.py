"""OpenAI's options on every protocol: in its own form on the wire, or an error; never ignored."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

import pytest

from providers_sync import (
    Anthropic,
    Gemini,
    InvalidRequestError,
    Ollama,
    OpenAICompatible,
    OpenAIResponses,
)
from providers_sync.testing import ScriptedProvider, text

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
FUNCTION = {"name": "add", "description": "Adds", "parameters": SCHEMA}
TOOL = {"type": "function", "function": FUNCTION}
NAMED = {"type": "function", "function": {"name": "add"}}
FORMAT = {"type": "json_schema", "json_schema": {"name": "sum", "schema": SCHEMA}}
ENCRYPTED = "reasoning.encrypted_content"
LOGPROBS = "message.output_text.logprobs"
FLAT = {"type": "function", "name": "add", "description": "Adds", "parameters": SCHEMA,
        "strict": False}  # fmt: skip
OWN = {"name": "add", "description": "Adds", "input_schema": SCHEMA}
DECLARED = {"name": "add", "description": "Adds", "parametersJsonSchema": SCHEMA}

SAME: Any = object()
"""The option goes into the body as it is."""
NOTHING: dict[str, Any] = {}
"""The protocol does by itself what is asked for."""
REFUSED = None
KINDS = (OpenAICompatible, OpenAIResponses, Anthropic, Gemini, Ollama)


class Row(NamedTuple):
    """An option, and what it adds to the body of each protocol; ``None`` if it is refused."""

    options: dict[str, Any]
    chat: Any
    responses: Any
    anthropic: Any
    gemini: Any
    ollama: Any


def config(**fields: Any) -> dict[str, Any]:
    return {"generationConfig": fields}


def calling(**fields: Any) -> dict[str, Any]:
    """Return the tools of Gemini's body with a choice."""
    return {
        "tools": [{"functionDeclarations": [DECLARED]}],
        "toolConfig": {"functionCallingConfig": fields},
    }


def with_tool(**options: Any) -> dict[str, Any]:
    return {"tools": [TOOL], **options}


ROWS = [
    # --- tools
    Row(with_tool(), SAME, {"tools": [FLAT]}, {"tools": [OWN]},
        {"tools": [{"functionDeclarations": [DECLARED]}]}, SAME),
    Row(with_tool(tool_choice="auto"), SAME, {"tools": [FLAT], "tool_choice": "auto"},
        {"tools": [OWN], "tool_choice": {"type": "auto"}}, calling(mode="AUTO"),
        {"tools": [TOOL]}),
    Row(with_tool(tool_choice="none"), SAME, {"tools": [FLAT], "tool_choice": "none"},
        {"tools": [OWN], "tool_choice": {"type": "none"}}, calling(mode="NONE"), NOTHING),
    Row(with_tool(tool_choice="required"), SAME, {"tools": [FLAT], "tool_choice": "required"},
        {"tools": [OWN], "tool_choice": {"type": "any"}}, calling(mode="ANY"), REFUSED),
    Row(with_tool(tool_choice=NAMED), SAME,
        {"tools": [FLAT], "tool_choice": {"type": "function", "name": "add"}},
        {"tools": [OWN], "tool_choice": {"type": "tool", "name": "add"}},
        calling(mode="ANY", allowedFunctionNames=["add"]), REFUSED),
    Row(with_tool(parallel_tool_calls=True), SAME, {"tools": [FLAT], "parallel_tool_calls": True},
        {"tools": [OWN]}, {"tools": [{"functionDeclarations": [DECLARED]}]}, {"tools": [TOOL]}),
    Row(with_tool(parallel_tool_calls=False), SAME,
        {"tools": [FLAT], "parallel_tool_calls": False},
        {"tools": [OWN], "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
        REFUSED, REFUSED),
    Row(with_tool(tool_choice="required", parallel_tool_calls=False), SAME,
        {"tools": [FLAT], "tool_choice": "required", "parallel_tool_calls": False},
        {"tools": [OWN], "tool_choice": {"type": "any", "disable_parallel_tool_use": True}},
        REFUSED, REFUSED),
    # --- the format of the answer
    Row({"response_format": {"type": "text"}}, SAME, {"text": {"format": {"type": "text"}}},
        NOTHING, NOTHING, NOTHING),
    Row({"response_format": {"type": "json_object"}}, SAME,
        {"text": {"format": {"type": "json_object"}}}, REFUSED,
        config(responseMimeType="application/json"), {"format": "json"}),
    Row({"response_format": FORMAT}, SAME,
        {"text": {"format": {"type": "json_schema", "name": "sum", "schema": SCHEMA}}},
        {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
        config(responseMimeType="application/json", responseJsonSchema=SCHEMA),
        {"format": SCHEMA}),
    # --- sampling
    Row({"stop": "END"}, SAME, REFUSED, {"stop_sequences": ["END"]},
        config(stopSequences=["END"]), {"options": {"stop": ["END"]}}),
    Row({"stop": ["a", "b"]}, SAME, REFUSED, {"stop_sequences": ["a", "b"]},
        config(stopSequences=["a", "b"]), {"options": {"stop": ["a", "b"]}}),
    Row({"max_tokens": 5}, SAME, {"max_output_tokens": 5}, {"max_tokens": 5},
        config(maxOutputTokens=5), {"options": {"num_predict": 5}}),
    Row({"max_completion_tokens": 5}, SAME, {"max_output_tokens": 5}, {"max_tokens": 5},
        config(maxOutputTokens=5), {"options": {"num_predict": 5}}),
    Row({"seed": 0}, SAME, REFUSED, REFUSED, config(seed=0), {"options": {"seed": 0}}),
    Row({"temperature": 0, "top_p": 0.5}, SAME, SAME, SAME, config(temperature=0, topP=0.5),
        {"options": {"temperature": 0, "top_p": 0.5}}),
    Row({"presence_penalty": 0.5}, SAME, REFUSED, REFUSED, config(presencePenalty=0.5),
        {"options": {"presence_penalty": 0.5}}),
    Row({"logit_bias": {"1": 1}}, SAME, REFUSED, REFUSED, REFUSED, REFUSED),
    Row({"n": 1}, SAME, NOTHING, NOTHING, NOTHING, NOTHING),
    Row({"n": 2}, REFUSED, REFUSED, REFUSED, REFUSED, REFUSED),
    Row({"logprobs": True, "top_logprobs": 2}, SAME,
        {"top_logprobs": 2, "include": [LOGPROBS, ENCRYPTED]}, REFUSED,
        config(responseLogprobs=True, logprobs=2), SAME),
    # --- reasoning, and what only OpenAI has
    Row({"reasoning_effort": "low"}, SAME, {"reasoning": {"effort": "low"}}, REFUSED,
        config(thinkingConfig={"thinkingBudget": 1024, "includeThoughts": True}),
        {"think": "low"}),
    Row({"reasoning_effort": "none"}, SAME, {"reasoning": {"effort": "none"}}, REFUSED,
        config(thinkingConfig={"thinkingBudget": 0, "includeThoughts": False}),
        {"think": False}),
    Row({"verbosity": "low"}, SAME, {"text": {"verbosity": "low"}}, REFUSED, REFUSED, REFUSED),
    Row({"user": "u"}, SAME, SAME, REFUSED, REFUSED, REFUSED),
    Row({"prediction": {"type": "content", "content": "x"}}, SAME, *[REFUSED] * 4),
    Row({"modalities": ["audio"], "audio": {"voice": "x"}}, SAME, *[REFUSED] * 4),
    Row({"functions": [FUNCTION]}, SAME, *[REFUSED] * 4),
    Row({"function_call": "auto"}, SAME, *[REFUSED] * 4),
    Row({"web_search_options": {}}, SAME, *[REFUSED] * 4),
    Row({"stream_options": {"include_usage": True}}, *[NOTHING] * 5),
]  # fmt: skip


def provider_of(kind: Any) -> ScriptedProvider:
    return ScriptedProvider([text("ok")], like=kind("m", api_key="k"))


def body_of(kind: Any, **options: Any) -> dict[str, Any]:
    """Return the body of a request with these options."""
    provider = provider_of(kind)
    provider.complete("Hi", **options)
    body: dict[str, Any] = json.loads(provider.requests[0].body)
    return body


PLAIN = {kind: body_of(kind) for kind in KINDS}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: ",".join(row.options))
@pytest.mark.parametrize("number", range(len(KINDS)), ids=[kind.__name__ for kind in KINDS])
def test_option_is_honoured_or_refused(row: Row, number: int) -> None:
    """Nothing else in the body changes; an error names the option, and nothing is sent."""
    kind, expected = KINDS[number], row[number + 1]
    if expected is REFUSED:
        provider = provider_of(kind)
        names = "|".join(row.options)
        with pytest.raises(InvalidRequestError, match=rf"\b({names})\b"):
            provider.stream("Hi", **row.options)
        assert provider.requests == []
        return
    expected = row.options if expected is SAME else expected
    assert body_of(kind, **row.options) == {**PLAIN[kind], **expected}


@pytest.mark.parametrize("kind", KINDS)
def test_none_removes_an_option(kind: Any) -> None:
    """It is as if it had not been given, also where it would be refused."""
    names = {name for row in ROWS for name in row.options} - {"stream_options"}
    assert body_of(kind, **dict.fromkeys(names)) == PLAIN[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_options_of_the_provider_are_those_of_a_call(kind: Any) -> None:
    """The body and the error are the same."""

    def result(provider: Any, **call: Any) -> Any:
        try:
            provider.complete("Hi", **call)
        except InvalidRequestError as error:
            return str(error)
        return json.loads(provider.requests[0].body)

    for row in ROWS:
        configured = ScriptedProvider([text("ok")], like=kind("m", api_key="k", **row.options))
        assert result(configured) == result(provider_of(kind), **row.options)


@pytest.mark.parametrize("kind", [Anthropic, OpenAIResponses, Gemini, Ollama])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tools": "add"}, "tools must be a list"),
        ({"tools": ["add"]}, r"tools\[0\] must be a dict"),
        ({"tools": [{"type": "function", "function": {}}]}, r"tools\[0\].*'name'"),
        ({"tools": [TOOL], "tool_choice": "sometimes"}, "tool_choice must be one of"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {}}}, "tool_choice"),
        ({"response_format": "json"}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"response_format": {"type": "grammar"}}, "response_format"),
    ],
)
def test_wrong_forms_are_refused(kind: Any, options: dict[str, Any], message: str) -> None:
    """With the place of the mistake; chat completions pass them to the server."""
    provider = provider_of(kind)
    with pytest.raises(InvalidRequestError, match=message):
        provider.stream("Hi", **options)
    assert provider.requests == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stop": 5}, "stop must be text"),
        ({"stop": "a", "stop_sequences": ["b"]}, "stop= and stop_sequences= contradict"),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "contradict each other"),
        ({"n": 0}, "n must be 1"),
        ({"tool_choice": NAMED["function"]}, "tool_choice of this form"),
        ({"tool_choice": {"type": "allowed_tools"}}, "tool_choice of this form"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, r"tools\[0\] is a tool of type"),
        ({"tools": [FLAT]}, r"tools\[0\] is a tool of type 'function'"),
        ({"response_format": FORMAT, "output_config": {"format": {}}}, "contradict each other"),
        ({"response_format": FORMAT, "output_config": 5}, "output_config must be a dict"),
    ],
)
def test_what_anthropic_would_not_understand(options: dict[str, Any], message: str) -> None:
    """The error comes before the request."""
    provider = provider_of(Anthropic)
    with pytest.raises(InvalidRequestError, match=message):
        provider.stream("Hi", **options)
    assert provider.requests == []


@pytest.mark.parametrize("kind", [Anthropic, OpenAIResponses, Gemini, Ollama])
@pytest.mark.parametrize(
    ("calls", "place"),
    [
        (5, "['tool_calls'] must be a list"),
        ("add", "['tool_calls'] must be a list"),
        ([5], "['tool_calls'][0] is not a tool call"),
        ([{"id": "1", "function": {"arguments": "{}"}}], "['tool_calls'][0] is not a tool call"),
        ([{"id": "1", "type": "function"}], "['tool_calls'][0] is not a tool call"),
    ],
)
def test_wrong_tool_calls_are_refused(kind: Any, calls: Any, place: str) -> None:
    """With their place."""
    provider = provider_of(kind)
    with pytest.raises(InvalidRequestError, match=re.escape(f"messages[0]{place}")):
        provider.stream([{"role": "assistant", "content": None, "tool_calls": calls}])
    assert provider.requests == []


@pytest.mark.parametrize("result", [{}, {"tool_call_id": None}, {"tool_call_id": 5}])
def test_result_of_no_call_is_refused(result: dict[str, Any]) -> None:
    """Where the protocol cannot do without the call."""
    for kind in (Anthropic, Gemini):
        provider = provider_of(kind)
        with pytest.raises(InvalidRequestError, match=r"messages\[0\]\['tool_call_id'\]"):
            provider.stream([{"role": "tool", "content": "2", **result}])
        assert provider.requests == []


def test_false_asks_for_nothing() -> None:
    """Programs that set everything need not be changed."""
    assert body_of(Anthropic, logprobs=False, store=False) == PLAIN[Anthropic]
    assert body_of(Ollama, store=False) == PLAIN[Ollama]


@pytest.mark.parametrize(("kind", "field"), [(Anthropic, "output_config"), (Ollama, "format")])
def test_description_of_the_format_is_kept(kind: Any, field: str) -> None:
    """In the schema, the only place that these protocols have."""
    form = {"name": "sum", "description": "A sum", "schema": SCHEMA}
    made = body_of(kind, response_format={"type": "json_schema", "json_schema": form})[field]
    schema = made["format"]["schema"] if kind is Anthropic else made
    assert schema == {"description": "A sum", **SCHEMA}


def test_protocols_own_forms_go_through() -> None:
    """Tools, choices and options that are not OpenAI's."""
    search = {"type": "web_search_20250305", "name": "web_search"}
    own = {"tools": [search, OWN], "tool_choice": {"type": "any"}, "top_k": 5}
    assert body_of(Anthropic, **own) == {**PLAIN[Anthropic], **own}
    built_in = {"tools": [{"type": "web_search"}], "tool_choice": {"type": "web_search"}}
    assert body_of(OpenAIResponses, **built_in) == {**PLAIN[OpenAIResponses], **built_in}
    google = {"tools": [{"google_search": {}}], "safetySettings": []}
    assert body_of(Gemini, **google) == {**PLAIN[Gemini], **google}
    assert body_of(Ollama, think="high", keep_alive=0, options={"x": 1}) == {
        **PLAIN[Ollama], "think": "high", "keep_alive": 0, "options": {"x": 1}
    }  # fmt: skip
