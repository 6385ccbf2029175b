"""Conversations of ``llm``: what a protocol wants back goes back, and only there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from llm_kit import ADD, Llm

from providers_sync.testing import event, reasoning, serve, tool_call

pytestmark = pytest.mark.timeout(180)
SIGNED = {"type": "signature_delta", "signature": "SEALED"}
CALL = {"functionCall": {"name": "add", "args": {"a": 1}}, "thoughtSignature": "SEALED"}
ITEMS = [
    {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "SEALED"},
    {"type": "function_call", "call_id": "call_1", "name": "add", "arguments": '{"a": 1}'},
]
DONE = {"id": "r1", "status": "completed", "output": ITEMS}
ROUNDS: dict[str, list[Any]] = {
    "openai": [reasoning("SEALED"), tool_call("add", {"a": 1}, id="call_1")],
    "anthropic": [
        reasoning("Hm"),
        event({"type": "content_block_delta", "index": 0, "delta": SIGNED}),
        tool_call("add", {"a": 1}),
    ],
    "gemini": [event({"candidates": [{"content": {"role": "model", "parts": [CALL]}}]})],
    "responses": [
        *(event({"type": "response.output_item.done", "item": item}) for item in ITEMS),
        event({"type": "response.completed", "response": DONE}),
    ],
}
"""A protocol's first answer: a call of ``add``, with what the protocol wants back."""


def llm_of(folder: Path, protocol: str, url: str) -> Llm:
    addresses = ("OPENAI_BASE_URL", "ANTHROPIC_BASE_URL", "GEMINI_BASE_URL")
    return Llm(folder, LLM_MODEL=f"providers-sync/{protocol}/m-1", **dict.fromkeys(addresses, url))


@pytest.mark.parametrize("protocol", ROUNDS)
def test_sealed_reasoning_goes_back(tmp_path: Path, protocol: str) -> None:
    """With the result of a tool in the same command, and with the next question in another one."""
    with serve([ROUNDS[protocol], ["Two."], ["Yes."]]) as server:
        llm = llm_of(tmp_path, protocol, server.url)
        assert llm.run("1 + 1?", "--functions", ADD)[0].endswith("Two.\n")
        assert llm.run("-c", "Sure?")[0] == "Yes.\n"
    first, second, third = (json.dumps(request.json()) for request in server.requests)
    assert "SEALED" not in first
    assert second.count("SEALED") == third.count("SEALED") == 1
    assert "Sure?" in third


def test_sealed_reasoning_stays_with_its_protocol(tmp_path: Path) -> None:
    """Another model gets the conversation without it."""
    with serve([ROUNDS["anthropic"], ["Two."], ["Yes."]]) as server:
        llm = llm_of(tmp_path, "anthropic", server.url)
        llm.run("1 + 1?", "--functions", ADD)
        llm.run("-c", "-m", "providers-sync/openai/other", "Sure?")
        messages = server.requests[2].json()["messages"]
    assert "SEALED" not in json.dumps(messages)
    assert [message["role"] for message in messages] == [
        *("user", "assistant", "tool", "assistant", "user")
    ]
    assert messages[1]["tool_calls"][0]["function"] == {"name": "add", "arguments": '{"a": 1}'}
    assert messages[2]["content"] == "2"


def test_arguments_that_are_no_json_go_back_as_they_came(tmp_path: Path) -> None:
    """``llm`` tells the model that the call has failed, and the model sees what it had said."""
    with serve([[tool_call("add", "{oops", id="call_1")], ["Sorry."]]) as server:
        llm = llm_of(tmp_path, "openai", server.url)
        assert llm.run("1 + 1?", "--functions", ADD)[0].endswith("Sorry.\n")
        call, result = server.requests[1].json()["messages"][1:]
    assert call["tool_calls"][0]["function"]["arguments"] == "{oops"
    assert result["content"].startswith("Error:")


def test_a_conversation_stays_at_the_address_of_its_option(tmp_path: Path) -> None:
    """A private server's conversation does not go to the vendor with ``-c``."""
    private = ("-o", "base_url")
    with serve(lambda _: ["Yes."]) as server:
        llm = llm_of(tmp_path, "openai", server.url)
        llm.run("keys", "set", "openai", "--value", "vendor-key")
        llm.run("Diary", *private, server.url + "/private", "--key", "own")
        llm.run("-c", "More")
        llm.run("-c", "More", *private, server.url + "/other")
        llm.run("-c", "More", "-m", "providers-sync/openai/m-2")
        llm.run("-c", "More", "-m", "providers-sync/responses/m-1")
        llm.run("New")
    sent = [request.path.rsplit("/", 2)[0] for request in server.requests]
    assert sent[:4] == ["/private", "/private", "/other", "/other"]
    assert "/other" not in sent[4:]
    keys = [request.headers.get("Authorization") for request in server.requests]
    assert keys == ["Bearer own", None, None, None, "Bearer vendor-key", "Bearer vendor-key"]


def test_a_new_system_prompt_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    """For the question that it comes with."""
    with serve(lambda _: ["Yes."]) as server:
        llm = llm_of(tmp_path, "openai", server.url)
        llm.run("Hi", "-s", "Be brief.")
        llm.run("-c", "More", "-s", "Be verbose.")
    messages = server.requests[1].json()["messages"]
    assert [message["content"] for message in messages] == ["Be verbose.", "Hi", "Yes.", "More"]
