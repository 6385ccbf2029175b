"""OpenAI's Responses API: the requests sent, and the events decoded."""

from __future__ import annotations

import base64
import copy
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from decode_kit import decode, split

from providers_sync import (
    APIStatusError,
    Chat,
    Citation,
    Extra,
    Finish,
    InvalidRequestError,
    MalformedStream,
    Media,
    OpenAIResponses,
    ReasoningDelta,
    ServerError,
    StreamCut,
    StreamTruncated,
    ToolCall,
    Usage,
)
from providers_sync.decoding.responses import ResponsesDecoder
from providers_sync.testing import (
    Request,
    answer,
    event,
    finish,
    json_body,
    reasoning,
    refusal,
    serve,
    status,
    tool_call,
    usage,
)
from providers_sync.types import ProtocolMessage, ServedModel, ToolCallStarted

PNG = b"\x89PNG\r\n\x1a\n0000"
PDF = b"%PDF-1.7 0000"
CALL = {"id": "t1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
FUNCTION = {"name": "add", "description": "Adds", "parameters": SCHEMA}


def sent(messages: Any, **options: Any) -> dict[str, Any]:
    """Return the request body for these messages."""
    with serve("ok", protocol="responses") as server:
        OpenAIResponses("gpt-5", base_url=server.url, api_key="k").complete(messages, **options)
    body: dict[str, Any] = server.requests[0].json()
    return body


def decoded(*events: dict[str, Any]) -> list[Any]:
    """Return the deltas of a stream, without internal ones."""
    data = b"".join(b"data: %b\n\n" % json.dumps(each).encode() for each in events)
    internal = (ServedModel, ToolCallStarted, ProtocolMessage)
    deltas = decode(ResponsesDecoder("text/event-stream"), [data])
    return [delta for delta in deltas if not isinstance(delta, internal)]


def completed(**response: Any) -> dict[str, Any]:
    return {"type": "response.completed", "response": {"status": "completed", **response}}


def item_done(index: int, **item: Any) -> dict[str, Any]:
    return {"type": "response.output_item.done", "output_index": index, "item": item}


def text_delta(text: str, index: int = 0) -> dict[str, Any]:
    return {"type": "response.output_text.delta", "output_index": index, "content_index": 0,
            "delta": text}  # fmt: skip


# --- requests


def test_request_follows_the_protocol() -> None:
    """Path, key, instructions; nothing is kept, and the reasoning comes encrypted."""
    with serve("ok", protocol="responses") as server:
        provider = OpenAIResponses("gpt-5", base_url=f"{server.url}/v1/", api_key="k")
        provider.complete("Hi", system="Be brief.")
    [request] = server.requests
    assert request.path == "/v1/responses"
    assert request.headers["Authorization"] == "Bearer k"
    assert request.json() == {
        "model": "gpt-5",
        "instructions": "Be brief.",
        "input": [{"role": "user", "content": "Hi"}],
        "stream": True,
        "store": False,
        "include": ["reasoning.encrypted_content"],
    }


def test_messages_become_items() -> None:
    """Later system messages, calls and their results stay in their places."""
    custom = {"id": "t2", "type": "custom", "custom": {"name": "sql", "input": "SELECT 1"}}
    body = sent(
        [
            {"role": "system", "content": "Be brief."},
            {"role": "developer", "content": [{"type": "text", "text": "Really."}]},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Well.", "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "t1", "content": "2"},
            {"role": "assistant", "content": None, "tool_calls": [custom]},
            {"role": "tool", "tool_call_id": "t2", "content": [{"type": "text", "text": "3"}]},
            {"role": "system", "content": "Now."},
        ]
    )
    assert body["instructions"] == "Be brief.\n\nReally."
    assert body["input"] == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Well."},
        {"type": "function_call", "call_id": "t1", "name": "add", "arguments": '{"a": 1}'},
        {"type": "function_call_output", "call_id": "t1", "output": "2"},
        {"type": "custom_tool_call", "call_id": "t2", "name": "sql", "input": "SELECT 1"},
        {
            "type": "custom_tool_call_output",
            "call_id": "t2",
            "output": [{"type": "input_text", "text": "3"}],
        },
        {"role": "system", "content": "Now."},
    ]


def test_results_of_all_custom_calls_are_told_apart() -> None:
    """A message may have several calls of both types."""
    calls = [
        {"id": name, "type": "custom", "custom": {"name": "sql", "input": "SELECT 1"}}
        for name in ("t2", "t3")
    ]
    results = [
        {"role": "tool", "tool_call_id": name, "content": "1"} for name in ("t1", "t2", "t3")
    ]
    turn = {"role": "assistant", "content": None, "tool_calls": [*calls, CALL]}
    items = sent([{"role": "user", "content": "Hi"}, turn, *results])["input"]
    assert [item["type"] for item in items[-3:]] == [
        "function_call_output", "custom_tool_call_output", "custom_tool_call_output"
    ]  # fmt: skip


def test_system_messages_alone_are_the_input() -> None:
    """A request must have some."""
    body = sent([{"role": "system", "content": "Say hello."}])
    assert "instructions" not in body
    assert body["input"] == [{"role": "system", "content": "Say hello."}]


def test_results_may_have_images() -> None:
    """As parts, like those of the user."""
    parts = [{"type": "text", "text": "See"}, {"type": "file", "file": PNG}]
    turn = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    result = {"role": "tool", "tool_call_id": "t1", "content": parts}
    [_, output] = sent([turn, result])["input"]
    data = base64.b64encode(PNG).decode()
    assert output["output"] == [
        {"type": "input_text", "text": "See"},
        {"type": "input_image", "image_url": f"data:image/png;base64,{data}"},
    ]


