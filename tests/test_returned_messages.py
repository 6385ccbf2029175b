"""What goes back to a model with its own answer: signed reasoning, server tools, and more."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from providers_sync import (
    AI365VIP,
    Anthropic,
    APIStatusError,
    Chat,
    Failover,
    InvalidRequestError,
    OpenAICompatible,
    Provider,
)
from providers_sync.decoding.openai_parts import PartJoiner
from providers_sync.testing import answer, event, finish, serve, status, text, tool_call


def chunk(**delta: Any) -> Any:
    return event({"choices": [{"index": 0, "delta": delta}]})


RESULT = {"role": "tool", "tool_call_id": "t1", "content": "42"}


def block(index: int, start: dict[str, Any], *deltas: dict[str, Any]) -> list[Any]:
    """Return the events of one content block of Anthropic's protocol."""
    return [
        event({"type": "content_block_start", "index": index, "content_block": start}),
        *(
            event({"type": "content_block_delta", "index": index, "delta": delta})
            for delta in deltas
        ),
        event({"type": "content_block_stop", "index": index}),
    ]


SIGNED = [
    *block(
        0,
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "thinking_delta", "thinking": "Look "},
        {"type": "thinking_delta", "thinking": "it up."},
        {"type": "signature_delta", "signature": "SIG"},
        {"type": "signature_delta", "signature": "NED"},
    ),
    *block(1, {"type": "redacted_thinking", "data": "SEALED"}),
    *block(2, {"type": "text", "text": ""}, {"type": "text_delta", "text": "Let me see."}),
    *block(
        3,
        {"type": "tool_use", "id": "t1", "name": "get", "input": {}},
        {"type": "input_json_delta", "partial_json": '{"x": 1}'},
    ),
    event({"type": "message_delta", "delta": {"stop_reason": "tool_use"}}),
    event({"type": "message_stop"}),
]
BLOCKS = [
    {"type": "thinking", "thinking": "Look it up.", "signature": "SIGNED"},
    {"type": "redacted_thinking", "data": "SEALED"},
    {"type": "text", "text": "Let me see."},
    {"type": "tool_use", "id": "t1", "name": "get", "input": {"x": 1}},
]


def anthropic(url: str, model: str = "claude-a") -> Provider:
    return Anthropic(model, base_url=url, api_key="k", retry=None)


def openai(url: str, model: str = "m") -> Provider:
    return OpenAICompatible(model, base_url=url, api_key="k", retry=None)


def second_request(script: Any, kind: Any, protocol: Any, **again: Any) -> Any:
    """Return the assistant message that the second request of a tool dialogue sends."""
    with serve([script, answer("Done.")], protocol=protocol) as server:
        provider = kind(server.url)
        first = provider.complete("Hi")
        messages = [{"role": "user", "content": "Hi"}, first.message, RESULT]
        again.get("provider", kind(server.url)).complete(json.loads(json.dumps(messages)))
        return server.requests[1].json()["messages"][1]


def test_signed_reasoning_goes_back_as_it_came() -> None:
    """Anthropic refuses a turn with tool calls without it; through ``message``, and as JSON."""
    script = answer(*SIGNED, end=False)
    sent = second_request(script, anthropic, "anthropic")
    assert sent == {"role": "assistant", "content": BLOCKS}


def test_chat_returns_signed_reasoning_also_after_save_and_load(tmp_path: Any) -> None:
    """A server that checks the signature gets it in both turns of the dialogue."""
    script = answer(*SIGNED, end=False)
    with serve([script, answer("Two."), answer("Three.")], protocol="anthropic") as server:
        chat = Chat(anthropic(server.url))
        chat.send("Hi").read()
        chat.save(tmp_path / "chat.json")
        assert chat.send(RESULT).read() == "Two."
        loaded = Chat.load(tmp_path / "chat.json", anthropic(server.url))
        assert loaded.send(RESULT).read() == "Three."
        bodies = [request.json()["messages"] for request in server.requests]
    assert bodies[1][1]["content"] == bodies[2][1]["content"] == BLOCKS
    assert bodies[1] == bodies[2]


def test_reasoning_content_goes_back_beside_the_tool_calls() -> None:
    """Under the name that it came with."""
    script = [chunk(reasoning_content="I "), chunk(reasoning_content="think."),
              tool_call("get", {"x": 1}, id="t1"), finish("tool_calls")]  # fmt: skip
    sent = second_request(script, openai, "openai")
    assert sent["reasoning_content"] == "I think."
    assert sent["tool_calls"][0]["function"] == {"name": "get", "arguments": '{"x": 1}'}
    assert "providers_sync" not in sent


