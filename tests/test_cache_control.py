"""``cache_control``: carried where the protocol has it, else left out: caching needs no mark."""

from __future__ import annotations

import json
from typing import Any

import pytest

from providers_sync import Anthropic, Gemini, Ollama, OpenAICompatible, OpenAIResponses
from providers_sync.testing import ScriptedProvider, text

MARK = {"type": "ephemeral"}
MARKED: dict[str, Any] = {"cache_control": MARK}
TEXT = {"type": "text", "text": "Hello"}
PNG = b"\x89PNG\r\n\x1a\n"
CALL = {"id": "1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
USER = {"role": "user", "content": "Hi"}
CALLING = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "1", "content": "2"}


def body_of(kind: Any, messages: Any, **options: Any) -> dict[str, Any]:
    """Return the body of a request."""
    provider = ScriptedProvider([text("ok")], like=kind("m", api_key="k"))
    provider.complete(messages, **options)
    body: dict[str, Any] = json.loads(provider.requests[0].body)
    return body


def marked_blocks(value: Any) -> list[dict[str, Any]]:
    """Return every object with the mark, without it, wherever it stands."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    found = [each for one in inner for each in marked_blocks(one)]
    if isinstance(value, dict) and "cache_control" in value:
        assert value["cache_control"] == MARK
        found.append({key: each for key, each in value.items() if key != "cache_control"})
    return found


IMAGE_BLOCK = {
    "type": "image",
    "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="},
}
PLACES: list[tuple[Any, Any]] = [
    ([{"role": "user", "content": [TEXT, {**TEXT, **MARKED}]}], TEXT),
    ([{"role": "user", "content": [{"type": "file", "file": PNG, **MARKED}]}], IMAGE_BLOCK),
    ([{"role": "user", "content": [{"type": "image", "image": PNG, **MARKED}]}], IMAGE_BLOCK),
    ([{"role": "system", "content": [{**TEXT, **MARKED}]}, USER], TEXT),
    ([{"role": "system", "content": "Hello", **MARKED}, USER], TEXT),
    ([{"role": "user", "content": "Hello", **MARKED}], TEXT),
    ([{"role": "user", "content": [TEXT, TEXT], **MARKED}], TEXT),
    (
        [USER, CALLING, {**RESULT, **MARKED}],
        {"type": "tool_result", "tool_use_id": "1", "content": "2"},
    ),
    ([USER, CALLING, {**RESULT, "content": [{**TEXT, **MARKED}]}], TEXT),
    (
        [USER, {**CALLING, "tool_calls": [{**CALL, **MARKED}]}, RESULT],
        {"type": "tool_use", "id": "1", "name": "add", "input": {}},
    ),
]


@pytest.mark.parametrize(("messages", "block"), PLACES)
def test_mark_reaches_anthropics_block(messages: Any, block: Any) -> None:
    """A whole message's goes to its last block: some relays take it there."""
    assert marked_blocks(body_of(Anthropic, messages)) == [block]


@pytest.mark.parametrize(("messages", "block"), PLACES)
def test_mark_stays_beside_what_it_marks(messages: Any, block: Any) -> None:
    """OpenAI's protocol carries it to the relays that know it."""
    [found] = marked_blocks(body_of(OpenAICompatible, messages)["messages"])
    assert found.get("type") in ("text", "image_url", "function", None)
    assert found.get("type") or found["role"]


@pytest.mark.parametrize("kind", [Gemini, OpenAIResponses, Ollama])
def test_mark_is_left_out_elsewhere(kind: Any) -> None:
    """The answer is the same without it."""
    for messages, _ in PLACES:
        assert "cache_control" not in json.dumps(body_of(kind, messages))


def test_mark_of_a_tool() -> None:
    """And one in the body as a whole, which Anthropic takes too."""
    tool = {**TOOL, **MARKED}
    assert body_of(OpenAICompatible, "Hi", tools=[tool])["tools"] == [tool]
    [made] = body_of(Anthropic, "Hi", tools=[tool])["tools"]
    assert made == {"name": "add", "input_schema": {"type": "object"}, **MARKED}
    assert body_of(Anthropic, "Hi", cache_control=MARK)["cache_control"] == MARK
    for kind in (Gemini, Ollama):
        assert "cache_control" not in json.dumps(body_of(kind, "Hi", tools=[tool]))


@pytest.mark.parametrize("kind", [Anthropic, OpenAICompatible])
def test_mark_in_the_system_argument(kind: Any) -> None:
    """Before the system messages that ``messages`` has."""
    messages = [{"role": "system", "content": "More"}, USER]
    body = body_of(kind, messages, system=[{**TEXT, **MARKED}])
    if kind is Anthropic:
        assert body["system"] == [{**TEXT, **MARKED}, {"type": "text", "text": "More"}]
    else:
        assert body["messages"][0] == {"role": "system", "content": [{**TEXT, **MARKED}]}