def test_answers_to_the_protocols_own_tools_are_items() -> None:
    """An approval or a screenshot is a part in ``messages``, and an item beside the text here."""
    approval = {"type": "mcp_approval_response", "approval_request_id": "r", "approve": True}
    text = {"type": "text", "text": "Go on"}
    assert sent([{"role": "user", "content": [text, approval]}])["input"] == [
        approval, {"role": "user", "content": [{"type": "input_text", "text": "Go on"}]}
    ]  # fmt: skip
    assert sent([{"role": "user", "content": [approval]}])["input"] == [approval]


def test_refusal_of_a_chat_completion_goes_back() -> None:
    """It stands beside an empty content there."""
    turn = {"role": "assistant", "content": "", "refusal": "No."}
    assert sent([turn, {"role": "user", "content": "Well?"}])["input"][0] == {
        "role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]
    }  # fmt: skip


@pytest.mark.parametrize("output", [[], ["x"], "x"])
def test_other_keys_of_a_message_are_no_items(output: Any) -> None:
    """Only what an earlier answer returned is sent in place of the message."""
    turn = {"role": "assistant", "content": "Hello", "output": output}
    assert sent([turn])["input"] == [{"role": "assistant", "content": "Hello"}]


def test_phase_of_a_message_goes_back() -> None:
    """Newer models tell their comments from the final answer by it."""
    turn = {"role": "assistant", "content": "Let me see.", "phase": "commentary"}
    assert sent([turn, {"role": "user", "content": "Well?"}])["input"][0] == turn


def test_parts_are_translated() -> None:
    """Text, images, PDF; parts in the protocol's own form stay as they are."""
    own = {"type": "input_file", "file_id": "file-1"}
    image = {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}}
    content = [
        {"type": "text", "text": "Look"},
        image,
        {"type": "file", "file": PNG},
        {"type": "file", "file": PDF},
        {"type": "file", "file": "https://x/y.pdf"},
        {"type": "file", "file": {"file_id": "file-2"}},
        own,
    ]
    [turn] = sent([{"role": "user", "content": content}])["input"]
    data = base64.b64encode(PNG).decode(), base64.b64encode(PDF).decode()
    assert turn["content"] == [
        {"type": "input_text", "text": "Look"},
        {"type": "input_image", "image_url": "https://x/y.png", "detail": "low"},
        {"type": "input_image", "image_url": f"data:image/png;base64,{data[0]}"},
        {
            "type": "input_file",
            "filename": "file.pdf",
            "file_data": f"data:application/pdf;base64,{data[1]}",
        },
        {"type": "input_file", "file_url": "https://x/y.pdf"},
        {"type": "input_file", "file_id": "file-2"},
        own,
    ]


def test_options_are_translated() -> None:
    """Those of chat completions mean the same here."""
    form = {"name": "answer", "schema": SCHEMA, "strict": True}
    body = sent(
        "Hi",
        max_completion_tokens=5,
        reasoning_effort="low",
        verbosity="low",
        tools=[{"type": "function", "function": FUNCTION}, {"type": "web_search"}],
        tool_choice={"type": "function", "function": {"name": "add"}},
        response_format={"type": "json_schema", "json_schema": form},
        parallel_tool_calls=False,
        logprobs=True,
        top_logprobs=2,
        include=["message.output_text.logprobs"],
        stream_options={"include_usage": True, "include_obfuscation": False},
        n=1,
    )
    assert {key: body[key] for key in body.keys() - {"model", "input", "stream", "store"}} == {
        "max_output_tokens": 5,
        "reasoning": {"effort": "low"},
        "text": {"verbosity": "low", "format": {"type": "json_schema", **form}},
        "tools": [{"type": "function", "strict": False, **FUNCTION}, {"type": "web_search"}],
        "tool_choice": {"type": "function", "name": "add"},
        "parallel_tool_calls": False,
        "include": ["message.output_text.logprobs", "reasoning.encrypted_content"],
        "top_logprobs": 2,
        "stream_options": {"include_obfuscation": False},
    }


def test_custom_tools_and_choices_are_flat() -> None:
    """Chat completions nest them under their type."""
    grammar = {"type": "grammar", "grammar": {"syntax": "lark", "definition": "start: A"}}
    body = sent(
        "Hi",
        tools=[{"type": "custom", "custom": {"name": "sql", "format": grammar}}],
        tool_choice={
            "type": "allowed_tools",
            "allowed_tools": {
                "mode": "auto",
                "tools": [{"type": "custom", "custom": {"name": "sql"}}],
            },
        },
    )
    assert body["tools"] == [
        {
            "type": "custom",
            "name": "sql",
            "format": {"type": "grammar", "syntax": "lark", "definition": "start: A"},
        }
    ]
    assert body["tool_choice"] == {
        "type": "allowed_tools", "mode": "auto", "tools": [{"type": "custom", "name": "sql"}]
    }  # fmt: skip


@pytest.mark.parametrize(
    "option",
    [{"previous_response_id": "r"}, {"store": True}, {"conversation": "c"}, {"background": True}],
)
def test_kept_responses_need_no_encrypted_reasoning(option: dict[str, Any]) -> None:
    """The server has it; whether it keeps this one too is its default, or the caller's choice."""
    body = sent("Hi", **option)
    assert "include" not in body
    assert body.get("store") == option.get("store")
    assert {**body, **option} == body


def test_what_is_not_kept_comes_encrypted() -> None:
    """Also if the answer before it is kept."""
    body = sent("Hi", previous_response_id="r", store=False)
    assert (body["store"], body["include"]) == (False, ["reasoning.encrypted_content"])


