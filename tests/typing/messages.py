"""Messages that mypy and pyright accept; never executed."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from typing_extensions import assert_type

from providers_sync import Chat, Message, Messages, OpenAICompatible, Prompt, Stream
from providers_sync.message_types import AssistantMessage, ToolMessage, UserMessage

provider = OpenAICompatible("qwen3")


def literals() -> None:
    provider.stream([{"role": "user", "content": "Hello"}])
    provider.stream({"role": "user", "content": "Hello"})
    provider.stream([{"role": "user", "content": [{"type": "image", "image": Path("a.png")}]}])
    provider.stream([{"role": "user", "content": [{"type": "file", "file": b"%PDF-"}]}])
    provider.stream([{"role": "user", "content": "", "parts": [{"text": "Gemini's own form"}]}])
    provider.stream([{"role": "human", "content": "an unknown role", "weight": 1}])
    provider.stream([{"role": "assistant", "content": None, "tool_calls": []}])
    provider.stream([{"role": "tool", "tool_call_id": "1", "content": "2", "is_error": True}])
    provider.stream(
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
        system="Be brief.",
    )


def variables(loaded: dict[str, Any], read_only: Mapping[str, Any], anything: Any) -> None:
    plain = [{"role": "user", "content": "Hello"}]
    provider.stream(plain)
    mixed: list[dict[str, Any]] = [{"role": "user", "content": ["a"]}, loaded]
    provider.stream(mixed)
    provider.stream([loaded, read_only])
    provider.stream(json.loads("[]"))
    provider.stream(anything)
    messages: Messages = [{"role": "user", "content": "Hello"}]
    messages.append(provider.complete(messages).message)
    provider.stream([*messages, {"role": "user", "content": "And then?"}])
    message: Message = {"role": "user", "content": "Hello"}
    provider.stream(message)


def typed_dicts() -> None:
    question: UserMessage = {
        "role": "user",
        "content": [
            {"type": "text", "text": "What is it?"},
            {"type": "image", "image": b"\x89PNG"},
        ],
    }
    call: AssistantMessage = {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        ],
    }
    result: ToolMessage = {"role": "tool", "tool_call_id": "1", "content": "2"}
    assert_type(provider.stream([question, call, result]), Stream)
    assert_type(provider.stream(question), Stream)
    assert_type(Chat(provider).send(question), Stream)
    wrong: UserMessage = {"role": "user", "contents": "Hello"}  # type: ignore[typeddict-item, typeddict-unknown-key]
    assert_type(provider.stream(wrong), Stream)


def ask(prompt: Prompt) -> str:
    return provider.complete(prompt).text