def test_signature_of_a_tool_call_goes_back_in_the_call() -> None:
    """Gemini's thought signature, in OpenAI's protocol."""
    more = {"extra_content": {"google": {"thought_signature": "SIGNED"}}}
    call = {"index": 0, "id": "t1", "function": {"name": "get", "arguments": "{}"}, **more}
    sent = second_request([chunk(tool_calls=[call]), finish("tool_calls")], openai, "openai")
    assert sent["tool_calls"] == [
        {"id": "t1", "type": "function", "function": {"name": "get", "arguments": "{}"}, **more}
    ]


def test_reasoning_is_left_out_where_the_server_refuses_it() -> None:
    """Groq sends ``reasoning``, and answers 400 to a message that has it."""
    refused = status(400, json.dumps({"error": {
        "message": "'messages.1': property 'reasoning' is unsupported",
    }}))  # fmt: skip
    script = [chunk(reasoning="Hm."), text("Hi"), finish("stop")]
    with serve([script, refused, ["Done."]]) as server:
        message = openai(server.url).complete("Hello").message
        turns = [{"role": "user", "content": "Hello"}, message, {"role": "user", "content": "?"}]
        assert openai(server.url).complete(turns).text == "Done."
        sent = [request.json()["messages"][1] for request in server.requests[1:]]
    assert sent == [
        {"role": "assistant", "content": "Hi", "reasoning": "Hm."},
        {"role": "assistant", "content": "Hi"},
    ]


@pytest.mark.parametrize("words", ["reasoning_effort is unsupported", "must be passed back"])
def test_other_complaints_about_reasoning_are_errors_at_once(words: str) -> None:
    """An option of that name, and DeepSeek's demand for what is missing."""
    refused = status(400, json.dumps({"error": {"message": f"the reasoning_content {words}"}}))
    if "effort" in words:
        refused = status(400, json.dumps({"error": {"message": words}}))
    with serve([refused]) as server, pytest.raises(APIStatusError):
        openai(server.url).complete([
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "Hi", "reasoning_content": "Hm.", "reasoning": "Hm."},
            {"role": "user", "content": "?"},
        ])  # fmt: skip
    assert len(server.requests) == 1


def test_reasoning_details_go_back_with_their_pieces_joined() -> None:
    """OpenRouter: text parts grow, encrypted ones are separate."""
    script = [
        chunk(reasoning="A", reasoning_details=[{"type": "reasoning.text", "text": "A"}]),
        chunk(reasoning="B", reasoning_details=[
            {"type": "reasoning.text", "text": "B", "signature": "S"},
            {"type": "reasoning.encrypted", "data": "E"},
        ]),
        text("Hi"),
        finish("stop"),
    ]  # fmt: skip
    sent = second_request(script, openai, "openai")
    assert sent["reasoning_details"] == [
        {"type": "reasoning.text", "text": "AB", "signature": "S"},
        {"type": "reasoning.encrypted", "data": "E"},
    ]
    assert (sent["reasoning"], sent["content"]) == ("AB", "Hi")


def test_message_of_a_plain_answer_is_plain() -> None:
    """Nothing but role and content, on both protocols."""
    for kind, protocol in ((openai, "openai"), (anthropic, "anthropic")):
        with serve(["Hi"], protocol=protocol) as server:
            stream = kind(server.url).stream("Hello")
            stream.read()
            assert stream.message == {"role": "assistant", "content": "Hi"}
            assert stream.completion().message == stream.message


@pytest.mark.parametrize("other", ["model", "server", "protocol", "text protocol", "edited"])
def test_it_is_left_out_for_others(other: str) -> None:
    """Another family of models, server or protocol, and an answer that was edited."""
    with serve([answer(*SIGNED, end=False)], protocol="anthropic") as server:
        message = anthropic(server.url).complete("Hi").message
    message = {**message, "content": "Let me see."}
    if other == "edited":
        message["content"] = "Let me not see."
    if other == "text protocol":
        del message["tool_calls"]
    kinds: dict[str, Any] = {
        "model": (lambda url: anthropic(url, "gpt-9"), "anthropic"),
        "protocol": (openai, "openai"),
        "text protocol": (lambda url: AI365VIP(base_url=url, retry=None), "ai365vip"),
    }
    kind, protocol = kinds.get(other, (anthropic, "anthropic"))
    with serve(["Ok"], protocol=protocol) as server:
        if other in ("model", "edited"):  # as if it came from here
            message["providers_sync"]["server"] = server.url.removeprefix("http://")
        kind(server.url).complete([{"role": "user", "content": "Hi"}, message])
        body = server.requests[0].body.decode()
    assert not [word for word in ("SIGNED", "SEALED", "providers_sync") if word in body]
    assert "see." in body