def test_instructions_of_the_caller_stay() -> None:
    """The system message then is one of the input."""
    body = sent("Hi", system="Be brief.", instructions="In French.")
    assert body["instructions"] == "In French."
    assert body["input"][0] == {"role": "system", "content": "Be brief."}


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("Hi", {"stop": "x"}, "stop= is not supported by the Responses API"),
        ("Hi", {"seed": 1}, "seed= is not supported"),
        ("Hi", {"n": 2}, "n must be 1"),
        ("Hi", {"web_search_options": {}}, 'use tools='),
        ("Hi", {"input": []}, "pass the messages as the first argument"),
        ("Hi", {"max_tokens": 1, "max_output_tokens": 2}, "contradict each other"),
        ("Hi", {"reasoning_effort": "low", "reasoning": {"effort": "high"}}, "contradict"),
        ("Hi", {"verbosity": "low", "text": {"verbosity": "high"}}, "verbosity= and text="),
        ("Hi", {"reasoning_effort": "low", "reasoning": "low"}, "reasoning must be a dict"),
        ("Hi", {"include": "x"}, "include must be a list"),
        ("Hi", {"response_format": {"type": "text"}, "text": {"format": {"type": "text"}}},
         "are the same"),
        ("Hi", {"response_format": {"type": "xml"}}, r"response_format\['type'\] must be"),
        ("Hi", {"tool_choice": "any"}, "tool_choice must be one of"),
        ([{"type": "hologram"}], {}, r"messages\[0\]\['content'\]\[0\] is of type 'hologram'"),
        ([{"type": "file", "file": b"RIFF\0\0\0\0WAVE"}], {}, "does not support; transcribe"),
    ],
)  # fmt: skip
def test_what_is_not_supported_is_an_error(
    content: Any, options: dict[str, Any], message: str
) -> None:
    """Before anything is sent, with the remedy."""
    provider = OpenAIResponses("m", base_url="http://127.0.0.1:9")
    with pytest.raises(InvalidRequestError, match=message):
        provider.prepare([{"role": "user", "content": content}], **options)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"role": "assistant", "content": [{"type": "file", "file": PNG}]},
         "does not support; put it in a user message"),
        ({"role": "tool", "content": "2"}, r"messages\[0\]\['tool_call_id'\] must be the id"),
    ],
)  # fmt: skip
def test_messages_that_cannot_be_sent_are_an_error(message: Any, words: str) -> None:
    """They name the item."""
    with pytest.raises(InvalidRequestError, match=words):
        OpenAIResponses("m", base_url="http://127.0.0.1:9").prepare([message])


def test_rejected_fields_are_left_out() -> None:
    """Models that do not reason refuse the encrypted reasoning."""
    script = [
        status(400, "Encrypted content is not supported with this model."),
        status(400, "Unknown parameter: 'store'"),
        answer("Hello"),
    ]
    with serve(script, protocol="responses") as server:
        provider = OpenAIResponses("gpt-4o", base_url=server.url)
        assert provider.complete("Hi").text == "Hello"
    bodies = [request.json() for request in server.requests]
    assert [("include" in body, "store" in body) for body in bodies] == [
        (True, True), (False, True), (False, False)
    ]  # fmt: skip


def test_only_what_is_rejected_is_left_out() -> None:
    """Not what the caller asked for, and nothing for the sake of another complaint."""
    script = [
        status(400, "Encrypted content is not supported with this model."),
        answer("Hello"),
        status(400, "The vector store was not found"),
    ]
    with serve(script, protocol="responses") as server:
        provider = OpenAIResponses("gpt-4o", base_url=server.url, logprobs=True)
        assert provider.complete("Hi").text == "Hello"
        with pytest.raises(APIStatusError, match="vector store"):
            provider.complete("Hi")
    assert len(server.requests) == 3
    body = server.requests[1].json()
    assert (body["include"], body["store"]) == (["message.output_text.logprobs"], False)


# --- answers


def test_events_come_typed_and_in_order() -> None:
    """Reasoning, text, a call in pieces, usage and the status."""
    script = [
        reasoning("Let me "),
        reasoning("think."),
        "Hel",
        "lo",
        tool_call("add", {"a": 1}, id="t1", pieces=3),
        usage(3, 4),
    ]
    with serve(answer(*script), protocol="responses") as server:
        stream = OpenAIResponses("gpt-5", base_url=server.url).stream("Hi")
        events = list(stream.events())
    assert events[:2] == [ReasoningDelta("Let me "), ReasoningDelta("think.")]
    assert events[-3:] == [
        Usage(3, 4, 7), ToolCall("t1", "add", {"a": 1}, '{"a": 1}'), Finish("completed")
    ]  # fmt: skip
    assert (stream.text, stream.outcome, stream.is_whole) == ("Hello", "complete", True)
    assert stream.message == {"role": "assistant", "content": "Hello", "tool_calls": [CALL]}


def test_refusal() -> None:
    """It is no text."""
    with serve(answer(refusal("No.")), protocol="responses") as server:
        completion = OpenAIResponses("m", base_url=server.url).complete("Hi")
    assert (completion.text, completion.refusal, completion.is_whole) == ("", "No.", False)


@pytest.mark.parametrize("reason", ["max_output_tokens", "content_filter"])
def test_incomplete_response_is_complete_with_its_reason(reason: str) -> None:
    """The end is proven, but the model did not end it."""
    with serve(answer("Hel", finish(reason)), protocol="responses") as server:
        completion = OpenAIResponses("m", base_url=server.url).complete("Hi")
    assert completion.text == "Hel"
    assert (completion.outcome, completion.finish_reason) == ("complete", reason)
    assert not completion.is_whole


