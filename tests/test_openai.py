"""OpenAI's protocol apart from text: events, tools, images, models, presets."""

from __future__ import annotations

from typing import Any

import pytest

from providers_sync import (
    APIStatusError,
    Finish,
    InvalidRequestError,
    MalformedStream,
    OpenAICompatible,
    Outcome,
    ReasoningDelta,
    Refusal,
    StreamCut,
    TextDelta,
    Timeouts,
    ToolCall,
    Usage,
)
from providers_sync.decoding.tool_calls import PartialCall, ToolCallAssembler
from providers_sync.testing import (
    answer,
    cut,
    drip,
    event,
    finish,
    json_body,
    pause,
    reasoning,
    refusal,
    repeat,
    serve,
    status,
    text,
    tool_call,
    usage,
)


def complete(script: Any, **options: Any) -> Any:
    """Return the completion of a scripted answer."""
    with serve(script, protocol="openai") as server:
        return OpenAICompatible("m", base_url=server.url, retry=None).complete("Hi", **options)


def chunk(**delta: Any) -> Any:
    """Return an event of the protocol with this delta."""
    return event({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})


def fragment(index: int | None, **function: Any) -> dict[str, Any]:
    """Return one fragment of a tool call."""
    call_id = function.pop("id", None)
    return {"index": index, "id": call_id, "type": "function", "function": function}


def test_events_come_typed_and_in_order() -> None:
    """Reasoning, text, refusal, assembled tool calls, the reason, usage."""
    script = [
        reasoning("Hm."),
        text("A"),
        refusal("No."),
        tool_call("add", {"a": 1}, id="c1", pieces=3),
        finish("tool_calls"),
        usage(1, 2),
    ]
    with serve(script, protocol="openai") as server:
        stream = OpenAICompatible("m", base_url=server.url).stream("Hi")
        assert list(stream.events()) == [
            ReasoningDelta("Hm."),
            TextDelta("A"),
            Refusal("No."),
            Usage(1, 2, 3),
            ToolCall("c1", "add", {"a": 1}, '{"a": 1}'),
            Finish("tool_calls"),
        ]
    completion = stream.completion()
    assert (completion.reasoning, completion.refusal) == ("Hm.", "No.")
    assert (stream.text, stream.outcome) == ("A", Outcome.COMPLETE)


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning_has_two_field_names(field: str) -> None:
    """That of DeepSeek and that of OpenRouter; neither becomes part of the text."""
    completion = complete([chunk(**{field: "Hm."}), text("A")])
    assert (completion.reasoning, completion.text) == ("Hm.", "A")


def test_content_as_a_list_of_parts_is_decoded() -> None:
    """Mistral's reasoning models send typed parts."""
    thinking = [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}]
    answer_text = [{"type": "text", "text": "A"}]
    completion = complete([chunk(content=thinking), chunk(content=answer_text)])
    assert (completion.reasoning, completion.text) == ("Hm.", "A")


def test_parallel_tool_calls_are_assembled() -> None:
    """Fragments of two calls may alternate; some servers repeat the name or omit the index."""
    completion = complete(
        [
            chunk(tool_calls=[fragment(0, id="a", name="f", arguments="")]),
            chunk(tool_calls=[fragment(1, id="b", name="g", arguments='{"y"')]),
            chunk(tool_calls=[fragment(0, name="f", arguments='{"x": 1}')]),
            chunk(tool_calls=[fragment(1, arguments=": 2}")]),
            finish("tool_calls"),
        ]
    )
    assert completion.tool_calls == (
        ToolCall("a", "f", {"x": 1}, '{"x": 1}'),
        ToolCall("b", "g", {"y": 2}, '{"y": 2}'),
    )
    complete_calls = [
        chunk(tool_calls=[fragment(0, id=i, name="f", arguments={"i": i})]) for i in "ab"
    ]
    calls = complete([*complete_calls, finish("tool_calls")]).tool_calls
    assert [(call.id, call.arguments) for call in calls] == [("a", {"i": "a"}), ("b", {"i": "b"})]


def test_numeric_tool_call_id_becomes_a_string() -> None:
    """Some servers number their calls; the id is a string when it is sent back."""
    numbered = chunk(tool_calls=[fragment(0, id=7, name="f", arguments="{}")])
    assert complete([numbered, finish("tool_calls")]).tool_calls == (ToolCall("7", "f", {}, "{}"),)