def test_failover_returns_it_to_the_provider_that_sent_it() -> None:
    """The first provider has failed, so its address is not the one that is compared."""
    script = answer(*SIGNED, end=False)
    with (
        serve(status(500, "down"), protocol="anthropic") as down,
        serve([script, answer("Done.")], protocol="anthropic") as up,
    ):
        provider = Failover([anthropic(down.url), anthropic(up.url)])
        message = provider.complete("Hi").message
        provider.complete([{"role": "user", "content": "Hi"}, message, RESULT])
        assert up.requests[1].json()["messages"][1]["content"] == BLOCKS
        assert "SIGNED" not in down.requests[-1].body.decode()


@pytest.mark.parametrize(
    "value",
    ["x", None, {}, {"version": 2, "fields": {}}, {"version": 1, "fields": {"content": "x"}},
     {"version": 1, "fields": {"content": [7]}}, {"version": 1, "fields": []}],
)  # fmt: skip
def test_wrong_value_is_named(value: Any) -> None:
    """It comes from a file, which somebody may have written."""
    message = {"role": "assistant", "content": "Hi", "providers_sync": value}
    provider = Anthropic("claude-a", base_url="http://127.0.0.1:9", api_key="k")
    with pytest.raises(InvalidRequestError, match="providers_sync"):
        provider.prepare([{"role": "user", "content": "Hi"}, message])
    with pytest.raises(InvalidRequestError, match="assistant"):
        provider.prepare([{"role": "user", "content": "Hi",
                           "providers_sync": {"version": 1, "fields": {}}}])  # fmt: skip


def returned(protocol: str, **fields: Any) -> dict[str, Any]:
    """Return what a saved message holds for the server at port 9."""
    head = {"protocol": protocol, "model": "m", "server": "127.0.0.1:9", "version": 1}
    return {**head, "fields": fields}


CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("fields", "calls"),
    [({"content": False}, None), ({"content": {}}, None), ({"content": None}, None),
     ({"content": [{"type": 5}]}, None), ({"tool_calls": 5}, [CALL]), ({"tool_calls": [1]}, [CALL]),
     ({"content": []}, ["x"]), ({"content": []}, 5)],
)  # fmt: skip
def test_wrong_field_of_a_saved_message_is_named(fields: Any, calls: Any) -> None:
    """Lists of dicts, on both sides; in the forms of both protocols."""
    for provider in (anthropic("http://127.0.0.1:9", "m"), openai("http://127.0.0.1:9")):
        message: dict[str, Any] = {"role": "assistant", "content": ""}
        message["providers_sync"] = returned(provider.protocol, **fields)
        if calls is not None:
            message["tool_calls"] = calls
        with pytest.raises(InvalidRequestError, match=r"messages\[1\].* must "):
            provider.prepare([{"role": "user", "content": "Hi"}, message])


def test_saved_message_without_content_or_text_is_sent() -> None:
    """``content`` may be absent beside calls; a block of text without its text is another text."""
    provider = anthropic("http://127.0.0.1:9", "m")
    for blocks in ([], [{"type": "text"}]):
        message = {"role": "assistant", "tool_calls": [CALL]}
        message["providers_sync"] = returned("anthropic", content=blocks)
        provider.prepare([{"role": "user", "content": "Hi"}, message])


@pytest.mark.parametrize(
    "odd", [{"type": "image_url", "image_url": {"url": "file:///x"}},
            {"type": "image", "image": "x"}, {"type": None}, {"type": 5}],
)  # fmt: skip
def test_odd_block_does_not_make_the_message_unusable(odd: dict[str, Any]) -> None:
    """What cannot go back is left out; the chat goes on."""
    script = answer(
        *block(0, {"type": "text", "text": "One."}), *block(1, odd),
        event({"type": "message_delta", "delta": {"stop_reason": "end_turn"}}),
        event({"type": "message_stop"}), end=False,
    )  # fmt: skip
    with serve([script, answer("Two.")], protocol="anthropic") as server:
        chat = Chat(anthropic(server.url))
        assert chat.send("Hi").read() == "One."
        assert chat.send("More").read() == "Two."
        assert server.requests[1].json()["messages"][1] == {"role": "assistant", "content": "One."}