@pytest.mark.parametrize(
    "failure",
    [
        {"type": "error", "code": "server_error", "message": "Broke down"},
        {"type": "error", "error": {"type": "server_error", "message": "Broke down"}},
        {"type": "response.created",
         "response": {"status": "failed", "error": {"code": "x", "message": "Broke down"}}},
        {"type": "response.failed",
         "response": {"status": "failed", "error": {"code": "x", "message": "Broke down"}}},
        {"type": "response.completed",
         "response": {"status": "failed", "error": {"code": "x", "message": "Broke down"}}},
    ],
)  # fmt: skip
def test_failures_raise(failure: dict[str, Any]) -> None:
    """With the server's words, after the text."""
    with serve(["Hel", event(failure)], protocol="responses") as server:
        stream = OpenAIResponses("m", base_url=server.url).stream("Hi")
        with pytest.raises(ServerError, match="Broke down") as caught:
            stream.read()
    assert caught.value.partial == "Hel"


def test_nothing_is_read_after_the_end() -> None:
    """``response.completed`` is the end marker; ``[DONE]`` is none."""
    assert decoded(text_delta("Hello"), completed(), text_delta("!")) == [
        "Hello", Finish("completed")
    ]  # fmt: skip
    data = b'data: {"type": "response.output_text.delta", "delta": "Hello"}\n\ndata: [DONE]\n\n'
    deltas = decode(ResponsesDecoder("text/event-stream"), [data])
    assert next(deltas) == "Hello"
    with pytest.raises(StreamTruncated, match=r"response\.completed"):
        next(deltas)


def test_texts_without_deltas_are_read() -> None:
    """From the part, the item or the response, whichever comes first, and once."""
    part = {"type": "output_text", "text": "Hello", "annotations": []}
    message = {"type": "message", "role": "assistant", "content": [part]}
    summary = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]}
    place = {"output_index": 1, "content_index": 0}
    events = [
        item_done(0, **summary),
        {"type": "response.output_text.done", **place, "text": "Hello"},
        {"type": "response.content_part.done", **place, "part": part},
        item_done(1, **message),
        completed(output=[summary, message]),
    ]
    expected = [ReasoningDelta("Hm."), "Hello", Finish("completed")]
    late = ["Hello", ReasoningDelta("Hm."), Finish("completed")]
    for first in range(5):
        assert decoded(*events[first:]) == expected if first in (0, 4) else late


def stream_of_llama_cpp() -> list[dict[str, Any]]:
    """Return events without ``output_index``, where a call has no id but its ``call_id``."""
    calls = [
        {"type": "function_call", "call_id": "t1", "name": "f", "arguments": '{"a": 1}'},
        {"type": "function_call", "call_id": "t2", "name": "g", "arguments": '{"b": 2}'},
    ]
    thought = {"type": "reasoning", "id": "rs", "summary": [],
               "content": [{"type": "reasoning_text", "text": "Hm."}]}  # fmt: skip
    part = {"type": "output_text", "text": "Hello"}
    message = {"type": "message", "id": "msg", "role": "assistant", "content": [part]}
    events = [
        {"type": "response.output_item.added", "item": {**thought, "content": []}},
        {"type": "response.reasoning_text.delta", "item_id": "rs", "delta": "Hm."},
        {"type": "response.output_item.added", "item": {**message, "content": []}},
        {"type": "response.content_part.added", "item_id": "msg", "part": {**part, "text": ""}},
        {"type": "response.output_text.delta", "item_id": "msg", "delta": "Hello"},
    ]
    for call in calls:
        events.append({"type": "response.output_item.added", "item": {**call, "arguments": ""}})
        for piece in (call["arguments"][:3], call["arguments"][3:]):
            kind = "response.function_call_arguments.delta"
            events.append({"type": kind, "item_id": call["call_id"], "delta": piece})
    events += [
        {"type": "response.output_item.done", "item": thought},
        {"type": "response.output_text.done", "item_id": "msg", "text": "Hello"},
        {"type": "response.content_part.done", "item_id": "msg", "part": part},
        *({"type": "response.output_item.done", "item": item} for item in (message, *calls)),
    ]
    return [*events, completed(output=[thought, message, *calls])]