def test_broken_tool_arguments_are_kept_raw() -> None:
    """Arguments that are not a JSON object are kept as received."""
    calls = complete([tool_call("f", '{"a": ', id="1"), finish("tool_calls")]).tool_calls
    assert calls == (ToolCall("1", "f", None, '{"a": '),)
    assert (
        complete([tool_call("f", "[1]", id="1"), finish("tool_calls")]).tool_calls[0].arguments
        is None
    )


def test_unfinished_tool_call_is_not_delivered() -> None:
    """A cut in the middle of the arguments raises an error and never yields half a call."""
    half = chunk(tool_calls=[fragment(0, id="a", name="f", arguments="{}")])
    with serve([text("A"), half, cut()]) as server:
        stream = OpenAICompatible("m", base_url=server.url).stream("Hi")
        with pytest.raises(StreamCut):
            list(stream.events())
    assert stream.tool_calls == []


def test_fragment_of_a_tool_call_is_an_event_for_the_timeouts() -> None:
    """The first fragment of long arguments stops the ``first_token`` timeout."""
    first = [chunk(tool_calls=[fragment(0, id="a", name="f", arguments='{"a": "')])]
    more = chunk(tool_calls=[fragment(0, arguments="x")])
    script = [
        *first,
        repeat(more, pause(0.1), times=5),
        chunk(tool_calls=[fragment(0, arguments='"}')]),
    ]
    with serve([*script, finish("tool_calls")]) as server:
        provider = OpenAICompatible("m", base_url=server.url, timeouts=Timeouts(first_token=0.3))
        assert provider.complete("Hi").tool_calls[0].arguments == {"a": "xxxxx"}


def test_answer_that_is_not_streamed_is_decoded_completely() -> None:
    """A server may return one JSON body instead of a stream."""
    message = {
        "content": "Hello",
        "reasoning_content": "Hm.",
        "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}],
    }
    body = {
        "model": "served",
        "choices": [{"message": message, "finish_reason": "tool_calls"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    }
    completion = complete(json_body(body), stream=False)
    assert (completion.text, completion.reasoning, completion.model) == ("Hello", "Hm.", "served")
    assert completion.tool_calls == (ToolCall("c", "f", {}, "{}"),)
    assert completion.usage == Usage(1, 2, 3)


def test_rejected_stream_options_are_left_out() -> None:
    """A server that rejects ``include_usage`` gets a second request without it, in one call."""
    rejection = {"error": {"message": "Unknown field: stream_options"}}
    with serve([json_body(rejection, 400), ["ok"]]) as server:
        provider = OpenAICompatible("m", base_url=server.url, retry=None)
        assert provider.complete("Hi").text == "ok"
    first, second = (request.json() for request in server.requests)
    assert first.pop("stream_options") == {"include_usage": True}
    assert first == second


def test_options_are_sent_unchanged() -> None:
    """Tools, schema, stop, seed, limits, and unknown options."""
    options = {
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}},
        "stop": ["."],
        "seed": 1,
        "max_tokens": 5,
        "anything": {"else": [1]},
    }
    with serve("ok") as server:
        OpenAICompatible("m", base_url=server.url).complete("Hi", **options)
    body = server.requests[0].json()
    assert {name: body[name] for name in options} == options


def test_two_answers_at_once_are_refused() -> None:
    """``n=2`` would silently lose a text."""
    with pytest.raises(InvalidRequestError, match="n must be 1"):
        OpenAICompatible("m", base_url="http://127.0.0.1:9").stream("Hi", n=2)


def test_images_are_sent_in_the_protocols_form(tmp_path: Any) -> None:
    """A URL stays, bytes and files become data: URLs; the caller's messages are unchanged."""
    path = tmp_path / "a.jpg"
    path.write_bytes(b"\xff\xd8\xff\xe0")
    parts = [
        {"type": "image", "image": "https://example.org/a.png"},
        {"type": "image", "image": path, "detail": "low"},
        {"type": "text", "text": "What?"},
    ]
    messages = [{"role": "user", "content": parts}]
    with serve("ok") as server:
        OpenAICompatible("m", base_url=server.url).complete(messages)
    content = server.requests[0].json()["messages"][0]["content"]
    assert content == [
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
        {
            "type": "image_url",
            "image_url": {"url": "data:image/jpeg;base64,/9j/4A==", "detail": "low"},
        },
        {"type": "text", "text": "What?"},
    ]
    assert parts[1]["image"] == path