@pytest.mark.parametrize(("levels", "goes_back"), [(90, True), (110, False), (180, False)])
def test_deeply_nested_field_does_not_go_back(levels: int, goes_back: bool) -> None:
    """JSON of a message must be readable, and its size known, on any stack."""
    nested: Any = "x"
    for _ in range(levels):
        nested = [nested]
    script = [chunk(reasoning_details=[{"type": "t", "inner": nested}]), text("Hi"), finish("stop")]
    with serve([script, answer("Ok")], protocol="openai") as server:
        chat = Chat(openai(server.url), budget=100_000)
        with chat.send("Hello") as stream:
            stream.read()
        assert ("providers_sync" in stream.message) == goes_back
        assert chat.send("Again").read() == "Ok"


def test_nested_message_of_the_user_is_an_invalid_request() -> None:
    """Not a ``RecursionError``, which says nothing of the message."""
    nested: Any = {}
    for _ in range(100_000):
        nested = {"x": nested}
    chat = Chat(openai("http://127.0.0.1:9"), budget=1000)
    calling = {"role": "assistant", "content": None, "tool_calls": [nested]}
    with pytest.raises(InvalidRequestError, match="nested too deeply"):
        chat.to_send([calling])
    with pytest.raises(InvalidRequestError, match="nested too deeply"):
        chat.to_send(
            {"role": "assistant", "content": "", "providers_sync": returned("x", x=nested)}
        )


def test_custom_call_goes_back_in_its_own_form() -> None:
    """Its input is text; to Anthropic it goes as the field of an object."""
    custom = {"name": "sql", "input": "SELECT 1"}
    call = {"index": 0, "id": "t1", "type": "custom", "custom": custom}
    script = [chunk(tool_calls=[call]), finish("tool_calls")]
    sent = second_request(script, openai, "openai")
    assert sent["tool_calls"] == [{"id": "t1", "type": "custom", "custom": custom}]
    with serve([script, script], protocol="openai") as server:
        provider = openai(server.url)
        message = provider.complete("Hi").message
        message["tool_calls"][0]["function"]["arguments"] = "SELECT 2"
        provider.complete([{"role": "user", "content": "Hi"}, message, RESULT])
        changed = server.requests[1].json()["messages"][1]["tool_calls"][0]
    assert changed == {"id": "t1", "type": "function",
                       "function": {"name": "sql", "arguments": "SELECT 2"}}  # fmt: skip
    with serve(["Ok"], protocol="anthropic") as server:
        anthropic(server.url).complete([{"role": "user", "content": "Hi"}, message, RESULT])
        use = server.requests[0].json()["messages"][1]["content"][-1]
    assert use == {"type": "tool_use", "id": "t1", "name": "sql", "input": {"input": "SELECT 2"}}