def with_indexes(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the events with the indexes of their items."""
    indexes = {"rs": 0, "msg": 1, "t1": 2, "t2": 3}
    numbered = []
    for each in events[:-1]:
        item = each.get("item") or {}
        item_id = each.get("item_id") or item.get("id") or item.get("call_id")
        numbered.append({**each, "output_index": indexes[item_id]})
    return [*numbered, events[-1]]


def with_ids(events: list[dict[str, Any]], *, constant: bool = False) -> list[dict[str, Any]]:
    """Return the events with an id that is another one in each of them, or always the same."""
    changed: list[dict[str, Any]] = json.loads(json.dumps(events))
    for number, each in enumerate(changed):
        for named, key in ((each, "item_id"), (each.get("item") or {}, "id")):
            if key in named:
                named[key] = "same" if constant else f"id{number}"
    return changed


def without(events: list[dict[str, Any]], *words: str) -> list[dict[str, Any]]:
    return [each for each in events if not any(word in each["type"] for word in words)]


def only(events: list[dict[str, Any]], word: str) -> list[dict[str, Any]]:
    return [each for each in events if word in each["type"]]


LLAMA_CPP = stream_of_llama_cpp()
NUMBERED = with_indexes(LLAMA_CPP)


@pytest.mark.parametrize(
    "events",
    [
        LLAMA_CPP,
        NUMBERED,
        [{**each, "output_index": 0} for each in LLAMA_CPP],
        with_ids(LLAMA_CPP),
        with_ids(NUMBERED),
        with_ids(NUMBERED, constant=True),
        without(LLAMA_CPP, "added"),
        without(NUMBERED, "added"),
        without(LLAMA_CPP, "done"),
        [*without(LLAMA_CPP, "done")[:-1], completed()],
        without(NUMBERED, "delta", "added"),
        without(LLAMA_CPP, "delta", "added", "text", "part"),
        [each for each in without(NUMBERED, "delta", "completed") for _ in range(2)]
        + [completed()],
        [*without(NUMBERED, "added")[:-1], *only(NUMBERED, "item.added"), completed()],
        LLAMA_CPP[-1:],
    ],
)
def test_items_are_told_apart(events: list[dict[str, Any]]) -> None:
    """By index, id or order, whatever a server leaves out or says again: nothing is lost."""
    said = decoded(*events)
    assert said[0] == ReasoningDelta("Hm.")
    assert "".join(each for each in said if isinstance(each, str)) == "Hello"
    assert said[-3:] == [
        ToolCall("t1", "f", {"a": 1}, '{"a": 1}'),
        ToolCall("t2", "g", {"b": 2}, '{"b": 2}'),
        Finish("completed"),
    ]
    assert len(said) == 5


@pytest.mark.parametrize("events", [LLAMA_CPP, NUMBERED])
def test_stream_may_be_split_and_cut_anywhere(events: list[dict[str, Any]]) -> None:
    """The pieces change nothing; a cut leaves what came before it, and is never a good end."""
    data = b"".join(b"data: %b\n\n" % json.dumps(each).encode() for each in events)
    whole = list(decode(ResponsesDecoder("text/event-stream"), [data]))
    for size in (1, 7, 777):
        pieces = split(data, range(0, len(data), size))
        assert list(decode(ResponsesDecoder("text/event-stream"), pieces)) == whole
    for cut in range(len(data) - 2):  # the line feeds at the end are not needed
        deltas = []
        with pytest.raises((StreamTruncated, StreamCut)):
            deltas.extend(decode(ResponsesDecoder("text/event-stream"), [data[:cut]]))
        assert deltas == whole[: len(deltas)]


def test_response_may_divide_the_text_in_another_way() -> None:
    """Only what is missing in the stream is read."""
    texts = [{"type": "message", "content": [{"type": "output_text", "text": t}]} for t in "AB"]
    joined = {"type": "message", "content": [{"type": "output_text", "text": "AB"}]}
    end = Finish("completed")
    assert decoded(text_delta("A"), text_delta("B", 2), completed(output=[joined])) == [
        "A",
        "B",
        end,
    ]
    assert decoded(text_delta("AB"), completed(output=texts)) == ["AB", end]
    assert decoded(text_delta("A"), completed(output=texts)) == ["A", "B", end]
    assert decoded(completed(output=[], output_text="AB")) == ["AB", end]
    assert decoded(text_delta("A"), completed(output_text="A")) == ["A", end]


def test_text_that_no_delta_brought_is_an_extra() -> None:
    """It is told whole, and the text stays what the deltas say."""
    whole = {"type": "response.output_text.done", "output_index": 0, "text": "Hello"}
    assert decoded(text_delta("Hel"), whole, whole, completed()) == [
        "Hel", Extra("output[0].content[0].text", "Hello"), Finish("completed")
    ]  # fmt: skip


def test_odd_shapes_are_read() -> None:
    """Texts as objects, content as text, arguments as an object, parts that are null."""
    call = {"type": "function_call", "call_id": "t1", "name": "f", "arguments": {"text": "x"}}
    events = [
        {"type": "response.content_part.added", "output_index": 0, "part": None},
        {"type": "response.output_text.annotation.added", "annotation": None},
        {"type": "response.output_text.delta", "output_index": 0, "delta": {"text": "Hel"}},
        {"type": "response.output_text.delta", "output_index": 0, "delta": {"words": "lo"}},
        item_done(1, type="reasoning", summary="Hm."),
        item_done(2, role="assistant", content="lo"),
        item_done(3, **call),
    ]
    assert decoded(*events, completed()) == [
        "Hel",
        Extra("output[0].content[0].delta", {"words": "lo"}),
        ReasoningDelta("Hm."),
        "lo",
        ToolCall("t1", "f", {"text": "x"}, '{"text": "x"}'),
        Finish("completed"),
    ]


def test_parts_beyond_text_come_once() -> None:
    """An image is media, the content of a tool's item is no text of the model."""
    image = {"type": "output_image", "image_url": "https://x/y.png"}
    content = [image, {"type": "hologram", "data": "x"}, {"type": "output_text", "text": "Hello"}]
    message = {"type": "message", "role": "assistant", "content": content}
    result = {"type": "tool_result", "content": [{"type": "output_text", "text": "secret"}]}
    events = [
        {"type": "response.content_part.done", "output_index": 0, "part": image},
        item_done(0, **message),
        item_done(1, **result),
    ]
    assert decoded(*events, completed(output=[message, result])) == [
        Media("image", url="https://x/y.png"),
        Extra("output[0].content[1]", {"type": "hologram", "data": "x"}),
        "Hello",
        Extra("output[1]", result),
        Finish("completed"),
    ]


def test_logprobs_come_once() -> None:
    """With the deltas; as a whole only if those had none."""
    logprobs = [{"token": "A", "logprob": -0.1}]
    whole = {"type": "response.output_text.done", "output_index": 0, "text": "A"}
    part = {"type": "output_text", "text": "A", "logprobs": logprobs}
    events = [{**whole, "logprobs": logprobs}, item_done(0, type="message", content=[part])]
    expected = ["A", Extra("output[0].content[0].logprobs", logprobs), Finish("completed")]
    assert decoded({**text_delta("A"), "logprobs": logprobs}, *events, completed()) == expected
    assert decoded(text_delta("A"), *events, completed()) == expected


def test_reasoning_and_its_summary_may_be_the_same() -> None:
    """Then it is said once; two summary parts are two."""
    parts = {"summary": [{"type": "summary_text", "text": "Hm."}],
             "content": [{"type": "reasoning_text", "text": "Hm."}]}  # fmt: skip
    delta = {"type": "response.reasoning_text.delta", "output_index": 0, "delta": "Hm."}
    expected = [ReasoningDelta("Hm."), Finish("completed")]
    assert decoded(item_done(0, type="reasoning", **parts), completed()) == expected
    assert decoded(delta, item_done(0, type="reasoning", **parts), completed()) == expected
    summaries = {"summary": [{"text": "First."}, {"text": "Second."}]}
    assert decoded(item_done(0, type="reasoning", **summaries), completed())[:-1] == [
        ReasoningDelta("First."), ReasoningDelta("Second.")
    ]  # fmt: skip


def test_call_that_only_its_arguments_tell() -> None:
    """OpenAI's event names the function; without any name the call is malformed."""
    whole = {"type": "response.function_call_arguments.done", "item_id": "t1", "arguments": "{}"}
    assert decoded({**whole, "name": "f"}, completed()) == [
        ToolCall("t1", "f", {}, "{}"), Finish("completed")
    ]  # fmt: skip
    with pytest.raises(MalformedStream, match="without naming it"):
        decoded(whole, completed())


def test_call_that_the_stream_left_out_is_read() -> None:
    """From the response, where ids may be others."""
    calls: list[dict[str, Any]] = [
        {"type": "function_call", "call_id": f"t{n}", "name": "f", "arguments": f'{{"a": {n}}}'}
        for n in range(2)
    ]
    renamed = [{**call, "call_id": f"x{n}"} for n, call in enumerate(calls)]
    first, second = (ToolCall(f"t{n}", "f", {"a": n}, f'{{"a": {n}}}') for n in range(2))
    assert decoded(item_done(0, **calls[1]), completed(output=calls))[:-1] == [second, first]
    events = [item_done(n, **call) for n, call in enumerate(calls)]
    assert decoded(*events, completed(output=renamed))[:-1] == [first, second]


def test_end_needs_no_empty_line() -> None:
    """The connection may close right after the event; ``[DONE]`` may follow."""
    data = b'data: {"type": "response.output_text.delta", "delta": "Hello"}\n\ndata: '
    data += json.dumps(completed()).encode()
    for end in (b"", b"\n", b"\n\ndata: [DONE]\n\n"):
        deltas = list(decode(ResponsesDecoder("text/event-stream"), [data + end]))
        assert [deltas[0], deltas[-1]] == ["Hello", Finish("completed")]


def test_other_ends() -> None:
    """``response.done``, and a status that says why the answer broke off."""
    end = {"type": "response.done", "response": {"id": "r"}}
    assert decoded(text_delta("Hello"), end) == ["Hello", Finish("completed")]
    end = {"type": "response.cancelled", "response": {"status": "cancelled"}}
    assert decoded(text_delta("Hel"), end) == ["Hel", Finish("cancelled")]
    end = {"type": "response.incomplete", "response": None}
    assert decoded(text_delta("Hel"), end) == ["Hel", Finish("incomplete")]


def test_response_that_still_runs_may_come_first() -> None:
    """Whole, as the background mode of some servers sends it."""
    queued = {"object": "response", "status": "queued", "model": "gpt-5", "output": []}
    assert decoded(queued, text_delta("Hello"), completed()) == ["Hello", Finish("completed")]


def test_every_message_of_the_response_is_read() -> None:
    """Models write one before their calls, too."""
    first, second = (
        {"type": "message", "content": [{"type": "output_text", "text": text}]}
        for text in ("Let me see. ", "Done.")
    )
    call = {"type": "function_call", "call_id": "t1", "name": "f", "arguments": "{}"}
    assert decoded(completed(output=[first, call, second])) == [
        "Let me see. ", "Done.", ToolCall("t1", "f", {}, "{}"), Finish("completed")
    ]  # fmt: skip


def test_items_of_the_response_may_have_other_indexes() -> None:
    """An item that the stream has brought is not read again from the response."""
    message = {"type": "message", "content": [{"type": "output_text", "text": "Hello"}]}
    call = {"type": "function_call", "call_id": "t1", "name": "f", "arguments": "{}"}
    events = [item_done(0, type="reasoning", id="r", summary=[]), text_delta("Hello", 1)]
    assert decoded(*events, completed(output=[message, call])) == [
        "Hello", ToolCall("t1", "f", {}, "{}"), Finish("completed")
    ]  # fmt: skip


def test_calls_without_a_done_item_are_read() -> None:
    """Their arguments are in the deltas."""
    item = {"type": "function_call", "call_id": "t1", "name": "f", "arguments": ""}
    deltas = [
        {"type": "response.function_call_arguments.delta", "output_index": 0, "delta": piece}
        for piece in ('{"a"', ": 1}")
    ]
    added = {"type": "response.output_item.added", "output_index": 0, "item": item}
    assert decoded(added, *deltas, completed())[:-1] == [ToolCall("t1", "f", {"a": 1}, '{"a": 1}')]


def test_deltas_without_indexes_are_those_of_the_item() -> None:
    """With its id, or with nothing."""
    part = {"type": "output_text", "text": "Hello"}
    done = item_done(0, type="message", id="msg_1", content=[part])
    for named in ({"item_id": "msg_1"}, {}):
        delta = {"type": "response.output_text.delta", "delta": "Hello", **named}
        assert decoded(delta, done, completed()) == ["Hello", Finish("completed")]


def test_arguments_without_a_call_are_malformed() -> None:
    """They are not lost."""
    delta = {"type": "response.function_call_arguments.delta", "output_index": 0, "delta": '{"a"'}
    with pytest.raises(MalformedStream, match=r'without naming it: \{"a'):
        decoded(delta, completed())


def test_custom_calls_have_their_input_in_raw() -> None:
    """It is no JSON."""
    item = {"type": "custom_tool_call", "call_id": "t1", "name": "sql", "input": "SELECT 1"}
    assert decoded(item_done(0, **item), completed())[:-1] == [
        ToolCall("t1", "sql", None, "SELECT 1")
    ]


def test_arguments_may_be_an_object() -> None:
    """Some servers do not write them as text."""
    item = {"type": "function_call", "call_id": "t1", "name": "f", "arguments": {"a": True}}
    assert decoded(item_done(0, **item), completed())[:-1] == [
        ToolCall("t1", "f", {"a": True}, '{"a": true}')
    ]


def test_content_may_be_a_text() -> None:
    """So may its parts, but nothing else."""
    for content in ("Hello", ["Hello"]):
        assert decoded(item_done(0, type="message", content=content), completed())[0] == "Hello"
    with pytest.raises(MalformedStream, match="a part is not an object"):
        decoded(item_done(0, type="message", content=["Hello", 5]), completed())


def test_call_without_a_name_is_malformed() -> None:
    """It is never handed out."""
    with pytest.raises(MalformedStream, match="without naming it"):
        decoded(item_done(0, type="function_call", call_id="t1", arguments="{}"), completed())


def test_tools_of_the_server_are_extras() -> None:
    """Their progress and their results; an image is media."""
    search = {"type": "web_search_call", "id": "ws", "action": {"query": "cats"}}
    image = {"type": "image_generation_call", "id": "ig", "output_format": "png",
             "result": base64.b64encode(PNG).decode(), "size": "1x1"}  # fmt: skip
    events = [
        {"type": "response.web_search_call.searching", "output_index": 0, "item_id": "ws"},
        item_done(0, **search),
        *(
            {"type": "response.code_interpreter_call_code.delta", "output_index": 1, "delta": " "}
            for _ in range(2)
        ),
        item_done(2, **image),
        text_delta("Hello", 3),
        completed(content_filters=[{"blocked": False}], store=True, id="resp_1"),
    ]
    code = Extra("event.code_interpreter_call_code.delta", {"output_index": 1, "delta": " "})
    assert decoded(*events) == [
        Extra("event.web_search_call.searching", {"output_index": 0, "item_id": "ws"}),
        Extra("output[0]", search),
        code,
        code,
        Media("image", "image/png", PNG),
        Extra("output[2]", {key: image[key] for key in image.keys() - {"result"}}),
        "Hello",
        Extra("response.content_filters", [{"blocked": False}]),
        Extra("response.id", "resp_1"),
        Finish("completed"),
    ]


def test_annotations_are_citations_once() -> None:
    """They come in an event of their own, and again in the part and the item."""
    annotation = {"type": "url_citation", "url": "https://x", "title": "X", "start_index": 0,
                  "end_index": 5}  # fmt: skip
    part = {"type": "output_text", "text": "Hello", "annotations": [annotation]}
    events = [
        text_delta("Hello"),
        {"type": "response.output_text.annotation.added", "annotation": annotation},
        {"type": "response.content_part.done", "output_index": 0, "part": part},
        item_done(0, type="message", content=[part]),
    ]
    citation = Citation("https://x", "X", None, 0, 5)
    assert decoded(*events, completed()) == ["Hello", citation, Finish("completed")]


def test_whole_answer_in_json() -> None:
    """Some servers ignore ``stream``; a response that still runs is none."""
    counts = {"input_tokens": 5, "input_tokens_details": {"cached_tokens": 2},
              "output_tokens": 3, "output_tokens_details": {"reasoning_tokens": 1}}  # fmt: skip
    message = {"type": "message", "content": [{"type": "output_text", "text": "Hello"}]}
    response = {"object": "response", "status": "completed", "output": [message],
                "usage": counts}  # fmt: skip
    script = [json_body(response), json_body({**response, "status": "queued"})]
    with serve(script, protocol="responses") as server:
        provider = OpenAIResponses("m", base_url=server.url, retry=None)
        completion = provider.complete("Hi")
        with pytest.raises(StreamTruncated, match="queued"):
            provider.complete("Hi")
    assert (completion.text, completion.usage) == ("Hello", Usage(5, 3, 8, 2, None, 1))


THOUGHT = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "SEALED"}
SEALED_CALL = {"type": "function_call", "id": "fc_1", "call_id": "t1", "name": "add",
               "arguments": '{"a": 1}', "status": "completed"}  # fmt: skip