def test_list_models_returns_the_models_of_the_server() -> None:
    """``GET {base_url}/models`` with the key; timeouts and errors as for any call."""
    listed = {"object": "list", "data": [{"id": "a"}, {"id": "b"}]}
    with serve(json_body(listed)) as server:
        provider = OpenAICompatible(base_url=f"{server.url}/v1", api_key="k")
        assert provider.list_models() == ["a", "b"]
    [request] = server.requests
    assert (request.method, request.path) == ("GET", "/v1/models")
    assert request.headers["Authorization"] == "Bearer k"
    with serve(json_body({"oops": 1})) as server, pytest.raises(MalformedStream, match="models"):
        OpenAICompatible(base_url=server.url).list_models()
    slow = answer(drip(b"x" * 100, every=0.1), content_type="application/json")
    with serve(slow) as server, pytest.raises(TimeoutError):
        OpenAICompatible(base_url=server.url).list_models(timeouts=0.3)
    with serve(status(500)) as server, pytest.raises(APIStatusError, match="500"):
        OpenAICompatible(base_url=server.url).list_models(retry=None)


def test_preset_has_address_and_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key of the preset's variable is sent to the preset's address and nowhere else."""
    monkeypatch.setenv("GROQ_API_KEY", "gsk-1")
    provider = OpenAICompatible.preset("groq", "llama", temperature=0)
    assert provider.base_url == "https://api.groq.com/openai/v1"
    assert provider._api_key == "gsk-1"
    elsewhere = OpenAICompatible.preset("groq", base_url="http://127.0.0.1:9")
    assert (elsewhere.base_url, elsewhere._api_key) == ("http://127.0.0.1:9", None)
    assert OpenAICompatible.preset("ollama").base_url == "http://127.0.0.1:11434/v1"
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-for-ollama")
    assert OpenAICompatible.preset("ollama")._api_key is None
    with pytest.raises(InvalidRequestError, match=r"groq.*ollama"):
        OpenAICompatible.preset("nobody")


@pytest.mark.parametrize(
    ("side", "path"),
    [({"images": ["http://x/a.png"]}, "images"), ({"images": 5}, "images"),
     ({"audio": "AAAA"}, "audio"), ({"audio": {"data": 5}}, "audio.data"),
     ({"function_call": "none"}, "function_call"), ({"annotations": True}, None)],
)  # fmt: skip
def test_odd_side_field_does_not_end_the_answer(side: Any, path: str | None) -> None:
    """What has an unexpected form is an ``Extra``; the text of its event is read."""
    completion = complete([text("A"), chunk(content="B", **side), text("C")])
    [extra] = completion.extras
    assert completion.text == "ABC"
    assert extra.path == (f"choices[0].delta.{path}" if path else "citations")


def test_odd_fields_beside_the_choices_do_not_end_the_answer() -> None:
    """The sources and the part of Groq."""
    odd = {"citations": True, "search_results": 3, "x_groq": "x", "choices": []}
    completion = complete([text("A"), event(odd), text("C")])
    assert completion.text == "AC"
    assert [extra.value for extra in completion.extras] == ["x", 3, True]


def test_pieces_in_messages_beside_deltas_with_a_role_are_all_read() -> None:
    """Such a delta says nothing; a whole message after deltas with text still repeats them."""

    def both(delta: dict[str, Any], **message: Any) -> Any:
        return event({"choices": [{"index": 0, "delta": delta, "message": message}]})

    role = {"role": "assistant"}
    pieces = [both(role, content="Hel"), both(role, content="lo"), finish("stop")]
    assert complete(pieces).text == "Hello"
    growing = [both(role, role="assistant", content=""), both({"content": "Hel"}, content="Hel"),
               both({"content": "lo"}, content="Hello"), both(role, content="Hello"),
               finish("stop")]  # fmt: skip
    assert complete(growing).text == "Hello"
    odd = event({"choices": [{"index": 0, "delta": role, "message": 5}]})
    completion = complete([odd, text("Hello")])
    assert (completion.text, completion.extras[0].value) == ("Hello", 5)


def test_deeply_nested_reasoning_has_short_paths() -> None:
    """Each of many leaves had a path of kilobytes."""
    nested: Any = [{"x": number} for number in range(100)]
    for _ in range(90):
        nested = {"reasoning": nested}
    [extra] = complete([chunk(reasoning=nested), text("A")]).extras
    assert len(extra.path) < 200


def test_pieces_of_the_last_of_many_calls_are_found_at_once() -> None:
    """Its place among the calls was searched for with every piece."""
    calls = ToolCallAssembler()
    for number in range(1000):
        assert calls.add(number, 0, None, "f", "{").position == number
    assert calls.calls[0] != PartialCall(calls.calls[0].position, name="f", pieces=["{"])
