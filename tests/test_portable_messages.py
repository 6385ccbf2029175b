"""Fields of messages that not all protocols have are carried by each protocol, or refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from providers_sync import InvalidRequestError
from providers_sync.providers import get_provider

TRANSLATING = ("responses", "anthropic", "gemini", "ollama")
OWN = (("gemini", "parts"), ("ollama", "images"), ("responses", "output"))
"""Fields that one protocol has for itself."""
translating = pytest.mark.parametrize("name", TRANSLATING)


def body_of(name: str, message: dict[str, Any]) -> dict[str, Any]:
    question = {"role": "user", "content": "Hi"}
    return get_provider(name, "m", api_key="k").body([question, message, question], "m", {})


@translating
@pytest.mark.parametrize("content", ["", "So: ", [{"type": "text", "text": "So: "}]])
def test_refusal_of_an_earlier_answer_is_sent(name: str, content: Any) -> None:
    """As a chat completion has it: beside the content."""
    message = {"role": "assistant", "content": content, "refusal": "I cannot help."}
    sent = json.dumps(body_of(name, message))
    assert sent.count("I cannot help.") == 1
    assert sent.count("So: ") == bool(content)


@translating
@pytest.mark.parametrize(
    "field",
    [
        {"audio": {"id": "audio_1"}},
        {"function_call": {"name": "f", "arguments": "{}"}},
        {"parts": [{"text": "Hi"}]},
        {"images": ["iVBORw0KGgo="]},
        {"output": [{"type": "compaction", "encrypted_content": "c"}]},
    ],
    ids=lambda field: next(iter(field)),
)
def test_field_of_another_protocol_is_refused(name: str, field: dict[str, Any]) -> None:
    """Without it, something that was said or shown would be missing."""
    [key] = field
    message = {"role": "assistant", "content": "", **field}
    if (name, key) in OWN:
        assert next(iter(field.values()))[0] in _values(body_of(name, message))
        return
    with pytest.raises(InvalidRequestError, match=rf"messages\[1\]\['{key}'\]"):
        body_of(name, message)
    body_of(name, {**message, key: None})  # as OpenAI's own client has it


@translating
def test_role_of_old_results_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequestError, match="tool_call_id"):
        body_of(name, {"role": "function", "name": "f", "content": "1"})


def _values(value: Any) -> list[Any]:
    """Return all values within a value."""
    inner = list(value.values()) if isinstance(value, dict) else value
    if not isinstance(inner, list):
        return [value]
    return [value, *(found for each in inner for found in _values(each))]