RESULT = {"role": "tool", "tool_call_id": "t1", "content": "2"}


def strict_server(request: Request) -> Any:
    """Answer with a call, then refuse what does not bring the reasoning back before it."""
    items = request.json()["input"]
    if len(items) == 1:
        return answer(event(item_done(0, **THOUGHT)), event(item_done(1, **SEALED_CALL)))
    if items[1:3] != [THOUGHT, SEALED_CALL]:
        return status(400, "function_call was provided without its required reasoning item")
    return ["It is ", items[3]["output"]]


@pytest.mark.parametrize(
    "copied",
    [
        lambda message: message,
        lambda message: json.loads(json.dumps(message)),
        lambda message: pickle.loads(pickle.dumps(message)),
        copy.deepcopy,
    ],
    ids=["itself", "JSON", "pickle", "deep copy"],
)
def test_dialogue_with_encrypted_reasoning(copied: Callable[[Any], Any]) -> None:
    """A server that refuses a second turn without the reasoning of the first."""
    with serve(strict_server, protocol="responses") as server:
        provider = OpenAIResponses("gpt-5", base_url=server.url)
        messages: list[Any] = [{"role": "user", "content": "1 + 1?"}]
        first = provider.complete(messages)
        assert [call.id for call in first.tool_calls] == ["t1"]
        messages += [copied(first.message), RESULT]
        assert provider.complete(messages).text == "It is 2"
        messages.append({"role": "user", "content": "Thanks"})
        assert provider.complete(messages).is_whole