@pytest.mark.parametrize("raw", ['{"a": ', "[1]", "[" * 100_000])
def test_broken_arguments_of_a_call_are_sent(raw: str) -> None:
    """The model's own mistake must not end the dialogue."""
    call = {"id": "t1", "function": {"name": "get", "arguments": raw}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    with serve(["Ok"], protocol="anthropic") as server:
        anthropic(server.url).complete([{"role": "user", "content": "Hi"}, message, RESULT])
        assert server.requests[0].json()["messages"][1]["content"][-1]["input"] == {"input": raw}


def test_whole_reasoning_parts_are_not_joined() -> None:
    """Several of one event, or with another id; a signature or encrypted text ends a part."""
    thinking = [{"type": "thinking", "thinking": t, "signature": f"s{t}"} for t in "AB"]
    sealed = [{"type": "reasoning.encrypted", "data": d, "id": d} for d in ("1", "2")]
    named = [{"type": "reasoning.text", "text": t, "id": t} for t in "XY"]
    script = [
        chunk(thinking_blocks=thinking, reasoning_details=sealed),
        *(chunk(thinking_blocks=[part]) for part in thinking),
        *(chunk(reasoning_details=[part]) for part in (*sealed, *named)),
        text("Hi"), finish("stop"),
    ]  # fmt: skip
    sent = second_request(script, openai, "openai")
    assert sent["thinking_blocks"] == thinking * 2
    assert sent["reasoning_details"] == [*sealed, *sealed, *named]


def test_numbered_reasoning_parts_are_joined_by_number() -> None:
    """A part without a number does not belong to one that has one."""
    parts = [{"type": "t", "index": 0, "text": "A"}, {"type": "t", "index": 0, "text": "B"},
             {"type": "t", "index": 1, "text": "C"}, {"type": "t", "text": "D"},
             {"type": "t", "text": "\ud83d"}, {"type": "t", "text": "\ude00"}]  # fmt: skip
    script = [*(chunk(reasoning_details=[part]) for part in parts), text("Hi"), finish("stop")]
    assert second_request(script, openai, "openai")["reasoning_details"] == [
        {"type": "t", "index": 0, "text": "AB"},
        {"type": "t", "index": 1, "text": "C"},
        {"type": "t", "text": "D😀"},
    ]


def test_long_reasoning_parts_are_joined_in_linear_time() -> None:
    """Each of many small pieces copied all the text before it."""
    joiner = PartJoiner()
    joiner.add({"text": "a" * 4_000_000})
    start = time.process_time()
    for _ in range(2000):
        joiner.add({"text": "a"})
    assert len(joiner.parts()[0]["text"]) == 4_002_000
    assert time.process_time() - start < 0.5


def test_cache_control_of_system_parts_is_kept() -> None:
    """Anthropic's ``system`` takes parts; plain ones are still sent as text."""
    cached = {"type": "text", "text": "Long.", "cache_control": {"type": "ephemeral"}}
    system: list[dict[str, Any]] = [
        {"role": "system", "content": [cached]},
        {"role": "system", "content": "Short."},
    ]
    with serve(["Ok"], protocol="anthropic") as server:
        anthropic(server.url).complete([*system, {"role": "user", "content": "Hi"}])
        anthropic(server.url).complete([system[1], {"role": "user", "content": "Hi"}])
        sent = [request.json()["system"] for request in server.requests]
    assert sent == [[cached, {"type": "text", "text": "Short."}], "Short."]


def test_resume_asks_in_words_where_the_model_refuses_a_prefix(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Newer Claude models answer 400 to a conversation that ends with their own turn."""
    refused = status(
        400,
        json.dumps({"type": "error", "error": {
            "type": "invalid_request_error",
            "message": "This model does not support assistant message prefill. "
                       "The conversation must end with a user message.",
        }}),
    )  # fmt: skip
    caplog.set_level("INFO")
    with serve([["One, "], refused, ["two."]], protocol="anthropic") as server:
        chat = Chat(anthropic(server.url))
        with chat.send("Count.") as stream:
            next(stream)
        assert chat.resume().read() == "two."
        sent = server.requests[2].json()["messages"]
    assert [turn["role"] for turn in sent] == ["user", "assistant", "user"]
    assert sent[1]["content"] == "One,"
    assert "Continue" in sent[2]["content"]
    assert chat.history[-1] == {"role": "assistant", "content": "One, two."}
    assert len(chat.history) == 2
    assert "asking with a message" in caplog.text


def test_resume_asks_in_words_where_a_model_of_a_failover_refuses_a_prefix() -> None:
    """The refusal is among the attempts of a ``FailoverError``."""
    refused = status(400, json.dumps({"error": {"message": "does not support prefill"}}))
    with serve([[text("One, ")], refused, [text("two.")]], protocol="openai") as server:
        chat = Chat(Failover([openai(server.url)]))
        with chat.send("Count.") as stream:
            next(stream)
        assert chat.resume().read() == "two."
        assert "Continue" in server.requests[2].json()["messages"][-1]["content"]


def test_call_whose_function_is_no_dict_is_an_error_of_ours() -> None:
    """Whatever was returned beside it."""
    provider = OpenAICompatible("m", base_url="http://127.0.0.1:1", api_key="k")
    returned = {
        "protocol": provider.protocol,
        "model": "m",
        "server": "127.0.0.1:1",
        "version": 1,
        "fields": {"tool_calls": [{"index": 0}]},
    }
    call = {"id": "1", "function": ["f"]}
    message = {"role": "assistant", "content": "", "tool_calls": [call], "providers_sync": returned}
    provider.prepare([message])  # it is for the server to say
