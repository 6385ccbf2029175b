"""OpenAI's Responses API: the requests sent, and the events decoded."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from decode_kit import decode

from providers_sync import (
    Citation,
    Extra,
    Finish,
    InvalidRequestError,
    MalformedStream,
    Media,
    OpenAIResponses,
    ReasoningDelta,
    ServerError,
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
        stream_options={"include_usage": True},
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


@pytest.mark.parametrize("option", [{"previous_response_id": "r"}, {"store": True}])
def test_kept_responses_need_no_encrypted_reasoning(option: dict[str, Any]) -> None:
    """The server has it; whether it keeps this one too is its default, or the caller's choice."""
    body = sent("Hi", **option)
    assert "include" not in body
    assert body.get("store") == option.get("store")


def test_instructions_of_the_caller_stay() -> None:
    """The system message then is one of the input."""
    body = sent("Hi", system="Be brief.", instructions="In French.")
    assert body["instructions"] == "In French."
    assert body["input"][0] == {"role": "system", "content": "Be brief."}


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("Hi", {"stop": "x"}, "stop= cannot be honoured by the Responses API"),
        ("Hi", {"seed": 1}, "seed= cannot"),
        ("Hi", {"n": 2}, "n must be 1"),
        ("Hi", {"web_search_options": {}}, 'use tools='),
        ("Hi", {"response_format": {"type": "xml"}}, r"response_format\['type'\] must be"),
        ("Hi", {"tool_choice": "any"}, "tool_choice must be one of"),
        ([{"type": "hologram"}], {}, r"messages\[0\]\['content'\]\[0\] is of type 'hologram'"),
        ([{"type": "file", "file": b"RIFF\0\0\0\0WAVE"}], {}, "cannot carry; transcribe"),
    ],
)  # fmt: skip
def test_what_cannot_be_honoured_is_an_error(
    content: Any, options: dict[str, Any], message: str
) -> None:
    """Before anything is sent, with the remedy."""
    provider = OpenAIResponses("m", base_url="http://127.0.0.1:9")
    with pytest.raises(InvalidRequestError, match=message):
        provider.prepare([{"role": "user", "content": content}], **options)


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
    for first in range(5):
        assert decoded(*events[first:]) == expected if first in (0, 4) else expected[1:]
    assert decoded(*events[1:]) == expected[1:]


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
    """And a list of anything but objects is malformed."""
    assert decoded(item_done(0, type="message", content="Hello"), completed())[0] == "Hello"
    with pytest.raises(MalformedStream, match="a part is no object"):
        decoded(item_done(0, type="message", content=["Hello"]), completed())


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


def test_dialogue_with_encrypted_reasoning() -> None:
    """A server that refuses a second turn without the reasoning of the first."""
    thought = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "SEALED"}
    call = {"type": "function_call", "id": "fc_1", "call_id": "t1", "name": "add",
            "arguments": '{"a": 1}', "status": "completed"}  # fmt: skip

    def script(request: Request) -> Any:
        items = request.json()["input"]
        if len(items) == 1:
            return answer(event(item_done(0, **thought)), event(item_done(1, **call)))
        if items[1:3] != [thought, call]:
            return status(400, "function_call was provided without its required reasoning item")
        return ["It is ", items[3]["output"]]

    with serve(script, protocol="responses") as server:
        provider = OpenAIResponses("gpt-5", base_url=server.url)
        messages: list[Any] = [{"role": "user", "content": "1 + 1?"}]
        first = provider.complete(messages)
        messages += [json.loads(json.dumps(first.message))]
        messages += [{"role": "tool", "tool_call_id": first.tool_calls[0].id, "content": "2"}]
        assert provider.complete(messages).text == "It is 2"
        messages[1]["content"] = "Changed."  # what was sealed no longer belongs to it
        prepared = sent(messages)["input"]
    assert prepared[1:3] == [
        {"role": "assistant", "content": "Changed."},
        {"type": "function_call", "call_id": "t1", "name": "add", "arguments": '{"a": 1}'},
    ]


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


def test_models_are_listed() -> None:
    """As for chat completions."""
    with serve(json_body({"data": [{"id": "gpt-5"}]})) as server:
        assert OpenAIResponses(base_url=server.url).list_models() == ["gpt-5"]
    assert server.requests[0].path == "/models"