def test_chat_with_encrypted_reasoning(tmp_path: Path) -> None:
    """Also after it was saved, pickled, or copied."""
    with serve(strict_server, protocol="responses") as server:
        chat = Chat(OpenAIResponses("gpt-5", base_url=server.url))
        chat.send("1 + 1?").read()
        chat.save(tmp_path / "chat.json")
        loaded = Chat.load(tmp_path / "chat.json", chat.provider)
        for each in (chat, loaded, pickle.loads(pickle.dumps(loaded)), copy.deepcopy(loaded)):
            assert each.send([RESULT]).read() == "It is 2"


def test_changed_message_goes_back_without_its_reasoning() -> None:
    """What was sealed no longer belongs to it."""
    with serve(strict_server, protocol="responses") as server:
        provider = OpenAIResponses("gpt-5", base_url=server.url)
        message = provider.complete("1 + 1?").message
        provider.complete([{"role": "user", "content": "1 + 1?"}, message, RESULT])
        changed = [{**message, "content": "Changed."}, RESULT]
        with pytest.raises(APIStatusError, match="required reasoning"):
            provider.complete([{"role": "user", "content": "1 + 1?"}, *changed])
    assert server.requests[-1].json()["input"][1:3] == [
        {"role": "assistant", "content": "Changed."},
        {"type": "function_call", "call_id": "t1", "name": "add", "arguments": '{"a": 1}'},
    ]


def test_reasoning_of_other_servers_goes_back() -> None:
    """vLLM sends it in the open; other servers send items in simpler forms."""
    thought = {"type": "reasoning", "id": "rs", "content": "Hm.", "summary": None}
    message = {"role": "assistant", "content": "Hello"}
    script = answer(event(item_done(0, **thought)), event(item_done(1, **message)))
    with serve([script, answer("Bye")], protocol="responses") as server:
        provider = OpenAIResponses("m", base_url=server.url)
        first = provider.complete("Hi")
        provider.complete([{"role": "user", "content": "Hi"}, first.message])
    assert server.requests[1].json()["input"][1:] == [
        {"type": "reasoning", "id": "rs", "summary": [],
         "content": [{"type": "reasoning_text", "text": "Hm."}]},
        {"type": "message", "role": "assistant",
         "content": [{"type": "output_text", "text": "Hello"}]},
    ]  # fmt: skip


def test_reasoning_that_the_server_forgets_does_not_go_back() -> None:
    """Neither do the ids that refer to it."""
    script = answer(
        event(item_done(0, type="reasoning", id="rs_1", summary=[])),
        event(item_done(1, type="web_search_call", id="ws_1", status="completed")),
        event(item_done(2, type="message", id="msg_1", role="assistant",
                        content=[{"type": "output_text", "text": "Hello", "annotations": []}])),
    )  # fmt: skip
    with serve(script, protocol="responses") as server:
        message = OpenAIResponses("m", base_url=server.url).complete("Hi").message
    assert message["providers_sync"]["fields"]["output"] == [
        {"type": "web_search_call", "id": "ws_1", "status": "completed"},
        {"type": "message", "role": "assistant",
         "content": [{"type": "output_text", "text": "Hello", "annotations": []}]},
    ]  # fmt: skip


def returned(*events: dict[str, Any]) -> list[Any]:
    """Return what the events' protocol wants back with the next request."""
    data = b"".join(b"data: %b\n\n" % json.dumps(each).encode() for each in events)
    deltas = decode(ResponsesDecoder("text/event-stream"), [data])
    return [item for d in deltas if isinstance(d, ProtocolMessage) for item in d.fields["output"]]


def test_reasoning_that_the_server_has_stored_goes_back() -> None:
    """OpenAI refuses its web search without it ("… without its required 'reasoning' item")."""
    thought = {"type": "reasoning", "id": "rs_1", "summary": []}
    search = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
    events = [item_done(0, **thought), item_done(1, **search)]
    assert returned(*events, completed(store=True, id="resp_1")) == [thought, search]
    assert returned(*events, completed(store=False)) == [search]


def test_items_go_back_as_they_came() -> None:
    """Also with keys that are null or unknown."""
    items = [
        {**THOUGHT, "content": None, "status": None},
        {**SEALED_CALL, "namespace": "n", "caller": {"type": "program", "caller_id": "p"}},
        {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant",
         "phase": "final_answer",
         "content": [{"type": "output_text", "text": "A", "annotations": [], "logprobs": []}]},
        {"type": "mcp_call", "id": "mcp_1", "arguments": "{}", "error": None, "output": "2"},
    ]  # fmt: skip
    events = [item_done(index, **item) for index, item in enumerate(items)]
    assert returned(*events, completed(output=items)) == items
    assert returned(completed(output=items)) == items


def test_image_at_an_address_is_media() -> None:
    """A ``data:`` URL has it inside."""
    call = {"type": "image_generation_call", "result": "data:image/png;base64,AAAA"}
    assert decoded(item_done(0, **call), completed())[0] == Media("image", "image/png", b"\0\0\0")


def test_reasoning_at_the_end_does_not_go_back() -> None:
    """OpenAI refuses it ("… without its required following item"); the answer was cut off."""
    end = {"type": "response.incomplete", "response": {"status": "incomplete"}}
    assert returned(item_done(0, **THOUGHT), end) == []
    assert returned(item_done(0, **THOUGHT), item_done(1, **SEALED_CALL), end) == [
        THOUGHT, SEALED_CALL
    ]  # fmt: skip


def test_models_are_listed() -> None:
    """As for chat completions."""
    with serve(json_body({"data": [{"id": "gpt-5"}]})) as server:
        assert OpenAIResponses(base_url=server.url).list_models() == ["gpt-5"]
    assert server.requests[0].path == "/models"
